"""Where the objects of training images are: masks or boxes of files beside the images (--objects).

A folder of masks, a file of boxes as COCO has them, a table, or the columns of the data themselves.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from softaug_lab.basics.errors import SoftaugError, UsageError, report_faults
from softaug_lab.data.faults import leave_out
from softaug_lab.data.sample import Boxes, Object, Unreadable
from softaug_lab.data.shards import Named, OneFile, Shard
from softaug_lab.data.sources.listing import Listing
from softaug_lab.data.sources.object_columns import KNOWN, object_columns, object_of
from softaug_lab.data.sources.parquet import RowGroup
from softaug_lab.data.sources.table import is_table, rows_by_file

EXPECTED = "a folder of masks (PNG), boxes as in COCO (JSON), a table of files and boxes (CSV)"


def with_objects(source: str, listing: Listing, objects: str, max_unreadable: float) -> Listing:
    """Give each training image the mask or the boxes that `objects` has for it.

    objects: a path; the same as `source` for the columns of the data. Raises UsageError for data or
    a path of another kind, SoftaugError where more than a share of `max_unreadable` of the image
    files have neither mask nor boxes.
    """
    try:
        shards = _given(source, listing.train, Path(objects))
    except OSError as error:
        raise SoftaugError(f"{objects}: not readable ({error.strerror or error})") from error
    found = [shard.object for shard in shards if isinstance(shard, OneFile)]
    unmarked = [one for one in found if isinstance(one, Unreadable)]
    leave_out(objects, unmarked, len(shards), max_unreadable, "unmarked image")
    return replace(listing, train=shards)


def _given(source: str, shards: Sequence[Shard], path: Path) -> Sequence[Shard]:
    if not path.exists():
        raise UsageError(f"--objects {path}: no such file or folder; expected {EXPECTED}")
    own = os.path.realpath(source) == os.path.realpath(path)
    if own and all(isinstance(_unnamed(shard), RowGroup) for shard in shards):
        return [_with_columns(shard) for shard in shards]
    files = [shard for shard in shards if isinstance(shard, OneFile)]
    paths = [file.content for file in files if isinstance(file.content, Path)]
    if len(paths) < len(shards):
        raise UsageError(
            f"{source}: objects are read for image files, and from the columns of Parquet files "
            f"(--objects {source}); not for archives and the Hub"
        )
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    names = [_relative(file, root) for file in paths]
    if path.is_dir() and not own:
        inside = [file for file in paths if file.absolute().is_relative_to(path.absolute())]
        if inside:
            raise UsageError(f"{inside[0]} is a training image; move the masks out of {source}")
        found = _masks(path, names)
    else:
        found = _matched(path, names, _boxes(path))
    return [replace(file, object=one) for file, one in zip(files, found, strict=True)]


def _masks(folder: Path, names: Sequence[PurePosixPath]) -> list[Object]:
    """Find the mask of each image: the PNG at the same place in the folder, by the same stem."""
    masks = [folder / name.with_suffix(".png") for name in names]
    return [
        mask if mask.is_file() else Unreadable(str(name), f"no mask {mask}")
        for mask, name in zip(masks, names, strict=True)
    ]


def _boxes(path: Path) -> dict[str, Object]:
    """Read what a file of boxes, or the tables in a folder, have for images by their names."""
    if path.suffix.lower() == ".json":
        return {**_coco(path)}
    files = [path] if path.is_file() else sorted(path.rglob("[!.]*"))
    tables = [file for file in files if is_table(file) and file.is_file()]
    if not tables:
        raise UsageError(
            f"--objects {path}: expected {EXPECTED}, or DATA where its columns have boxes"
        )
    found: dict[str, Object] = {}
    for table in tables:
        within = table.parent.relative_to(path) if path.is_dir() else Path()
        for name, one in _of_table(table):
            key = (within / name).as_posix()
            found[key] = _united(found.get(key), one)
    if not found:
        raise SoftaugError(f"{path}: no columns of masks or boxes, such as {KNOWN}")
    return found


def _of_table(table: Path) -> Iterator[tuple[str, Object]]:
    columns: tuple[str, ...] | None = None
    for number, name, row in rows_by_file(table):
        columns = object_columns(row) if columns is None else columns
        if not columns:
            return
        cells = {column: row[column] for column in columns}
        yield name, object_of(cells, f"{table} row {number}", table.parent)


def _united(before: Object | None, one: Object) -> Object:
    """Unite the boxes of two rows of a table on one image."""
    if isinstance(before, Boxes) and isinstance(one, Boxes):
        return replace(one, boxes=before.boxes + one.boxes)
    return one


def _coco(path: Path) -> dict[str, Boxes]:
    """Read the boxes of a file as COCO has them, by the names that it gives the images."""
    try:
        content = json.loads(path.read_bytes())
        images = {image["id"]: image for image in content["images"]}
        boxes: dict[Any, list[Any]] = {number: [] for number in images}
        for annotation in content["annotations"]:
            number = annotation["image_id"]
            if number not in boxes:
                raise ValueError(f"an annotation of image_id {number!r}, which no image has")
            boxes[number].append(annotation["bbox"])
        found = [
            (
                str(image["file_name"]).replace("\\", "/"),
                Boxes(tuple(boxes[number]), str(path), _size(image)),
            )
            for number, image in images.items()
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise SoftaugError(
            f"{path}: no boxes as COCO has them ({type(error).__name__}: {error}); expected images "
            "with id and file_name, and annotations with image_id and bbox"
        ) from error
    names = Counter(name for name, _ in found)
    twice = [f"file_name {name!r} of two images" for name, n in names.items() if n > 1]
    report_faults(path, twice)
    return dict(found)


def _size(image: Mapping[str, Any]) -> tuple[Any, Any] | None:
    width, height = image.get("width"), image.get("height")
    return (int(width), int(height)) if width and height else None


def _matched(
    path: Path, names: Sequence[PurePosixPath], found: Mapping[str, Object]
) -> list[Object]:
    """Find what a file has for each image: by the path in the data, or the end that both share.

    A name without the ending of an image stands for any ending. Raises one SoftaugError that names
    the images with several entries, and those that share one.
    """
    by_last: dict[str, list[tuple[str, ...]]] = {}
    values: dict[tuple[str, ...], Object] = {}
    for entry, one in found.items():
        parts = tuple(part for part in PurePosixPath(entry).parts if part not in (".", "/"))
        if parts:
            values[parts] = one
            by_last.setdefault(parts[-1], []).append(parts)
    taken: dict[tuple[str, ...], PurePosixPath] = {}
    faults: list[str] = []
    matched: list[Object] = []
    for name in names:
        entries = by_last.get(name.name) or by_last.get(name.stem, [])
        fitting = [parts for parts in entries if _same_end(parts[:-1], name.parts[:-1])]
        longest = [parts for parts in fitting if len(parts) == max(map(len, fitting))]
        if not longest:
            matched.append(Unreadable(str(name), f"not in {path}"))
        elif len(longest) > 1:
            faults.append(f"{len(longest)} entries for {name}")
        elif (other := taken.setdefault(longest[0], name)) != name:
            faults.append(
                f"{'/'.join(longest[0])} may be {other} or {name}; name it by its folders"
            )
        else:
            matched.append(values[longest[0]])
    report_faults(path, faults)
    return matched


def _same_end(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    n = min(len(one), len(other))
    return n == 0 or one[-n:] == other[-n:]


def _relative(file: Path, root: Path) -> PurePosixPath:
    """The path of an image within its data."""
    return PurePosixPath(Path(os.path.relpath(file.absolute(), root.absolute())).as_posix())


def _unnamed(shard: Shard) -> Shard:
    return shard.shard if isinstance(shard, Named) else shard


def _with_columns(shard: Shard) -> Shard:
    """Let a row group also read the columns of objects; raises SoftaugError where it has none."""
    if isinstance(shard, Named):
        return replace(shard, shard=_with_columns(shard.shard))
    assert isinstance(shard, RowGroup)
    return shard.with_objects()
