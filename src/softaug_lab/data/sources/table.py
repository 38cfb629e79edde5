"""Tables of files and labels (CSV, TSV, JSON lines), with the images in the folder of the table."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError, listed, one_line, report_faults
from softaug_lab.data.shards import ONE_LABEL, OneFile
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
TRIED = 100  # rows whose files are looked for: the first one may name a file that is lost
YES_OR_NO = {"0", "1", "0.0", "1.0", "-1", "true", "false"}


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its ending."""
    return path.suffix.lower() in ENDINGS


def tables_in(root: Path) -> list[Path]:
    """List the tables of files and labels in a folder, or in its folders of parts.

    Tables without the two columns are none of them, nor those that name no file that is there.
    Raises SoftaugError where there is only such a one, and no class folders that it may go with.
    """
    parts = [path for path in root.iterdir() if path.name.lower() in PARTS and path.is_dir()]
    tables = [table for table in _tables(root, parts) if table.is_labelled]
    if found := [table.path for table in tables if table.place]:
        return found
    folders = [{path.name for path in place.iterdir() if path.is_dir()} for place in (root, *parts)]
    for table in [] if any(folders[1:]) else tables:
        if not table.first_labels <= folders[0]:  # else it says what the folders say, in its words
            raise SoftaugError(table.lost())
    return []


def several_labels(root: Path) -> str | None:
    """Word the fault of a table in a folder that has a column of 0 and 1 for each class, if any."""
    return next((fault for table in _tables(root) if (fault := table.yes_or_no())), None)


def _tables(root: Path, parts: Sequence[Path] = ()) -> list["_Table"]:
    """Open the readable tables with a column of files in a folder and in those of its parts."""
    files = [file for folder in (root, *parts) for file in folder.iterdir() if is_table(file)]
    tables = []
    for file in sorted(files):
        try:
            if not file.name.startswith(".") and (table := _Table(file)).file is not None:
                _ = table.place  # reads on, and finds what is broken
                tables.append(table)
        except SoftaugError:
            continue
    return tables


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
            yield number, str(row.get(found.file, "")), row


def _list_one(table: Path) -> Listing:
    found = _Table(table)
    parts = found.parts()
    if PARTS.isdisjoint(parts):
        return _numbered(table, [image for part in parts.values() for image in part], None)
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
    listing = _numbered(table, train, test)
    return replace(listing, notes=(*listing.notes, note)) if left_out else listing


def _list_files(train: Sequence[Path], test: Sequence[Path] | None) -> Listing:
    parts = [
        [image for table in tables for part in _Table(table).parts().values() for image in part]
        for tables in (train, test or ())
    ]
    return _numbered(train[0], parts[0], None if test is None else parts[1])


def _numbered(table: Path, train: Sequence[OneFile], test: Sequence[OneFile] | None) -> Listing:
    """Make the labels class numbers where all of them are whole numbers."""
    labels = {str(image.label) for image in (*train, *(test or ())) if image.label is not None}
    if all(re.fullmatch(r"[-+]?[0-9]{1,9}", label) for label in labels):
        train, test = _as_numbers(train), None if test is None else _as_numbers(test)
    joined = _joined(labels)
    note = f"{table}: {listed(joined, 3)} may be several labels, each is one class here; "
    return Listing(train, test, notes=(note + ONE_LABEL,) if joined else ())


def _joined(labels: set[str]) -> list[str]:
    """List the labels that may be joined ones; none where most such names have words of their own.

    Words after spaces must also be classes by themselves, since "sea lion" is one class; those
    after other marks may also be in another joined label.
    """
    marked = any(re.search("[,|;]", label) for label in labels)
    parts = {label: re.split(r"[,|;]" if marked else r"\s+", label) for label in sorted(labels)}
    joined = {
        label: {word.strip() for word in words} for label, words in parts.items() if words[1:]
    }
    times = Counter(word for words in joined.values() for word in words)
    known = (labels - joined.keys()) | {word for word in times if marked and times[word] > 1}
    found = [label for label, words in joined.items() if words <= known]
    return found if 2 * len(found) > len(joined) else []


def _as_numbers(images: Sequence[OneFile]) -> list[OneFile]:
    return [
        image if image.label is None else replace(image, label=int(image.label)) for image in images
    ]


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
        """Whether rows name a file and a label."""
        return self.file is not None and self.label is not None

    @property
    def first_labels(self) -> set[str]:
        """The labels of the rows that are tried, as text."""
        return {str(_label(row.get(self.label))) for row in islice(self.rows(), TRIED)}

    def lost(self) -> str:
        """Word the fault that no file is there."""
        places = listed(dict.fromkeys(folder for folder in self._folders() if folder.is_dir()))
        return (
            f"{self.path}: no file of its first rows is there, as row 2: "
            f"{self.first[self.file]!r}; looked in {places}; "
            "mend the names, or move the table away if it is of other files"
        )

    def yes_or_no(self) -> str | None:
        """Word the fault of columns of 0 and 1 instead of one of labels; None without it."""
        rows = [*islice(self.rows(), TRIED)]
        others = [name for name in self.first if name not in (self.file, self.part)]
        found = [
            name
            for name in others
            if all(str(row.get(name)).strip().lower() in YES_OR_NO for row in rows)
        ]
        if self.file is None or self.label is not None or len(found) < 2:
            return None
        return (
            f"{self.path}: no column label but {len(found)} of 0 and 1 ({listed(found, 4)}); "
            f"write the name of the class into a column label; {ONE_LABEL}"
        )

    def parts(self) -> dict[str, list[OneFile]]:
        """Return the images by the words of the column `split`, or as one part without a name.

        Raises one SoftaugError that names all faults.
        """
        for column, known in ((self.file, FILE_COLUMNS), (self.label, LABEL_COLUMNS)):
            if column is None:
                has = ", ".join(self.columns) or "no rows"
                names = ", ".join(known[:3])
                raise SoftaugError(
                    self.yes_or_no() or f"{self.path}: no column {names} or the like; it has {has}"
                )
        if self.place is None:
            raise SoftaugError(self.lost())
        folder, ending = self.place
        parts: dict[str, list[OneFile]] = {}
        labels: dict[Path, Any] = {}
        faults = []
        for i, row in enumerate(self.rows(), 2):
            label, name = _label(row.get(self.label)), row.get(self.file)
            file = None if name is None else file_inside(folder, f"{name}{ending}")
            if file is None:
                faults.append(f"row {i}: {name!r} is no file of {folder}")
            elif labels.setdefault(file, label) != label:
                faults.append(f"row {i}: {name} is {label!r}, and before {labels[file]!r}")
            else:
                part = "" if self.part is None else str(row.get(self.part, "")).strip().lower()
                parts.setdefault(part, []).append(OneFile(str(file), file, label))
        report_faults(self.path, faults)
        return parts

    @cached_property
    def place(self) -> tuple[Path, str] | None:
        """The folder and the ending that make one of the first names a file that is there."""
        for row in islice(self.rows(), TRIED):
            for folder in self._folders():
                for ending in ("", ".jpg", ".jpeg", ".png"):
                    file = file_inside(folder, f"{row.get(self.file)}{ending}")
                    if file is not None and file.is_file():
                        return folder, ending
        return None

    def _folders(self) -> list[Path]:
        stem = self.path.stem
        return [self.path.parent / inside for inside in ("", stem, "images", f"{stem}_images")]

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
