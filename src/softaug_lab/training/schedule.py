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
        warmup = min(round(self.recipe.warmup_epochs * self.steps_per_epoch), self.steps // 2)
        if step < warmup:
            return self.peak * (step + 1) / warmup
        angle = math.pi * (step - warmup) / (self.steps - warmup)
        return self.peak * 0.5 * (1 + math.cos(angle))

    def describe(self, step: int) -> str:
        """Name a step, counted from 0, in messages."""
        epoch = step // self.steps_per_epoch + 1
        return f"step {step + 1} of {self.steps} (epoch {epoch})"


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of each group: `lr`, times the group's `share` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)
