"""Made-up images in the forms that data come in: image i, of class i % 3, has its own colour."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

CLASSES = 3
CORRUPT = b"\x89PNG but not really"


def colour(i: int) -> tuple[int, int, int]:
    return i % 256, i // 256, 7


def numbers(images: Tensor) -> list[int]:
    """Which images these are, uint8 [N,3,H,W]."""
    first, second = images[:, 0, 0, 0].long(), images[:, 1, 0, 0].long()
    return (first + 256 * second).tolist()


def encoded(i: int, size: tuple[int, int] = (6, 6)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour(i)).save(content, format="PNG")
    return content.getvalue()


def contents(images: Sequence[int], corrupt: Sequence[int] = ()) -> list[bytes]:
    return [CORRUPT if i in corrupt else encoded(i) for i in images]


def parquet(path: Path, images: Sequence[int], corrupt: Sequence[int] = ()) -> None:
    rows = [{"bytes": content, "path": None} for content in contents(images, corrupt)]
    table = pa.table({"image": rows, "label": [i % CLASSES for i in images]})
    pq.write_table(table, path, row_group_size=10)


def tar(path: Path, images: Sequence[int], corrupt: Sequence[int] = ()) -> None:
    with tarfile.open(path, "w") as archive:
        for i, content in zip(images, contents(images, corrupt), strict=True):
            for ending, data in (("png", content), ("cls", b"%d" % (i % CLASSES))):
                member = tarfile.TarInfo(f"{i:05}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def folder(root: Path, images: Sequence[int], corrupt: Sequence[int] = ()) -> None:
    for i, content in zip(images, contents(images, corrupt), strict=True):
        path = root / "abc"[i % CLASSES] / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
