"""Where a run is: what its checkpoint stores of that, and what a callback gets after each step."""

import math
import time
from dataclasses import dataclass, field

from softaug_lab.training.schedule import Schedule


@dataclass(frozen=True)
class Progress:
    """The argument of `watch`, the callback after each step; step and epoch count from 1."""

    step: int
    steps: int
    epoch: int
    loss: float
    images_per_second: float


@dataclass
class State:
    """The position of a run; a checkpoint stores these fields. Sums are over all processes."""

    epoch: int = 0
    position: int = 0  # steps of this epoch that are done
    sums: list[float] = field(default_factory=list)  # this epoch's loss, batch_sums and images
    unreadable: int = 0  # images of this epoch
    skipped: int = 0  # steps of the run whose loss or gradient was not finite
    seconds: float = 0.0

    def step(self, schedule: Schedule) -> int:
        """Return the number of steps done in the whole run, which is the next one's index."""
        return self.epoch * schedule.steps_per_epoch + self.position

    def images_per_second(self, schedule: Schedule) -> float:
        """Return the mean speed of the run so far."""
        return self.step(schedule) * schedule.recipe.batch_size / self.seconds

    def advance(self, sums: list[float], finite: bool, seconds: float) -> None:
        """Count a step that took so many seconds; one that is not finite adds nothing to sums."""
        self.position += 1
        self.seconds += seconds
        self.sums = self.sums or [0.0] * len(sums)
        if finite:
            self.sums = [old + new for old, new in zip(self.sums, sums, strict=True)]
        else:
            self.skipped += 1

    def progress(self, schedule: Schedule, loss: float) -> Progress:
        """Describe the step that `advance` has just counted."""
        speed = self.images_per_second(schedule)
        return Progress(self.step(schedule), schedule.steps, self.epoch + 1, loss, speed)

    def means(self) -> list[float]:
        """Return the epoch's mean loss and batch_sums per image; NaN if it skipped every step."""
        *sums, images = self.sums
        return [total / (images or math.nan) for total in sums]

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.position = self.epoch + 1, 0
        self.sums, self.unreadable = [], 0


class Stopwatch:
    """Measures the duration of steps."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last call, or since the start."""
        before, self.began = self.began, time.perf_counter()
        return self.began - before
