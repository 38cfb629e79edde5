"""How far a run is: what its checkpoint holds of that, and what a watcher is told."""

from dataclasses import dataclass, field

from softaug_lab.recipes import Recipe


@dataclass(frozen=True)
class Progress:
    """What a watcher of the training is told after each step."""

    step: int
    steps: int
    epoch: int
    loss: float
    images_per_second: float


@dataclass
class State:
    """Where a run is. Sums are over the epoch so far and over all processes."""

    epoch: int = 0
    position: int = 0  # steps of the epoch that are done
    sums: list[float] = field(default_factory=list)  # loss, the objective's figures, images
    unreadable: int = 0  # images of the epoch
    skipped: int = 0
    seconds: float = 0.0

    def pace(self, recipe: Recipe, steps_per_epoch: int) -> float:
        """Images in a second, over the whole run so far."""
        steps = self.epoch * steps_per_epoch + self.position
        return steps * recipe.batch_size / self.seconds
