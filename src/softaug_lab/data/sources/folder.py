"""Folders of image files, one folder for each class."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from softaug_lab.basics.errors import SoftaugError, listed, report_faults
from softaug_lab.data.decode import IMAGE_ENDINGS
from softaug_lab.data.image_paths import CONVERT, HEIC, counted, ending, is_run
from softaug_lab.data.shards import OneFile
from softaug_lab.data.sources.listing import KINDS, TRAIN_NAMES, Listing, named_parts


def list_folder(root: Path) -> Listing:
    """List the images of `train/` and `test/` (or `val/`), or of one folder of class folders.

    Case is ignored in the names of the parts. Classes are in the order of their sorted names.
    Hidden files are ignored; notes name the folders that are left out, and count the other files
    that are no image of a class. Raises one SoftaugError that names all faults.
    """
    train, tests = _part_folders(root)
    test, notes = _labelled(tests)
    notes += _beside(root, train, tests)
    classes = sorted(folder.name for folder in _subfolders(train))
    if not classes:
        raise SoftaugError(f"{train}: no class folders; expected one folder of images per class")
    _refuse_parts(train, classes)
    faults = []
    if len(classes) < 2:
        meant = _with_classes(train / classes[0])
        hint = "" if meant is None else f"; {meant} may be meant"
        faults.append(f"{train}: one class only ({classes[0]}); at least 2 are needed{hint}")
    if test is not None:
        others = sorted({folder.name for folder in _subfolders(test)} - set(classes))
        faults += [f"{test / name}: no class of {train}" for name in others]
    left_out: Counter[str] = Counter()
    train_shards = _class_images(train, classes, left_out)
    with_images = {shard.label for shard in train_shards}
    faults += [_without_image(train / name) for name in classes if name not in with_images]
    test_shards = None if test is None else _class_images(test, classes, left_out)
    report_faults(root, faults)
    notes += _nested(train, classes)
    return Listing(train_shards, test_shards, classes, (*notes, *_left_out(root, left_out)))


def list_any_images(root: Path) -> Listing:
    """List all images of the test part, or of the whole folder without parts, as one class."""
    train, tests = _part_folders(root)
    folder = tests[0] if tests else train
    files = sorted(filter(_is_image, _files(folder)))
    if not files:
        raise SoftaugError(f"{folder}: no image")
    return Listing([OneFile(str(file), file, "any") for file in files], None, ["any"])


def _part_folders(root: Path) -> tuple[Path, list[Path]]:
    """Return the folder to train on, and those to test on in the order of preference.

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
    parts |= _parts_by_word(root, folders, parts)
    train, tests = named_parts(parts)
    if train is None and tests:
        raise SoftaugError(f"{root}: has {tests[0].name}/ but no train/; add it")
    return train or root, tests


def _labelled(tests: Sequence[Path]) -> tuple[Path | None, list[str]]:
    """Return the first test part that has class folders, and notes on the others."""
    labelled = [folder for folder in tests if any(_subfolders(folder))]
    notes = [
        f"{folder}: left out, without class folders its images have no labels"
        for folder in tests
        if folder not in labelled
    ]
    notes += [f"{folder}: left out, {labelled[0].name}/ is tested on" for folder in labelled[1:]]
    return labelled[0] if labelled else None, notes


def _beside(root: Path, train: Path, tests: Sequence[Path]) -> list[str]:
    """Return a note that names the folders beside the parts, which are not read."""
    others = sorted({*_subfolders(root)} - {train, *tests}) if train != root else []
    names = listed([f"{folder.name}/" for folder in others], 6)
    return [f"{root}: left out {names}, since {train.name}/ is trained on"] if others else []


def _parts_by_word(root: Path, folders: dict[str, Path], parts: dict[str, Path]) -> dict[str, Path]:
    """Find further parts by a word of their names, as in `seg_train` and `test_images`.

    Such a folder is a part where it has class folders. Raises SoftaugError for two of one kind.
    """
    kinds = {name: _kind(name) for name in folders}
    found = {}
    for kind, names in enumerate(KINDS):
        of_kind = [folders[name] for name in folders if kinds[name] == kind]
        with_classes = [folder for folder in of_kind if any(_subfolders(folder))]
        if with_classes and parts.keys().isdisjoint(names):
            found[names[0]] = with_classes
    # Classes may be called test_tubes and train station: the words tell parts where there is one to
    # train on, and beside it one to test on, or no folder that may be another class.
    has_train = not {*TRAIN_NAMES}.isdisjoint({*parts, *found})
    has_test = not {1, 2}.isdisjoint(kinds.values())
    if not has_train or not (has_test or None not in kinds.values()):
        return {}
    for name, several in found.items():
        if len(several) > 1:
            raise SoftaugError(
                f"{root}: {several[0].name}/ and {several[1].name}/ may both be {name}/; rename one"
            )
    return {name: folder for name, [folder] in found.items()}


def _kind(name: str) -> int | None:
    """Return the place in KINDS of the first kind that a word of a name tells; None without one."""
    words = re.split(r"[^a-z]+", name)
    return next((i for i, names in enumerate(KINDS) if not set(words).isdisjoint(names)), None)


def _refuse_parts(root: Path, classes: Sequence[str]) -> None:
    """Raise SoftaugError where all classes hold the same folders: they are parts, not classes."""
    inside = [{folder.name for folder in _subfolders(root / name)} for name in classes]
    if len(classes) > 1 and len(inside[0]) > 1 and all(one == inside[0] for one in inside):
        raise SoftaugError(
            f"{root}: {listed(classes, 4)} hold the same folders, {listed(sorted(inside[0]), 4)}, "
            "so they seem to be parts and not classes; call them train and test, or rename one "
            "of the folders in a class"
        )


def _nested(train: Path, classes: Sequence[str]) -> list[str]:
    """Return a note on classes of folders of images, beside classes that hold images themselves."""
    nested = [name for name in classes if not any(map(_is_image, (train / name).iterdir()))]
    deep = [] if len(nested) == len(classes) else filter(_with_classes, map(train.joinpath, nested))
    return [
        f"{folder}: one class with the images of {listed([f'{i.name}/' for i in inside], 4)}; move "
        f"them to {train} if they are classes of their own"
        for folder in deep
        if (inside := sorted(_subfolders(folder)))
    ]


def _with_classes(folder: Path) -> Path | None:
    """Return the first folder in a folder, or itself, that holds two folders of images or more."""
    for place, _ in _folders(folder):
        inside = [path for path in _subfolders(place) if any(map(_is_image, _files(path)))]
        if len(inside) > 1:
            return place
    return None


def _left_out(root: Path, others: Counter[str]) -> list[str]:
    """Return a note that counts the files that are no image of a class, by their endings."""
    if not others:
        return []
    return [f"{root}: left out, as no image of a class: {counted(others)}"]


def _without_image(folder: Path) -> str:
    """Word the fault of a class folder without an image."""
    unread = any(ending(file) in HEIC for file in _files(folder))
    mend = f" ({CONVERT})" if unread else "; add some, or remove the folder"
    return f"{folder}: a class with no image{mend}"


def _class_images(part: Path, classes: Sequence[str], others: Counter[str]) -> list[OneFile]:
    """List the images of the class folders of a part.

    The endings of all other files of the part, hidden ones aside, are added to `others`.
    """
    others.update(ending(file) for file in part.iterdir() if _is_plain(file))
    shards = []
    for name in classes:
        files = sorted(_files(part / name))
        shards += [OneFile(str(file), file, name) for file in files if _is_image(file)]
        others.update(ending(file) for file in files if not _is_image(file))
    return shards


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_ENDINGS


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _subfolders(root: Path) -> Iterator[Path]:
    """Yield the folders in a folder, but hidden ones and those that hold runs and no image."""
    folders = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return (folder for folder in folders if not _holds_runs_alone(folder))


def _holds_runs_alone(folder: Path) -> bool:
    """Whether a folder is a run, or holds runs at any depth, and no image beside them."""
    runs = False
    for _, names in _folders(folder):
        if is_run(names):
            runs = True
        elif any(_is_image(Path(name)) for name in names):
            return False
    return runs


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files but hidden ones and those of runs, at any depth.

    Dead links are among them, so that they are reported.
    """
    for place, names in _folders(folder):
        if not is_run(names):
            yield from (place / name for name in names)


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those in it, at any depth, with the names of their files.

    Hidden folders and files are left out, and the folders in a run. Links to folders are followed,
    to each folder once.
    """
    visited = set()
    for place, inside, files in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        # A link to a folder that was read already may be a loop.
        if (status.st_dev, status.st_ino) in visited:
            inside.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        inside[:] = [] if is_run(files) else [name for name in inside if not name.startswith(".")]
        yield Path(place), [name for name in files if not name.startswith(".")]
