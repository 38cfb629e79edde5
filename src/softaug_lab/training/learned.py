"""Learn an arm's curve during training, from one half of the held-out images."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from softaug import CalibratedCurve, Transform
from softaug.transforms.base import visible
from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import keyed
from softaug_lab.data import Data, ImageSet, begun, halves
from softaug_lab.models import predict_shared
from softaug_lab.recipes import Recipe

# Of a run's epochs: before, the model knows little; after, it should learn by targets that stay.
FIRST, LAST = 0.3, 0.9


@dataclass
class LearnedCurve:
    """Observes a model on held-out images, whole and augmented, from 30 to 90 % of a run.

    transform: the one that the model trains with. epoch: the number of epochs that are done.
    """

    recipe: Recipe
    processes: Processes
    curve: CalibratedCurve
    transform: Transform
    images: ImageSet
    epoch: int = 0

    def next_epoch(self, model: nn.Module) -> None:
        """Let the curve observe the model, if its time has come."""
        self.epoch += 1
        if not FIRST <= self.epoch / self.recipe.epochs <= LAST:
            return
        images, labels = self.images.images, self.images.labels
        generator = keyed(self.recipe.seed, self.epoch, "observed")
        height, width = images.shape[-2:]
        drawn = self.transform.draw(len(images), height, width, generator)
        augmented, visibility = visible(self.transform, images, begun(self.images.objects), drawn)
        # Compiled, each of the two sizes of batches would cost a compilation.
        with torch.compiler.set_stance("force_eager"):
            logits = predict_shared(model, torch.cat([images, augmented]), self.processes)
        self.curve.observe(
            logits, labels.repeat(2), torch.cat([torch.ones_like(visibility), visibility])
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must store."""
        return {"epoch": self.epoch, "curve": self.curve.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.epoch = state["epoch"]
        self.curve.load_state_dict(state["curve"])


def learned_curve(
    recipe: Recipe, data: Data, processes: Processes, curve: object, transform: Transform
) -> LearnedCurve | None:
    """Return what learns the curve of an arm, None for a curve that is not learned.

    Raises UsageError with a model that is split over processes.
    """
    if not isinstance(curve, CalibratedCurve):
        return None
    if processes.shard:
        raise UsageError(f"arm {recipe.arm!r} learns its curve with whole models, not with --shard")
    assert data.held_out is not None, "require_trainable was not called"
    return LearnedCurve(recipe, processes, curve, transform, halves(data.held_out)[0])
