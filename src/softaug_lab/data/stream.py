"""Training images that are read while training, in an order that is known beforehand.

The number of images in each shard is known, so the order of an epoch is fixed before anything is
read: the shards are shuffled, the sequence of their images is cut into one equal stretch for each
reader, and each stretch is shuffled block by block. Readers belong to the data, not to processes:
the same number of readers gives the same batches on any number of processes, and an epoch can be
resumed at any position. n images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.seeds import keyed
from softaug_lab.data.sample import Sample, Unreadable
from softaug_lab.data.shards import Part


@dataclass(frozen=True)
class StreamOptions:
    """Options for reading a stream.

    readers: number of concurrent readers, over all processes. buffer: number of encoded images
    held for shuffling, over all readers. Raises UsageError where one is below 1.
    """

    readers: int = 8
    buffer: int = 4096

    def __post_init__(self) -> None:
        for name in ("readers", "buffer"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Stream:
    """A training part that is not held in memory; its images become RGB of `size` x `size` pixels.

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
        """Return the positions in the epoch's sequence that a reader reads."""
        n, readers = len(self), self.options.readers
        return range(n * reader // readers, n * (reader + 1) // readers)

    def reader(
        self, reader: int, seed: int, epoch: int, done: int = 0
    ) -> Iterator[Sample | Unreadable]:
        """Yield a reader's images of an epoch after the first `done`, as `Part.read` does."""
        stretch = self.stretch(reader)
        block = max(1, self.options.buffer // self.options.readers)
        first = done // block
        unshuffled = self._unshuffled(stretch[first * block :], seed, epoch)
        ahead: list[Sample | Unreadable] = []
        for number in range(first, -(-len(stretch) // block)):
            held: list[Sample | Unreadable | None] = [
                *ahead,
                *islice(unshuffled, block - len(ahead)),
            ]
            ahead = []
            generator = keyed(seed, epoch, "block", reader, number)
            order = torch.randperm(len(held), generator=generator).tolist()
            for i in order[done % block if number == first else 0 :]:
                sample, held[i] = held[i], None  # so that its memory can be freed
                assert sample is not None
                yield sample
                # Each image that leaves is replaced by one of the next block: if a reader fetched
                # a whole block at once, training would wait for it.
                ahead += islice(unshuffled, 1)

    def _unshuffled(self, positions: range, seed: int, epoch: int) -> Iterator[Sample | Unreadable]:
        """Yield the images at consecutive positions of the shuffled shards, block order aside."""
        counts = self.part.counts
        order = torch.randperm(len(counts), generator=keyed(seed, epoch, "shards"))
        ends = counts[order].cumsum(dim=0)
        left = len(positions)
        i = int(torch.searchsorted(ends, positions.start, right=True))
        while left:
            shard = int(order[i])
            begin = int(ends[i] - counts[shard])
            for sample in islice(self.part.read(shard, max(0, positions.start - begin)), left):
                left -= 1
                yield sample
            i += 1
