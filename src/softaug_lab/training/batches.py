"""The batches of an epoch, whose order and augmentation depend on seed and epoch alone.

Each process gets its share of every global batch, and global batches are the same for any number of
processes. For images in memory, the augmentation of image i in epoch e does not depend on the batch
size either. n samples, c channels, h w pixels.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from softaug import Drawn, Transform, take
from softaug.devices import to_device
from softaug.transforms.fills import donor_index
from softaug_lab.basics.errors import SoftaugError, UsageError, listed, plural
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import keyed
from softaug_lab.data import Data, Decoded, ImageSet, Stream, decode_all, decoders
from softaug_lab.recipes import Recipe

AHEAD = 4  # batches that are read and decoded in advance


@dataclass(frozen=True)
class Batch:
    """This process's share of a global batch of `count` images.

    drawn: the drawn parameters of their augmentation. names: of the images, for messages. objects:
    where the object of each is, None where whole images count.
    unreadable: the errors of images that are missing from the global batch.
    """

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]
    drawn: Drawn
    count: int
    names: Sequence[str]
    unreadable: list[str]
    objects: UInt8[Tensor, "n 1 h w"] | None = None


@dataclass(frozen=True, eq=False)
class ImageNames(Sequence[str]):
    """Names of training images by their numbers, int64 [N]; they are written when asked for."""

    numbers: Int64[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, at: Any) -> Any:
        chosen = self.numbers[at].tolist()
        many = isinstance(chosen, list)
        return [f"training image {i}" for i in chosen] if many else f"training image {chosen}"


@dataclass(frozen=True, eq=False)
class MemoryBatches:
    """Batches of images in memory, each image once in an epoch.

    Raises UsageError where a step has fewer than two images for each process.
    """

    train: ImageSet
    batch_size: int
    seed: int
    processes: Processes

    def __post_init__(self) -> None:
        _require_two_each(self.batch_size, self.processes.count)
        if not self.steps:
            raise UsageError(
                f"{plural(len(self.train), 'training image')}: too few for a step, which needs two "
                f"images for each process"
            )

    @property
    def steps(self) -> int:
        """Steps in an epoch, without a last batch of fewer than two images for each process.

        Batch norm needs two.
        """
        n, batch = len(self.train), self.batch_size
        return n // batch if 0 < n % batch < 2 * self.processes.count else math.ceil(n / batch)

    @property
    def image_bytes(self) -> int:
        """The bytes of an image."""
        return self.train.images[:1].nbytes

    def epoch(self, epoch: int, transform: Transform, done: int, block: int = 1) -> Iterator[Batch]:
        """Yield the batches of an epoch after the first `done`; a block is gathered at once."""
        n, (height, width) = len(self.train), self.train.images.shape[-2:]
        order = torch.randperm(n, generator=keyed(self.seed, epoch, "order"))
        drawn = transform.draw(n, height, width, keyed(self.seed, epoch, "augment"))
        wholes = order.split(self.batch_size)[done : self.steps]
        for first in range(0, len(wholes), block):
            yield from self._gathered(wholes[first : first + block], drawn)

    def _gathered(self, wholes: Sequence[Int64[Tensor, "n"]], drawn: Drawn) -> Iterator[Batch]:
        """Gather batches, given by the numbers of their images, in as many launches as one."""
        shares = [whole[self.processes.share(len(whole))] for whole in wholes]
        index = torch.cat(shares)
        there = to_device(index, self.train.images.device)
        images = self.train.images.index_select(0, there)
        labels = self.train.labels.index_select(0, there)
        objects = self.train.objects
        objects = objects if objects is None else objects.index_select(0, there)
        drawn = _with_donors(take(drawn, index), partial(self._donors, index))
        end = 0
        for whole, share in zip(wholes, shares, strict=True):
            rows = slice(end, end + len(share))
            yield Batch(
                images[rows],
                labels[rows],
                take(drawn, rows),
                count=len(whole),
                names=ImageNames(share),
                unreadable=[],
                objects=objects if objects is None else objects[rows],
            )
            end = rows.stop

    def _donors(self, index: Int64[Tensor, "n"], donor: Int64[Tensor, "n"]) -> Drawn:
        """Find another training image for each of these, whichever batch it is in."""
        if len(self.train) < 2:
            return {}  # one training image has no other, and the transform goes by its batch
        images = self.train.images
        chosen = to_device(donor_index(donor, index, len(images)), images.device)
        return {"others": images.index_select(0, chosen)}


@dataclass(frozen=True, eq=False)
class StreamBatches:
    """Batches of streamed images, read and decoded in advance, each image once in an epoch.

    Every reader contributes an equal part of a batch, and every process has equally many readers.
    Raises UsageError if the batch size or the readers cannot be divided so.
    """

    stream: Stream
    batch_size: int
    seed: int
    processes: Processes

    def __post_init__(self) -> None:
        readers, processes = self.stream.options.readers, self.processes.count
        if self.batch_size % readers or readers % processes:
            multiples = range(processes, self.batch_size + 1, processes)
            fitting = [n for n in multiples if self.batch_size % n == 0]
            raise UsageError(
                f"readers must divide the batch size, {self.batch_size}, and be a multiple of the "
                f"processes, {processes}, got {readers}; fitting are "
                f"{', '.join(map(str, fitting)) or 'none: take another batch size'}"
            )
        _require_two_each(self.batch_size, processes)
        if not self.steps:
            raise UsageError(f"{len(self.stream)} training images are too few to stream")

    @property
    def steps(self) -> int:
        """Steps in an epoch, without a last batch of fewer than two images for each process."""
        steps = math.ceil(math.ceil(len(self.stream) / self.stream.options.readers) / self._each)
        least = min(self._share_size(rank, steps - 1) for rank in range(self.processes.count))
        return steps if least >= 2 else steps - 1

    @property
    def image_bytes(self) -> int:
        """The bytes of an image."""
        return 3 * self.stream.size**2

    def epoch(self, epoch: int, transform: Transform, done: int, block: int = 1) -> Iterator[Batch]:
        """Yield the batches of an epoch after the first `done`; a stream has no use for blocks.

        Raises SoftaugError if a process could read fewer than two images of a batch.
        """
        del block
        size, processes = self.stream.size, self.processes
        with closing(self._shares(epoch, done)) as shares:
            for position, share in enumerate(shares, done):
                sizes = [self._share_size(rank, position) for rank in range(processes.count)]
                before, whole = sum(sizes[: processes.rank]), sum(sizes)
                generator = keyed(self.seed, epoch, position, "augment")
                drawn = transform.draw(whole, size, size, generator)
                faults = [str(image) for image in share.unreadable]
                n = len(share.labels)
                # Summed over processes, so that either all of them stop or none.
                count, too_few = processes.total(torch.tensor([n, n < 2])).tolist()
                if count < whole:
                    faults = processes.gather_texts(faults)
                if too_few:
                    raise SoftaugError(
                        f"{len(faults)} of {whole} images of a batch are unreadable, too many to "
                        f"go on: {listed(faults, 3, '; ')}"
                    )
                yield Batch(
                    share.images,
                    share.labels,
                    _with_donors(
                        take(drawn, before + torch.tensor(share.places)),
                        partial(self._donors, share, position),
                    ),
                    count=count,
                    names=share.names,
                    unreadable=faults,
                    objects=share.objects,
                )

    @property
    def _each(self) -> int:
        """How many images a reader contributes to a batch."""
        return self.batch_size // self.stream.options.readers

    def _readers(self, rank: int) -> range:
        """Return the numbers of a process's readers."""
        share = self.stream.options.readers // self.processes.count
        return range(rank * share, (rank + 1) * share)

    def _share_size(self, rank: int, position: int) -> int:
        """Return how many images of a batch a process gets; fewer at the end of an epoch."""
        return sum(self._part_sizes(rank, position))

    def _part_sizes(self, rank: int, position: int) -> list[int]:
        """Return how many images of a batch each of a process's readers contributes."""
        left = (len(self.stream.stretch(r)) - position * self._each for r in self._readers(rank))
        return [min(self._each, max(0, n)) for n in left]

    def _donors(self, share: Decoded, position: int, donor: Int64[Tensor, "n"]) -> Drawn:
        """Find another image of the batch for each one of a share, from the same reader.

        A reader's images are together in one process, for any number of processes. A donor that is
        unreadable is replaced by the reader's next one that is not; a reader's only readable image
        of a batch gets no donor, the number -1, and so it is filled with noise.
        """
        places, chosen, first = torch.tensor(share.places), [], 0
        for size in self._part_sizes(self.processes.rank, position):
            mine = (places >= first) & (places < first + size)
            index, before = mine.nonzero()[:, 0], int((places < first).sum())
            found = _readable_donors(donor[index], places[index] - first, size)
            chosen.append(torch.where(found < 0, -1, found + before))
            first += size
        others = torch.cat(chosen)
        return {
            "donor": torch.where(others < 0, -1, donor),
            "others": share.images[others.clamp(min=0)],
        }

    def _shares(self, epoch: int, done: int) -> Generator[Decoded]:
        """Yield this process's shares of the batches after the first `done`."""
        skipped = done * self._each
        readers = [
            self.stream.reader(reader, self.seed, epoch, skipped)
            for reader in self._readers(self.processes.rank)
        ]
        reading, decoding = ThreadPoolExecutor(len(readers), "read"), decoders()
        shape = (3, self.stream.size, self.stream.size)

        def next_share() -> Decoded:
            parts = reading.map(lambda reader: list(islice(reader, self._each)), readers)
            samples = list(chain.from_iterable(parts))
            return decode_all(samples, len(samples), shape, decoding)

        with reading, decoding, ThreadPoolExecutor(1, "ahead") as ahead:
            waiting: deque[Future[Decoded]] = deque()
            try:
                for position in range(done, self.steps + AHEAD):
                    if position < self.steps:
                        waiting.append(ahead.submit(next_share))
                    if position >= done + AHEAD:
                        yield waiting.popleft().result()
            finally:
                for share in waiting:
                    share.cancel()


def _require_two_each(batch_size: int, processes: int) -> None:
    if batch_size < 2 * processes:
        raise UsageError(
            f"batch size must be at least {2 * processes}, two images for each of the "
            f"processes, {processes}, got {batch_size}"
        )


def _readable_donors(
    donor: Int64[Tensor, "m"], place: Int64[Tensor, "m"], n: int
) -> Int64[Tensor, "m"]:
    """Find another readable image for each, where m of n images, at rising places, are readable.

    Returns the indices 0 ... m - 1 of donors among the readable images; -1 where m is 1.
    """
    m, own = len(place), torch.arange(len(place))
    if m < 2:
        return torch.full_like(donor, -1)
    next_one = torch.searchsorted(place, donor_index(donor, place, n)) % m
    return torch.where(next_one == own, (own + 1) % m, next_one)


def _with_donors(drawn: Drawn, find: Callable[[Tensor], Drawn]) -> Drawn:
    """Add the donors' images to the draws of each transform that fills with other images.

    find: from a transform's `donor`, int64 [n], to what is added to its draws.
    """
    added = find(drawn["donor"]) if "donor" in drawn else {}
    return {
        name: _with_donors(value, find) if isinstance(value, dict) else value
        for name, value in drawn.items()
    } | added


def resident(images: ImageSet, device: torch.device) -> ImageSet:
    """Images on the device, if it is a GPU and they take less than a third of its free memory."""
    if device.type != "cuda":
        return images
    free, _ = torch.cuda.mem_get_info(device)
    maps = images.objects
    if 3 * (images.images.nbytes + (0 if maps is None else maps.nbytes)) > free:
        return images
    on_device = None if maps is None else maps.to(device)
    return ImageSet(images.images.to(device), images.labels.to(device), on_device)


def build_batches(
    recipe: Recipe, data: Data, processes: Processes
) -> MemoryBatches | StreamBatches:
    """Make the batches of a recipe, from memory or from a stream as the data are."""
    if data.stream is None:
        train = resident(data.train, processes.device)
        return MemoryBatches(train, recipe.batch_size, recipe.seed, processes)
    return StreamBatches(data.stream, recipe.batch_size, recipe.seed, processes)
