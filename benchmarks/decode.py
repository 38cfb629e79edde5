"""Time JPEG files to tensors at 224 px on one core: softaug and others, and decoding alone."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.io import decode_jpeg
from torchvision.transforms import v2

from benchmarks.timing import per_image
from softaug_lab.data import Sample, decode_image

SIDE = 224
SIZES = {"500 x 333 px": (500, 333), "4000 x 2667 px": (4000, 2667)}  # as ImageNet's; as a phone's
PACKAGES = ("torchvision", "pillow", "simplejpeg")
standard = v2.Compose([v2.Resize(SIDE, antialias=True), v2.CenterCrop(SIDE)])


def measure(rounds: int = 7) -> list[dict[str, Any]]:
    """Time each way; `of_limit`: its speed as a share of that of the fastest decoder alone."""
    records = []
    for size, sides in SIZES.items():
        files = [photo(name, sides) for name in ("china.jpg", "flower.jpg")]
        programs = {name: over(files, way) for name, way in WAYS.items()}
        timings = per_image(programs, len(files), rounds)
        limit = min(timings[name].least for name in WAYS if "alone" in name)
        for name, timing in timings.items():
            records.append(
                {
                    "name": name,
                    "size": size,
                    "us_per_image": timing.least,
                    "images_per_second": 1e6 / timing.least,
                    "of_limit": limit / timing.least,
                }
            )
    return records


def photo(name: str, size: tuple[int, int]) -> bytes:
    """Encode one of scikit-learn's photos as a JPEG of this size, with camera-like noise."""
    pixels = np.asarray(Image.fromarray(load_sample_image(name)).resize(size), dtype=np.float64)
    grain = np.random.default_rng(0).normal(0, 3, pixels.shape)
    file = io.BytesIO()
    Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def over(files: list[bytes], way: Callable[[bytes], object]) -> Callable[[], object]:
    return lambda: [way(file) for file in files]


def as_tensor(file: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(file), dtype=torch.uint8)


def with_pillow(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


WAYS: dict[str, Callable[[bytes], object]] = {
    "softaug": lambda file: decode_image(Sample("", file, 0), (3, SIDE, SIDE)),
    "Pillow, scaled by torchvision": lambda file: v2.functional.pil_to_tensor(
        standard(with_pillow(file))
    ),
    "torchvision.io, scaled by torchvision": lambda file: standard(decode_jpeg(as_tensor(file))),
    "simplejpeg, scaled by torchvision": lambda file: standard(
        torch.from_numpy(simplejpeg.decode_jpeg(file)).permute(2, 0, 1)
    ),
    "Pillow, decoding alone": with_pillow,
    "torchvision.io, decoding alone": lambda file: decode_jpeg(as_tensor(file)),
    "simplejpeg, decoding alone": simplejpeg.decode_jpeg,
}
