"""Make the embedded demo data: a balanced part of Fashion-MNIST, 8,000 + 2,000 images.

    python scripts/make_demo_data.py [FOLDER]

FOLDER holds Fashion-MNIST's four .gz files; the default is where Debian's package
dataset-fashion-mnist installs them. The result is the same on every run.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
TARGET = Path(__file__).parent.parent / "src" / "softaug_lab" / "data" / "assets" / "demo.npz"


def read_idx(path: Path, header: int) -> npt.NDArray[np.uint8]:
    """Read the bytes of an IDX file after a header of so many bytes."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def balanced(folder: Path, part: str, per_class: int) -> dict[str, npt.NDArray[np.uint8]]:
    """Select the first `per_class` images of each class, in the original order."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 8)
    chosen = np.sort(
        np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(len(CLASSES))])
    )
    return {"images": images[chosen], "labels": labels[chosen]}


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist")
    arrays = {
        f"{name}_{field}": value
        for name, part, per_class in (("train", "train", 800), ("test", "t10k", 200))
        for field, value in balanced(folder, part, per_class).items()
    }
    with TARGET.open("wb") as file:
        np.savez_compressed(file, classes=np.array(CLASSES), allow_pickle=False, **arrays)
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
