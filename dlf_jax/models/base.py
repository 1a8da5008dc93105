"""Base class of all models: what every one of them shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import chex
import flax.linen as nn
import jax

from dlf_jax.data.schema import History
from dlf_jax.errors import UsageError
from dlf_jax.models.inputs import Inputs
from dlf_jax.models.mode import ONE_PROGRAM, Collectives, Mode


class CTRModel(nn.Module):
    """Base class of a model for click-through-rate prediction: from embeddings to logits.

    A subclass declares its hyperparameters as dataclass fields with defaults, which become the keys of
    `config.model`, and implements `logits`. See `dlf_jax.models` for an example.

    Class attributes:
      variants: hyperparameters that each published variant sets, by the variant's name. The first is
        'full', the model as published.
      wants_inputs: True if `logits` also takes `inputs`, see `Inputs`. May be a property.
      wants_bags: False if it reads no `inputs.bags`, which are then empty, and the values of a multi-valued
        field are summed where they are read.
      needs_histories: True if there must be a history among its inputs, see `Inputs.histories`.
    """

    variants: ClassVar[dict[str, dict[str, Any]]] = {'full': {}}
    wants_inputs: ClassVar[bool] = False
    wants_bags: ClassVar[bool] = True
    needs_histories: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        # Flax wraps methods to trace them as calls of a bound module. `logits` is a part of another method,
        # and the checks run before the module is bound.
        nn.nowrap(cls.check)
        nn.nowrap(cls.check_training)
        nn.nowrap(cls.logits)
        nn.nowrap(cls.tables_of)
        super().__init_subclass__(**options)

    def __post_init__(self) -> None:
        self.check()
        super().__post_init__()

    @nn.nowrap
    def check(self) -> None:
        """Checks the hyperparameters; a subclass extends it, mostly with functions of `validators`.

        Raises:
          ValueError: a value is not accepted. The message begins with the key, `model.KEY`.
        """

    @nn.nowrap
    def check_training(self, precision: str, devices: Sequence[jax.Device]) -> None:
        """Checks that the model can be trained in this way; a subclass extends it where it cannot in each.

        Args:
          precision: dtype of the model's computations, 'float32' or 'bfloat16'.
          devices: of all hosts.

        Raises:
          ValueError: it cannot. The message begins with the key, `model.KEY`.
        """

    @classmethod
    def check_histories(cls, found: Sequence[History]) -> None:
        """Raises UsageError where the data has no history, and the model needs one."""
        if cls.needs_histories and not found:
            raise UsageError(
                f'config.model.name: {cls.__name__} reads histories, and the data has none; declare one in '
                'the schema file: a multi-valued column with ordered = true and shares = "ITEM", the '
                'categorical column that its values are of'
            )

    @property
    def tables(self) -> dict[str, int]:
        """Width of each embedding table that the model reads, by name."""
        return {'embedding': self.embedding_size}

    def tables_of(self, fields: int) -> dict[str, int]:
        """Width of each embedding table, by name, for rows of so many fields; `tables` unless overridden.

        Raises:
          ValueError: the model cannot read so many. The message begins with the key, `model.KEY`.
        """
        return self.tables

    @nn.nowrap
    def logits(self, *args: Any, **kwargs: Any) -> jax.Array:
        """Computes the logits; called by `__call__`, in a compact method of Flax.

        The signature is `logits(self, embeddings, mode)`, or `logits(self, embeddings, mode, inputs)` with
        `wants_inputs`. Arguments and result are those of `__call__`, `mode` being a `Mode`.
        """
        raise NotImplementedError(f'{type(self).__name__} has no method logits(self, embeddings, mode)')

    @nn.compact
    def __call__(
        self,
        embeddings: Mapping[str, jax.Array],
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        collectives: Collectives = ONE_PROGRAM,
        inputs: Inputs | None = None,
        labels: jax.Array | None = None,
        weight: jax.Array | None = None,
    ) -> jax.Array:
        """Predicts a batch.

        Args:
          embeddings: `{table: float32 [B, F, width]}` for every table of `tables`, fields in the order
            categorical, numeric, multi-valued.
          train: see `Mode`; dropout then needs the rng collection `dropout`, and the collections
            `batch_stats` and `losses` must be mutable.
          mask: bool [B], False on rows that only pad the batch; None where there are none.
          collectives: communication with other devices.
          inputs: raw inputs, for a model with `wants_inputs`.
          labels: of the rows, float32 [B], for further losses that compare with them; see `Mode`.
          weight: of the rows, float32 [B].

        Returns:
          Logits, float32 [B] (the dtype of the embeddings, where that is another). Losses beside the
          cross-entropy are sown into the collection `losses`.

        Raises:
          UsageError: the model needs histories, and there is none.
        """
        tables = self.tables_of(next(iter(embeddings.values())).shape[1])
        read = [embeddings[table] for table in tables]
        chex.assert_shape(read, [(None, None, width) for width in tables.values()])
        chex.assert_equal_shape_prefix(read, 2)
        mode = Mode(train, mask, collectives, labels, weight)
        if not self.wants_inputs:
            logits = self.logits(embeddings, mode)
        elif inputs is None:
            raise ValueError(
                f'{type(self).__name__} reads more than embeddings: call it with inputs=Inputs(...)'
            )
        else:
            self.check_histories(inputs.histories)
            logits = self.logits(embeddings, mode, inputs)
        # A loss of logits [B, 1] and labels [B] would be one of [B, B], without an error.
        chex.assert_rank(logits, 1)
        return logits
