"""Tables of files and labels (CSV, TSV, JSON lines), with the images in the folder of the table."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError, listed, one_line, report_faults
from softaug_lab.data.shards import OneFile
from softaug_lab.data.sources.columns import file_inside
from softaug_lab.data.sources.listing import KINDS, Listing, list_parts, named_parts, unlabelled

# In lower case, in order of preference.
FILE_COLUMNS = (
    "file_name", "filename", "file", "path", "filepath", "file_path", "image_path", "image", "img",
    "image_name", "image_id", "id",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "class", "class_name", "classname", "category", "target", "class_id",
    "classid", "label_id", "breed", "species",
)  # fmt: skip
PART_COLUMNS = ("split", "part", "subset", "set")
ENDINGS = (".csv", ".tsv", ".jsonl")
PARTS = {name for names in KINDS for name in names}


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its ending."""
    return path.suffix.lower() in ENDINGS


def tables_in(root: Path) -> list[Path]:
    """List the tables of files and labels in a folder, or in its folders of parts.

    Tables without the two columns, or whose first file is not there, are none of them.
    """
    parts = [path for path in root.iterdir() if path.name.lower() in PARTS]
    files = [file for folder in (root, *filter(Path.is_dir, parts)) for file in folder.iterdir()]
    return sorted(file for file in files if is_table(file) and _names_images(file))


def list_tables(path: Path, tables: list[Path]) -> Listing:
    """List the images that tables name, relative to their folders.

    path: the folder that was asked for, or the one table. A column called `split` tells the parts
    of a single table; else the names of the tables do. Labels that are all whole numbers are class
    numbers. Raises one SoftaugError that names the faults of a table.
    """
    listing = _list_one(tables[0]) if len(tables) == 1 else list_parts(path, tables, _list_files)
    if path.is_file():
        return listing
    names = listed([table.relative_to(path) for table in tables], 4)
    return replace(
        listing, notes=(f"{path}: files and labels are those of {names}", *listing.notes)
    )


def rows_by_file(table: Path) -> Iterator[tuple[int, str, dict[Any, Any]]]:
    """Yield the rows of a table, each with its number and the file that it names.

    A table without a column of files yields none.
    """
    found = _Table(table)
    if found.file is not None:
        for number, row in enumerate(found.rows(), 2):
            yield number, str(row[found.file]), row


def _list_one(table: Path) -> Listing:
    found = _Table(table)
    parts = found.parts()
    if PARTS.isdisjoint(parts):
        return _numbered([image for part in parts.values() for image in part], None)
    train, tests = named_parts(parts)
    if train is None:
        raise SoftaugError(f"{table}: no part to train on among {', '.join(parts)}")
    test = next((test for test in tests if not unlabelled(test)), None)
    left_out = [
        f"{len(images):,} {word or 'empty'}"
        for word, images in parts.items()
        if images is not train and images is not test
    ]
    note = f"{table}: left out, by its column {found.part}: {listed(left_out, 6)}"
    return replace(_numbered(train, test), notes=(note,) if left_out else ())


def _list_files(train: Sequence[Path], test: Sequence[Path] | None) -> Listing:
    parts = [
        [image for table in tables for part in _Table(table).parts().values() for image in part]
        for tables in (train, test or ())
    ]
    return _numbered(parts[0], None if test is None else parts[1])


def _numbered(train: Sequence[OneFile], test: Sequence[OneFile] | None) -> Listing:
    """Make the labels class numbers where all of them are whole numbers."""
    labels = {str(image.label) for image in (*train, *(test or ())) if image.label is not None}
    if all(re.fullmatch(r"[-+]?[0-9]{1,9}", label) for label in labels):
        train, test = _as_numbers(train), None if test is None else _as_numbers(test)
    return Listing(train, test)


def _as_numbers(images: Sequence[OneFile]) -> list[OneFile]:
    return [
        image if image.label is None else replace(image, label=int(image.label)) for image in images
    ]


def _names_images(path: Path) -> bool:
    """Whether a table has the columns of files and labels, and its first file is there."""
    try:
        return not path.name.startswith(".") and _Table(path).is_labelled
    except SoftaugError:
        return False


class _Table:
    """A table with its columns by their purpose, known from its first row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first = next(self.rows(), {})
        columns = {str(name).strip().lower(): name for name in self.first}
        self.file, self.label, self.part = (
            next((columns[name] for name in known if name in columns), None)
            for known in (FILE_COLUMNS, LABEL_COLUMNS, PART_COLUMNS)
        )
        self.columns = list(columns)

    @property
    def is_labelled(self) -> bool:
        """Whether rows name a file that is there and have a label."""
        if self.file is None or self.label is None:
            return False
        folder, ending = self._place()
        file = file_inside(folder, f"{self.first[self.file]}{ending}")
        return file is not None and file.is_file()

    def parts(self) -> dict[str, list[OneFile]]:
        """Return the images by the words of the column `split`, or as one part without a name.

        Raises one SoftaugError that names all faults.
        """
        for column, known in ((self.file, FILE_COLUMNS), (self.label, LABEL_COLUMNS)):
            if column is None:
                raise SoftaugError(
                    f"{self.path}: no column {', '.join(known[:3])} or the like; "
                    f"it has {', '.join(self.columns) or 'no rows'}"
                )
        folder, ending = self._place()
        parts: dict[str, list[OneFile]] = {}
        labels: dict[Path, Any] = {}
        faults = []
        for i, row in enumerate(self.rows(), 2):
            label = _label(row[self.label])
            file = file_inside(folder, f"{row[self.file]}{ending}")
            if file is None:
                faults.append(f"row {i}: {row[self.file]!r} is no file of {folder}")
            elif labels.setdefault(file, label) != label:
                faults.append(
                    f"row {i}: {row[self.file]} is {label!r}, and before {labels[file]!r}"
                )
            else:
                part = "" if self.part is None else str(row[self.part]).strip().lower()
                parts.setdefault(part, []).append(OneFile(str(file), file, label))
        report_faults(self.path, faults)
        return parts

    def _place(self) -> tuple[Path, str]:
        """Find the folder and the ending that make the first row's name a file that is there."""
        name, stem = str(self.first[self.file]), self.path.stem
        folders = [self.path.parent / inside for inside in ("", stem, "images", f"{stem}_images")]
        for folder in folders:
            for ending in ("", ".jpg", ".jpeg", ".png"):
                file = file_inside(folder, name + ending)
                if file is not None and file.is_file():
                    return folder, ending
        return folders[0], ""

    def rows(self) -> Iterator[dict[Any, Any]]:
        """Yield all rows as dicts."""
        try:
            yield from _read(self.path)
        except (OSError, ValueError, csv.Error) as error:
            reason = one_line(error)
            raise SoftaugError(f"{self.path}: not readable as a table ({reason})") from error


def _label(cell: Any) -> Any:
    """Return a label without the spaces around it; None for an empty one."""
    label = cell.strip() if isinstance(cell, str) else cell
    return None if label == "" else label


def _read(path: Path) -> Iterator[dict[Any, Any]]:
    """Yield the rows of a table as dicts; raises ValueError for rows of another kind."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".jsonl":
            for line in filter(str.strip, file):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"expected an object on each line, got {line[:50]}")
                yield row
            return
        header = file.readline()
        file.seek(0)
        delimiter = max(",;\t|", key=header.count)
        for number, row in enumerate(csv.DictReader(file, delimiter=delimiter), 2):
            if None in row or None in row.values():
                raise ValueError(f"row {number} has not as many cells as the header")
            yield row
