"""How far the host of a device runs ahead of it."""

from dataclasses import dataclass

import torch

BLOCK_BYTES = 2**25  # of images that are augmented at once


@dataclass(frozen=True)
class Pace:
    """How much work the host hands to a device before it looks at results.

    A GPU computes while the host goes on; a host that waits for each step leaves it idle. None of
    these numbers changes what is computed.

    lag: steps between a step and the reading of its loss. block: batches that are augmented at
    once, in as many launches as one, if their images take up to BLOCK_BYTES. seconds: between
    checkpoints within an epoch. every_epoch: whether each epoch ends with a checkpoint, or only the
    last one, so that most of them are written by time.
    """

    lag: int = 0
    block: int = 1
    seconds: float = 300
    every_epoch: bool = True


def pace_of(device: torch.device) -> Pace:
    """Return the pace for a device: a CPU computes at once, and larger blocks leave its cache.

    Of devices other than CUDA's nobody has tried it.
    """
    if device.type != "cuda":
        return Pace()
    return Pace(lag=8, block=64, seconds=60, every_epoch=False)
