"""A batch with histories, for models that read them: two fields of the same events, and another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.data.schema import Field, History, Schema
from dlf_jax.models import Bag, Inputs, embedding
from dlf_jax.testing.model_check import BATCH, MASK

LENGTH = 3
# The target's fields, another one, and the histories, in the order of the embeddings.
FIELDS = ('item', 'kind', 'user', 'seen', 'kinds', 'hidden')
HISTORIES = (History(('seen', 'kinds'), ('item', 'kind')), History(('hidden',), ('item',)))
# Lengths of the histories of each row; 0: an empty one.
LENGTHS = {'seen': np.array([3, 0, 1, 2, 3, 0, 2, 3, 1]), 'hidden': np.array([1, 2, 0, 3, 0, 2, 3, 1, 3])}


def masks(lengths=LENGTHS):
    """The latest events lie last, bool [B, LENGTH] by history."""
    return {name: np.arange(LENGTH) >= LENGTH - n[:, None] for name, n in lengths.items()}


def inputs_of(values, mask):
    """Inputs with the embeddings of the events, [B, LENGTH, d] by field."""
    by_field = {'seen': mask['seen'], 'kinds': mask['seen'], 'hidden': mask['hidden']}
    bags = {name: Bag({'embedding': values[name]}, by_field[name]) for name in sorted(by_field)}
    return Inputs(FIELDS, np.zeros((len(mask['seen']), 0)), (), bags, HISTORIES)


def from_tables(model, mask):
    """The model with the events read from tables, so that `check_model` compares their gradients too."""

    class FromTables(model):
        wants_inputs = False

        @property
        def tables(self):
            return {
                'embedding': self.embedding_size,
                **dict.fromkeys(FIELDS[3:], LENGTH * self.embedding_size),
            }

        def logits(self, embeddings, mode):
            first = embeddings['embedding'][:, :3]
            # What is in the histories' own columns is not read.
            fields = jnp.concatenate([first, jnp.full_like(first, jnp.inf)], axis=1)
            values = {
                name: embeddings[name][:, 0].reshape(-1, LENGTH, self.embedding_size) for name in FIELDS[3:]
            }
            return model.logits(self, {'embedding': fields}, mode, inputs_of(values, mask))

    return FromTables


def reference_of(logits, mask):
    """The reference `(params, stats, others, histories, train, **fields)` as `check_model` calls it."""

    def refer(params, stats, rows, train, **switches):
        fields = rows['embedding'][:, :3]
        values = {name: rows[name][:, 0].reshape(len(fields), LENGTH, -1) for name in FIELDS[3:]}
        counted = {name: m[MASK] for name, m in mask.items()}
        both = [
            (np.concatenate(fields[i, :2]), np.concatenate([values['seen'][i], values['kinds'][i]], 1)[there])
            for i, there in enumerate(counted['seen'])
        ]
        one = [(fields[i, 0], values['hidden'][i][there]) for i, there in enumerate(counted['hidden'])]
        return logits(params, stats, fields.reshape(len(fields), -1), [both, one], train, **switches)

    return refer


@functools.cache
def drawn(d=4):
    """Embeddings of the fields [B, 6, d] and of the events, float32."""
    draw = np.random.default_rng(5)
    fields = draw.normal(size=(BATCH, len(FIELDS), d)).astype(np.float32)
    return fields, {name: draw.normal(size=(BATCH, LENGTH, d)).astype(np.float32) for name in FIELDS[3:]}


def variables_of(model, inputs, fields, seed=0):
    """Variables of a model, every entry drawn."""
    shapes = jax.eval_shape(
        functools.partial(model.init, inputs=inputs), jax.random.key(0), {'embedding': fields}
    )
    draw = np.random.default_rng(seed)

    def drawn(path, leaf):
        values = draw.normal(size=leaf.shape).astype(np.float32)
        return np.abs(values) + 0.5 if path[-1].key == 'var' else 0.5 * values

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def count(model, parts, length=100):
    """Numbers of dense parameters by what their names begin with; two fields and the history of both."""
    fields = [Field(name, 'categorical', size=3) for name in ('item', 'kind')]
    for name, of in (('items', 'item'), ('kinds', 'kind')):
        beside = 'items' if name == 'kinds' else ''
        fields.append(
            Field(name, 'multi-valued', pooling='mean', length=length, ordered=True, shares=of, beside=beside)
        )
    rows, inputs = embedding.example(model.tables, Schema(tuple(fields), 'label'))
    shapes = jax.eval_shape(functools.partial(model.init, inputs=inputs), jax.random.key(0), rows)['params']
    return [
        sum(leaf.size for name in shapes if name.startswith(part) for leaf in jax.tree.leaves(shapes[name]))
        for part in parts
    ]


def check_padding(model):
    """Where no event is, anything may be: nothing of it is seen, and it learns nothing."""
    rows, values = drawn()
    mask = masks()
    empty = {name: np.zeros_like(own) for name, own in mask.items()}
    variables = variables_of(model, inputs_of(values, mask), rows)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=1, has_aux=True)
    def gradients(params, values, mask):
        logits, _ = model.apply(
            {**variables, 'params': params}, {'embedding': rows}, train=True, inputs=inputs_of(values, mask),
            mutable=['batch_stats'],
        )  # fmt: skip
        return jnp.sum(logits**2), logits

    def there(name):
        return mask['hidden' if name == 'hidden' else 'seen']

    (_, logits), found = gradients(variables['params'], values, empty)
    assert np.isfinite(logits).all()
    assert not any(np.any(gradient) for gradient in found.values())
    (_, logits), _ = gradients(variables['params'], values, mask)
    wild = {name: np.where(there(name)[..., None], v, np.nan) for name, v in values.items()}
    (_, other), found = gradients(variables['params'], wild, mask)
    np.testing.assert_array_equal(logits, other)
    for name, gradient in found.items():
        assert np.isfinite(gradient).all()
        assert not gradient[~there(name)].any()
        assert gradient[there(name)].any()
