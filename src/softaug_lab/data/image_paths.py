"""The image files that a command line names: files, folders, patterns, and lists of paths."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from glob import iglob
from pathlib import Path

from softaug_lab.basics.errors import listed
from softaug_lab.data.decode import IMAGE_ENDINGS
from softaug_lab.data.sample import Sample, Unreadable

PATTERN = frozenset("*?[")  # characters that make a name a pattern, where no file has it

HEIC = frozenset({".heic", ".heif"})  # photos of some phones
CONVERT = "HEIC is not read, convert it to JPEG"

# Files that a run has from its beginning, or from its first epoch where its images are streamed.
OF_RUNS = frozenset({"training-keys.npy", "metrics.jsonl", "checkpoint.pt"})


def find_images(
    named: Iterable[str], others: Counter[str] | None = None
) -> Iterator[Sample | Unreadable]:
    """Yield the image files that names stand for, as samples of label 0, in the names' order.

    A folder stands for the images in it, at any depth, in sorted order; a pattern (`*`, `?`,
    `[a-z]`, `**` for folders at any depth) for the files and folders that match it, sorted; any
    other name for itself. A folder or a pattern without an image yields an Unreadable. The files of
    runs are no images. Of a folder only the names in it and in the folders above are held at a
    time. others: to count the endings of the other files in folders.
    """
    others = Counter() if others is None else others
    for name in named:
        if os.path.isdir(name):  # noqa: PTH112  Path raises for a name that is none
            yield from _within(Path(name), others)
        elif PATTERN.isdisjoint(name) or os.path.lexists(name):
            yield as_sample(name)
        else:
            matches = sorted(iglob(name, recursive=True))  # noqa: PTH207  keeps the name's form
            if not matches:
                yield Unreadable(name, "no file matches")
            yield from find_images(matches, others)


def is_run(names: Collection[str]) -> bool:
    """Whether a folder with these names in it holds a run of softaug, whose files are no images."""
    return "recipe.json" in names and not OF_RUNS.isdisjoint(names)


def as_sample(path: str) -> Sample:
    """Make a sample of label 0 of a file's path."""
    return Sample(path, Path(path), 0)


def ending(file: Path) -> str:
    """Return the ending of a file's name in lower case, in words where it has none."""
    return file.suffix.lower() or "no ending"


def counted(endings: Counter[str]) -> str:
    """Count files by their endings, the most frequent first: `12 .txt, 3 .csv`."""
    by_count = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    counts = listed([f"{n:,} {ending}" for ending, n in by_count], 6)
    return counts if HEIC.isdisjoint(endings) else f"{counts}; {CONVERT}"


def _within(folder: Path, others: Counter[str]) -> Iterator[Sample | Unreadable]:
    found = False
    for outcome in _images_below(folder, set(), others):
        found = True
        yield as_sample(str(outcome)) if isinstance(outcome, Path) else outcome
    if not found:
        yield Unreadable(str(folder), "no image in this folder")


def _images_below(
    folder: Path, visited: set[tuple[int, int]], others: Counter[str]
) -> Iterator[Path | Unreadable]:
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
            yield from _images_below(path, visited, others)
        elif path.suffix.lower() in IMAGE_ENDINGS:
            yield path
        else:
            others[ending(path)] += 1
