"""What the loop minimises: the interface of an objective, and the choice of one by the arm."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from softaug import Transform
from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training.batches import Batch, MemoryBatches, StreamBatches
from softaug_lab.training.simsiam import build_siamese
from softaug_lab.training.supervised import build_supervised


class Objective(Protocol):
    """A model with its loss, and how batches become the model's inputs and targets.

    lr: the peak learning rate. penalty: of outputs and inputs, summed over samples, added to the
    loss. ending: whether an epoch is one of the recipe's `end_epochs`.
    """

    lr: float
    penalty: Callable[[Tensor, Tensor], Tensor] | None

    @property
    def one_by_one(self) -> bool:
        """Whether `inputs_and_targets` of a batch depend on which images are in it."""

    @property
    def model(self) -> nn.Module:
        """The model before the first step, on the CPU."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer: ...

    def transform(self, ending: bool) -> Transform:
        """Return the transform whose parameters are drawn for an epoch."""

    def inputs_and_targets(self, batch: Batch, ending: bool) -> tuple[Tensor, Tensor]:
        """Return the model's inputs [N,...] and the loss's targets [N,...], on the device.

        batch: one or several as one.
        """

    def of_batch(
        self, inputs: Tensor, targets: Tensor, step: int, ending: bool
    ) -> tuple[Tensor, Tensor]:
        """Finish the inputs and targets of one batch by what depends on its other images."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss, summed over samples."""

    def batch_sums(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute sums over this process's samples, [M], to be averaged over an epoch."""

    def epoch_log(self, means: list[float]) -> dict[str, float]:
        """Name the epoch's averaged `batch_sums` for the log."""

    def after_step(self, outputs: Tensor, batch: Batch, taken: Tensor) -> None:
        """Called after each step; taken: whether the optimiser took it, bool [] on the device."""

    def next_epoch(self) -> None:
        """Called after each epoch."""

    def finish(self, batches: MemoryBatches | StreamBatches) -> None:
        """Called after the last epoch, before the weights are written."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must store to resume."""

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""

    def save(self, weights: dict[str, Tensor], run: RunFolder) -> None:
        """Write the trained weights, whole, into the run folder."""


def build_objective(recipe: Recipe, data: Data, processes: Processes) -> Objective:
    """Build the objective of the recipe's arm: supervised, or SimSiam without labels."""
    if recipe.parsed_arm.self_supervised:
        return build_siamese(recipe, data, processes)
    return build_supervised(recipe, data, processes)
