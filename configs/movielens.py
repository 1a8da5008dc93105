"""MovielensLatest_x1 (does a user give a movie a tag; 3 categorical fields), with the leaderboards' recipe.

    python -m dlf_jax.main --config=configs/movielens.py:MODEL --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-movielens

MODEL is `dlf` where it is left out. To these flags add:

    --config.paper=True  the common setting of DLF's paper, and DLF in its full size: for a GPU

On the leaderboard AutoInt+ has a setting of its own, which the variant alone does not set:

    :autoint --variant=+ --config.model.dropout=0.1

Expected is what is published, test AUC / Logloss (`dlf_jax/comparison/published_scores.py`): the public
leaderboards' best single run, and the mean of five in DLF's paper, which has another setting:

    model      leaderboard      paper
    lr         0.9342 / 0.3201
    fm         0.9434 / 0.2729  0.9424 / 0.2737
    afm        0.9472 / 0.2653  0.9451 / 0.2658
    sam        0.9631 / 0.2667  0.9491 / 0.2617
    autoint    0.9663 / 0.2228  0.9430 / 0.2705
    autoint:+  0.9692 / 0.2148
    dcn        0.9687 / 0.2160  0.9448 / 0.2708
    dcnv2      0.9691 / 0.2147  0.9423 / 0.2774
    deepfm     0.9685 / 0.2130  0.9428 / 0.2800
    xdeepfm    0.9697 / 0.2409  0.9418 / 0.2792
    pnn        0.9699 / 0.2095  0.9472 / 0.2745
    afn        0.9611 / 0.2963
    afn:+      0.9642 / 0.3030
    edcn       0.9671 / 0.2122  0.9472 / 0.2357
    finalmlp   0.9720 / 0.1966  0.9438 / 0.2741
    finalnet   0.9725 / 0.1941  0.9495 / 0.2608
    mlp        0.9678 / 0.2388
    gdcn                        0.9416 / 0.2785
    wukong                      0.9502 / 0.2285
    qnn
    fcn
    rankmixer
    masknet    0.9672 / 0.2364
    fibinet    0.9576 / 0.2518
    eulernet   0.9703 / 0.1988
    dlrm       0.9691 / 0.2150
    dlrm_dcnv2
    onn
    dlf                         0.9515 / 0.2223

Not run here on the full data, whose files are not part of the project.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults

# Fields of each model: the leaderboards' settings. DLF (in the size of `dlf_jax.config.SMALL`), GDCN and
# Wukong are not on them: they have DCN's dropout and penalty, and are not tuned. Of QNN, FCN and EulerNet
# what their authors published comes nearest; RankMixer, ONN and DLRM-DCNv2 have nothing published.
MODELS = {
    'afm': {'attention_size': 16, 'attention_dropout': 0.4, 'dropout': 0.4},
    # `deep_dropout` is read by AFN+ alone.
    'afn': {
        'neurons': 800,
        'hidden': (200,),
        'dropout': 0.4,
        'deep_dropout': 0.5,
        'batch_norm': False,
    },
    # BatchNorm is read by AutoInt+ alone, which has it.
    'autoint': {
        'attention_size': 128,
        'layers': 2,
        'heads': 4,
        'layer_norm': True,
        'scale': True,
        'wide': True,
        'project_residual': False,
    },
    'dcn': {'cross_layers': 4, 'dropout': 0.2},
    'dcnv2': {'cross_layers': 5, 'dropout': 0.2},
    'deepfm': {'dropout': 0.3},
    'dlf': {'dropout': 0.2},
    'dlrm': {
        'interaction': 'cat',
        'hidden': (400, 400, 400),
        'batch_norm': True,
        'dropout': 0.2,
    },
    # Published for MLPerf's benchmark alone, in the size of the defaults; not tuned.
    'dlrm_dcnv2': {
        'bottom_hidden': (400, 400),
        'rank': 32,
        'hidden': (400, 400, 400),
        'batch_norm': True,
        'dropout': 0.2,
    },
    # FuxiCTR's form: cross layers that do not add their input; in place of the regulation, BatchNorm alone.
    'edcn': {
        'layers': 2,
        'regulation': False,
        'dropout': 0.1,
        'residual': False,
        'gate_norm': True,
        'batch_norm': False,
    },
    # Its authors also have a penalty of 1e-5 on the dense parameters.
    'eulernet': {'shape': (52,), 'layer_norm': True},
    # Its authors' for MovieLens-1M.
    'fcn': {
        'embedding_size': 16,
        'ecn_layers': 2,
        'lcn_layers': 3,
        'batch_norm': True,
        'dropout': 0.1,
    },
    'fibinet': {'bilinear': 'all', 'ratio': 0.3, 'dropout': 0.3},
    'finalmlp': {
        'hidden_1': (400,),
        'dropout_1': 0.4,
        'hidden_2': (800,),
        'dropout_2': 0.2,
        'heads': 10,
        'gate_hidden': (800,),
    },
    'finalnet': {'hidden_1': (400, 400), 'hidden_2': (500,), 'dropout_2': 0.0, 'relu': True},
    'gdcn': {'dropout': 0.2},
    'masknet': {
        'hidden': (400, 400, 400),
        'reduction': 4.0,
        'embedding_norm': False,
        'dropout': 0.5,
    },
    'mlp': {'dropout': 0.4},
    'onn': {'hidden': (400, 400, 400), 'dropout': 0.1},
    'pnn': {'dropout': 0.1, 'batch_norm': False},
    # Its authors' for MovieLens-1M.
    'qnn': {
        'embedding_size': 16,
        'layers': 1,
        'heads': 4,
        'product_rows': 4,
        'batch_norm': True,
        'dropout': 0.1,
    },
    'rankmixer': {'dropout': 0.2},
    'sam': {'block': '3a', 'layers': 2, 'pooling': 'weighted'},
    'wukong': {'dropout': 0.2},
    'xdeepfm': {'cin': (64, 64, 64), 'cin_bias': True, 'dropout': 0.3, 'batch_norm': False},
}
# Embedding penalty (lambda) of each model, where it is not 0.01.
PENALTIES = {
    'afm': 1e-5, 'afn': 1e-3, 'fibinet': 0.05, 'fm': 5e-6, 'lr': 5e-6, 'masknet': 5e-3, 'mlp': 5e-3,
    'sam': 1e-3, 'xdeepfm': 5e-3,
}  # fmt: skip


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of MovieLens for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'movielens'
    # A single file is split at random, because its rows are not ordered by time.
    config.dataset.split = 'random'
    config.embedding.penalty = PENALTIES.get(model, 0.01)
    defaults.set_model(config, MODELS, embedding_size=10)
    return config
