"""Which files of a path are for training and which for testing."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from softaug.lab.errors import SoftaugError
from softaug.lab.images import IMAGE_ENDINGS
from softaug.lab.shards import OneFile, Shard

TRAIN = ("train", "training", "trainset")
# The first kind that is there is the test part: what is called test goes before validation.
TEST = (("test", "testing", "testset"), ("val", "valid", "validation", "eval"))


@dataclass(frozen=True)
class Found:
    """The shards of a source; test is None where it has no test part. Notes are for the user.

    classes: their names, None where the labels name them.
    """

    train: Sequence[Shard]
    test: Sequence[Shard] | None
    classes: Sequence[str] | None = None
    notes: tuple[str, ...] = ()


def list_folder(root: Path) -> Found:
    """Classes and files of `train/` and `test/` (or `val/`), or of one folder of class folders.

    Upper or lower case alike. Classes are in the order of their sorted names, hidden files and
    files that are no images are ignored. Raises one SoftaugError that names all faults.
    """
    first, test, notes = _part_folders(root)
    names = sorted(folder.name for folder in _folders(first))
    faults = []
    if not names:
        raise SoftaugError(f"{first}: no class folders; expected one folder of images per class")
    if len(names) < 2:
        faults.append(f"{first}: one class only ({names[0]}); at least 2 are needed")
    if test is not None:
        others = {folder.name for folder in _folders(test)}
        faults += [
            f"{test / name}: missing, a class of {first}" for name in names if name not in others
        ]
        faults += [f"{test / name}: no class of {first}" for name in sorted(others - set(names))]
    parts = []
    for folder in [first] if test is None else [first, test]:
        shards = []
        for name in names:
            files = sorted(_image_files(folder / name))
            if not files and (folder / name).is_dir():
                faults.append(f"{folder / name}: a class with no image")
            shards += [OneFile(str(file), file, name) for file in files]
        parts.append(shards)
    report_faults(root, faults)
    return Found(parts[0], parts[1] if test is not None else None, names, notes)


def list_any_images(root: Path) -> Found:
    """All images of the test part, or of the folder where it has none, whatever their classes."""
    first, test, _ = _part_folders(root)
    files = sorted(_image_files(test or first))
    if not files:
        raise SoftaugError(f"{test or first}: no image")
    return Found([OneFile(str(file), file, "any") for file in files], None, ["any"])


def _part_folders(root: Path) -> tuple[Path, Path | None, tuple[str, ...]]:
    """The folders to train and to test on; the first is the root itself where it has no parts."""
    found = {folder.name.lower(): folder for folder in sorted(_folders(root))}
    kinds = (TRAIN, *TEST)
    known = {name for kind in kinds for name in kind}
    # `train` is also a class of vehicles: beside other classes, a part is told by class folders.
    parts = {
        name: folder
        for name, folder in found.items()
        if name in known and (set(found) <= known or any(_folders(folder)))
    }
    train, *tests = (next((parts[n] for n in kind if n in parts), None) for kind in kinds)
    there = [folder for folder in tests if folder is not None]
    if train is None and there:
        raise SoftaugError(f"{root}: has {there[0].name}/ but no train/; add it")
    notes = tuple(f"{folder}: left out, {there[0].name}/ is tested on" for folder in there[1:])
    return train or root, there[0] if there else None, notes


def _folders(root: Path) -> Iterator[Path]:
    return (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path) -> Iterator[Path]:
    """Image files at any depth; a dead link is one too, so that it is reported."""
    return (
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_ENDINGS
        and not _is_hidden(file.relative_to(folder))
        and not file.is_dir()
    )


def _is_hidden(path: Path) -> bool:
    return any(name.startswith(".") for name in path.parts)


def files_ending(path: Path, ending: str) -> list[Path]:
    """The file itself, or all files in a folder at any depth, that have this ending."""
    if path.is_file():
        return [path] if path.name.endswith(ending) else []
    found = (file for file in path.rglob(f"*{ending}") if file.is_file())
    return sorted(file for file in found if not _is_hidden(file.relative_to(path)))


def parts_by_name(
    path: Path, files: list[Path]
) -> tuple[list[Path], list[Path] | None, tuple[str, ...]]:
    """Files to train on, files to test on if there are any, and a note on what was left out.

    The part stands in the file's name (`train-00000-of-00002.parquet`) or in its folder's
    (`train/0000.parquet`); a lone file is of one part, whatever its name.
    """
    if path.is_file():
        return files, None, ()
    kinds = [_part_of(file.relative_to(path)) for file in files]
    train = _of_kind(files, kinds, 0) or _of_kind(files, kinds, None)
    if not train:
        raise SoftaugError(
            f"{path}: no training file among {_shown(path, files)}; they are read, "
            "not folders of images beside them"
        )
    test = _of_kind(files, kinds, 1) or _of_kind(files, kinds, 2)
    unused = [file for file in files if file not in {*train, *test}]
    note = f"{path}: left out {_shown(path, unused)}; {_shown(path, train)} is trained on"
    tested = f", {_shown(path, test)} is tested on" if test else ""
    return train, test or None, (note + tested,) if unused else ()


def _part_of(path: Path) -> int | None:
    """0 for training, 1 for test, 2 for validation, None where no name says it.

    A whole word (`retrieval-train`) counts before a piece of one (`mytrain`), the file's own name
    before its folders'.
    """
    names = [path.stem.lower(), *(folder.lower() for folder in reversed(path.parts[:-1]))]
    kinds = (TRAIN, *TEST)
    for name in names:
        words = re.split(r"[^a-z]+", name)
        for kind, known in enumerate(kinds):
            if not set(words).isdisjoint(known):
                return kind
    return next((kind for kind, known in enumerate(kinds) if known[0] in names[0]), None)


def _of_kind(files: Sequence[Path], kinds: Sequence[int | None], kind: int | None) -> list[Path]:
    return [file for file, own in zip(files, kinds, strict=True) if own == kind]


def _shown(root: Path, files: Sequence[Path]) -> str:
    names = [str(file.relative_to(root)) for file in files]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def report_faults(source: Path | str, faults: Iterable[str]) -> None:
    """Raise one error that names all faults, if there are any."""
    faults = list(faults)
    if faults:
        shown = "; ".join(faults[:10])
        more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise SoftaugError(f"{source}: {count}: {shown}{more}")
