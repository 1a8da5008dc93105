"""FinalMLP: two MLPs with gated inputs and a bilinear fusion of their outputs (Mao et al., AAAI 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.errors import UsageError
from dlf_jax.models.base import CTRModel
from dlf_jax.models.inputs import Inputs
from dlf_jax.models.layers import MLP, Dense, stacked_kernel_init
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths

# Like embedding tables. Not zeros: ReLU has no gradient there, and the context would never change.
context_init = nn.initializers.normal(1e-4)


class BilinearFusion(nn.Module):
    """Bilinear fusion, `b + w_1^T x + w_2^T y + sum_h x_h^T W_h y_h`: `[B, X]`, `[B, Y]` to `[B]`.

    `x_h: [B, X / H]` and `y_h: [B, Y / H]` are the `H` heads, chunks of adjacent channels.

    Parameters: `linear/{kernel: [X + Y, 1], bias: [1]}`, `kernel: [H, X / H, Y / H]`.

    Attributes:
      heads: `H`, number of heads; divides `X` and `Y`.
    """

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        linear = Dense(1, name='linear')(jnp.concatenate([x, y], axis=1))[:, 0]
        x, y = (z.reshape(z.shape[0], self.heads, -1) for z in (x, y))
        shape = (self.heads, x.shape[-1], y.shape[-1])
        kernel = self.param('kernel', stacked_kernel_init, shape)
        return linear + jnp.sum(jnp.einsum('bhx,hxy->bhy', x, kernel) * y, axis=(1, 2))


class FinalMLP(CTRModel):
    """FinalMLP: two streams, each with a gate on its input features (Mao et al. 2023).

    With `flat: [B, F d]`, for each stream `s` of 1 and 2:

    - gate: `g_s = 2 sigmoid(MLP(c_s))`, `[B, F d]`, where the context `c_s` is either a learned vector `[d]`,
      the same for all rows, or the concatenated embeddings of some fields, `[B, C d]`;
    - stream: `o_s = MLP(flat * g_s)`;
    - fusion: `logit = b + w_1^T o_1 + w_2^T o_2 + sum_h o_1h^T W_h o_2h`.

    In FuxiCTR the fields of a context have a second embedding for it: `context_tables`. Reads the table
    'embedding', and with `context_tables` also 'context_1' and 'context_2'.

    Parameters: `context_{s}: [d]` if it is learned, `gate_{s}/{hidden_i, out}`,
    `stream_{s}/{hidden_i, norm_i}`, `fusion/{linear, kernel}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      hidden_1: width of each hidden layer of the first stream; at least one layer.
      hidden_2: width of each hidden layer of the second stream; at least one layer.
      heads: `H`, heads of the fusion; must divide the last widths of both streams.
      gate: whether the streams have feature gates.
      gate_hidden: width of each hidden layer of a gate's MLP, which has no BatchNorm and no dropout.
      context_1: fields that the first gate reads, by name or by position counted from 0; () for a
        learned vector.
      context_2: fields that the second gate reads.
      context_tables: whether each gate reads its fields from an embedding table of its own.
      batch_norm: whether hidden layers of the streams have a BatchNorm.
      dropout_1: dropout rate after each hidden layer of the first stream.
      dropout_2: dropout rate after each hidden layer of the second stream.
    """

    embedding_size: int = 10
    hidden_1: tuple[int, ...] = (400, 400, 400)
    hidden_2: tuple[int, ...] = (400, 400, 400)
    heads: int = 5
    gate: bool = True
    gate_hidden: tuple[int, ...] = (400,)
    context_1: tuple[int | str, ...] = ()
    context_2: tuple[int | str, ...] = ()
    context_tables: bool = False
    batch_norm: bool = True
    dropout_1: float = 0.0
    dropout_2: float = 0.0

    wants_bags = False
    variants: ClassVar[dict[str, dict[str, Any]]] = {'full': {}, 'wo_gate': {'gate': False}}

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, heads=self.heads)
        hidden = {'hidden_1': self.hidden_1, 'hidden_2': self.hidden_2}
        check_widths(gate_hidden=self.gate_hidden, **hidden)
        check_rate(dropout_1=self.dropout_1, dropout_2=self.dropout_2)
        for key, widths in hidden.items():
            if not widths:
                raise ValueError(f'model.{key}={widths}: expected at least one width')
            if widths[-1] % self.heads:
                raise ValueError(f'model.heads={self.heads}: must divide the last of model.{key}={widths}')
        contexts = {'context_1': self.context_1, 'context_2': self.context_2}
        for key, context in contexts.items():
            if not isinstance(context, tuple) or not all(map(_names_field, context)):
                raise ValueError(
                    f'model.{key}={context!r}: expected a tuple of names or positions of fields, such as '
                    "('user_id',), (0,) or ()"
                )
            if context and not self.gate:
                raise ValueError(f'model.{key}={context}: needs model.gate=True')
        if self.context_tables and not any(contexts.values()):
            raise ValueError('model.context_tables=True: needs fields in model.context_1 or model.context_2')

    @property
    def tables(self) -> dict[str, int]:
        names = ['embedding']
        if self.context_tables:
            names += [f'context_{stream}' for stream in (1, 2) if self._fields(stream)]
        return dict.fromkeys(names, self.embedding_size)

    @property
    def wants_inputs(self) -> bool:  # type: ignore[override]
        return any(isinstance(field, str) for field in (*self.context_1, *self.context_2))

    def logits(
        self, embeddings: Mapping[str, jax.Array], mode: Mode, inputs: Inputs | None = None
    ) -> jax.Array:
        flat = embeddings['embedding'].reshape(embeddings['embedding'].shape[0], -1)
        outputs = []
        streams = ((1, self.hidden_1, self.dropout_1), (2, self.hidden_2, self.dropout_2))
        for stream, hidden, dropout in streams:
            features = flat
            if self.gate:
                # Without BatchNorm: a learned context is a single row.
                gate = MLP(self.gate_hidden, flat.shape[1], batch_norm=False, name=f'gate_{stream}')
                features = flat * 2 * nn.sigmoid(gate(self._context(stream, embeddings, inputs), mode))
            tower = MLP(hidden, None, self.batch_norm, dropout, name=f'stream_{stream}')
            outputs.append(tower(features, mode))
        return BilinearFusion(self.heads, name='fusion')(*outputs)

    def _fields(self, stream: int) -> tuple[int | str, ...]:
        return self.context_1 if stream == 1 else self.context_2

    def _context(self, stream: int, embeddings: Mapping[str, jax.Array], inputs: Inputs | None) -> jax.Array:
        """Context `c_s`, float32 [B, C d], or [1, d] if it is learned."""
        name, fields = f'context_{stream}', self._fields(stream)
        if not fields:
            return self.param(name, context_init, (self.embedding_size,))[None]
        table = embeddings[name if self.context_tables else 'embedding']
        positions = [_position(field, name, inputs) for field in fields]
        if max(positions) >= table.shape[1]:
            raise UsageError(
                f'config.model.{name}={fields}: expected positions from 0 to {table.shape[1] - 1}, there are '
                f'{table.shape[1]} fields'
            )
        return table[:, jnp.array(positions)].reshape(table.shape[0], -1)


def _position(field: int | str, key: str, inputs: Inputs | None) -> int:
    """Position of a field that has a name or a position; with a name the model `wants_inputs`."""
    if not isinstance(field, str):
        return field
    assert inputs is not None
    return inputs.position(field, key)


def _names_field(value: Any) -> bool:
    """Whether a value is the name or the position of a field."""
    return isinstance(value, str) or (type(value) is int and value >= 0)
