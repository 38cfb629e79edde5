"""Parquet files as on the Hugging Face Hub: a column of encoded images and one of labels."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError, listed
from softaug_lab.data.shards import Named, Row, Shard
from softaug_lab.data.sources.columns import (
    LABEL_COLUMNS,
    find_columns,
    image_column,
    label_column,
    stored_image,
)
from softaug_lab.data.sources.listing import Listing
from softaug_lab.data.sources.object_columns import KNOWN, object_columns, object_of

BATCH_ROWS, BUFFER_BYTES = 16, 1 << 20  # read at a time
LABEL_ROWS = 1 << 16  # the same, of labels alone
CACHED_FILES = 64  # files whose metadata are cached
# Finds the names of the image column and the label column among those of a file.
FindColumns = Callable[[object, Collection[str]], tuple[str, str | None]]


@dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file, the smallest piece that the format allows to read alone.

    group: its index in the file. first: the number of its first row in the file. label_column: None
    where the file has none. object_columns: those that say where the object is, if asked for.
    """

    path: Path
    group: int
    first: int
    image_column: str
    label_column: str | None
    object_columns: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.path.name} rows from {self.first:,}"

    def labels(self) -> Iterator[tuple[str, Any]]:
        from pyarrow.parquet import ParquetFile

        if self.label_column is None:
            rows = self._metadata().row_group(self.group).num_rows
            yield from ((self._row_name(row), None) for row in range(rows))
            return
        # Not all at once: a column of one value may be a few bytes that stand for a million rows.
        row, columns = 0, [self.label_column]
        with ParquetFile(self.path, metadata=self._metadata()) as file:
            for batch in file.iter_batches(LABEL_ROWS, row_groups=[self.group], columns=columns):
                for label in batch[self.label_column].to_pylist():
                    yield self._row_name(row), label
                    row += 1

    def read(self, start: int) -> Iterator[Row]:
        from pyarrow.parquet import ParquetFile

        columns = [name for name in (self.image_column, self.label_column) if name is not None]
        columns += self.object_columns
        first, folder = 0, self.path.parent
        # With this buffer, pages are read one by one; where a page is as large as its group, about
        # two are in memory.
        with ParquetFile(
            self.path, metadata=self._metadata(), buffer_size=BUFFER_BYTES, pre_buffer=False
        ) as file:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[self.group], columns=columns):
                for i in range(max(0, start - first), len(batch)):
                    content = stored_image(batch[self.image_column][i].as_py(), folder)
                    label = (
                        None if self.label_column is None else batch[self.label_column][i].as_py()
                    )
                    cells = {name: batch[name][i].as_py() for name in self.object_columns}
                    name = self._row_name(first + i)
                    found = object_of(cells, name, folder) if cells else None
                    yield Row(name, content, label, found)
                first += len(batch)

    def with_objects(self) -> "RowGroup":
        """Read where the object is, too; raises SoftaugError where no column says it."""
        columns = self._metadata().schema.to_arrow_schema().names
        found = object_columns(columns)
        if not found:
            raise SoftaugError(
                f"{self.path}: no column of masks or boxes, such as {KNOWN}; it has "
                f"{', '.join(columns)}"
            )
        return replace(self, object_columns=found)

    def _row_name(self, row: int) -> str:
        return f"{self.path.name} row {self.first + row}"

    def _metadata(self) -> Any:
        return _metadata(self.path, self.path.stat().st_mtime_ns)


@lru_cache(CACHED_FILES)
def _metadata(path: Path, _changed: int) -> Any:
    """Read a file's metadata once: with thousands of groups, reading it for each takes minutes."""
    from pyarrow.parquet import read_metadata

    return read_metadata(path)


def list_files(train: Sequence[Path], test: Sequence[Path] | None) -> Listing:
    """List the row groups of Parquet files, and the class names where the Hub stored them.

    Files may number the same classes in different orders: their numbers go by the names. Raises one
    SoftaugError that names all files without the columns of images and labels; files to test on may
    lack labels.
    """
    parts = [_files(train, find_columns)]
    parts += [] if test is None else [_files(test, _columns_of_test)]
    names = dict.fromkeys(name for part in parts for file in part for name in file.names or ())
    classes = list(names) or None
    shards = [[shard for file in part for shard in file.shards(classes)] for part in parts]
    return Listing(shards[0], None if test is None else shards[1], classes)


@dataclass(frozen=True)
class _File:
    """The row groups of a file, and the class names that it stores, if any."""

    groups: list[RowGroup]
    names: list[str] | None

    def shards(self, classes: list[str] | None) -> Sequence[Shard]:
        if self.names is None or classes is None or self.names == classes[: len(self.names)]:
            return self.groups
        return [Named(group, tuple(self.names)) for group in self.groups]


def _columns_of_test(source: object, columns: Collection[str]) -> tuple[str, str | None]:
    has_labels = not set(LABEL_COLUMNS).isdisjoint(columns)
    return image_column(source, columns), label_column(source, columns) if has_labels else None


def _files(paths: Sequence[Path], find: FindColumns) -> list[_File]:
    """Read the metadata of Parquet files.

    Images are structs of `bytes` and `path` (as the Hub writes them), plain bytes or paths of files
    in the folder of the Parquet file. Labels are integers or strings. Raises one SoftaugError that
    names all files without the columns to find.
    """
    from pyarrow.lib import ArrowException
    from pyarrow.parquet import ParquetFile

    files, faults = [], []
    for path in paths:
        try:
            with ParquetFile(path) as file:
                metadata, columns = file.metadata, file.schema_arrow.names
                rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        except (OSError, ArrowException) as error:
            raise SoftaugError(f"{path}: not readable as Parquet ({error})") from error
        try:
            image, label = find(path, columns)
        except SoftaugError as error:
            faults.append(str(error))
            continue
        firsts = [0, *accumulate(rows)]
        groups = [RowGroup(path, i, firsts[i], image, label) for i in range(len(rows))]
        files.append(_File(groups, _hub_names(metadata.metadata or {}, label)))
    if faults:
        raise SoftaugError(listed(faults, 10, "; "))
    return files


def _hub_names(metadata: dict[bytes, bytes], label: str | None) -> list[str] | None:
    """Return the class names that the Hub stored in a file's metadata, None where it did not."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return None
