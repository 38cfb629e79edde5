"""What runs in processes of their own share: their names, their warnings, their progress."""

import contextlib
import logging
from collections.abc import Callable, Iterator

import torch

from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training import Progress, build_batches


def name_of(recipe: Recipe) -> str:
    """Name a run in messages."""
    return f"{recipe.arm} seed {recipe.seed}"


@contextlib.contextmanager
def logged_warnings() -> Iterator[list[str]]:
    """Collect the warnings that the lab logs in a list."""
    messages: list[str] = []
    handler = logging.Handler()
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
    except OSError:  # from NFS, if the file was replaced while it was read; the next call retries
        return known
    if len(history) > known:
        last = history[-1]
        steps = build_batches(recipe, data, Processes(torch.device("cpu"))).steps
        done, loss, speed = last["epoch"], last["loss"], last["images_per_second"]
        watch(recipe, Progress(done * steps, recipe.epochs * steps, done, loss, speed))
    return len(history)
