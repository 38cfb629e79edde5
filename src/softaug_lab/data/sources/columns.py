"""The columns of images and labels in tables, named as on the Hugging Face Hub."""

from collections.abc import Collection
from typing import Any

from softaug_lab.basics.errors import SoftaugError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")


def find_columns(source: object, columns: Collection[str]) -> tuple[str, str]:
    """Return the names of the image column and the label column.

    Raises SoftaugError that names the columns of the source where one of the two is missing.
    """
    image = next((name for name in IMAGE_COLUMNS if name in columns), None)
    label = next((name for name in LABEL_COLUMNS if name in columns), None)
    if image is None or label is None:
        missing = " or ".join(IMAGE_COLUMNS if image is None else LABEL_COLUMNS)
        raise SoftaugError(f"{source}: no column {missing}; it has {', '.join(columns)}")
    return image, label


def encoded_image(value: Any) -> bytes | None:
    """Return the encoded image of a cell: bytes, or `bytes` of a dict; None for other values."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else None
