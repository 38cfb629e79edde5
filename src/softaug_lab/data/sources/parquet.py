"""Parquet files as on the Hugging Face Hub: a column of encoded images and one of labels."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.data.shards import Row

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")
ROWS, BUFFER = 16, 1 << 20  # rows and bytes that are read at once
FILES = 64  # whose lists of groups are kept


@dataclass(frozen=True)
class RowGroup:
    """A group of rows of a Parquet file, the least that its format lets be read alone.

    first: the number of its first row in the file.
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
        return ((self._name(i), label) for i, label in enumerate(labels))

    def read(self, start: int) -> Iterator[Row]:
        from pyarrow.parquet import ParquetFile

        columns = [self.image_column, self.label_column]
        row = 0
        # Buffered so, it reads page by page; where a page is a group, it holds about two.
        with ParquetFile(
            self.path, metadata=self._metadata(), buffer_size=BUFFER, pre_buffer=False
        ) as file:
            for some in file.iter_batches(ROWS, row_groups=[self.group], columns=columns):
                for i in range(max(0, start - row), len(some)):
                    content = some[self.image_column][i].as_py()
                    if isinstance(content, dict):
                        content = content.get("bytes")
                    label = some[self.label_column][i].as_py()
                    is_image = isinstance(content, bytes)
                    yield Row(self._name(row + i), content if is_image else None, label)
                row += len(some)

    def _name(self, row: int) -> str:
        return f"{self.path.name} row {self.first + row}"

    def _metadata(self) -> Any:
        return _metadata(self.path, self.path.stat().st_mtime_ns)


@lru_cache(FILES)
def _metadata(path: Path, _changed: int) -> Any:
    """A file's list of its groups. Read anew for each, thousands of groups would take minutes."""
    from pyarrow.parquet import read_metadata

    return read_metadata(path)


def row_groups(files: Sequence[Path]) -> tuple[list[RowGroup], list[str] | None]:
    """The row groups of Parquet files, and the names of the classes where the Hub wrote them.

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
        image = next((name for name in IMAGE_COLUMNS if name in columns), None)
        label = next((name for name in LABEL_COLUMNS if name in columns), None)
        if image is None or label is None:
            missing = " or ".join(IMAGE_COLUMNS if image is None else LABEL_COLUMNS)
            faults.append(f"{path}: no column {missing}; it has {', '.join(columns)}")
            continue
        names = names or _hub_names(metadata.metadata or {}, label)
        firsts = [0, *accumulate(rows)]
        groups += [RowGroup(path, i, firsts[i], image, label) for i in range(len(rows))]
    if faults:
        raise SoftaugError("; ".join(faults[:10]))
    return groups, names


def _hub_names(metadata: dict[bytes, bytes], label: str) -> list[str] | None:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return None
