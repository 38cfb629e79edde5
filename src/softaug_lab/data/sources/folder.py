"""folder: TODO."""

from collections.abc import Iterator
from pathlib import Path

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.data.decode import IMAGE_ENDINGS
from softaug_lab.data.shards import OneFile
from softaug_lab.data.sources.found import TEST, TRAIN, Found, is_hidden, report_faults


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
        and not is_hidden(file.relative_to(folder))
        and not file.is_dir()
    )
