"""What runs in processes of their own share: names, warnings, progress, and how they end."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

import torch

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training import InterruptedRunError, Progress, build_batches


def name_of(recipe: Recipe) -> str:
    """Name a run in messages."""
    return f"{recipe.arm} seed {recipe.seed}"


def stopped(pairs: Sequence[tuple[Recipe, RunFolder]], signal_number: int) -> InterruptedRunError:
    """Make the error of a comparison that a signal stopped."""
    finished = sum(run.finished for _, run in pairs)
    return InterruptedRunError(
        f"stopped after {finished} of {len(pairs)} runs, those under way with a checkpoint",
        signal_number,
    )


@contextlib.contextmanager
def logged_warnings() -> Iterator[list[str]]:
    """Collect the warnings that the lab logs in a list."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("softaug_lab")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def report_epochs(
    recipe: Recipe,
    run: RunFolder,
    data: Data,
    known: int,
    watch: Callable[[Recipe, Progress], None],
) -> int:
    """Call `watch` if a run has more than `known` finished epochs; return how many it has."""
    try:
        history = run.history()
    except SoftaugError:  # on NFS, a file replaced while it was read; the next call retries
        return known
    if len(history) > known:
        last = history[-1]
        steps = build_batches(recipe, data, Processes(torch.device("cpu"))).steps
        done, loss, speed = last["epoch"], last["loss"], last["images_per_second"]
        watch(recipe, Progress(done * steps, recipe.epochs * steps, done, loss, speed))
    return len(history)
