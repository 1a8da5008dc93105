"""The model, dataset and metric of this folder from Python: `python train.py FILE.csv WORKDIR`."""

import json
import sys
from pathlib import Path

import dlf_jax

here = Path(__file__).parent
rows, workdir = sys.argv[1:]
config = dlf_jax.load_config(
    model=f'{here}/target_attention.py:TargetAttention',
    overrides={
        'dataset.name': f'{here}/songs.py:Songs',
        'dataset.train': rows,
        'model.target': 'song',
        'embedding.std': 0.1,
        'optimizer.learning_rate': 0.01,
        'training.metrics': (f'{here}/metric.py:recall_at_10_percent',),
        'training.batch_size': 250,
        'training.epochs': 8,
    },
)
result = dlf_jax.train(config, workdir)
print(json.dumps(result['test']))
