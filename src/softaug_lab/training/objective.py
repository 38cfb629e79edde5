"""objective: TODO."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from softaug import Transform
from softaug_lab.training.batches import Batch


class Objective(Protocol):
    """What a loop minimises, and what it tells of it.

    lr: the peak of the learning rate.
    """

    lr: float

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer: ...

    def transform(self, ending: bool) -> Transform:
        """Of which draws are made for an epoch; ending: one of the `end_epochs`."""

    def prepare(self, batch: Batch, step: int, ending: bool) -> tuple[Tensor, Tensor]:
        """Inputs [N,...] of the model, and targets [N,...], on the device."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed over samples."""

    def figures(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Sums over this process's samples, [M]."""

    def told(self, means: list[float]) -> dict[str, float]:
        """For the history of an epoch, from the means of the figures over its images."""

    def taken(self, outputs: Tensor, batch: Batch) -> None:
        """The step with these outputs was taken."""

    def next_epoch(self) -> None: ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of it."""

    def load(self, state: dict[str, Any]) -> None: ...
