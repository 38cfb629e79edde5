"""The columns of tables and Parquet files that say where the object of an image is."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from softaug_lab.data.sample import Boxes, Object, Unreadable
from softaug_lab.data.sources.columns import stored_image

# In lower case, in order of preference.
MASK_COLUMNS = ("mask", "object_mask", "segmentation_mask", "mask_path", "mask_file")
BOX_COLUMNS = ("bbox", "bboxes", "objects")  # of left, top, width and height, as in COCO
CORNERS = (  # left, top, right, bottom
    ("roi.x1", "roi.y1", "roi.x2", "roi.y2"), ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"), ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"),
    ("x1", "y1", "x2", "y2"),
)  # fmt: skip
SIZE = ("width", "height")
KNOWN = f"{MASK_COLUMNS[0]}, {BOX_COLUMNS[0]} or {', '.join(CORNERS[1])}"


def object_columns(columns: Collection[str]) -> tuple[str, ...]:
    """Return the names, as they are, of the columns to read; none where no column is known."""
    lower = {str(name).strip().lower(): name for name in columns}
    for known in (*((name,) for name in MASK_COLUMNS + BOX_COLUMNS), *CORNERS):
        if set(known) <= set(lower):
            of_box = set(SIZE) <= set(lower) and known in CORNERS
            return tuple(lower[name] for name in (known + SIZE if of_box else known))
    return ()


def object_of(cells: Mapping[str, Any], source: str, folder: Path | None) -> Object:
    """Read the object from the cells of these columns.

    Empty cells stand for no object. folder: of the table, which masks are files of. source: for
    messages.
    """
    values = list(cells.values())
    first = next(iter(cells)).strip().lower()
    if first in MASK_COLUMNS:
        return _mask(values[0], source, folder)
    if first in BOX_COLUMNS:
        return Boxes(_listed(values[0]), source)
    corners, size = values[:4], values[4:]
    if all(value in ("", None) for value in corners):
        return Boxes((), source)
    try:
        left, top, right, bottom = map(float, corners)
        stated = (int(size[0]), int(size[1])) if size else None
    except (TypeError, ValueError):
        return Boxes((tuple(values),), source)  # refused where it is drawn, with these values
    return Boxes(((left, top, right - left, bottom - top),), source, stated)


def _mask(value: Any, source: str, folder: Path | None) -> Object:
    """Return the mask of a cell, no boxes for an empty one, Unreadable for a file of elsewhere."""
    cell = value.values() if isinstance(value, Mapping) else [value]
    if all(one in ("", None) for one in cell):
        return Boxes((), source)
    found = stored_image(value, folder)
    why = f"mask {str(value)[:100]!r} is no file of {folder}"
    return Unreadable(source, why) if found is None else found


def _listed(value: Any) -> tuple[Any, ...]:
    """Return the boxes of a cell: one, a list of them, or a dict that has them as `bbox`."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except ValueError:
            return (value,)
    if isinstance(value, Mapping):
        value = value.get("bbox")
    if value is None or not isinstance(value, list | tuple):
        return () if value is None else (value,)
    return (value,) if value and not isinstance(value[0], list | tuple) else tuple(value)
