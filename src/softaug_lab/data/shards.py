"""Data in shards: pieces that are read from their beginning to their end.

A shard is one image file, a group of rows of a Parquet file, a tar archive, a part of a data set on
the Hub. To know how many images of which class there are, the labels are read once, before any
image is decoded; the images are then read as often as wanted. s shards, k classes.
"""

import logging
import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Int64
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, one_line
from softaug_lab.basics.storage import cache_folder
from softaug_lab.data.sample import Content, Sample

MOST_ABSENT = 1000  # numbers of classes that no label has; with more, labels number other things
AT_ONCE = 8  # shards whose labels are read at once: most wait for a disk or a network
log = logging.getLogger(__name__)


class Row(NamedTuple):
    """One image as its shard has it: a name for messages, what encodes it, and its label."""

    name: str
    content: Content | None
    label: Any


class Shard(Protocol):
    """What is read from its beginning to its end, always in the same order."""

    @property
    def name(self) -> str: ...

    def labels(self) -> Iterable[tuple[str, Any]]:
        """The name and the label of each image: a number or a class name."""

    def read(self, start: int) -> Iterator[Row]:
        """The images after the first `start`."""


@dataclass(frozen=True, slots=True)
class OneFile:
    """A shard of one image, which lies in a file or in a part of one."""

    name: str
    content: Content
    label: str

    def labels(self) -> Iterable[tuple[str, str]]:
        return [(self.name, self.label)]

    def read(self, start: int) -> Iterator[Row]:
        return iter([Row(self.name, self.content, self.label)][start:])


@dataclass(frozen=True, slots=True)
class Named:
    """A shard with the names of its classes as labels, for data that number them otherwise."""

    shard: Shard
    classes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.shard.name

    def labels(self) -> Iterable[tuple[str, Any]]:
        return ((where, self._named(label)) for where, label in self.shard.labels())

    def read(self, start: int) -> Iterator[Row]:
        return (row._replace(label=self._named(row.label)) for row in self.shard.read(start))

    def _named(self, label: Any) -> Any:
        known = isinstance(label, int) and 0 <= label < len(self.classes)
        return self.classes[label] if known else label


@dataclass(frozen=True, eq=False)
class Part:
    """The shards of a training or test part, how many images each has, and how many each class."""

    shards: Sequence[Shard]
    counts: Int64[Tensor, "s"]
    per_class: Int64[Tensor, "k"]
    numbers: dict[str, int]  # of the classes

    def __len__(self) -> int:
        return int(self.counts.sum())

    def read(self, shard: int, start: int = 0) -> Iterator[Sample | str]:
        """The images of one shard after the first `start`, as many as were counted.

        A text stands for one that cannot be had, and says why.
        """
        own = self.shards[shard]
        left = int(self.counts[shard]) - start
        reason = "the shard ended before it"
        try:
            rows = iter(own.read(start))
            for row in islice(rows, left):
                left -= 1
                label = _number(row.label, self.numbers)
                if row.content is None:
                    yield f"{row.name}: no image"
                elif label is None:
                    yield f"{row.name}: label {row.label!r}, not there when labels were counted"
                else:
                    yield Sample(row.name, row.content, label)
            if next(rows, None) is not None:
                log.warning(
                    "%s: has more than the %s images that were counted; the others are left out. "
                    "Counts of archives elsewhere are kept in %s",
                    own.name,
                    f"{int(self.counts[shard]):,}",
                    cache_folder() / "labels",
                )
        # Files, networks and archives have no one error for what cannot be read.
        except Exception as error:
            reason = one_line(error)
        for missing in range(int(self.counts[shard]) - left, int(self.counts[shard])):
            yield f"{own.name}: image {missing + 1:,} could not be read ({reason})"

    def read_all(self) -> Iterator[Sample | str]:
        return (sample for shard in range(len(self.shards)) for sample in self.read(shard))


def count(
    parts: Sequence[Sequence[Shard]], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[Part]]:
    """Read all labels, and return the names of the classes with the counted parts.

    classes: where the data name them; else they are named by the labels, in the order of names or
    numbers. Raises one SoftaugError that names all labels out of place.
    """
    found = [_all_labels(shards) for shards in parts]
    values = {value for part in found for shard in part for value in shard}
    if classes is None:
        strings = sorted(value for value in values if isinstance(value, str))
        whole = [value for value in values if isinstance(value, int) and value >= 0]
        top = max(whole, default=-1)
        if not strings and top - len(whole) > MOST_ABSENT:
            where = next(s[top][1] for part in found for s in part if top in s)
            raise SoftaugError(
                f"{where}: label {top}, but only {len(whole):,} different labels; "
                "expected classes numbered from 0 without gaps"
            )
        classes = strings or [str(i) for i in range(top + 1)]
        _refuse_mixed(found)
    numbers = {name: i for i, name in enumerate(classes)}
    if len(numbers) < len(classes):
        twice = next(name for name, n in Counter(classes).items() if n > 1)
        raise SoftaugError(f"class name {twice!r} stands for two classes; expected one for each")
    faults = [
        f"{where}: label {'missing' if value is None else repr(value)}, "
        f"expected {_expected(classes, value)}"
        for part in found
        for shard in part
        for value, (_, where) in shard.items()
        if _number(value, numbers) is None
    ]
    if faults:
        how_many = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise SoftaugError(f"{how_many}: {'; '.join(faults[:10])}{more}")
    counted = []
    for shards, part in zip(parts, found, strict=True):
        per_class = torch.zeros(len(classes), dtype=torch.int64)
        for shard in part:
            for value, (n, _) in shard.items():
                per_class[_number(value, numbers)] += n
        counts = torch.tensor([sum(n for n, _ in s.values()) for s in part], dtype=torch.int64)
        counted.append(Part(shards, counts, per_class, numbers))
    return tuple(classes), counted


# How often each label stands in a shard, and where first.
_Counts = dict[Any, tuple[int, str]]


def _all_labels(shards: Sequence[Shard]) -> list[_Counts]:
    # A few heaps of shards, not a task for each: shards may be a million files.
    heaps = [range(i, len(shards), AT_ONCE) for i in range(AT_ONCE)]
    counted: list[_Counts] = [{}] * len(shards)
    stopped = threading.Event()  # by Ctrl-C or an error: the others may have hours to go

    def count_heap(heap: range) -> None:
        for i in heap:
            if stopped.is_set():
                return
            counted[i] = _count_labels(shards[i])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for heap in as_completed([pool.submit(count_heap, heap) for heap in heaps]):
                heap.result()
        finally:
            stopped.set()
    return counted


def _refuse_mixed(parts: Sequence[Sequence[_Counts]]) -> None:
    """Raise SoftaugError where one part has names and numbers, whose classes nobody can tell."""
    for part in parts:
        firsts = {isinstance(v, str): (v, s[v][1]) for s in part for v in s if v is not None}
        if len(firsts) > 1:
            (name, at), (number, where) = firsts[True], firsts[False]
            raise SoftaugError(
                f"{at}: label {name!r}, and {where}: label {number!r}; expected names or numbers"
            )


def _count_labels(shard: Shard) -> _Counts:
    times: Counter[Any] = Counter()
    first: dict[Any, str] = {}
    for where, value in shard.labels():
        label = None if isinstance(value, float) and math.isnan(value) else value
        try:
            times[label] += 1
        except TypeError:
            text = repr(value)[:100]
            raise SoftaugError(f"{where}: label {text}, expected one number or name") from None
        first.setdefault(label, where)
    return {label: (n, first[label]) for label, n in times.items()}


def _number(label: Any, numbers: dict[str, int]) -> int | None:
    """The class that a label means, by its name or its number; None for no class."""
    if isinstance(label, str):
        return numbers.get(label)
    known = isinstance(label, int) and 0 <= label < len(numbers)
    return int(label) if known else None


def _expected(classes: Sequence[str], value: Any) -> str:
    if isinstance(value, str):
        return f"one of {', '.join(classes[:5])}" + (", ..." if len(classes) > 5 else "")
    return f"0 to {len(classes) - 1}" if classes else "a whole number from 0, or a name"
