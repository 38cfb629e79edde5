"""faults: TODO."""

import logging
import math
from collections.abc import Callable
from typing import Any

import torch

from softaug_lab.basics.errors import SoftaugError, listed
from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training.batches import Batch
from softaug_lab.training.progress import State

log = logging.getLogger(__name__)
NAMED = 10  # unreadable images of an epoch that are named; all are counted


def count_unreadable(at: State, batch: Batch, data: Data) -> None:
    """Name the first unreadable images of an epoch, and raise SoftaugError if they are too many."""
    for fault in batch.unreadable[: max(0, NAMED - at.unreadable)]:
        log.warning("left out: %s", fault)
    at.unreadable += len(batch.unreadable)
    if data.stream is not None and at.unreadable > data.stream.max_unreadable * len(data.stream):
        # None are in this batch where a run is resumed with a lower share than it had.
        last = f"; the last: {batch.unreadable[-1]}" if batch.unreadable else ""
        raise SoftaugError(
            f"{data.name}: {at.unreadable:,} of {len(data.stream):,} images are unreadable so far, "
            f"--max-unreadable {data.stream.max_unreadable:g} allows fewer{last}"
        )


def skip_or_stop(
    recipe: Recipe, run: RunFolder, skipped: int, where: str, loss: float, batch: Batch
) -> None:
    """Say that the `skipped`-th step is left out, or raise SoftaugError if it is one too many."""
    what = f"loss is {loss}" if not math.isfinite(loss) else "gradient of the loss is not finite"
    text = f"{run.folder}: the {what} {where}: {listed(batch.names, 3)}"
    if skipped <= recipe.skip_nonfinite:
        log.warning("%s; step left out, %d of %d", text, skipped, recipe.skip_nonfinite)
        return
    last = run.checkpoint_files[0]
    raise SoftaugError(
        f"{text}; try a lower --lr (now {recipe.lr}) or --precision fp32, or --skip-nonfinite N to "
        f"leave out N steps; the last good checkpoint: {last if last.exists() else 'none yet'}"
    )


def is_out_of_memory(error: Exception) -> bool:
    memory_errors = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, memory_errors) or "can't allocate memory" in str(error)


def out_of_memory(
    recipe: Recipe, processes: Processes, gradients: Callable[..., Any]
) -> SoftaugError:
    """The error with what would fit, tried out here where there is one process."""
    text = f"out of memory at {recipe.batch_size} images in {recipe.accumulate} part(s) a step"
    if processes.count > 1:
        parts = 2 * recipe.accumulate
        return SoftaugError(f"{text}; --accumulate {parts} holds half at once, same batch")
    parts = recipe.accumulate
    while 2 * parts <= recipe.batch_size // 2:
        parts *= 2
        try:
            gradients(parts=parts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        return SoftaugError(
            f"{text}; --accumulate {parts} fits, {math.ceil(recipe.batch_size / parts)} images at "
            "once, and the batch stays what it is"
        )
    return SoftaugError(f"{text}, and not even 2 at once fit; take a smaller --model or --size")
