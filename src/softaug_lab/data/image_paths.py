"""The image files that a command line names: files, folders, patterns, and lists of paths."""

import os
from collections.abc import Collection, Iterable, Iterator
from glob import iglob
from pathlib import Path

from softaug_lab.data.decode import IMAGE_ENDINGS
from softaug_lab.data.sample import Sample, Unreadable

PATTERN = frozenset("*?[")  # characters that make a name a pattern, where no file has it

# Files that a run has from its beginning, or from its first epoch where its images are streamed.
OF_RUNS = frozenset({"training-keys.npy", "metrics.jsonl", "checkpoint.pt"})


def find_images(named: Iterable[str]) -> Iterator[Sample | Unreadable]:
    """Yield the image files that names stand for, as samples of label 0, in the names' order.

    A folder stands for the images in it, at any depth, in sorted order; a pattern (`*`, `?`,
    `[a-z]`, `**` for folders at any depth) for the files and folders that match it, sorted; any
    other name for itself. A folder or a pattern without an image yields an Unreadable. The files of
    runs are no images. Of a folder only the names in it and in the folders above are held at a
    time.
    """
    for name in named:
        if os.path.isdir(name):  # noqa: PTH112  Path raises for a name that is none
            yield from _within(Path(name))
        elif PATTERN.isdisjoint(name) or os.path.lexists(name):
            yield as_sample(name)
        else:
            matches = sorted(iglob(name, recursive=True))  # noqa: PTH207  keeps the name's form
            yield from find_images(matches) if matches else [Unreadable(name, "no file matches")]


def is_run(names: Collection[str]) -> bool:
    """Whether a folder with these names in it holds a run of softaug, whose files are no images."""
    return "recipe.json" in names and not OF_RUNS.isdisjoint(names)


def as_sample(path: str) -> Sample:
    """Make a sample of label 0 of a file's path."""
    return Sample(path, Path(path), 0)


def _within(folder: Path) -> Iterator[Sample | Unreadable]:
    found = False
    for outcome in _images_below(folder, set()):
        found = True
        yield as_sample(str(outcome)) if isinstance(outcome, Path) else outcome
    if not found:
        yield Unreadable(str(folder), "no image in this folder")


def _images_below(folder: Path, visited: set[tuple[int, int]]) -> Iterator[Path | Unreadable]:
    """Yield the images of a folder and of those in it, sorted; hidden ones and runs are left out.

    Links to folders are followed, to each folder once: such a link may be a loop.
    """
    try:
        status = folder.stat()
        names = sorted(entry.name for entry in os.scandir(folder))  # a Path takes ten times as much
    except OSError as error:
        yield Unreadable(str(folder), f"unreadable ({error.strerror})")
        return
    if (status.st_dev, status.st_ino) in visited or is_run(names):
        return
    visited.add((status.st_dev, status.st_ino))
    for path in (folder / name for name in names if not name.startswith(".")):
        if path.is_dir():
            yield from _images_below(path, visited)
        elif path.suffix.lower() in IMAGE_ENDINGS:
            yield path
