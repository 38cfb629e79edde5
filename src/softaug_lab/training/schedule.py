"""The learning rate of each step: linear warm-up, then half a cosine to 0."""

import math
from dataclasses import dataclass

import torch

from softaug_lab.recipes import Recipe


@dataclass(frozen=True)
class Schedule:
    """The steps of a run and their learning rates; peak: the highest learning rate."""

    recipe: Recipe
    peak: float
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0.

        The warm-up reaches the peak at its last step and takes at most half of the run.
        """
        warmup = self._first_part(self.recipe.warmup_epochs)
        if step < warmup:
            return self.peak * (step + 1) / warmup
        angle = math.pi * (step - warmup) / (self.steps - warmup)
        return self.peak * 0.5 * (1 + math.cos(angle))

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set the learning rates of a step, counted from 0.

        Groups with a `share` are the layers before the last, which rest in the first `head_epochs`.
        """
        lr = self.learning_rate(step)
        resting = step < self._first_part(self.recipe.head_epochs)
        for group in optimizer.param_groups:
            share = group.get("share", 1.0)
            group["lr"] = 0.0 if resting and "share" in group else lr * share

    def _first_part(self, epochs: float) -> int:
        """Count the steps of so many epochs, at most half of all."""
        return min(round(epochs * self.steps_per_epoch), self.steps // 2)

    def describe(self, step: int) -> str:
        """Name a step, counted from 0, in messages."""
        epoch = step // self.steps_per_epoch + 1
        return f"step {step + 1} of {self.steps} (epoch {epoch})"
