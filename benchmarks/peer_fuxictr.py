"""What the peer, FuxiCTR, is asked to do; run by its own environment's Python (`peer_environment.sh`).

    PEER/bin/python benchmarks/peer_fuxictr.py prepare TRAIN.csv VALID.csv FOLDER MIN_COUNT
    PEER/bin/python benchmarks/peer_fuxictr.py load FOLDER FORMAT BATCH_SIZE EPOCHS

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


if __name__ == '__main__':
    done = {'prepare': prepare, 'load': load}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(done), flush=True)
