"""The steps of a run, and which of them an evaluation follows."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """Steps of a run that goes on until its last epoch; early stopping may end it before.

    Attributes:
      per_epoch: number of steps of an epoch.
      total: number of steps of all epochs.
      evaluate_every: number of steps between evaluations. One also follows the last step.
    """

    per_epoch: int
    total: int
    evaluate_every: int

    def is_evaluated(self, step: int) -> bool:
        """Whether an evaluation follows a step."""
        return step > 0 and (step % self.evaluate_every == 0 or step == self.total)

    def evaluation_after(self, step: int, count: int = 1) -> int:
        """Step of the `count`-th evaluation after a step; the last one where fewer are left."""
        return min((step // self.evaluate_every + count) * self.evaluate_every, self.total)

    def evaluations_after(self, step: int) -> int:
        """Number of evaluations after a step."""
        if step >= self.total:
            return 0
        return -(-self.total // self.evaluate_every) - step // self.evaluate_every
