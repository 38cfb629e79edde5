"""The columns of images and labels in tables, named as on the Hugging Face Hub."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.data.sample import Content

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")


def find_columns(source: object, columns: Collection[str]) -> tuple[str, str]:
    """Return the names of the image column and the label column.

    Raises SoftaugError that names the columns of the source where one of the two is missing.
    """
    return image_column(source, columns), label_column(source, columns)


def image_column(source: object, columns: Collection[str]) -> str:
    return _one_of(IMAGE_COLUMNS, source, columns)


def label_column(source: object, columns: Collection[str]) -> str:
    return _one_of(LABEL_COLUMNS, source, columns)


def stored_image(value: Any, folder: Path | None) -> Content | None:
    """Return the image of a cell: encoded bytes, or a file of the table's folder.

    value: bytes, a path, or a dict of `bytes` and `path`. folder: None where the table is in none.
    None stands for other values, and for files outside the folder: a stranger's table may name any.
    """
    cell = value if isinstance(value, dict) else {"bytes": value, "path": value}
    if isinstance(cell.get("bytes"), bytes):
        content: bytes = cell["bytes"]
        return content
    path = cell.get("path")
    return file_inside(folder, path) if folder is not None and isinstance(path, str) else None


def file_inside(folder: Path, name: str) -> Path | None:
    """Return the path of a file of a folder; None for a name that leads out of it."""
    root = folder.absolute()
    path = Path(os.path.normpath(root / name))
    return path if path != root and path.is_relative_to(os.path.normpath(root)) else None


def _one_of(known: Sequence[str], source: object, columns: Collection[str]) -> str:
    for name in known:
        if name in columns:
            return name
    raise SoftaugError(f"{source}: no column {' or '.join(known)}; it has {', '.join(columns)}")
