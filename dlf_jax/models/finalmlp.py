"""FinalMLP: two gated MLPs and a bilinear fusion of what they make."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.layers import MLP, Dense, Mode, stacked_kernel_init
from dlf_jax.models.validators import check_positive, check_rate, check_widths

# As the tables start. Not zeros: ReLU has no gradient there, and the gate would never see a context.
context_init = nn.initializers.normal(1e-4)


class BilinearFusion(nn.Module):
    """`b + w_1^T x + w_2^T y + sum_h x_h^T W_h y_h`: `[B, X]`, `[B, Y]` to `[B]`.

    `x_h: [B, X / H]` and `y_h: [B, Y / H]` are the `H` chunks of adjacent channels.

    Parameters: `linear/{kernel: [X + Y, 1], bias: [1]}`, `kernel: [H, X / H, Y / H]`.

    Attributes:
      heads: `H`, divides `X` and `Y`.
    """

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        linear = Dense(1, name='linear')(jnp.concatenate([x, y], axis=1))[:, 0]
        x, y = (z.reshape(z.shape[0], self.heads, -1) for z in (x, y))
        shape = (self.heads, x.shape[-1], y.shape[-1])
        kernel = self.param('kernel', stacked_kernel_init, shape)
        return linear + jnp.sum(jnp.einsum('bhx,hxy->bhy', x, kernel) * y, axis=(1, 2))


class FinalMLP(nn.Module):
    """FinalMLP (Mao et al., AAAI 2023): two streams, each with a gate on its input features.

    Called on `{'embedding': float32 [B, F, d]}` it returns logits, float32 [B]. With
    `flat: [B, F d]`, for stream `s` of 1 and 2:

    - gate: `g_s = 2 sigmoid(MLP(c_s))`, `[B, F d]`, of a context `c_s`: a learned vector `[d]`, the
      same for all rows, or some fields' embeddings, `[B, C d]`;
    - stream: `o_s = MLP(flat * g_s)`;
    - fusion: `logit = b + w_1^T o_1 + w_2^T o_2 + sum_h o_1h^T W_h o_2h`.

    In FuxiCTR fields that serve as a context are embedded once more for it: `context_tables`.

    Parameters: `context_{s}: [d]` where it is learned, `gate_{s}/{hidden_i, out}`,
    `stream_{s}/{hidden_i, norm_i}`, `fusion/{linear, kernel}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      hidden_1: hidden layers of the first stream; at least one.
      hidden_2: hidden layers of the second stream; at least one.
      heads: `H`, chunks of the fusion; must divide the last widths of both streams.
      gate: whether the streams have feature gates.
      gate_hidden: hidden layers of a gate's MLP, without BatchNorm and dropout.
      context_1: positions, from 0, of the fields that the first gate reads; none: a learned vector.
      context_2: the same for the second gate.
      context_tables: whether these fields are read from tables of their own, one per gate.
      batch_norm: whether hidden layers of the streams have a BatchNorm.
      dropout_1: rate after hidden layers of the first stream.
      dropout_2: rate after hidden layers of the second stream.
    """

    embedding_size: int = 10
    hidden_1: tuple[int, ...] = (400, 400, 400)
    hidden_2: tuple[int, ...] = (400, 400, 400)
    heads: int = 5
    gate: bool = True
    gate_hidden: tuple[int, ...] = (400,)
    context_1: tuple[int, ...] = ()
    context_2: tuple[int, ...] = ()
    context_tables: bool = False
    batch_norm: bool = True
    dropout_1: float = 0.0
    dropout_2: float = 0.0

    variants: ClassVar[dict[str, dict]] = {'full': {}, 'wo_gate': {'gate': False}}

    def __post_init__(self):
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
            ints = isinstance(context, tuple) and all(type(field) is int for field in context)
            if not ints or any(field < 0 for field in context):
                raise ValueError(
                    f"model.{key}={context!r}: expected a tuple of fields' positions, such as (0,) or ()"
                )
            if context and not self.gate:
                raise ValueError(f'model.{key}={context}: needs model.gate=True')
        if self.context_tables and not any(contexts.values()):
            raise ValueError('model.context_tables=True: needs fields in model.context_1 or model.context_2')
        super().__post_init__()

    @property
    def tables(self) -> dict[str, int]:
        """Width of each table that the model reads."""
        names = ['embedding']
        if self.context_tables:
            names += [f'context_{stream}' for stream in (1, 2) if self._fields(stream)]
        return dict.fromkeys(names, self.embedding_size)

    @nn.compact
    def __call__(
        self,
        rows: Mapping[str, jax.Array],
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> jax.Array:
        mode = Mode(train, mask, axis_name)
        for table in self.tables:
            chex.assert_shape(rows[table], (None, None, self.embedding_size))
        flat = rows['embedding'].reshape(rows['embedding'].shape[0], -1)
        outputs = []
        streams = ((1, self.hidden_1, self.dropout_1), (2, self.hidden_2, self.dropout_2))
        for stream, hidden, dropout in streams:
            features = flat
            if self.gate:
                # Without BatchNorm: one row, as the learned context has, or those of the batch.
                gate = MLP(self.gate_hidden, flat.shape[1], batch_norm=False, name=f'gate_{stream}')
                features = flat * 2 * nn.sigmoid(gate(self._context(stream, rows), mode))
            tower = MLP(hidden, None, self.batch_norm, dropout, name=f'stream_{stream}')
            outputs.append(tower(features, mode))
        return BilinearFusion(self.heads, name='fusion')(*outputs)

    def _fields(self, stream: int) -> tuple[int, ...]:
        return self.context_1 if stream == 1 else self.context_2

    def _context(self, stream: int, rows: Mapping[str, jax.Array]) -> jax.Array:
        """`c_s`, [B, C d], or [1, d] where it is learned."""
        name, fields = f'context_{stream}', self._fields(stream)
        if not fields:
            return self.param(name, context_init, (self.embedding_size,))[None]
        table = rows[name if self.context_tables else 'embedding']
        if max(fields) >= table.shape[1]:
            raise ValueError(f'model.{name}={fields}: there are {table.shape[1]} fields, from 0')
        return table[:, jnp.array(fields)].reshape(table.shape[0], -1)
