"""A model of one's own, with its reference: products of all pairs of fields, weighted by a small network.

    python examples/own_model.py clicks.csv click

checks the model against the reference, trains it on a table and scores its first rows. By the command:

    python -m dlf_jax.main --config=configs/table.py --config.model.name=examples/own_model.py:WeightedPairs \
        --config.model.hidden="(32,)" --config.dataset.schema=schema.toml --config.dataset.train=clicks.csv
"""

import sys

import jax.numpy as jnp
import numpy as np

import dlf_jax
from dlf_jax.models import CTRModel, layers, validators
from dlf_jax.testing import check_model


class WeightedPairs(CTRModel):
    """Logit = sum over pairs of fields of <e_i, e_j> w_ij, where an MLP on all embeddings gives w [B, pairs].

    Attributes:
      embedding_size: width of an embedding.
      hidden: width of each hidden layer of the network that weighs the pairs.
    """

    embedding_size: int = 16
    hidden: tuple[int, ...] = (64,)

    def check(self):
        validators.check_positive(embedding_size=self.embedding_size)
        validators.check_widths(hidden=self.hidden)

    def logits(self, embeddings, mode):
        rows = embeddings['embedding']  # float32 [B, F, D]
        first, second = np.triu_indices(rows.shape[1], 1)
        products = (rows[:, first] * rows[:, second]).sum(-1)
        flat = rows.reshape(len(rows), -1)
        weights = layers.MLP(self.hidden, len(first), name='weights')(flat, mode)
        return jnp.sum(products * weights, axis=-1)


def reference(params, batch_stats, rows, train, embedding_size, hidden, **_):
    """The logits [B] once more, in float64 NumPy, from the equation above."""
    (e,) = rows.values()
    x, layer = e.reshape(len(e), -1), params['weights']
    for i in range(len(hidden)):
        x = x @ layer[f'hidden_{i}']['kernel'] + layer[f'hidden_{i}']['bias']
        seen = batch_stats['weights'][f'norm_{i}']
        mean, var = (x.mean(0), x.var(0)) if train else (seen['mean'], seen['var'])
        norm = layer[f'norm_{i}']
        x = np.maximum((x - mean) / np.sqrt(var + 1e-5) * norm['scale'] + norm['bias'], 0)
    weights = x @ layer['out']['kernel'] + layer['out']['bias']
    logits, pair = np.zeros(len(e)), 0
    for i in range(e.shape[1]):
        for j in range(i + 1, e.shape[1]):
            logits += (e[:, i] * e[:, j]).sum(-1) * weights[:, pair]
            pair += 1
    return logits


def main(table, label):
    """Checks the model, trains it on a table and scores the table's first rows."""
    check_model(WeightedPairs(embedding_size=3, hidden=(5, 4)), reference)
    model = dlf_jax.fit(table, label=label, model=WeightedPairs, **{'model.hidden': (32,)})
    print(model)
    print(model.predict(table)[:5])


if __name__ == '__main__':
    main(*sys.argv[1:])
