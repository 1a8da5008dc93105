"""What the peer, FuxiCTR, is asked to do; run by its own environment's Python (`peer_environment.sh`).

    PEER/bin/python benchmarks/peer_fuxictr.py prepare TRAIN.csv VALID.csv FOLDER MIN_COUNT
    PEER/bin/python benchmarks/peer_fuxictr.py load FOLDER FORMAT BATCH_SIZE EPOCHS
    PEER/bin/python benchmarks/peer_fuxictr.py train TRAIN.csv VALID.csv FOLDER BATCH_SIZE EPOCHS

The last line on standard output is one JSON object. Imports nothing of dlf_jax.
"""

import json
import os
import sys
import time

NUMBERS = [f'I{i}' for i in range(1, 14)]
CATEGORIES = [f'C{i}' for i in range(1, 27)]


def prepare(train, valid, folder, min_count):
    """CSV files to its Parquet files, by its own FeatureProcessor with the usual settings for Criteo."""
    from fuxictr.preprocess import FeatureProcessor, build_dataset

    processor = FeatureProcessor(
        feature_cols=[
            {
                'name': NUMBERS,
                'active': True,
                'dtype': 'float',
                'type': 'numeric',
                'fill_na': 0,
                'normalizer': 'StandardScaler',
            },
            {'name': CATEGORIES, 'active': True, 'dtype': 'str', 'type': 'categorical', 'fill_na': ''},
        ],
        label_col={'name': 'label', 'dtype': 'float'},
        dataset_id='criteo',
        data_root=folder,
    )
    start = time.perf_counter()
    build_dataset(
        processor,
        train_data=train,
        valid_data=valid,
        data_format='csv',
        min_categr_count=int(min_count),
    )
    return {'seconds': time.perf_counter() - start}


def load(folder, form, batch_size, epochs):
    """Epochs of its shuffled batches, from train.parquet (what its preparation writes) or train.npz."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader

    features = FeatureMap('criteo', folder)
    features.load(os.path.join(folder, 'feature_map.json'), {})
    start = time.perf_counter()
    batches, _ = RankDataLoader(
        features,
        stage='train',
        train_data=os.path.join(folder, f'train.{form}'),
        batch_size=int(batch_size),
        shuffle=True,
        data_format=form,
    )
    opened = time.perf_counter() - start
    rates = []
    for _ in range(int(epochs)):
        start, rows = time.perf_counter(), 0
        for batch in batches:
            rows += len(batch['label'])
        rates.append(rows / (time.perf_counter() - start))
    return {'rows': rows, 'seconds_to_open': opened, 'rows_per_second': rates}


def train(train, valid, folder, batch_size, epochs):
    """Epochs of its training of DCNv2 on Frappe's columns, with the leaderboards' settings.

    From train.npz, which its loaders read faster than the Parquet files that it prepares."""
    import numpy as np
    import pandas as pd
    from fuxictr.features import FeatureMap
    from fuxictr.preprocess import FeatureProcessor, build_dataset
    from fuxictr.pytorch.dataloaders import RankDataLoader

    with open(train) as file:
        names = file.readline().strip().split(',')[1:]
    prepared = os.path.join(folder, 'frappe')
    if not os.path.exists(os.path.join(prepared, 'train.npz')):
        processor = FeatureProcessor(
            feature_cols=[{'name': names, 'active': True, 'dtype': 'str', 'type': 'categorical'}],
            label_col={'name': 'label', 'dtype': 'float'},
            dataset_id='frappe',
            data_root=folder,
        )
        build_dataset(processor, train_data=train, valid_data=valid, data_format='csv', min_categr_count=1)
        table = pd.read_parquet(os.path.join(prepared, 'train.parquet'))
        np.savez(os.path.join(prepared, 'train.npz'), **{name: table[name].to_numpy() for name in table})
    features = FeatureMap('frappe', prepared)
    features.load(os.path.join(prepared, 'feature_map.json'), {'embedding_dim': 10})
    batches, _ = RankDataLoader(
        features,
        stage='train',
        train_data=os.path.join(prepared, 'train.npz'),
        batch_size=int(batch_size),
        shuffle=True,
        data_format='npz',
    )
    model = _dcnv2(features, prepared)
    # Its epochs and nothing else: no evaluation, no checkpoint.
    seconds, start = [], [time.perf_counter()]

    def at_the_end_of_an_epoch():
        seconds.append(time.perf_counter() - start[0])
        model.train()
        start[0] = time.perf_counter()

    model.eval_step = at_the_end_of_an_epoch
    model.load_weights = lambda _: None
    model.fit(batches, epochs=int(epochs), max_gradient_norm=10.0)
    rows = sum(len(batch['label']) for batch in batches)
    return {'samples_per_second': rows * (len(seconds) - 1) / sum(seconds[1:]), 'seconds': seconds}


def _dcnv2(features, folder):
    """The repository's model_zoo/DCNv2, parallel, which the package does not hold."""
    import torch
    from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    class DCNv2(BaseModel):
        def __init__(self, **settings):
            super().__init__(features, model_id='DCNv2', gpu=-1, embedding_regularizer=0.05, **settings)
            self.embedding_layer = FeatureEmbedding(features, 10)
            width = features.sum_emb_out_dim()
            self.crossnet = CrossNetV2(width, 4)
            self.parallel_dnn = MLP_Block(
                input_dim=width,
                output_dim=None,
                hidden_units=[400, 400, 400],
                hidden_activations='ReLU',
                output_activation=None,
                dropout_rates=0.4,
                batch_norm=True,
            )
            self.fc = torch.nn.Linear(width + 400, 1)
            self.compile('adam', 'binary_crossentropy', 1e-3)
            self.reset_parameters()
            self.model_to_device()

        def forward(self, inputs):
            embedded = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
            both = [self.crossnet(embedded), self.parallel_dnn(embedded)]
            return {'y_pred': self.output_activation(self.fc(torch.cat(both, dim=-1)))}

    return DCNv2(
        task='binary_classification', metrics=['AUC', 'logloss'], model_root=folder, verbose=0,
        monitor='AUC', monitor_mode='max', early_stop_patience=2,
    )  # fmt: skip


if __name__ == '__main__':
    done = {'prepare': prepare, 'load': load, 'train': train}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(done), flush=True)
