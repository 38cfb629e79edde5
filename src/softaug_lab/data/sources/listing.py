"""The listing of a source, and which of its files are for training and which for testing."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from softaug_lab.basics.errors import SoftaugError, listed
from softaug_lab.data.shards import Shard

TRAIN_NAMES = ("train", "training", "trainset")
# In order of preference: a part called test is tested on rather than a validation part.
TEST_NAMES = (("test", "testing", "testset"), ("val", "valid", "validation", "eval", "dev"))
KINDS = (TRAIN_NAMES, *TEST_NAMES)
AnyPart = TypeVar("AnyPart")


@dataclass(frozen=True)
class Listing:
    """The shards of a source; test is None where the source has no test part.

    classes: the class names; None where the labels name the classes. notes: remarks for the user.
    """

    train: Sequence[Shard]
    test: Sequence[Shard] | None
    classes: Sequence[str] | None = None
    notes: tuple[str, ...] = ()


# Lists files to train on and to test on; None where there are none to test on.
ListFiles = Callable[[Sequence[Path], Sequence[Path] | None], Listing]


def named_parts(parts: Mapping[str, AnyPart]) -> tuple[AnyPart | None, list[AnyPart]]:
    """Return the training part, and the test parts in order of preference, by their names."""
    train, *tests = (
        next((parts[name] for name in names if name in parts), None) for names in KINDS
    )
    return train, [part for part in tests if part is not None]


def files_ending(path: Path, ending: str) -> list[Path]:
    """Return the file itself, or all files in a folder, at any depth, that have this ending."""
    if path.is_file():
        return [path] if path.name.endswith(ending) else []
    files = (file for file in path.rglob(f"*{ending}") if file.is_file())
    return sorted(file for file in files if not is_hidden(file.relative_to(path)))


def list_parts(path: Path, files: list[Path], list_files: ListFiles) -> Listing:
    """List files by their parts: those to train on, and the first part to test on with labels.

    The part is named by the file (`train-00000-of-00002.parquet`) or by a folder that the file is
    in (`train/0000.parquet`); a file that is given alone is the whole source, whatever its name.
    Notes name the files that are left out.
    """
    if path.is_file():
        return list_files(files, None)
    kinds = [_kind(file.relative_to(path)) for file in files]
    train = _of_kind(files, kinds, 0) or _of_kind(files, kinds, None)
    if not train:
        raise SoftaugError(
            f"{path}: no training file among {_relative(path, files)}; these files are read, "
            "not folders of images beside them"
        )
    tests = [test for test in (_of_kind(files, kinds, 1), _of_kind(files, kinds, 2)) if test]
    notes = []
    for test in tests:
        listing = list_files(train, test)
        if not unlabelled(listing.test or ()):
            break
        notes.append(f"{path}: left out {_relative(path, test)}, where no image has a label")
    else:
        test, listing = [], list_files(train, None)
    unused = [file for file in files if file not in {*train, *test, *chain(*tests[: len(notes)])}]
    if unused:
        note = f"{path}: left out {_relative(path, unused)}; {_relative(path, train)} is trained on"
        notes.append(note + (f", {_relative(path, test)} is tested on" if test else ""))
    return replace(listing, notes=(*listing.notes, *notes))


def unlabelled(shards: Sequence[Shard]) -> bool:
    """Whether no image has a label: it is missing, or -1 as the Hub writes it."""
    labels = (label for shard in shards for _, label in shard.labels())
    first = next(labels, 0)
    return _is_missing(first) and all(map(_is_missing, labels))


def _is_missing(label: object) -> bool:
    return label is None or label == -1


def _kind(path: Path) -> int | None:
    """Return 0 for training, 1 for test, 2 for validation, None where no name tells.

    A whole word (`retrieval-train`) counts before a piece of one (`mytrain`), the file's own name
    before those of its folders.
    """
    names = [path.stem.lower(), *(folder.lower() for folder in reversed(path.parts[:-1]))]
    for name in names:
        words = re.split(r"[^a-z]+", name)
        for kind, known in enumerate(KINDS):
            if not set(words).isdisjoint(known):
                return kind
    return next((kind for kind, known in enumerate(KINDS) if known[0] in names[0]), None)


def _of_kind(files: Sequence[Path], kinds: Sequence[int | None], wanted: int | None) -> list[Path]:
    return [file for file, kind in zip(files, kinds, strict=True) if kind == wanted]


def _relative(root: Path, files: Sequence[Path]) -> str:
    return listed([file.relative_to(root) for file in files], 4)


def is_hidden(path: Path) -> bool:
    """Return whether the file or one of its folders has a name that begins with a dot."""
    return any(name.startswith(".") for name in path.parts)
