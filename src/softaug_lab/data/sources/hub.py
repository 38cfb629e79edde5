"""Data sets of the Hugging Face Hub, or of a folder laid out like one, streamed by `datasets`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line
from softaug_lab.data.shards import Row
from softaug_lab.data.sources.columns import find_columns, stored_image
from softaug_lab.data.sources.listing import Listing, named_parts, unlabelled

PREFIX = "hf:"


@dataclass(frozen=True, eq=False)
class HubShard:
    """One shard of a streamed data set of `datasets`, its images encoded.

    part: an IterableDataset. index: of the shard in it. folder: of the data set, if it is local.
    """

    part: Any
    index: int
    name: str
    image_column: str
    label_column: str
    folder: Path | None

    def labels(self) -> Iterable[tuple[str, Any]]:
        rows = self._rows(self.label_column)
        return ((f"{self.name} row {i}", row[self.label_column]) for i, row in enumerate(rows))

    def read(self, start: int) -> Iterator[Row]:
        rows = self._rows(self.image_column, self.label_column).skip(start)
        for i, row in enumerate(rows, start):
            content = stored_image(row[self.image_column], self.folder)
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
    folder = Path(name) if Path(name).is_dir() else None
    shards, classes = _shards(source, train, folder)
    test, notes = None, []
    for part in tests:
        test, _ = _shards(source, part, folder)
        if not unlabelled(test):
            break
        notes.append(f"{source}: left out {part.split}, where no image has a label")
        test = None
    return Listing(shards, test, classes, tuple(notes))


def _shards(source: str, part: Any, folder: Path | None) -> tuple[list[HubShard], list[str] | None]:
    """Return the shards of a part, and its class names where the data set has them."""
    from datasets import Image

    features = part.features or part._resolve_features().features
    image, label = find_columns(source, features)
    if isinstance(features[image], Image):
        part = part.cast_column(image, Image(decode=False))
    n = part.num_shards
    names = [f"{source} {part.split} {i + 1} of {n}," for i in range(n)]
    shards = [HubShard(part, i, name, image, label, folder) for i, name in enumerate(names)]
    return shards, getattr(features[label], "names", None)
