"""One labelled image before decoding, and the value that stands for an unreadable one."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Slice:
    """A range of bytes of a file: an image inside an archive."""

    path: Path
    offset: int
    length: int


Content = Path | Slice | bytes  # where the encoded image is


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image before decoding; `name` identifies it in messages."""

    name: str
    content: Content
    label: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for an image that cannot be read or decoded; its text is `name: why`."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"
