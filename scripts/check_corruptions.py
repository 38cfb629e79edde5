"""Compare our corruptions with those of two published packages, at the same constants.

    pip install imagecorruptions-imaug==1.1.5 corrupt-tta==0.1.7 opencv-python-headless scikit-image
    python scripts/check_corruptions.py cifar10

Prints for each corruption and severity the mean absolute change that each package makes, in levels
of 255, and the PSNR of the corrupted images to the clean ones, in dB; for corruptions without
random draws also the differences between the pixels of the two. The photographs of 224 px come with
scikit-image. elastic_transform and pixelate are compared with corrupt-tta, which computes them like
the benchmark, all others with imagecorruptions. Our constants replace those of the packages, since
both packages know only those of ImageNet-C.

Measured on 300 test images of CIFAR-10 and 30 photographs (3,000 and 300 of snow, spatter and
motion blur), numpy 2.4, scikit-image 0.26, OpenCV 5.0, Pillow 13.0:

- defocus_blur, zoom_blur, gaussian_blur, brightness, contrast, saturate, pixelate: every pixel
  within 1 level, half a level apart on average, since the packages truncate where we round;
  jpeg_compression: the same bytes.
- gaussian, shot, impulse, speckle noise: the same change within 3 %, PSNR within 0.1 dB; glass_blur
  within 1 % and 0.1 dB, motion_blur 1 % and 0.1 dB, fog 4 % and 0.3 dB, elastic_transform 4 % and
  0.3 dB.
- snow: within 5 % and 0.3 dB, except for severity 4 at 32 px (6 % less, 0.7 dB), where
  imagecorruptions uses the corner of the enlarged flakes, the benchmark and we the middle; spatter:
  within 5 % and 0.2 dB.
- frost, whose ice is computed: 3 to 9 % more change, 0.5 to 1.1 dB less PSNR than with photographs
  (2,000 and 200 images); the darkest of imagecorruptions' six is never used by the benchmark.
"""

import argparse
import inspect
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from softaug_lab.corruptions import COMMON, EXTRA, SEVERITIES, corrupt
from softaug_lab.corruptions.constants import constants
from softaug_lab.data import load

DETERMINISTIC = (
    "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression",
    "gaussian_blur", "saturate",
)  # fmt: skip


def reference(name: str) -> Callable[[Image.Image, Any], Any]:
    """Return the package's function, changed to take the constants instead of a severity."""
    as_published = name in ("elastic_transform", "pixelate")
    package = "corrupt_tta" if as_published else "imagecorruptions"
    module = import_module(f"{package}.corruptions")
    source = inspect.getsource(getattr(module, name))
    source = re.sub(
        r"(c|alpha) = \[.*?\]\s*\[\s*severity - 1\]", r"\1 = severity", source, flags=re.S
    )
    space = dict(vars(module))
    exec(compile(source, name, "exec"), space)
    function: Callable[[Image.Image, Any], Any] = space[name]
    return function


def photographs(count: int) -> Tensor:
    """Return crops of photographs, 224 px, uint8 [N,3,H,W]."""
    data = import_module("skimage.data")
    random = np.random.default_rng(0)
    crops = []
    for i in range(count):
        photo = (data.astronaut, data.chelsea, data.coffee)[i % 3]()
        top, left = (int(random.integers(side - 256 + 1)) for side in photo.shape[:2])
        crop = Image.fromarray(photo[top : top + 256, left : left + 256]).resize((224, 224))
        crops.append(torch.from_numpy(np.array(crop)).permute(2, 0, 1))
    return torch.stack(crops)


def compare(images: Tensor, name: str, severity: int) -> str:
    """Measure one corruption and severity; return a line of the table."""
    ours = corrupt(images, name, severity, range(len(images))).float()
    c = constants(name, severity, *images.shape[-2:])
    if name == "zoom_blur":
        c = 1 + c[0] * np.arange(c[1])
    function = reference(name)
    outcomes = [
        np.array(function(Image.fromarray(image.permute(1, 2, 0).numpy()), c)) for image in images
    ]
    theirs = torch.from_numpy(np.stack(outcomes).astype(np.uint8)).permute(0, 3, 1, 2).float()
    clean = images.float()

    def change(x: Tensor) -> float:
        return float((x - clean).abs().mean())

    def psnr(x: Tensor) -> float:
        # Unchanged images count as images with an error of a quarter level.
        error = (x - clean).square().mean((1, 2, 3)).clamp_min(1 / 16)
        return float(20 * np.log10(255) - 10 * error.log10().mean())

    line = f"{name:18} {severity} {change(ours):7.2f} {change(theirs):7.2f}  "
    line += f"{psnr(ours):6.2f} {psnr(theirs):6.2f}"
    if name in DETERMINISTIC:
        apart = (ours - theirs).abs()
        line += f"  {apart.mean():5.2f} {(apart <= 1).float().mean():7.2%} {apart.max():3.0f}"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="images of 32 px, such as cifar10")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=[*COMMON, *EXTRA])
    arguments = parser.parse_args()
    np.random.seed(0)  # noqa: NPY002  the packages draw from the global state
    for images in (
        load(arguments.data).test.images[: arguments.images],
        photographs(arguments.images // 10),
    ):
        print(f"{len(images)} images of {images.shape[-1]} px")
        print("corruption, severity; change of ours, theirs; PSNR; apart: mean, within 1, most")
        for name in arguments.only:
            for severity in SEVERITIES:
                print(compare(images, name, severity), flush=True)


if __name__ == "__main__":
    main()
