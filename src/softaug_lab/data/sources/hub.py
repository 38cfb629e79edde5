"""Data sets of the Hugging Face Hub, or of a folder laid out like one, read as streams."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line
from softaug_lab.data.shards import Row
from softaug_lab.data.sources.found import TEST, TRAIN, Found
from softaug_lab.data.sources.parquet import IMAGE_COLUMNS, LABEL_COLUMNS

PREFIX = "hf:"


@dataclass(frozen=True, eq=False)
class HubShard:
    """One of the pieces in which a streamed data set of `datasets` comes, its images encoded."""

    part: Any  # an IterableDataset
    index: int
    name: str
    image_column: str
    label_column: str

    def labels(self) -> Iterable[tuple[str, Any]]:
        rows = self._rows(self.label_column)
        return ((f"{self.name} row {i}", row[self.label_column]) for i, row in enumerate(rows))

    def read(self, start: int) -> Iterator[Row]:
        rows = self._rows(self.image_column, self.label_column).skip(start)
        for i, row in enumerate(rows, start):
            content = row[self.image_column]
            if isinstance(content, dict):
                content = content.get("bytes")
            is_image = isinstance(content, bytes)
            name = f"{self.name} row {i}"
            yield Row(name, content if is_image else None, row[self.label_column])

    def _rows(self, *columns: str) -> Any:
        # Made anew each time: an iteration leaves its place in what it goes through, from where
        # another one at the same time would go on.
        shard = self.part.shard(self.part.num_shards, self.index)
        return shard.select_columns(list(columns))


def find(source: str) -> Found:
    """The parts of `hf:NAME` or `hf:NAME:CONFIGURATION`; NAME may be a folder."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError("hf: is read by datasets: pip install 'softaug[datasets]'") from error
    name, _, configuration = source.removeprefix(PREFIX).partition(":")
    try:
        parts = datasets.load_dataset(name, configuration or None, streaming=True)
    # It has no one error for a name that is not there, a network or a file that is broken.
    except Exception as error:
        reason = one_line(error)
        raise SoftaugError(f"{source}: could not be opened ({reason})") from error
    train, *tests = (
        next((parts[name] for name in kind if name in parts), None) for kind in (TRAIN, *TEST)
    )
    if train is None:
        raise SoftaugError(f"{source}: no training part among {', '.join(map(str, parts))}")
    test = next((part for part in tests if part is not None), None)
    shards, classes = _shards(source, train)
    return Found(shards, None if test is None else _shards(source, test)[0], classes)


def _shards(source: str, part: Any) -> tuple[list[HubShard], list[str] | None]:
    """The shards of a part, and the names of its classes where it has them."""
    from datasets import Image

    features = part.features or part._resolve_features().features
    image = next((name for name in IMAGE_COLUMNS if name in features), None)
    label = next((name for name in LABEL_COLUMNS if name in features), None)
    if image is None or label is None:
        missing = " or ".join(IMAGE_COLUMNS if image is None else LABEL_COLUMNS)
        raise SoftaugError(f"{source}: no column {missing}; it has {', '.join(features)}")
    if isinstance(features[image], Image):
        part = part.cast_column(image, Image(decode=False))
    n = part.num_shards
    shards = [
        HubShard(part, i, f"{source} {part.split} {i + 1} of {n},", image, label) for i in range(n)
    ]
    return shards, getattr(features[label], "names", None)
