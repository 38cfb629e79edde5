"""Data: labelled images decoded once, kept as uint8 in memory.

DATA is `demo`, `cifar10`, `cifar100`, a folder with a folder for each class, or Parquet files as on
the Hugging Face Hub. n samples, c channels, h w pixels.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Generator, Tensor

from softaug.lab.errors import SoftaugError, UsageError, unknown_name
from softaug.lab.images import Sample, decode_all

TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
TEST_SHARE = 0.2  # of each class, where the data has no test part of its own
IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 [N,C,H,W] and their labels int64 [N]."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """A training and a test set of the same classes and image shape; notes are for the user."""

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def load(
    source: str,
    *,
    size: int | None = None,
    seed: int = 0,
    train_images: int | None = None,
    skip_unreadable: bool = False,
) -> Data:
    """Load a data set, complaining of all its faults at once.

    size: short side to `size`, then centre crop; needed where images differ in size.
    seed: of the split, where there is no test part, and of the subset; of nothing else.
    train_images: a balanced subset of so many training images.
    skip_unreadable: leave out images that cannot be read, and say how many in the notes.
    Raises UsageError for a wrong request, SoftaugError for faults of the data.
    """
    if size is not None and size < 1:
        raise UsageError(f"size must be at least 1 pixel, got {size}")
    built_in = {"demo": _demo, "cifar10": _cifar, "cifar100": _cifar}
    path = Path(source)
    if source in built_in:
        data = built_in[source](source)
        if size is not None and size not in data.image_shape[1:]:
            raise UsageError(f"{source} has images of {data.image_shape[1]} px; leave out --size")
    elif not path.exists():
        raise unknown_name("data set or missing path", source, built_in)
    elif _parquet_files(path):
        data = _from_samples(path, *_read_parquet(path), size, seed, skip_unreadable)
    elif path.is_dir():
        data = _from_samples(path, *_list_folder(path), size, seed, skip_unreadable)
    else:
        raise UsageError(f"{source}: expected a folder of class folders or Parquet files")
    if train_images is not None:
        data = replace(data, train=_subset(data, train_images, seed))
    return data


def _demo(name: str) -> Data:
    """The embedded part of Fashion-MNIST: 8,000 training and 2,000 test images, 28 x 28, grey."""
    with np.load(Path(__file__).parent / "assets" / "demo.npz", allow_pickle=False) as file:
        parts = {
            part: ImageSet(
                torch.from_numpy(file[f"{part}_images"]).unsqueeze(1),
                torch.from_numpy(file[f"{part}_labels"]).long(),
            )
            for part in ("train", "test")
        }
        classes = tuple(str(name) for name in file["classes"])
    return Data(name, classes, parts["train"], parts["test"])


def _cifar(name: str) -> Data:
    """CIFAR through torchvision, fetched on first use."""
    import torchvision

    kind = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[
        name
    ]
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    cache = Path(os.environ.get("SOFTAUG_DATA", home / "softaug"))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        parts = [kind(str(cache), train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SoftaugError(
            f"{name} could not be fetched ({reason}); connect to the network, or put "
            f"{kind.filename} into {cache}, or give a folder or Parquet files instead"
        ) from error
    train, test = (
        ImageSet(
            torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(),
            torch.tensor(part.targets),
        )
        for part in parts
    )
    return Data(name, tuple(parts[0].classes), train, test)


def _list_folder(root: Path) -> tuple[tuple[str, ...], list[Sample], list[Sample] | None]:
    """Classes and files of `train/` and `val/`, or of one folder of class folders."""
    train = _part_folder(root, TRAIN)
    test = _part_folder(root, TEST)
    if train is None and test is not None:
        raise SoftaugError(f"{root}: has {test.name}/ but no train/; add it")
    first = train or root
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
        samples = []
        for label, name in enumerate(names):
            files = sorted(
                file
                for file in (folder / name).rglob("*")
                if file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".")
            )
            if not files and (folder / name).is_dir():
                faults.append(f"{folder / name}: a class with no image")
            samples += [Sample(str(file), file, label) for file in files]
        parts.append(samples)
    _report(root, faults)
    return tuple(names), parts[0], parts[1] if test is not None else None


def _part_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _parquet_files(path: Path) -> list[Path]:
    return [path] if path.suffix == ".parquet" else sorted(path.rglob("*.parquet"))


def _read_parquet(path: Path) -> tuple[tuple[str, ...], list[Sample], list[Sample] | None]:
    """Classes and encoded images of Parquet files named for their part, or of one part alone."""
    from softaug.lab.parquet import read_files

    files = _parquet_files(path)
    test = [file for file in files if any(word in file.stem.lower() for word in TEST)]
    train = [file for file in files if file not in test]
    if not train:
        raise SoftaugError(f"{path}: no training file among {', '.join(f.name for f in files)}")
    classes, samples = read_files([train, test])
    faults = [
        f"{path}: class {name!r} has no training image"
        for label, name in enumerate(classes)
        if label not in {sample.label for sample in samples[0]}
    ]
    if len(classes) < 2:
        faults.append(f"{path}: {len(classes)} class; at least 2 are needed")
    _report(path, faults)
    return classes, samples[0], samples[1] if test else None


def _from_samples(
    path: Path,
    classes: tuple[str, ...],
    train: list[Sample],
    test: list[Sample] | None,
    size: int | None,
    seed: int,
    skip_unreadable: bool,
) -> Data:
    """Split where there is no test part, decode, and put it together."""
    notes = []
    if test is None:
        train, test = _split(train, len(classes), seed)
        notes.append(
            f"{path}: no test part, so {len(test):,} of {len(train) + len(test):,} images were set "
            f"aside for testing ({TEST_SHARE:.0%} of each class, by seed {seed})"
        )
    decoded, decode_notes = decode_all([*train, *test], size, skip_unreadable, str(path))
    labels = torch.tensor([sample.label for sample in [*train, *test]])
    kept = decoded.kept
    inside = torch.arange(len(labels)) < len(train)
    parts = [
        ImageSet(decoded.images[part[kept]], labels[kept][part[kept]]) for part in (inside, ~inside)
    ]
    empty = [
        f"{path}: class {name!r} has no readable image to {verb} on"
        for part, verb in zip(parts, ("train", "test"), strict=True)
        for label, name in enumerate(classes)
        if verb == "train" and not (part.labels == label).any()
    ]
    if not len(parts[1]):
        empty.append(f"{path}: no image to test on")
    _report(path, empty)
    name = path.resolve().stem
    return Data(name, classes, parts[0], parts[1], (*notes, *decode_notes))


def _split(samples: list[Sample], num_classes: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Set a share of each class aside, at least one image where a class has two."""
    generator = Generator().manual_seed(seed)
    train: list[Sample] = []
    test: list[Sample] = []
    for label in range(num_classes):
        members = [sample for sample in samples if sample.label == label]
        order = torch.randperm(len(members), generator=generator).tolist()
        aside = min(max(1, round(TEST_SHARE * len(members))), len(members) - 1)
        test += [members[i] for i in sorted(order[:aside])]
        train += [members[i] for i in sorted(order[aside:])]
    return train, test


def _subset(data: Data, n: int, seed: int) -> ImageSet:
    """n training images, as balanced over the classes as they allow."""
    labels = data.train.labels
    if not data.num_classes <= n <= len(labels):
        raise UsageError(
            f"train_images must be between {data.num_classes} (the classes) and {len(labels):,} "
            f"(the training images of {data.name}), got {n}"
        )
    order = torch.randperm(len(labels), generator=Generator().manual_seed(seed))
    # Rank within the class, in random order: the n lowest ranks are balanced.
    members = torch.nn.functional.one_hot(labels[order], data.num_classes).cumsum(dim=0)
    rank = members.gather(1, labels[order][:, None])[:, 0]
    chosen = order[rank.argsort(stable=True)[:n]].sort().values
    return ImageSet(data.train.images[chosen], labels[chosen])


def _report(path: Path, faults: list[str]) -> None:
    """Raise one error that names all faults, if there are any."""
    if faults:
        shown = "; ".join(faults[:10])
        more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise SoftaugError(f"{path}: {count}: {shown}{more}")
