"""Training images that are read while they are trained on, in an order known beforehand.

How many images each shard has is known, so an epoch is a list before anything is read: the shards
in a random order, cut into one stretch of equal length for each reader, each stretch shuffled block
by block. Readers belong to the data, not to processes: the same number of readers gives the same
batches on one process or many, and any place in an epoch can be gone to. n images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.seeds import keyed
from softaug_lab.data.sample import Sample
from softaug_lab.data.shards import Part


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is read.

    readers: places at which it is read at once, over all processes. buffer: encoded images that
    are held to be shuffled, over all readers. Raises UsageError where one is below 1.
    """

    readers: int = 8
    buffer: int = 4096

    def __post_init__(self) -> None:
        for name in ("readers", "buffer"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Stream:
    """The training part of data that are not held in memory; images become `size` x `size`, RGB.

    max_unreadable: the share of an epoch's images that may be unreadable.
    """

    part: Part
    size: int
    options: StreamOptions
    max_unreadable: float

    def __len__(self) -> int:
        return self._n

    @cached_property
    def _n(self) -> int:
        return len(self.part)

    def stretch(self, reader: int) -> range:
        """The places of the epoch's list that a reader reads."""
        n, readers = len(self), self.options.readers
        return range(n * reader // readers, n * (reader + 1) // readers)

    def reader(self, reader: int, seed: int, epoch: int, done: int = 0) -> Iterator[Sample | str]:
        """A reader's images of an epoch after the first `done`, as `Part.read` gives them."""
        mine = self.stretch(reader)
        block = max(1, self.options.buffer // self.options.readers)
        first = done // block
        in_order = self._in_order(mine[first * block :], seed, epoch)
        coming: list[Sample | str] = []
        for number in range(first, -(-len(mine) // block)):
            held: list[Sample | str | None] = [*coming, *islice(in_order, block - len(coming))]
            coming = []
            generator = keyed(seed, epoch, "block", reader, number)
            order = torch.randperm(len(held), generator=generator).tolist()
            for i in order[done % block if number == first else 0 :]:
                sample, held[i] = held[i], None  # so that it can be freed
                assert sample is not None
                yield sample
                # One of the next block for each that goes: readers that waited for a whole block
                # would let the training wait.
                coming += islice(in_order, 1)

    def _in_order(self, places: range, seed: int, epoch: int) -> Iterator[Sample | str]:
        """The images at consecutive places of the shuffled shards, before blocks are shuffled."""
        counts = self.part.counts
        order = torch.randperm(len(counts), generator=keyed(seed, epoch, "shards"))
        ends = counts[order].cumsum(dim=0)
        left = len(places)
        at = int(torch.searchsorted(ends, places.start, right=True))
        while left:
            shard = int(order[at])
            begin = int(ends[at] - counts[shard])
            for sample in islice(self.part.read(shard, max(0, places.start - begin)), left):
                left -= 1
                yield sample
            at += 1
