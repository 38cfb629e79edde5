"""What can go wrong in a step: unreadable images, values that are not finite, too little memory."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from softaug_lab.basics.errors import SoftaugError, listed
from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training.batches import Batch
from softaug_lab.training.schedule import Schedule

log = logging.getLogger(__name__)
MAX_LOGGED = 10  # unreadable images of an epoch that are named in the log; all are counted


@dataclass(frozen=True)
class Faults:
    """The limits of a run on unreadable images and skipped steps, and its messages about them."""

    data: Data
    run: RunFolder
    schedule: Schedule

    def count_unreadable(self, before: int, batch: Batch) -> int:
        """Log a batch's unreadable images, and return how many the epoch now has.

        before: how many the epoch had before this batch. Raises SoftaugError above the limit.
        """
        for fault in batch.unreadable[: max(0, MAX_LOGGED - before)]:
            log.warning("left out: %s", fault)
        unreadable, stream = before + len(batch.unreadable), self.data.stream
        if stream is not None and unreadable > stream.max_unreadable * len(stream):
            # A run resumed with a lower limit may exceed it without one in this batch.
            last = f"; the last: {batch.unreadable[-1]}" if batch.unreadable else ""
            raise SoftaugError(
                f"{self.data.name}: {unreadable:,} of {len(stream):,} images are unreadable so "
                f"far, --max-unreadable {stream.max_unreadable:g} allows fewer{last}"
            )
        return unreadable

    def skip_or_stop(self, step: int, skipped: int, mean_loss: float, batch: Batch) -> None:
        """Log that a step is skipped; raise SoftaugError if the run has skipped too many.

        step: counted from 0. skipped: the run's skipped steps, this one included.
        """
        what = (
            f"loss is {mean_loss}"
            if not math.isfinite(mean_loss)
            else "gradient of the loss is not finite"
        )
        where, recipe = self.schedule.describe(step), self.schedule.recipe
        text = f"{self.run.folder}: the {what} at {where}: {listed(batch.names, 3)}"
        allowed = recipe.skip_nonfinite
        if skipped <= allowed:
            log.warning("%s; step left out, %d of %d", text, skipped, allowed)
            return
        last = self.run.checkpoint_files[0]
        raise SoftaugError(
            f"{text}; try a lower --lr (now {recipe.lr}) or --precision fp32, or "
            "--skip-nonfinite N to leave out N steps; the last good checkpoint: "
            f"{last if last.exists() else 'none yet'}"
        )


def is_out_of_memory(error: Exception) -> bool:
    memory_errors = (torch.OutOfMemoryError, MemoryError)
    # Of the CPU's allocator, cuBLAS and cuDNN, which have no error class of their own.
    texts = ("can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, memory_errors) or any(text in str(error) for text in texts)


def out_of_memory(
    recipe: Recipe, processes: Processes, compute: Callable[[int], Any]
) -> SoftaugError:
    """Make the error of a step that ran out of memory, with the number of parts that would fit.

    compute: the step in so many parts; a single process tries it with more and more of them.
    """
    parts = recipe.accumulate
    text = f"out of memory at {recipe.batch_size} images in {parts} part(s) a step"
    if processes.count > 1:
        # The other processes, which may have had memory enough, would take no part in a trial.
        return SoftaugError(f"{text}; --accumulate {2 * parts} holds half at once, same batch")
    while 2 * parts <= recipe.batch_size // 2:
        parts *= 2
        if _fits(compute, parts):
            return SoftaugError(
                f"{text}; --accumulate {parts} fits, {math.ceil(recipe.batch_size / parts)} "
                "images at once, and the batch stays what it is"
            )
    return SoftaugError(f"{text}, and not even 2 at once fit; take a smaller --model or --size")


def _fits(compute: Callable[[int], Any], parts: int) -> bool:
    try:
        # Compiled, each number of parts would cost a compilation before its answer.
        with torch.compiler.set_stance("force_eager"):
            compute(parts)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
