"""Criteo_x1 (display ads; 13 numeric, 26 categorical fields), with the leaderboards' recipe.

    python -m dlf_jax.main --config=configs/criteo.py:MODEL --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-criteo

MODEL is `dlf` where it is left out. Without the files, `--dataset=synthetic` trains on generated data of the
same shape. To these flags add:

    --config.paper=True            the common setting of DLF's paper, and DLF in its full size: for a GPU
    --config.dataset.min_count=10  for Kaggle's train.txt, which is split 7:2:1, in place of the three files:
                                   its rare values, tens of millions, would each have an embedding; its
                                   numbers become categories (`log2`)

On the leaderboard AutoInt+ and AFN+ have settings of their own, which the variant alone does not set:

    :autoint --variant=+ --config.model.heads=2 --config.model.scale=False --config.model.dropout=0.1
    :afn --variant=+ --config.model.neurons=100 --config.model.hidden="(200,)" --config.model.dropout=0.4 \
        --config.model.batch_norm=True

Expected is what is published, test AUC / Logloss (`dlf_jax/comparison/published_scores.py`): the public
leaderboards' best single run, and the mean of five in DLF's paper, which has another setting:

    model      leaderboard      paper
    lr         0.7886 / 0.4609
    fm         0.8022 / 0.4491  0.7931 / 0.4587
    afm        0.8044 / 0.4470  0.7966 / 0.4540
    sam        0.8131 / 0.4389  0.7990 / 0.4523
    autoint    0.8126 / 0.4392  0.8084 / 0.4435
    autoint:+  0.8139 / 0.4379
    dcn        0.8138 / 0.4381  0.8085 / 0.4428
    dcnv2      0.8142 / 0.4378  0.8085 / 0.4431
    deepfm     0.8137 / 0.4381  0.8087 / 0.4462
    xdeepfm    0.8139 / 0.4380  0.8088 / 0.4436
    pnn        0.8137 / 0.4383  0.8096 / 0.4416
    afn        0.8107 / 0.4414
    afn:+      0.8143 / 0.4377
    edcn       0.8147 / 0.4373  0.8092 / 0.4418
    finalmlp   0.8149 / 0.4370  0.8088 / 0.4429
    finalnet   0.8154 / 0.4365  0.8088 / 0.4430
    mlp        0.8137 / 0.4382
    gdcn                        0.8095 / 0.4414
    wukong                      0.8091 / 0.4424
    qnn
    fcn
    rankmixer
    masknet    0.8139 / 0.4380
    fibinet    0.8130 / 0.4388
    eulernet
    dlrm       0.8138 / 0.4382
    dlrm_dcnv2
    onn
    dlf                         0.8106 / 0.4412

Not run here on the full data, whose files are not part of the project.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults

# Fields of each model: the leaderboards' settings. DLF (in the size of `dlf_jax.config.SMALL`), GDCN and
# Wukong are not on them: they have DCN's dropout and penalty, and are not tuned. Of QNN, FCN and EulerNet
# what their authors published comes nearest; RankMixer, ONN and DLRM-DCNv2 have nothing published.
MODELS = {
    'afm': {'attention_size': 32},
    # `deep_dropout` is read by AFN+ alone.
    'afn': {
        'neurons': 400,
        'hidden': (800,),
        'dropout': 0.5,
        'deep_dropout': 0.1,
        'batch_norm': False,
    },
    # BatchNorm is read by AutoInt+ alone, which has it.
    'autoint': {
        'attention_size': 256,
        'layers': 3,
        'heads': 4,
        'layer_norm': True,
        'scale': True,
        'wide': True,
        'project_residual': False,
    },
    'dcn': {'cross_layers': 3, 'dropout': 0.1, 'batch_norm': False},
    'dcnv2': {'cross_layers': 3, 'hidden': (500, 500, 500), 'dropout': 0.1, 'batch_norm': False},
    'deepfm': {'dropout': 0.1},
    'dlf': {'dropout': 0.1},
    'dlrm': {
        'bottom_hidden': (400, 400, 400),
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
        'dropout': 0.1,
    },
    # FuxiCTR's form: cross layers that do not add their input, and BatchNorm on the gated streams alone.
    'edcn': {
        'layers': 3,
        'tau': 20.0,
        'dropout': 0.1,
        'residual': False,
        'gate_norm': True,
        'batch_norm': False,
    },
    # Its authors' for another split of Criteo, whose numbers are categories.
    'eulernet': {
        'embedding_size': 16,
        'shape': (39, 39),
        'layer_norm': True,
        'dropout': 0.2,
        'implicit_dropout': 0.2,
    },
    # Its authors' for another split of Criteo, whose numbers are categories.
    'fcn': {'embedding_size': 16, 'ecn_layers': 5, 'lcn_layers': 5, 'dropout': 0.1},
    'fibinet': {'ratio': 12.0, 'dropout': 0.5, 'batch_norm': False},
    # The gates' own tables have a row for every value of every field here, of FuxiCTR's only those of the
    # contexts: the same model, in three times the memory. `context_tables=False` shares the one table.
    'finalmlp': {
        'hidden_1': (400, 400, 400),
        'dropout_1': 0.2,
        'hidden_2': (1000,),
        'dropout_2': 0.3,
        'heads': 200,
        'gate_hidden': (800,),
        'context_1': tuple(f'I{i}' for i in range(1, 14)),
        'context_2': ('C6',),
        'context_tables': True,
    },
    'finalnet': {
        'hidden_1': (400, 400),
        'dropout': 0.1,
        'hidden_2': (400, 400),
        'dropout_2': 0.0,
        'relu': True,
    },
    'gdcn': {'dropout': 0.1},
    'masknet': {
        'hidden': (400, 400, 400),
        'reduction': 0.2,
        'embedding_norm': False,
        'dropout': 0.2,
    },
    'mlp': {'dropout': 0.1, 'batch_norm': False},
    # A width of 10 would make a table of 3.3 GB, 9.8 GB with Adam's moments.
    'onn': {'embedding_size': 2, 'hidden': (400, 400, 400), 'dropout': 0.1},
    'pnn': {'dropout': 0.1},
    # Its authors' for another split of Criteo, whose numbers are categories.
    'qnn': {'embedding_size': 16, 'layers': 4, 'product_rows': 5, 'dropout': 0.1},
    'rankmixer': {'dropout': 0.1},
    'sam': {'block': '3a', 'layers': 5, 'pooling': 'weighted'},
    'wukong': {'dropout': 0.1},
    'xdeepfm': {'cin': (16, 16), 'cin_bias': True, 'dropout': 0.2, 'batch_norm': False},
}
# Embedding penalty (lambda) of each model, where it is not 1e-5.
PENALTIES = {'afm': 1e-6, 'fm': 5e-6, 'lr': 5e-7}


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of Criteo for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'criteo'
    # Rare values of Criteo_x1 are out of its files already, and the leaderboards keep all that are left.
    config.dataset.min_count = 1
    config.embedding.penalty = PENALTIES.get(model, 1e-5)
    defaults.set_model(config, MODELS, embedding_size=10)
    return config
