"""Folders of image files, one folder for each class."""

from collections.abc import Iterator
from pathlib import Path

from softaug_lab.basics.errors import SoftaugError, report_faults
from softaug_lab.data.decode import IMAGE_ENDINGS
from softaug_lab.data.shards import OneFile
from softaug_lab.data.sources.listing import KINDS, Listing, is_hidden, named_parts


def list_folder(root: Path) -> Listing:
    """List the images of `train/` and `test/` (or `val/`), or of one folder of class folders.

    Case is ignored in the names of the parts. Classes are in the order of their sorted names.
    Hidden files and files that are not images are ignored. Raises one SoftaugError that names all
    faults.
    """
    train, test, notes = _part_folders(root)
    classes = sorted(folder.name for folder in _subfolders(train))
    if not classes:
        raise SoftaugError(f"{train}: no class folders; expected one folder of images per class")
    faults = []
    if len(classes) < 2:
        faults.append(f"{train}: one class only ({classes[0]}); at least 2 are needed")
    if test is not None:
        faults += _class_differences(train, test, set(classes))
    train_shards, empty = _class_images(train, classes)
    faults += empty
    test_shards = None
    if test is not None:
        test_shards, empty = _class_images(test, classes)
        faults += empty
    report_faults(root, faults)
    return Listing(train_shards, test_shards, classes, notes)


def list_any_images(root: Path) -> Listing:
    """List all images of the test part, or of the whole folder without parts, as one class."""
    train, test, _ = _part_folders(root)
    files = sorted(_image_files(test or train))
    if not files:
        raise SoftaugError(f"{test or train}: no image")
    return Listing([OneFile(str(file), file, "any") for file in files], None, ["any"])


def _part_folders(root: Path) -> tuple[Path, Path | None, tuple[str, ...]]:
    """Return the folders to train and to test on, and notes on validation folders left out.

    The training folder is the root itself where it has no parts.
    """
    folders = {folder.name.lower(): folder for folder in sorted(_subfolders(root))}
    known = {name for names in KINDS for name in names}
    # `train` may also be a class of vehicles: beside folders of other classes, a folder of such a
    # name is a part only where it has class folders.
    parts = {
        name: folder
        for name, folder in folders.items()
        if name in known and (set(folders) <= known or any(_subfolders(folder)))
    }
    train, tests = named_parts(parts)
    if train is None and tests:
        raise SoftaugError(f"{root}: has {tests[0].name}/ but no train/; add it")
    notes = tuple(f"{folder}: left out, {tests[0].name}/ is tested on" for folder in tests[1:])
    return train or root, tests[0] if tests else None, notes


def _class_differences(train: Path, test: Path, classes: set[str]) -> list[str]:
    """Name the classes that only one of the two parts has."""
    others = {folder.name for folder in _subfolders(test)}
    missing = [f"{test / name}: missing, a class of {train}" for name in sorted(classes - others)]
    return missing + [f"{test / name}: no class of {train}" for name in sorted(others - classes)]


def _class_images(part: Path, classes: list[str]) -> tuple[list[OneFile], list[str]]:
    """List the images of the class folders of a part, and name the empty ones."""
    shards, faults = [], []
    for name in classes:
        files = sorted(_image_files(part / name))
        if not files and (part / name).is_dir():
            faults.append(f"{part / name}: a class with no image")
        shards += [OneFile(str(file), file, name) for file in files]
    return shards, faults


def _subfolders(root: Path) -> Iterator[Path]:
    return (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path) -> Iterator[Path]:
    """Yield image files at any depth, dead links included, so that these are reported."""
    return (
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_ENDINGS
        and not is_hidden(file.relative_to(folder))
        and not file.is_dir()
    )
