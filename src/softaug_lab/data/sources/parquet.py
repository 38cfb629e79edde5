"""Parquet files as on the Hugging Face Hub: a column of encoded images and one of labels."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError, listed
from softaug_lab.data.shards import Row
from softaug_lab.data.sources.columns import encoded_image, find_columns
from softaug_lab.data.sources.listing import Listing

BATCH_ROWS, BUFFER_BYTES = 16, 1 << 20  # read at a time
CACHED_FILES = 64  # files whose metadata are cached


@dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file, the smallest piece that the format allows to read alone.

    group: its index in the file. first: the number of its first row in the file.
    """

    path: Path
    group: int
    first: int
    image_column: str
    label_column: str

    @property
    def name(self) -> str:
        return f"{self.path.name} rows from {self.first:,}"

    def labels(self) -> Iterable[tuple[str, Any]]:
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self.path, metadata=self._metadata()) as file:
            column = file.read_row_group(self.group, columns=[self.label_column])
        labels = column[self.label_column].to_pylist()
        return ((self._row_name(i), label) for i, label in enumerate(labels))

    def read(self, start: int) -> Iterator[Row]:
        from pyarrow.parquet import ParquetFile

        columns = [self.image_column, self.label_column]
        first = 0
        # With this buffer, pages are read one by one; where a page is as large as its group, about
        # two are in memory.
        with ParquetFile(
            self.path, metadata=self._metadata(), buffer_size=BUFFER_BYTES, pre_buffer=False
        ) as file:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[self.group], columns=columns):
                for i in range(max(0, start - first), len(batch)):
                    content = encoded_image(batch[self.image_column][i].as_py())
                    label = batch[self.label_column][i].as_py()
                    yield Row(self._row_name(first + i), content, label)
                first += len(batch)

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

    Raises one SoftaugError that names all files without the columns of images and labels.
    """
    shards, classes = row_groups(train)
    return Listing(shards, None if test is None else row_groups(test)[0], classes)


def row_groups(files: Sequence[Path]) -> tuple[list[RowGroup], list[str] | None]:
    """Return the row groups of Parquet files, and the class names where the Hub stored them.

    Images are structs of `bytes` (as the Hub writes them) or plain bytes. Labels are integers or
    strings. Raises one SoftaugError that names all files without such columns.
    """
    from pyarrow.lib import ArrowException
    from pyarrow.parquet import ParquetFile

    groups, names, faults = [], None, []
    for path in files:
        try:
            with ParquetFile(path) as file:
                metadata, columns = file.metadata, file.schema_arrow.names
                rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        except (OSError, ArrowException) as error:
            raise SoftaugError(f"{path}: not readable as Parquet ({error})") from error
        try:
            image, label = find_columns(path, columns)
        except SoftaugError as error:
            faults.append(str(error))
            continue
        names = names or _hub_names(metadata.metadata or {}, label)
        firsts = [0, *accumulate(rows)]
        groups += [RowGroup(path, i, firsts[i], image, label) for i in range(len(rows))]
    if faults:
        raise SoftaugError(listed(faults, 10, "; "))
    return groups, names


def _hub_names(metadata: dict[bytes, bytes], label: str) -> list[str] | None:
    """Return the class names that the Hub stored in a file's metadata, None where it did not."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return None
