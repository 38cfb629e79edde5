"""One labelled image before decoding, and the value that stands for an unreadable one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Slice:
    """A range of bytes of a file: an image inside an archive."""

    path: Path
    offset: int
    length: int


Content = Path | Slice | bytes  # where the encoded image is


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes around the object of one image, as a file gives them: unchecked.

    boxes: each of left, top, width and height in pixels. source: the file, for messages. size: the
    image's width and height where the file gives them.
    """

    boxes: tuple[Any, ...]
    source: str
    size: tuple[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for an image that cannot be read or decoded; its text is `name: why`."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


Object = Content | Boxes | Unreadable  # where the object is: a mask, boxes, or nobody says it


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image before decoding; `name` identifies it in messages.

    object: where the object is in the image; None where the whole image counts.
    """

    name: str
    content: Content
    label: int
    object: Object | None = None
