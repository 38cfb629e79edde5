"""sample: TODO."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a file, in bytes: an image inside an archive."""

    path: Path
    offset: int
    length: int


Content = Path | Slice | bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image before it is decoded; the name is for messages."""

    name: str
    content: Content
    label: int
