"""A model of one's own: attention over a user's history, as seen from the item in question (DIN)."""

import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.models import CTRModel, layers, validators


class TargetAttention(CTRModel):
    """Deep Interest Network with a tower for raw numbers (Zhou et al., KDD 2018; Naumov et al. 2019).

    One row has the target item's embedding `e: [d]`, the embeddings `h_1 ... h_L: [L, d]` of the items in the
    user's history, of which a mask selects the present ones, and the numbers `x: [Fn]`. Then, in section
    4.3 of Zhou et al.,

    - weights: `a_j = MLP([h_j, e, h_j - e, h_j * e])`, `[4 d] -> []`, and 0 where the mask is False;
    - interest: `u = sum_j a_j h_j`, `[d]` (eq. 3). As in the paper the weights are not normalised, so that
      their sum tells how strong the interest is;
    - numbers: `n = MLP(x)`, `[numeric_hidden[-1]]`, as in DLRM's bottom MLP;
    - `logit = MLP([f_1, ..., f_C, u, n])`, where the `f` are the embeddings of all other categorical and
      multi-valued fields, the target's among them.

    The history should use the target's vocabulary (`shares` in the schema): an item then has one embedding.

    Parameters: `attention/{hidden_i, out}`, `numbers/{hidden_i, norm_i}` where there are numeric fields,
    `tower/{hidden_i, norm_i, out}`.

    Attributes:
      target: name of the categorical field that holds the item.
      history: name of the multi-valued field that holds the items of the user's history.
      embedding_size: `d`, width of an embedding.
      attention_hidden: width of each hidden layer of the attention's MLP.
      numeric_hidden: width of each hidden layer of the numbers' MLP.
      hidden: width of each hidden layer of the last MLP.
      dropout: dropout rate after each hidden layer of the last MLP.
    """

    target: str = 'item'
    history: str = 'history'
    embedding_size: int = 16
    attention_hidden: tuple[int, ...] = (32,)
    numeric_hidden: tuple[int, ...] = (16,)
    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.0

    wants_inputs = True

    def check(self):
        validators.check_positive(embedding_size=self.embedding_size)
        validators.check_widths(
            attention_hidden=self.attention_hidden, numeric_hidden=self.numeric_hidden, hidden=self.hidden
        )
        validators.check_rate(dropout=self.dropout)

    def logits(self, embeddings, mode, inputs):
        fields = embeddings['embedding']
        target = fields[:, inputs.position(self.target, 'target')]
        interest = self._attend(target, inputs.bag(self.history, 'history'), mode)
        # The interest takes the place of the pooled history, and the numbers' MLP that of their embeddings.
        replaced = (self.history, *inputs.numeric_fields)
        others = np.array([i for i, name in enumerate(inputs.fields) if name not in replaced])
        parts = [fields[:, others].reshape(len(fields), -1), interest]
        if inputs.numeric_fields:
            parts.append(layers.MLP(self.numeric_hidden, name='numbers')(inputs.numeric, mode))
        tower = layers.MLP(self.hidden, 1, dropout=self.dropout, name='tower')
        return tower(jnp.concatenate(parts, axis=1), mode)[:, 0]

    def _attend(self, target: jax.Array, history, mode) -> jax.Array:
        """Interest `u` in the target: float32 [B, d] and a `Bag` of L values to [B, d]."""
        present = history.mask[..., None]
        # Embeddings of absent items are arbitrary; with zeros in their place no NaN gets into a gradient.
        items = jnp.where(present, history.embeddings['embedding'], 0)
        e = jnp.broadcast_to(target[:, None], items.shape)
        pairs = jnp.concatenate([items, e, items - e, items * e], axis=-1)
        # Without BatchNorm, whose statistics would be of absent items too.
        attention = layers.MLP(self.attention_hidden, 1, batch_norm=False, name='attention')
        weights = jnp.where(present, attention(pairs, mode), 0)
        return jnp.sum(weights * items, axis=1)
