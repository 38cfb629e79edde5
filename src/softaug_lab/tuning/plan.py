"""The plan of a search: its short runs and its last ones, and the data of the short ones."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import softaug
from softaug_lab.basics.errors import SoftaugError, UsageError, plural
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import read_json, write_json
from softaug_lab.data import Data, hold_out
from softaug_lab.experiments import Pace, check_minutes, pace_within, side_by_side, threads_of_one
from softaug_lab.recipes import Recipe

LAST_ARMS = (
    "auto",
    "standard",
)  # the winner and the rule cost what auto does; where the rule wins, the standard arm is beside it
SHARE, LEAST, MOST = 0.15, 300, 3000  # of the training images that score the short runs
MOST_SHARE = 0.3
LEAST_HELD_OUT = 100  # images
SHORTEST = 8  # epochs; shorter runs tell little about long ones
START = 8.0  # seconds until a process of its own has begun a run
FEWEST = 3  # short runs: with fewer nothing is known about the direction that matters most


@dataclass(frozen=True)
class Plan:
    """What a search does with its time; written before its first run and kept.

    epochs: of the last runs. trial_epochs, trials: length and number of the short ones. scored: the
    number of training images that score them. epoch_seconds: measured, over all training images.
    jobs: runs at a time. seed: of the first round and of the last runs.
    """

    minutes: float
    objective: str
    epochs: int
    trial_epochs: int
    trials: int
    scored: int
    epoch_seconds: float
    jobs: int = 1
    seed: int = Recipe.seed
    version: str = softaug.__version__

    def save(self, path: Path) -> None:
        """Write the plan as JSON."""
        write_json(path, asdict(self))


def read_plan(path: Path, minutes: float, objective: str, seed: int) -> Plan:
    """Read the plan of a search that goes on.

    Raises UsageError where it was made for other minutes, another objective or seed, or by another
    version; SoftaugError where the file is broken.
    """
    saved: Any = read_json(path)
    try:
        plan = Plan(**saved)
    except TypeError as error:
        raise SoftaugError(
            f"{path}: is no plan of a search ({error}); remove its folder"
        ) from error
    now = {
        "minutes": minutes, "objective": objective, "seed": seed, "version": softaug.__version__
    }  # fmt: skip
    for name, value in now.items():
        if getattr(plan, name) != value:
            raise UsageError(
                f"{path.parent}: a search with {name} {getattr(plan, name)}, now {value}; "
                "go on with the same, or name another folder with --run"
            )
    return plan


def search_data(data: Data, seed: int) -> Data:
    """Make the data of the short runs: a part of the training images scores them instead of a test.

    Neither data.test nor data.held_out is in them. Raises UsageError for streams, for fewer images
    than a search needs, and for classes that have none to score.
    """
    if data.stream is not None:
        raise UsageError(f"{data.name}: tune needs all images in memory; leave out --stream")
    images = data.train_images
    share = min(max(SHARE, LEAST / images), MOST / images)
    if share > MOST_SHARE:
        raise UsageError(
            f"{data.name}: {images:,} training images are too few to tune on: {LEAST} must be set "
            f"aside to score short runs, at most {MOST_SHARE:.0%} of them; train takes the rule"
        )
    counts = data.train.labels.bincount(minlength=data.num_classes)
    single = (counts < 2).nonzero().flatten()
    if len(single):
        if data.held_out is not None:
            counts += data.held_out.labels.bincount(minlength=data.num_classes)
        i = int(single[0])
        raise UsageError(
            f"{data.name}: class {data.classes[i]!r} has {plural(int(counts[i]), 'training image')}"
            "; tune needs 3 of each class: one to train on, one to score short runs with, one that "
            "is held out; leave it out, or add images"
        )
    split = hold_out(replace(data, held_out=None), share, seed)
    assert split.held_out is not None
    return replace(split, test=split.held_out, held_out=None)


def require_tunable(data: Data) -> None:
    """Raise UsageError for data that cannot be tuned on.

    That is what `search_data` refuses, and too few held-out images to decide at the end.
    """
    search_data(data, seed=0)
    count = 0 if data.held_out is None else len(data.held_out)
    if count < LEAST_HELD_OUT:
        raise UsageError(
            f"{data.name}: {count} images are held out, and tune decides on them at the end; leave "
            f"out --held-out, or hold out {LEAST_HELD_OUT} at least"
        )


def make_plan(
    minutes: float, objective: str, recipe: Recipe, data: Data, processes: Processes, jobs: int
) -> Plan:
    """Measure the pace, and share the time: half for the last two runs, half for short ones.

    Short runs have a quarter of the epochs. jobs: runs at a time; the pace is that of one alone,
    with its share of the threads. Raises UsageError where the time is too short.
    """
    check_minutes(minutes)
    search = search_data(data, recipe.seed)
    at_once = side_by_side(processes.device, jobs)
    budget, last = 60 * minutes, math.ceil(len(LAST_ARMS) / at_once)  # one after another
    with threads_of_one(jobs):
        pace = pace_within(budget / 2 / last, recipe, LAST_ARMS, data, processes)
    start, share = START if jobs > 1 else 0.0, len(search.test) / len(data.test)
    # Seconds of an epoch, and of a run beside its epochs: of the last ones and of short ones.
    epoch, trial_epoch = pace.epoch, pace.epoch * search.train_images / data.train_images
    beside, trial_beside = start + pace.evaluation, start + pace.evaluation * share
    epochs = Pace(epoch, beside).epochs(budget / 2 / last)
    trial_epochs = min(max(SHORTEST, round(epochs / 4)), epochs)
    left = budget - last * (epochs * epoch + beside)
    trials = at_once * int(left / (trial_epochs * trial_epoch + trial_beside)) if epochs > 0 else 0
    if epochs < SHORTEST or trials < FEWEST:
        short = math.ceil(FEWEST / at_once) * (SHORTEST * trial_epoch + trial_beside)
        least = 2 * max(short, last * (SHORTEST * epoch + beside)) / 60
        raise UsageError(
            f"--minutes must be at least {math.ceil(least)} here, for {FEWEST} short runs and "
            f"{len(LAST_ARMS)} last ones of {SHORTEST} epochs, got {minutes:g}"
        )
    if recipe.end_epochs >= trial_epochs:
        raise UsageError(
            f"--end-epochs must be below the {trial_epochs} epochs of the short runs, "
            f"got {recipe.end_epochs}"
        )
    scored = len(search.test)
    return Plan(
        minutes, objective, epochs, trial_epochs, trials, scored, epoch, jobs, recipe.seed
    )  # fmt: skip
