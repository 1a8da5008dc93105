"""Avazu_x1 (mobile ads; 22 categorical fields), with the leaderboards' recipe.

    python -m dlf_jax.main --config=configs/avazu.py:MODEL --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-avazu

MODEL is `dlf` where it is left out. To these flags add:

    --config.paper=True           the common setting of DLF's paper, and DLF in its full size: for a GPU
    --config.dataset.min_count=2  for Kaggle's train.csv, which is split 7:2:1, in place of the three files:
                                  its values that are seen once, millions, would each have an embedding

On the leaderboard AutoInt+ and AFN+ have settings of their own, which the variant alone does not set:

    :autoint --variant=+ --config.model.attention_size=256 --config.model.layers=5 --config.model.heads=2 \
        --config.model.dropout=0.1
    :afn --variant=+ --config.model.hidden="(1200,)" --config.model.dropout=0.2 \
        --config.model.batch_norm=True

Expected is what is published, test AUC / Logloss (`dlf_jax/comparison/published_scores.py`): the public
leaderboards' best single run, and the mean of five in DLF's paper, which has another setting:

    model      leaderboard      paper
    lr         0.7516 / 0.3735
    fm         0.7613 / 0.3677  0.7509 / 0.3769
    afm        0.7574 / 0.3705  0.7526 / 0.3719
    sam        0.7632 / 0.3672  0.7527 / 0.3722
    autoint    0.7624 / 0.3678  0.7539 / 0.3740
    autoint:+  0.7645 / 0.3668
    dcn        0.7652 / 0.3665  0.7537 / 0.3745
    dcnv2      0.7656 / 0.3664  0.7565 / 0.3722
    deepfm     0.7648 / 0.3667  0.7540 / 0.3742
    xdeepfm    0.7647 / 0.3671  0.7532 / 0.3786
    pnn        0.7630 / 0.3676  0.7543 / 0.3741
    afn        0.7547 / 0.3729
    afn:+      0.7640 / 0.3671
    edcn       0.7652 / 0.3670  0.7578 / 0.3709
    finalmlp   0.7666 / 0.3658  0.7533 / 0.3741
    finalnet   0.7672 / 0.3653  0.7577 / 0.3711
    mlp        0.7638 / 0.3674
    gdcn                        0.7529 / 0.3750
    wukong                      0.7580 / 0.3715
    qnn
    fcn
    rankmixer
    masknet    0.7643 / 0.3674
    fibinet    0.7645 / 0.3673
    eulernet   0.7645 / 0.3672
    dlrm       0.7639 / 0.3669
    dlrm_dcnv2
    onn
    dlf                         0.7601 / 0.3706

Not run here on the full data, whose files are not part of the project.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults

# Fields of each model: the leaderboards' settings. DLF (in the size of `dlf_jax.config.SMALL`), GDCN and
# Wukong are not on them: they have DCN's dropout and penalty, and are not tuned. Of QNN, FCN and EulerNet
# what their authors published comes nearest; RankMixer, ONN and DLRM-DCNv2 have nothing published.
MODELS = {
    'afm': {'attention_size': 16, 'attention_dropout': 0.2, 'dropout': 0.2},
    'afn': {'neurons': 1500, 'hidden': (400,), 'dropout': 0.3, 'batch_norm': False},
    # BatchNorm is read by AutoInt+ alone, which has it.
    'autoint': {
        'attention_size': 128,
        'layers': 4,
        'heads': 1,
        'layer_norm': True,
        'scale': True,
        'project_residual': False,
    },
    'dcn': {'cross_layers': 3, 'dropout': 0.1, 'batch_norm': False},
    'dcnv2': {'cross_layers': 5, 'dropout': 0.2},
    'deepfm': {'dropout': 0.3},
    'dlf': {'dropout': 0.1},
    'dlrm': {
        'hidden': (400, 400, 400),
        'batch_norm': True,
        'dropout': 0.3,
    },
    # Published for MLPerf's benchmark alone, in the size of the defaults; not tuned.
    'dlrm_dcnv2': {
        'bottom_hidden': (400, 400),
        'rank': 32,
        'hidden': (400, 400, 400),
        'batch_norm': True,
        'dropout': 0.1,
    },
    # FuxiCTR's form: cross layers that do not add their input; in place of the regulation, BatchNorm alone.
    'edcn': {
        'layers': 3,
        'regulation': False,
        'dropout': 0.1,
        'residual': False,
        'gate_norm': True,
        'batch_norm': False,
    },
    'eulernet': {'shape': (40, 40, 40), 'implicit_dropout': 0.2},
    # Its authors' for another split of Avazu, where they have no penalty and stop after the first drop.
    'fcn': {'embedding_size': 16, 'heads': 4, 'batch_norm': True},
    'fibinet': {'bilinear': 'all', 'dropout': 0.2},
    'finalmlp': {
        'hidden_1': (400, 400, 400),
        'dropout_1': 0.3,
        'hidden_2': (800,),
        'dropout_2': 0.3,
        'heads': 10,
        'gate_hidden': (800,),
    },
    'finalnet': {
        'hidden_1': (800,),
        'dropout': 0.3,
        'hidden_2': (800, 800),
        'dropout_2': 0.2,
        'relu': True,
    },
    'gdcn': {'dropout': 0.1},
    'masknet': {
        'hidden': (400, 400, 400),
        'reduction': 2.0,
        'dropout': 0.4,
    },
    'mlp': {'dropout': 0.1, 'batch_norm': False},
    'onn': {'embedding_size': 2, 'hidden': (400, 400, 400), 'dropout': 0.2},
    'pnn': {'dropout': 0.2, 'batch_norm': False},
    # Not published for any split of Avazu.
    'qnn': {'dropout': 0.1},
    'rankmixer': {'dropout': 0.1},
    'sam': {'block': '3a', 'layers': 4, 'dropout': 0.3},
    'wukong': {'dropout': 0.1},
    'xdeepfm': {'cin': (64,), 'cin_bias': True, 'dropout': 0.2},
}
# Embedding penalty (lambda) of each model, where it is not 0.05.
PENALTIES = {
    'afm': 1e-5, 'afn': 0.01, 'autoint': 0.01, 'deepfm': 0.1, 'dlrm': 0.01, 'fibinet': 0.1, 'fm': 1e-5,
    'lr': 5e-7, 'masknet': 0.1, 'mlp': 0.01, 'pnn': 5e-5, 'sam': 0.01, 'xdeepfm': 0.01,
}  # fmt: skip


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of Avazu for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'avazu'
    # Avazu_x1 as it is, as on the leaderboards.
    config.dataset.min_count = 1
    config.embedding.penalty = PENALTIES.get(model, 0.05)
    defaults.set_model(config, MODELS, embedding_size=10)
    return config
