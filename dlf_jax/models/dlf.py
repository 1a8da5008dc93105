"""DLF: dynamic low-order-aware fusion (https://arxiv.org/abs/2505.19182), sections 4.1-4.4.

The blocks of a layer are in `dlf_blocks`, the ways to fuse them in `dlf_fusion`; here they become
layers, a stack and a prediction.
"""

import functools
from collections.abc import Callable, Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models import dlf_blocks, dlf_fusion
from dlf_jax.models.layers import MLP, Mode
from dlf_jax.models.validators import check_choice, check_own_rate, check_positive, check_rate, check_widths

FUSIONS = ('naf', 'concat', 'mlp', 'gate', 'attention', 'none', 'released')


class DLF(nn.Module):
    """DLF (Wang et al., SIGIR 2025), all its published variants, and the authors' released model.

    Called on `{'embedding': float32 [B, F, d]}` it returns logits, float32 [B]; the sigmoid of
    eq. 16 belongs to the loss and to prediction.

    From `E^(1) = E` each of `L` layers makes `E^(l+1): [B, M, d]` of `E^(l): [B, N, d]`: three
    blocks, `Z_L`, `Z_C`, `Z_D: [B, n, d]` (eqs. 5-7), a fusion to `Z: [B, M, d]` (eqs. 8, 10-15)
    and a gated residual (eq. 9). The head reads the flattened `E^(L+1)` (eq. 16).

    Parameters:

        layer_{l}/low_rank   in_kernel, norm, mlp/{hidden_i, norm_i, out}       (eq. 5)
        layer_{l}/high_rank  the same                                           (eq. 6)
        layer_{l}/implicit   mlp/{hidden_i, norm_i, out}, or kernel             (eq. 7)
        layer_{l}/fusion     attention_{a}/{qkv_*, cross_*}, out                (eqs. 10-14)
        layer_{l}/residual   gate_kernel, token_kernel, norm                    (eq. 9)
        head                 hidden_i, norm_i, out                              (eq. 16)

    With `fusion='none'` a layer has a residual per block: `low_rank_residual` and so on.

    Attributes:
      embedding_size: `d`, width of an embedding and of every token.
      layers: `L`, interaction layers.
      attention_layers: `A`, attention layers of a fusion; read by 'naf' and 'attention'.
      tokens: `n`, tokens that each block puts out.
      rank: `R`, rank of `W_LI` and `W_CI` (eqs. 5, 6).
      heads: `H`, attention heads; must divide `embedding_size` where there is attention.
      hidden: hidden layers of the low- and high-rank blocks, between the products' norm and `W_O`.
      low_rank: whether there is a low-rank block (eq. 5).
      implicit: the implicit block; 'mlp' (eq. 7) or 'token', a linear map over the tokens.
      implicit_hidden: hidden layers of the 'mlp' block before `W_D`; none is eq. 7 as printed.
      block_relu: whether the blocks end in a ReLU, as in eqs. 5-7; 'token' never does.
      project_first: whether the low-rank block of a layer after the first takes `E^(1)` to the `N`
        tokens of its state before it multiplies them.
      fusion: how the blocks meet (eq. 8): 'naf', the network-aware attention fusion (eqs. 10-15);
        Figure 3's 'concat', 'mlp', 'gate' and 'attention' (cross-attention only); 'none', each
        block keeps its own state through all layers, concatenated before the head; 'released',
        concatenation in the order of the authors' repository.
      fusion_hidden: hidden layers of the 'mlp' fusion.
      input_attention: whether the 'released' fusion adds a self-attention over the layer's input.
      gate: whether the residual is gated (eq. 9) or plain.
      gate_epsilon: `eps`, the least gate (eq. 9).
      norm: what follows the residual: 'layer' (LayerNorm over `d`), 'batch' (BatchNorm, every token's
        channels apart) or 'none'.
      product_norm: the same of the flattened products in the low- and high-rank blocks.
      head: hidden layers before the last Dense; the paper has none, its repository (512,).
      batch_norm: whether hidden layers, wherever they are, have a BatchNorm.
      dropout: rate in hidden layers, wherever they are.
      implicit_dropout: rate in those of the implicit block instead; -1: `dropout`.
      head_dropout: rate in those of the head instead; -1: `dropout`.
      block_dropout: rate on the outputs of the blocks.
    """

    embedding_size: int = 64
    layers: int = 8
    attention_layers: int = 2
    tokens: int = 16
    rank: int = 24
    heads: int = 2
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

    # Table 3 without the gate, RLI, NAF or both; Figure 3's fusions; the authors' repository.
    variants: ClassVar[dict[str, dict]] = {
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

    def __post_init__(self):
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
        super().__post_init__()

    @property
    def tables(self) -> dict[str, int]:
        """Width of each table that the model reads."""
        return {'embedding': self.embedding_size}

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
        first = rows['embedding']
        chex.assert_shape(first, (None, None, self.embedding_size))
        states = dict.fromkeys(self._blocks(0), first)
        for i in range(self.layers):
            layer = _Layer(self._blocks(i), self._fusion(), self._residual(), name=f'layer_{i}')
            states = layer(first, states, mode)
        final = list(states.values())
        # Fused blocks share one state.
        final = jnp.concatenate(final, axis=1) if self.fusion == 'none' else final[0]
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

    def _blocks(self, layer: int) -> dict[str, Callable[..., nn.Module]]:
        """The blocks of a layer (counted from 0) by name, in the order of their tokens."""
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
            )
        if self.fusion == 'mlp':
            fields = (self.fusion_hidden, self.batch_norm, self.dropout)
            return functools.partial(dlf_fusion.MLPFusion, *fields)
        if self.fusion == 'gate':
            return dlf_fusion.GateFusion
        if self.input_attention:
            fields = self._block_fields(self.hidden, self.dropout)
            return functools.partial(dlf_fusion.InputAttention, heads=self.heads, **fields)
        return None if self.fusion == 'none' else dlf_fusion.ConcatFusion

    def _residual(self) -> Callable[..., nn.Module]:
        return functools.partial(dlf_blocks.Residual, self.gate, self.gate_epsilon, self.norm)


class _Layer(nn.Module):
    """One interaction layer: `E^(1): [B, F, d]` and a state `[B, N, d]` per block to new states.

    Attributes:
      blocks: makes each block.
      fusion: makes the fusion, after which all blocks share one state; None: each keeps its own.
      residual: makes a residual.
    """

    blocks: Mapping[str, Callable[..., nn.Module]]
    fusion: Callable[..., nn.Module] | None
    residual: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, first: jax.Array, states: dict[str, jax.Array], mode: Mode) -> dict[str, jax.Array]:
        outputs = {name: block(name=name)(first, states[name], mode) for name, block in self.blocks.items()}
        if self.fusion is None:
            return {
                name: self.residual(name=f'{name}_residual')(output, states[name], mode)
                for name, output in outputs.items()
            }
        (state, *_) = states.values()
        fused = self.fusion(name='fusion')(list(outputs.values()), state, mode)
        return dict.fromkeys(outputs, self.residual(name='residual')(fused, state, mode))
