"""Shards: pieces of a data set, each read from its beginning to its end.

A shard is one image file, a row group of a Parquet file, a tar archive, or a part of a data set on
the Hub. All labels are read once, before any image is decoded, to count the images of each class;
the images themselves can then be read any number of times. s shards, k classes.
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

from softaug_lab.basics.errors import SoftaugError, listed, one_line, plural
from softaug_lab.basics.storage import cache_folder
from softaug_lab.data.sample import Content, Object, Sample, Unreadable

# Numeric labels may leave this many class numbers unused; with more gaps they are no class numbers.
MAX_UNUSED_NUMBERS = 1000
ONE_LABEL = (
    'one label is trained for an image, and the page "Several labels for an image" of the '
    "documentation (docs/multi-label.md) shows the loop for several"
)
SHARDS_AT_ONCE = 8  # whose labels are read concurrently: most threads wait for a disk or a network
log = logging.getLogger(__name__)


class Row(NamedTuple):
    """One image as stored in its shard: a name for messages, the encoded image, and its label.

    content: None where there is no image. label: a number, a class name, or anything wrong. object:
    where the object is, if that is asked for.
    """

    name: str
    content: Content | None
    label: Any
    object: Object | None = None


class Shard(Protocol):
    """A piece of a data set that is read from its beginning to its end, in a fixed order."""

    @property
    def name(self) -> str: ...

    def labels(self) -> Iterable[tuple[str, Any]]:
        """Yield the name of each image with its label: a number or a class name."""

    def read(self, start: int) -> Iterator[Row]:
        """Yield the images after the first `start`."""


@dataclass(frozen=True, slots=True)
class OneFile:
    """A shard of one image, which is a file or a range of bytes of one."""

    name: str
    content: Content
    label: str | int | None
    object: Object | None = None

    def labels(self) -> Iterable[tuple[str, Any]]:
        return [(self.name, self.label)]

    def read(self, start: int) -> Iterator[Row]:
        return iter([Row(self.name, self.content, self.label, self.object)][start:])


@dataclass(frozen=True, slots=True)
class Named:
    """A shard whose numeric labels are replaced by class names.

    For a source that numbers the same classes in another order. classes: names by number.
    """

    shard: Shard
    classes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.shard.name

    def labels(self) -> Iterable[tuple[str, Any]]:
        return ((name, self._class_name(label)) for name, label in self.shard.labels())

    def read(self, start: int) -> Iterator[Row]:
        return (row._replace(label=self._class_name(row.label)) for row in self.shard.read(start))

    def _class_name(self, label: Any) -> Any:
        is_number = isinstance(label, int) and 0 <= label < len(self.classes)
        return self.classes[label] if is_number else label


@dataclass(frozen=True, eq=False)
class Part:
    """The counted shards of a training or test part.

    counts: images per shard. per_class: images per class. class_numbers: by class name.
    """

    shards: Sequence[Shard]
    counts: Int64[Tensor, "s"]
    per_class: Int64[Tensor, "k"]
    class_numbers: dict[str, int]

    def __len__(self) -> int:
        return int(self.counts.sum())

    def read(self, shard: int, start: int = 0) -> Iterator[Sample | Unreadable]:
        """Yield the images of one shard after the first `start`.

        Yields exactly as many as were counted: `Unreadable` stands for an image that is missing
        or broken.
        """
        piece, total, position = self.shards[shard], int(self.counts[shard]), start
        reason = "the shard ended before it"
        try:
            rows = iter(piece.read(start))
            for row in islice(rows, total - start):
                position += 1
                yield self._sample(row)
            if next(rows, None) is not None:
                log.warning(
                    "%s: has more than the %s images that were counted; the others are left out. "
                    "Counts of remote archives are cached in %s",
                    piece.name,
                    f"{total:,}",
                    cache_folder() / "labels",
                )
        # Files, networks and archives raise errors of many types.
        except Exception as error:
            reason = one_line(error)
        for missing in range(position, total):
            why = f"image {missing + 1:,} could not be read ({reason})"
            yield Unreadable(piece.name, why)

    def read_all(self) -> Iterator[Sample | Unreadable]:
        """Yield the images of all shards in order."""
        return (sample for shard in range(len(self.shards)) for sample in self.read(shard))

    def _sample(self, row: Row) -> Sample | Unreadable:
        if row.content is None:
            return Unreadable(row.name, "no image")
        number = _class_number(row.label, self.class_numbers)
        if number is None:
            why = f"label {row.label!r}, which was absent when the labels were counted"
            return Unreadable(row.name, why)
        return Sample(row.name, row.content, number, row.object)


# How often each label occurs in a shard, and the name of the first image that has it.
_LabelCounts = dict[Any, tuple[int, str]]


def count_labels(
    parts: Sequence[Sequence[Shard]], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[Part]]:
    """Read the labels of all shards; return the class names and the counted parts.

    classes: the class names, where the source has them; None names the classes by their labels, in
    alphabetical or numeric order. Raises SoftaugError that names the labels of no class.
    """
    counts = [_read_labels(shards) for shards in parts]
    if classes is None:
        classes = _classes_of_labels(counts)
    numbers = {name: i for i, name in enumerate(classes)}
    if len(numbers) < len(classes):
        twice = next(name for name, n in Counter(classes).items() if n > 1)
        raise SoftaugError(f"class name {twice!r} stands for two classes; expected one for each")
    faults = [
        f"{name}: label {'missing' if label is None else repr(label)}, "
        f"expected {_expected(classes, label)}"
        for part in counts
        for shard in part
        for label, (_, name) in shard.items()
        if _class_number(label, numbers) is None
    ]
    if faults:
        raise SoftaugError(f"{plural(len(faults), 'fault')}: {listed(faults, 10, '; ')}")
    counted = [_counted(*pair, numbers) for pair in zip(parts, counts, strict=True)]
    return tuple(classes), counted


def _counted(
    shards: Sequence[Shard], counts: Sequence[_LabelCounts], numbers: dict[str, int]
) -> Part:
    per_class = torch.zeros(len(numbers), dtype=torch.int64)
    for shard in counts:
        for label, (n, _) in shard.items():
            per_class[_class_number(label, numbers)] += n
    per_shard = [sum(n for n, _ in shard.values()) for shard in counts]
    return Part(shards, torch.tensor(per_shard, dtype=torch.int64), per_class, numbers)


def _classes_of_labels(parts: Sequence[Sequence[_LabelCounts]]) -> list[str]:
    """Name the classes by the labels: the names in order, or the numbers from 0 to the largest.

    Raises SoftaugError where a part has both names and numbers, or numbers with too many gaps.
    """
    labels = {label for part in parts for shard in part for label in shard}
    names = sorted(label for label in labels if isinstance(label, str))
    numbers = [label for label in labels if isinstance(label, int) and label >= 0]
    largest = max(numbers, default=-1)
    if not names and largest - len(numbers) > MAX_UNUSED_NUMBERS:
        image = next(shard[largest][1] for part in parts for shard in part if largest in shard)
        raise SoftaugError(
            f"{image}: label {largest}, but only {len(numbers):,} different labels; "
            "expected classes numbered from 0 without gaps"
        )
    for part in parts:
        _refuse_mixed(part)
    return names or [str(i) for i in range(largest + 1)]


def _refuse_mixed(part: Sequence[_LabelCounts]) -> None:
    """Raise SoftaugError where a part has names and numbers: how they correspond is unknown."""
    firsts = {
        isinstance(label, str): (label, shard[label][1])
        for shard in part
        for label in shard
        if label is not None
    }
    if len(firsts) > 1:
        (name, first), (number, second) = firsts[True], firsts[False]
        raise SoftaugError(
            f"{first}: label {name!r}, and {second}: label {number!r}; expected names or numbers"
        )


def _read_labels(shards: Sequence[Shard]) -> list[_LabelCounts]:
    """Count the labels of each shard, several shards at a time."""
    # One task per thread, not one per shard: there may be a million shards.
    tasks = [range(i, len(shards), SHARDS_AT_ONCE) for i in range(SHARDS_AT_ONCE)]
    counts: list[_LabelCounts] = [{}] * len(shards)
    stopped = threading.Event()  # set by Ctrl-C or an error: the other threads may need hours

    def count_shards(task: range) -> None:
        for i in task:
            if stopped.is_set():
                return
            counts[i] = _shard_labels(shards[i])

    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        try:
            for done in as_completed([pool.submit(count_shards, task) for task in tasks]):
                done.result()
        finally:
            stopped.set()
    return counts


def _shard_labels(shard: Shard) -> _LabelCounts:
    times: Counter[Any] = Counter()
    first: dict[Any, str] = {}
    for name, stored in shard.labels():
        label = None if isinstance(stored, float) and math.isnan(stored) else stored
        try:
            times[label] += 1
        except TypeError:
            text = repr(stored)[:100]
            raise SoftaugError(
                f"{name}: label {text}, expected one number or name; {ONE_LABEL}"
            ) from None
        first.setdefault(label, name)
    return {label: (n, first[label]) for label, n in times.items()}


def _class_number(label: Any, numbers: dict[str, int]) -> int | None:
    """Return the class number of a label, which is a name or a number; None for no class."""
    if isinstance(label, str):
        return numbers.get(label)
    is_number = isinstance(label, int) and 0 <= label < len(numbers)
    return int(label) if is_number else None


def _expected(classes: Sequence[str], label: Any) -> str:
    if isinstance(label, str):
        return f"one of {listed(classes, 5)}"
    return f"0 to {len(classes) - 1}" if classes else "a whole number from 0, or a name"
