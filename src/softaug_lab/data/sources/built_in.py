"""Data sets with a name of their own: the embedded demo, CIFAR-10 and CIFAR-100."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.sources.cifar import read_cifar


def _demo(name: str) -> Data:
    """Load the embedded part of Fashion-MNIST: 8,000 training, 2,000 test images, 28 x 28, grey."""
    with np.load(Path(__file__).parents[1] / "assets" / "demo.npz", allow_pickle=False) as file:
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
    """Load CIFAR, which is fetched on first use."""
    classes, train, test = read_cifar(name)
    return Data(name, classes, ImageSet(*train), ImageSet(*test))


BUILT_IN: dict[str, Callable[[str], Data]] = {"demo": _demo, "cifar10": _cifar, "cifar100": _cifar}
