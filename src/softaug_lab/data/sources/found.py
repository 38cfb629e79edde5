"""Which files of a path are for training and which for testing."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.data.shards import Shard

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


def files_ending(path: Path, ending: str) -> list[Path]:
    """The file itself, or all files in a folder at any depth, that have this ending."""
    if path.is_file():
        return [path] if path.name.endswith(ending) else []
    found = (file for file in path.rglob(f"*{ending}") if file.is_file())
    return sorted(file for file in found if not is_hidden(file.relative_to(path)))


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


def is_hidden(path: Path) -> bool:
    return any(name.startswith(".") for name in path.parts)
