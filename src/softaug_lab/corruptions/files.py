"""Corrupted test sets from files: CIFAR-10-C, CIFAR-100-C, ImageNet-C and what is laid out alike.

CIFAR-C (zenodo.org/records/2535967 and 3555552) is labels.npy and a NAME.npy for each corruption,
uint8 [5 x 10,000, 32, 32, 3], one severity after another. ImageNet-C (zenodo.org/records/2235448)
is NAME/SEVERITY/CLASS/*.JPEG, the names perhaps in folders of groups.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line
from softaug_lab.corruptions.constants import COMMON, EXTRA, GROUPS, SEVERITIES
from softaug_lab.corruptions.source import CorruptedSet, Source
from softaug_lab.data import IMAGE_ENDINGS, Sample, decode, decoders, report_faults


def open_corrupted(
    folder: Path, classes: Sequence[str], channels: int, height: int, width: int
) -> tuple[Source, tuple[str, ...]]:
    """The corrupted images of a folder for a model of these classes, and the names there are.

    Nothing is read before it is asked for. Raises UsageError for what the model cannot take,
    SoftaugError for files that are not what they should be.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    if (folder / "labels.npy").exists():
        return _open_cifar(folder, classes, (height, width, channels))
    return _open_folders(folder, classes, channels, height, width)


def _open_cifar(
    folder: Path, classes: Sequence[str], shape: tuple[int, int, int]
) -> tuple[Source, tuple[str, ...]]:
    names = tuple(n for n in (*COMMON, *EXTRA) if (folder / f"{n}.npy").exists())
    if not names:
        raise SoftaugError(f"{folder}: no file of a corruption beside labels.npy, such as fog.npy")
    labels = _load(folder / "labels.npy")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or len(labels) % 5:
        raise SoftaugError(
            f"{folder / 'labels.npy'}: expected whole numbers [5 N], one severity after another, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    blocks = labels.reshape(5, -1).astype(np.int64)
    if (blocks != blocks[0]).any():
        raise SoftaugError(f"{folder / 'labels.npy'}: the five severities have other labels each")
    if blocks.min() < 0 or blocks.max() + 1 != len(classes):
        raise UsageError(f"{folder} has {blocks.max() + 1} classes, the model knows {len(classes)}")
    arrays = {name: _load(folder / f"{name}.npy") for name in names}
    report_faults(
        folder,
        [
            f"{name}.npy: expected uint8 {[len(labels), *shape]}, as the labels and the model "
            f"have it, got {array.dtype} {list(array.shape)}"
            for name, array in arrays.items()
            if array.dtype != np.uint8 or array.shape != (len(labels), *shape)
        ],
    )
    # Both sets number their classes in the order of their names.
    order = sorted(range(len(classes)), key=lambda i: _by_name(classes[i]))
    numbered = torch.tensor(order)[torch.from_numpy(blocks[0])]
    count = len(numbered)

    def source(name: str, severity: int) -> CorruptedSet:
        block = arrays[name][(severity - 1) * count : severity * count]

        def images(some: slice) -> Tensor:
            return torch.from_numpy(np.array(block[some])).permute(0, 3, 1, 2).contiguous()

        return CorruptedSet(numbered, images)

    return source, names


def _by_name(name: str) -> tuple[int, str]:
    """Numbers by their size, words by the alphabet."""
    return (int(name), "") if name.isdecimal() else (0, name)


def _load(path: Path) -> Any:
    """An array left on the disk; a pickle is refused, since it may run anything."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = one_line(error)
        raise SoftaugError(f"{path}: not readable as an array of numpy ({reason})") from error


def _open_folders(
    folder: Path, classes: Sequence[str], channels: int, height: int, width: int
) -> tuple[Source, tuple[str, ...]]:
    parents = [folder, *(folder / group for group in (*GROUPS, "extra"))]
    found = {
        name: next((p / name for p in parents if (p / name).is_dir()), None)
        for name in (*COMMON, *EXTRA)
    }
    there = {name: path for name, path in found.items() if path is not None}
    if not there:
        raise SoftaugError(
            f"{folder}: neither labels.npy, as CIFAR-10-C has, nor a folder of a corruption, as "
            "ImageNet-C has, such as fog/1/CLASS/*.JPEG"
        )
    faults = [
        f"{path / str(severity)}: missing"
        for path in there.values()
        for severity in SEVERITIES
        if not (path / str(severity)).is_dir()
    ]
    report_faults(folder, faults)
    numbers = {name: i for i, name in enumerate(classes)}

    def source(name: str, severity: int) -> CorruptedSet:
        root = there[name] / str(severity)
        samples = []
        for own in sorted(path for path in root.iterdir() if path.is_dir()):
            if own.name not in numbers:
                raise UsageError(f"{own}: a class that the model does not know")
            samples += [
                Sample(str(file), file, numbers[own.name])
                for file in sorted(own.iterdir())
                if file.suffix.lower() in IMAGE_ENDINGS
            ]
        if not samples:
            raise SoftaugError(f"{root}: no image in folders of classes")

        def images(some: slice) -> Tensor:
            with decoders() as pool:
                decoded = list(
                    pool.map(lambda s: decode(s, channels, (width, height)), samples[some])
                )
            report_faults(root, [text for text in decoded if isinstance(text, str)])
            return torch.stack([pixels for pixels in decoded if isinstance(pixels, Tensor)])

        return CorruptedSet(torch.tensor([sample.label for sample in samples]), images)

    return source, tuple(there)
