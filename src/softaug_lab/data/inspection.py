"""What a data set holds, known without loading it: counts, sizes, unreadable images, thumbnails.

k classes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Int64, UInt8
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.data.dataset import ImageSet
from softaug_lab.data.decode import AT_ONCE, Header, decoders, read_header, thumbnail
from softaug_lab.data.faults import summarise
from softaug_lab.data.load import count_parts, data_name, find_parts
from softaug_lab.data.opening import are_arrays, open_content
from softaug_lab.data.resize import with_channels
from softaug_lab.data.sample import Sample, Unreadable
from softaug_lab.data.shards import Part
from softaug_lab.data.sources import BUILT_IN
from softaug_lab.data.split import number_to_test, split_off_test

MOST = 20_000  # images of a part that are opened; of a larger part, as many spread over its shards
SIDE = 32  # of a thumbnail


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """One readable image: its size and colour, a hash of its file, and a thumbnail of all of it."""

    name: str
    label: int
    header: Header
    key: bytes
    thumbnail: UInt8[Tensor, "3 32 32"]


@dataclass(frozen=True, eq=False)
class Inspection:
    """The parts of a data set as `load` would read them.

    train, test: images of each class [K]. split: whether the test part was split off, since the
    source has none. built_in: whether the images come with the library, in one size. seen_train,
    seen_test: those that were opened, MOST of a part at most. unreadable: those among the opened
    that are. notes: remarks for the user.
    """

    name: str
    classes: tuple[str, ...]
    train: Int64[Tensor, "k"]
    test: Int64[Tensor, "k"]
    split: bool
    built_in: bool
    seen_train: list[Glance]
    seen_test: list[Glance]
    unreadable: list[Unreadable]
    notes: tuple[str, ...]

    @property
    def seen(self) -> list[Glance]:
        """The images of both parts that were opened and are readable."""
        return [*self.seen_train, *self.seen_test]

    @property
    def arrays(self) -> bool:
        """Whether all opened images are arrays (.npy), such as spectrograms."""
        return are_arrays([one.name for one in self.seen])

    @property
    def whole(self) -> bool:
        """Whether all images were opened."""
        return self.opened == int(self.train.sum() + self.test.sum())

    @property
    def opened(self) -> int:
        """Number of images that were opened, readable or not."""
        return len(self.seen_train) + len(self.seen_test) + len(self.unreadable)


def inspect(
    source: str, test: str | None = None, watch: Callable[[int, int], None] = lambda _, __: None
) -> Inspection:
    """Look through a data set: labels of all images, and the content of up to MOST of each part.

    source, test: as for `load`. watch: is told how many images were opened, and of how many.
    Raises what `load` raises for a source that cannot be read at all, but not for unreadable
    images, unless all are.
    """
    if source in BUILT_IN:
        if test is not None:
            raise UsageError(f"{source} has test images; leave out --test")
        return _of_built_in(source)
    listing = find_parts(source, test)
    classes, parts, notes = count_parts(source, listing)
    total = sum(min(len(part), MOST) for part in parts)
    train: Iterable[Sample | Unreadable] = _spread(parts[0])
    tested: Iterable[Sample | Unreadable]
    per_class = [part.per_class for part in parts]
    if len(parts) == 1:
        train, tested = split_off_test([*train], len(classes), seed=0)
        split_off = torch.tensor([number_to_test(n) for n in per_class[0].tolist()])
        per_class = [per_class[0] - split_off, split_off]
    else:
        tested = _spread(parts[1])
    seen = [*_glances(train, lambda done: watch(done, total))]
    n_train = len(seen)
    seen += _glances(tested, lambda done: watch(n_train + done, total))
    unreadable = [one for one in seen if isinstance(one, Unreadable)]
    if len(unreadable) == len(seen):
        raise SoftaugError(summarise(source, unreadable))
    return Inspection(
        name=data_name(source),
        classes=classes,
        train=per_class[0],
        test=per_class[1],
        split=len(parts) == 1,
        built_in=False,
        seen_train=[one for one in seen[:n_train] if isinstance(one, Glance)],
        seen_test=[one for one in seen[n_train:] if isinstance(one, Glance)],
        unreadable=unreadable,
        notes=tuple(notes),
    )


def _spread(part: Part) -> Iterator[Sample | Unreadable]:
    """Yield the images of a part, or MOST of them, as many of each shard as its share is."""
    ends = part.counts.cumsum(dim=0)
    share = min(1.0, MOST / max(1, len(part)))
    quotas = (ends * share).long() - ((ends - part.counts) * share).long()
    for shard, quota in enumerate(quotas.tolist()):
        if quota:
            yield from islice(part.read(shard), quota)


def _glances(
    samples: Iterable[Sample | Unreadable], watch: Callable[[int], None]
) -> Iterator[Glance | Unreadable]:
    """Open images on several threads, in order; `watch` is told how many were opened."""
    remaining, done = iter(samples), 0
    with decoders() as pool:
        while chunk := list(islice(remaining, AT_ONCE)):
            yield from pool.map(_glance, chunk)
            done += len(chunk)
            watch(done)


def _glance(sample: Sample | Unreadable) -> Glance | Unreadable:
    """Read and decode one image, or return why that is impossible."""
    if isinstance(sample, Unreadable):
        return sample
    try:
        opened = open_content(sample.content)
        content = opened.read_bytes() if isinstance(opened, Path) else opened.getvalue()
    except OSError as error:
        return Unreadable(sample.name, f"unreadable ({error.strerror or error})")
    in_memory = replace(sample, content=content)
    header, small = read_header(in_memory), thumbnail(in_memory, SIDE)
    if isinstance(header, Unreadable):
        return header
    if isinstance(small, Unreadable):
        return small
    key = blake2b(content, digest_size=16).digest()
    return Glance(sample.name, sample.label, header, key, small)


def _of_built_in(source: str) -> Inspection:
    data = BUILT_IN[source](source)
    train, test = (_of_images(source, part) for part in (data.train, data.test))
    counts, counts_test = (
        part.labels.bincount(minlength=data.num_classes) for part in (data.train, data.test)
    )
    return Inspection(
        name=data.name,
        classes=data.classes,
        train=counts,
        test=counts_test,
        split=False,
        built_in=True,
        seen_train=train,
        seen_test=test,
        unreadable=[],
        notes=(),
    )


def _of_images(source: str, part: ImageSet) -> list[Glance]:
    channels, height, width = part.images.shape[1:]
    header = Header(width, height, grey=channels == 1)
    images, labels = part.images[:MOST], part.labels[:MOST].tolist()
    small = torch.cat(
        [
            F.interpolate(
                with_channels(chunk.float(), 3), (SIDE, SIDE), mode="bilinear", antialias=True
            ).to(torch.uint8)
            for chunk in images.split(500)
        ]
    )
    keys = (blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in images)
    return [
        Glance(f"{source} {i}", label, header, key, thumb)
        for i, (label, key, thumb) in enumerate(zip(labels, keys, small, strict=True))
    ]
