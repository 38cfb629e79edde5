"""The batches of an epoch: in an order and with draws that depend on seed and epoch alone.

Each process gets its share of every global batch, and sample i of epoch e is augmented alike
whatever the batch size and the number of processes. n samples, c channels, h w pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from softaug import Drawn, Transform, take
from softaug.lab.data import ImageSet
from softaug.lab.engine import Engine
from softaug.lab.seeds import keyed


@dataclass(frozen=True)
class Batch:
    """This process's share of a global batch of `count` images; their names are for messages."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]
    drawn: Drawn
    count: int
    names: list[str]


@dataclass(frozen=True, eq=False)
class MemoryFeed:
    """Images that are all in memory, each once in an epoch."""

    train: ImageSet
    batch_size: int
    seed: int
    engine: Engine

    @property
    def steps(self) -> int:
        """Without a last batch that leaves a process less than two images: batch norm needs two."""
        n, batch = len(self.train), self.batch_size
        return n // batch if 0 < n % batch < 2 * self.engine.processes else math.ceil(n / batch)

    def epoch(self, epoch: int, transform: Transform, done: int) -> Iterator[Batch]:
        """The batches of an epoch after the first `done`."""
        n, (height, width) = len(self.train), self.train.images.shape[-2:]
        order = torch.randperm(n, generator=keyed(self.seed, epoch, "order"))
        drawn = transform.draw(n, height, width, keyed(self.seed, epoch, "augment"))
        for position in range(done, self.steps):
            whole = order[position * self.batch_size : (position + 1) * self.batch_size]
            index = whole[self.engine.share(len(whole))]
            yield Batch(
                self.train.images[index],
                self.train.labels[index],
                take(drawn, index),
                count=len(whole),
                names=[f"training image {i}" for i in index.tolist()],
            )
