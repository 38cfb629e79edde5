"""Corrupted test sets from files: CIFAR-10-C, CIFAR-100-C, ImageNet-C and sets of the same layout.

CIFAR-C (zenodo.org/records/2535967 and 3555552) is labels.npy and a NAME.npy for each corruption,
uint8 [5 x 10,000, 32, 32, 3], one severity after another. ImageNet-C (zenodo.org/records/2235448)
is NAME/SEVERITY/CLASS/*.JPEG, the names optionally in folders of groups. m images of a slice.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line, report_faults
from softaug_lab.corruptions.constants import COMMON, EXTRA, GROUPS, SEVERITIES
from softaug_lab.corruptions.source import CorruptedSet, Source
from softaug_lab.data import IMAGE_ENDINGS, Sample, decode_all

Shape = tuple[int, int, int]  # channels, height, width


def open_corrupted(
    folder: Path, classes: Sequence[str], channels: int, height: int, width: int
) -> tuple[Source, tuple[str, ...]]:
    """Open a folder of corrupted images for a model of these classes; return the names, too.

    Images are read when they are asked for. Raises UsageError where the model cannot take the
    images, SoftaugError where the files are broken.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    if (folder / "labels.npy").exists():
        return _open_arrays(folder, classes, (channels, height, width))
    return _open_folders(folder, classes, (channels, height, width))


def _open_arrays(
    folder: Path, classes: Sequence[str], shape: Shape
) -> tuple[Source, tuple[str, ...]]:
    """Open a folder laid out like CIFAR-C."""
    names = tuple(n for n in (*COMMON, *EXTRA) if (folder / f"{n}.npy").exists())
    if not names:
        raise SoftaugError(f"{folder}: no file of a corruption beside labels.npy, such as fog.npy")
    labels = _read_labels(folder / "labels.npy", len(classes))
    arrays = {name: _load_array(folder / f"{name}.npy") for name in names}
    channels, height, width = shape
    expected = (5 * len(labels), height, width, channels)
    faults = [
        f"{name}.npy: expected uint8 {list(expected)}, as the labels and the model "
        f"have it, got {array.dtype} {list(array.shape)}"
        for name, array in arrays.items()
        if array.dtype != np.uint8 or array.shape != expected
    ]
    report_faults(folder, faults)
    # Both sets number their classes in the order of their names.
    order = sorted(range(len(classes)), key=lambda i: _sort_key(classes[i]))
    class_numbers = torch.tensor(order)[labels]
    count = len(labels)

    def source(name: str, severity: int) -> CorruptedSet:
        block = arrays[name][(severity - 1) * count : severity * count]

        def images(chosen: slice) -> Tensor:
            return torch.from_numpy(np.array(block[chosen])).permute(0, 3, 1, 2).contiguous()

        return CorruptedSet(class_numbers, images)

    return source, names


def _read_labels(path: Path, num_classes: int) -> Tensor:
    """Read the labels of one severity; raise where the five severities do not share them."""
    labels = _load_array(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or len(labels) % 5:
        raise SoftaugError(
            f"{path}: expected whole numbers [5 N], one severity after another, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    blocks = labels.reshape(5, -1).astype(np.int64)
    if (blocks != blocks[0]).any():
        raise SoftaugError(f"{path}: the five severities have different labels")
    if blocks.min() < 0 or blocks.max() + 1 != num_classes:
        raise UsageError(
            f"{path.parent} has {blocks.max() + 1} classes, the model knows {num_classes}"
        )
    return torch.from_numpy(blocks[0])


def _load_array(path: Path) -> Any:
    """Map an array into memory; a pickle is refused, since it may execute anything."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = one_line(error)
        raise SoftaugError(f"{path}: not readable as an array of numpy ({reason})") from error


def _sort_key(name: str) -> tuple[int, str]:
    """Sort class names that are numbers by value, and words alphabetically."""
    return (int(name), "") if name.isdecimal() else (0, name)


def _open_folders(
    folder: Path, classes: Sequence[str], shape: Shape
) -> tuple[Source, tuple[str, ...]]:
    """Open a folder laid out like ImageNet-C."""
    folders = _corruption_folders(folder)
    numbers = {name: i for i, name in enumerate(classes)}

    def source(name: str, severity: int) -> CorruptedSet:
        root = folders[name] / str(severity)
        samples = _list_samples(root, numbers)

        def images(chosen: slice) -> Tensor:
            decoded = decode_all(samples[chosen], len(samples[chosen]), shape)
            report_faults(root, [str(image) for image in decoded.unreadable])
            return decoded.images

        return CorruptedSet(torch.tensor([sample.label for sample in samples]), images)

    return source, tuple(folders)


def _corruption_folders(folder: Path) -> dict[str, Path]:
    """Find the folder of each corruption; raise SoftaugError where a severity is missing."""
    parents = [folder, *(folder / group for group in (*GROUPS, "extra"))]
    folders = {
        name: next(parent / name for parent in parents if (parent / name).is_dir())
        for name in (*COMMON, *EXTRA)
        if any((parent / name).is_dir() for parent in parents)
    }
    if not folders:
        raise SoftaugError(
            f"{folder}: neither labels.npy, as CIFAR-10-C has, nor a folder of a corruption, as "
            "ImageNet-C has, such as fog/1/CLASS/*.JPEG"
        )
    faults = [
        f"{path / str(severity)}: missing"
        for path in folders.values()
        for severity in SEVERITIES
        if not (path / str(severity)).is_dir()
    ]
    report_faults(folder, faults)
    return folders


def _list_samples(root: Path, numbers: Mapping[str, int]) -> list[Sample]:
    """List the images in the class folders of one severity; numbers: of the model's classes."""
    samples: list[Sample] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name not in numbers:
            raise UsageError(f"{folder}: a class that the model does not know")
        samples += [
            Sample(str(file), file, numbers[folder.name])
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in IMAGE_ENDINGS
        ]
    if not samples:
        raise SoftaugError(f"{root}: no image in folders of classes")
    return samples
