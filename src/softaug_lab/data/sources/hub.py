"""Data sets of the Hugging Face Hub, or of a folder laid out like one, streamed by `datasets`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line
from softaug_lab.data.shards import Row
from softaug_lab.data.sources.columns import encoded_image, find_columns
from softaug_lab.data.sources.listing import Listing, named_parts

PREFIX = "hf:"


@dataclass(frozen=True, eq=False)
class HubShard:
    """One shard of a streamed data set of `datasets`, its images encoded.

    part: an IterableDataset. index: of the shard in it.
    """

    part: Any
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
            content = encoded_image(row[self.image_column])
            yield Row(f"{self.name} row {i}", content, row[self.label_column])

    def _rows(self, *columns: str) -> Any:
        # A new object each time: iterating stores the position in the object, and a concurrent
        # iteration would continue from there.
        shard = self.part.shard(self.part.num_shards, self.index)
        return shard.select_columns(list(columns))


def list_hub(source: str) -> Listing:
    """List the shards of `hf:NAME` or `hf:NAME:CONFIGURATION`; NAME may be a folder.

    Raises UsageError where `datasets` is not installed, SoftaugError where it cannot open NAME.
    """
    try:
        import datasets
    except ImportError as error:
        raise UsageError("hf: is read by datasets: pip install 'softaug[datasets]'") from error
    name, _, configuration = source.removeprefix(PREFIX).partition(":")
    try:
        parts: Any = datasets.load_dataset(name, configuration or None, streaming=True)
    # For an unknown name, a missing network or a broken file, it raises errors of many types.
    except Exception as error:
        reason = one_line(error)
        raise SoftaugError(f"{source}: could not be opened ({reason})") from error
    train, tests = named_parts(parts)
    if train is None:
        raise SoftaugError(f"{source}: no training part among {', '.join(map(str, parts))}")
    shards, classes = _shards(source, train)
    return Listing(shards, _shards(source, tests[0])[0] if tests else None, classes)


def _shards(source: str, part: Any) -> tuple[list[HubShard], list[str] | None]:
    """Return the shards of a part, and its class names where the data set has them."""
    from datasets import Image

    features = part.features or part._resolve_features().features
    image, label = find_columns(source, features)
    if isinstance(features[image], Image):
        part = part.cast_column(image, Image(decode=False))
    n = part.num_shards
    shards = [
        HubShard(part, i, f"{source} {part.split} {i + 1} of {n},", image, label) for i in range(n)
    ]
    return shards, getattr(features[label], "names", None)
