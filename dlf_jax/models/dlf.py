"""DLF: dynamic low-order-aware fusion (https://arxiv.org/abs/2505.19182), sections 4.1-4.4.

The blocks of a layer are in `dlf_blocks`, the fusions of their outputs in `dlf_fusion`; this module
combines them into layers, a stack of layers and a prediction.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models import dlf_blocks, dlf_fusion
from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import MLP
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_own_rate, check_positive, check_rate, check_widths

FUSIONS = ('naf', 'concat', 'mlp', 'gate', 'attention', 'none', 'released')


class DLF(CTRModel):
    """DLF (Wang et al., SIGIR 2025), all its published variants, and the authors' released model.

    Reads the table 'embedding', `E: [B, F, d]`. The sigmoid of eq. 16 belongs to the loss and to prediction.

    From `E^(1) = E`, each of `L` layers computes `E^(l+1): [B, M, d]` from `E^(l): [B, N, d]`: three
    blocks with outputs `Z_L`, `Z_C`, `Z_D: [B, n, d]` (eqs. 5-7), a fusion of these to `Z: [B, M, d]`
    (eqs. 8, 10-15) and a gated residual connection (eq. 9). The head reads the flattened `E^(L+1)` (eq. 16).

    Parameters:

        layer_{l}/low_rank   in_kernel, norm, mlp/{hidden_i, norm_i, out}       (eq. 5)
        layer_{l}/high_rank  the same                                           (eq. 6)
        layer_{l}/implicit   mlp/{hidden_i, norm_i, out}, or kernel             (eq. 7)
        layer_{l}/fusion     attention_{a}/{qkv_*, cross_*}, out                (eqs. 10-14)
        layer_{l}/residual   gate_kernel, token_kernel, norm                    (eq. 9)
        head                 hidden_i, norm_i, out                              (eq. 16)

    With `fusion='none'` a layer has one residual per block: `low_rank_residual` and so on.

    Attributes:
      embedding_size: `d`, width of an embedding and of every token.
      layers: `L`, number of interaction layers.
      attention_layers: `A`, number of attention layers in a fusion; used by 'naf' and 'attention'.
      tokens: `n`, number of output tokens of each block.
      rank: `R`, rank of `W_LI` and `W_CI` (eqs. 5, 6).
      heads: `H`, number of attention heads; must divide `embedding_size` if there is attention.
      attention_kernel: how training computes 'naf' and 'attention': 'plain', as array operations, or
        'mosaic_gpu', an attention layer as one kernel for H100 and H200 (experimental: it has run in an
        interpreter alone), which needs bfloat16. Weights and predictions do not depend on it.
      hidden: width of each hidden layer of the low- and high-rank blocks, between the norm of the
        products and `W_O`.
      low_rank: whether there is a low-rank block (eq. 5).
      implicit: kind of the implicit block: 'mlp' (eq. 7) or 'token', a linear map over the tokens.
      implicit_hidden: width of each hidden layer of the 'mlp' block before `W_D`; () is eq. 7 as printed.
      block_relu: whether the blocks end in a ReLU, as in eqs. 5-7; 'token' never does.
      project_first: whether the low-rank block of every layer but the first maps `E^(1)` to the `N` tokens
        of its state before it multiplies them.
      fusion: how the outputs of the blocks are combined (eq. 8): 'naf', the network-aware attention fusion
        (eqs. 10-15); 'concat', 'mlp', 'gate' and 'attention' (cross-attention only) of Figure 3; 'none',
        where each block keeps its own state through all layers and the head reads their concatenation;
        'released', concatenation in the order of the authors' repository.
      fusion_hidden: width of each hidden layer of the 'mlp' fusion.
      input_attention: whether the 'released' fusion adds self-attention over the layer's input.
      gate: whether the residual connection is gated (eq. 9) instead of plain.
      gate_epsilon: `eps`, smallest value of a gate (eq. 9).
      norm: norm after the residual connection: 'layer' (LayerNorm over `d`), 'batch' (BatchNorm, with
        separate statistics for every token's channels) or 'none'.
      product_norm: norm of the flattened products in the low- and high-rank blocks, one of the same.
      head: width of each hidden layer before the output; () in the paper, (512,) in its repository.
      batch_norm: whether hidden layers, of any part, have a BatchNorm.
      dropout: dropout rate in hidden layers of any part.
      implicit_dropout: dropout rate in hidden layers of the implicit block; -1 for `dropout`.
      head_dropout: dropout rate in hidden layers of the head; -1 for `dropout`.
      block_dropout: dropout rate on the outputs of the blocks.
    """

    embedding_size: int = 64
    layers: int = 8
    attention_layers: int = 2
    tokens: int = 16
    rank: int = 24
    heads: int = 2
    attention_kernel: str = 'plain'
    hidden: tuple[int, ...] = (512,)
    low_rank: bool = True
    implicit: str = 'mlp'
    implicit_hidden: tuple[int, ...] = ()
    block_relu: bool = True
    project_first: bool = False
    fusion: str = 'naf'
    fusion_hidden: tuple[int, ...] = ()
    input_attention: bool = False
    gate: bool = True
    gate_epsilon: float = 1e-6
    norm: str = 'layer'
    product_norm: str = 'layer'
    head: tuple[int, ...] = ()
    batch_norm: bool = True
    dropout: float = 0.0
    implicit_dropout: float = -1.0
    head_dropout: float = -1.0
    block_dropout: float = 0.0

    # Table 3: without the gate, RLI, NAF or both. Figure 3: fusions. 'released': the authors' repository.
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        'wo_gate': {'gate': False},
        'wo_rli': {'low_rank': False, 'gate': False},
        'wo_naf': {'fusion': 'none'},
        'wo_rli_naf': {'low_rank': False, 'gate': False, 'fusion': 'none'},
        'fusion=concat': {'fusion': 'concat'},
        'fusion=mlp': {'fusion': 'mlp'},
        'fusion=gate': {'fusion': 'gate'},
        'fusion=attention': {'fusion': 'attention'},
        'fusion=naf': {'fusion': 'naf'},
        'released': {
            'fusion': 'released',
            'implicit': 'token',
            'gate': False,
            'block_relu': False,
            'project_first': True,
        },
    }

    def check(self) -> None:
        check_positive(
            embedding_size=self.embedding_size,
            layers=self.layers,
            attention_layers=self.attention_layers,
            tokens=self.tokens,
            rank=self.rank,
            heads=self.heads,
        )
        check_widths(
            hidden=self.hidden,
            implicit_hidden=self.implicit_hidden,
            fusion_hidden=self.fusion_hidden,
            head=self.head,
        )
        check_rate(dropout=self.dropout, block_dropout=self.block_dropout)
        check_own_rate('dropout', implicit_dropout=self.implicit_dropout, head_dropout=self.head_dropout)
        check_choice('norm', self.norm, dlf_blocks.NORMS)
        check_choice('product_norm', self.product_norm, dlf_blocks.NORMS)
        check_choice('implicit', self.implicit, ('mlp', 'token'))
        check_choice('fusion', self.fusion, FUSIONS)
        if self.gate_epsilon < 0:
            raise ValueError(f'model.gate_epsilon={self.gate_epsilon}: expected 0 or more')
        if self.implicit_hidden and self.implicit != 'mlp':
            raise ValueError(f"model.implicit_hidden={self.implicit_hidden}: needs model.implicit='mlp'")
        if self.fusion_hidden and self.fusion != 'mlp':
            raise ValueError(f"model.fusion_hidden={self.fusion_hidden}: needs model.fusion='mlp'")
        if self.input_attention and self.fusion != 'released':
            raise ValueError("model.input_attention=True: needs model.fusion='released'")
        attends = self.fusion in ('naf', 'attention') or self.input_attention
        if attends and self.embedding_size % self.heads:
            raise ValueError(
                f'model.heads={self.heads}: must divide model.embedding_size={self.embedding_size}'
            )
        check_choice('attention_kernel', self.attention_kernel, ('plain', 'mosaic_gpu'))
        if self.attention_kernel == 'mosaic_gpu':
            self._check_kernel()

    def _check_kernel(self) -> None:
        """Checks that the kernel's tiles can hold the attention's shapes. Raises ValueError otherwise."""
        key = 'model.attention_kernel=mosaic_gpu'
        if self.fusion not in ('naf', 'attention'):
            raise ValueError(f"{key}: needs model.fusion='naf' or 'attention', found {self.fusion!r}")
        if self.embedding_size not in (32, 64):
            raise ValueError(f'{key}: needs model.embedding_size=32 or 64, found {self.embedding_size}')
        if 64 % self.tokens:
            raise ValueError(f'{key}: needs model.tokens to divide 64, found {self.tokens}')
        if self.embedding_size // self.heads % 16:
            raise ValueError(
                f'{key}: needs heads of a multiple of 16 channels, found model.heads={self.heads} of '
                f'model.embedding_size={self.embedding_size}'
            )

    def check_training(self, precision: str, devices: Sequence[jax.Device]) -> None:
        if self.attention_kernel == 'plain':
            return
        key, instead = 'model.attention_kernel=mosaic_gpu', 'or take model.attention_kernel=plain'
        if precision != 'bfloat16':
            raise ValueError(f'{key}: computes in bfloat16, found {precision=!s}: set it, {instead}')
        # AMD's GPUs have capabilities of other names, CPUs and TPUs none.
        others = {d.device_kind for d in devices if getattr(d, 'compute_capability', None) != '9.0'}
        if others:
            found = ', '.join(sorted(others))
            raise ValueError(f'{key}: needs H100 or H200 GPUs, found {found}: train there, {instead}')

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        first = embeddings['embedding']
        states = dict.fromkeys(self._blocks(0), first)
        for i in range(self.layers):
            layer = _Layer(self._blocks(i), self._fusion(), self._residual(), name=f'layer_{i}')
            states = layer(first, states, mode)
        ends = list(states.values())
        # After a fusion all blocks share one state.
        final = jnp.concatenate(ends, axis=1) if self.fusion == 'none' else ends[0]
        # What is sown is read by explanations alone: elsewhere it is no part of the program.
        self.sow('intermediates', 'final', final)
        head = MLP(self.head, 1, self.batch_norm, self._rate(self.head_dropout), name='head')
        return head(final.reshape(final.shape[0], -1), mode)[:, 0]

    def _rate(self, own: float) -> float:
        return self.dropout if own == -1 else own

    def _block_fields(self, hidden: tuple[int, ...], dropout: float) -> dict:
        return {
            'tokens': self.tokens,
            'hidden': hidden,
            'batch_norm': self.batch_norm,
            'dropout': dropout,
            'relu': self.block_relu,
            'block_dropout': self.block_dropout,
        }

    @nn.nowrap
    def block_names(self, layer: int) -> tuple[str, ...]:
        """Names of a layer's blocks in the order of their tokens; layers count from 0."""
        return tuple(self._blocks(layer))

    def _blocks(self, layer: int) -> dict[str, Callable[..., nn.Module]]:
        """Constructors of a layer's blocks by name, in the order of their tokens; layers count from 0."""
        fields = self._block_fields(self.hidden, self.dropout)
        rank = functools.partial(dlf_blocks.RankBlock, rank=self.rank, norm=self.product_norm, **fields)
        blocks = {
            'low_rank': functools.partial(rank, low=True, project_first=self.project_first and layer > 0),
            'high_rank': functools.partial(rank, low=False),
            'implicit': functools.partial(
                dlf_blocks.ImplicitBlock if self.implicit == 'mlp' else dlf_blocks.TokenBlock,
                **self._block_fields(self.implicit_hidden, self._rate(self.implicit_dropout)),
            ),
        }
        order = ['low_rank', 'high_rank', 'implicit']
        if self.fusion == 'released':
            order = ['high_rank', 'low_rank', 'implicit']
        return {name: blocks[name] for name in order if self.low_rank or name != 'low_rank'}

    def _fusion(self) -> Callable[..., nn.Module] | None:
        if self.fusion in ('naf', 'attention'):
            return functools.partial(
                dlf_fusion.AttentionFusion,
                layers=self.attention_layers,
                heads=self.heads,
                self_attention=self.fusion == 'naf',
                train_kernel=self.attention_kernel == 'mosaic_gpu',
            )
        if self.fusion == 'mlp':
            return functools.partial(dlf_fusion.MLPFusion, self.fusion_hidden, self.batch_norm, self.dropout)
        if self.fusion == 'gate':
            return dlf_fusion.GateFusion
        if self.input_attention:
            fields = self._block_fields(self.hidden, self.dropout)
            return functools.partial(dlf_fusion.InputAttention, heads=self.heads, **fields)
        return None if self.fusion == 'none' else dlf_fusion.ConcatFusion

    def _residual(self) -> Callable[..., nn.Module]:
        return functools.partial(dlf_blocks.Residual, self.gate, self.gate_epsilon, self.norm)


class _Layer(nn.Module):
    """Interaction layer: from `E^(1): [B, F, d]` and a state `[B, N, d]` per block to new states.

    Attributes:
      blocks: constructor of each block, by name.
      fusion: constructor of the fusion, after which all blocks share one state; None if each block keeps
        its own.
      residual: constructor of a residual connection.
    """

    blocks: Mapping[str, Callable[..., nn.Module]]
    fusion: Callable[..., nn.Module] | None
    residual: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, first: jax.Array, states: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
        outputs = {name: block(name=name)(first, states[name], mode) for name, block in self.blocks.items()}
        self.sow('intermediates', 'outputs', outputs)
        if self.fusion is None:
            return {
                name: self.residual(name=f'{name}_residual')(output, states[name], mode)
                for name, output in outputs.items()
            }
        (state, *_) = states.values()
        fused = self.fusion(name='fusion')(list(outputs.values()), state, mode)
        self.sow('intermediates', 'fused', fused)
        return dict.fromkeys(outputs, self.residual(name='residual')(fused, state, mode))
