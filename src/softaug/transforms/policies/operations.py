"""The 14 operations of torchvision's policies: their magnitudes, and where they move pixels.

torchvision is imported when an operation first needs it. n samples, c channels, h w pixels.
"""

import math
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from softaug.devices import to_device
from softaug.transforms.base import Images
from softaug.transforms.policies.confidences import LOSSY


class Operation(NamedTuple):
    """An operation at a magnitude, in torchvision's units."""

    name: str
    magnitude: float


class Strength(NamedTuple):
    """The largest magnitudes of a policy, which it reaches from nothing in equal steps.

    bins: number of steps, 2 or more; shear: a slope; shift: translation in pixels, to which
    shift_share of the image's side is added; degrees: rotation; factor: change of Brightness,
    Color, Contrast and Sharpness, where 1 is black, grey or flat; bits: left by Posterize.
    """

    bins: int
    shear: float
    shift: float
    shift_share: float
    degrees: float
    factor: float
    bits: int


OperationTable: TypeAlias = list[list[tuple[Operation, Operation]]]  # [operation][bin][negative]

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
SIGNED = (*GEOMETRIC, *FACTORS)
CACHED_PIXELS = 224**2  # source indices of larger images are computed anew each time
OPERATIONS = ("Identity", *GEOMETRIC, *LOSSY, "AutoContrast", "Equalize")


def check_torchvision(policy: str) -> None:
    """Raise ImportError, with what to install, where torchvision is missing; do not import it."""
    if find_spec("torchvision") is None:
        raise ImportError(f"{policy} needs torchvision: pip install 'softaug[lab]'")


def check_range(images: Images) -> None:
    """Raise ValueError unless images are uint8 or float in [0, 1], from black to white.

    Changes of colour of other images would be wrong in silence. On a GPU the check is an assertion
    on the device; while compiling it is skipped.
    """
    if images.dtype == torch.uint8 or images.numel() == 0 or torch.compiler.is_compiling():
        return
    if not images.is_floating_point():
        raise ValueError(f"policies take images of uint8 or float, got {images.dtype}")
    # Resampling and half precision round to slightly outside of [0, 1].
    least, most = -1e-3, 1 + 1e-3
    if images.device.type != "cpu":
        torch._assert_async(((images >= least) & (images <= most)).all())
        return
    low, high = (value.item() for value in images.aminmax())
    if not (least <= low and high <= most):
        inside = ((images >= least) & (images <= most)).flatten(1).all(dim=1)
        first = int((~inside).nonzero()[0])
        raise ValueError(
            f"policies take float images in [0, 1], got {low:.4g} to {high:.4g} (first in sample "
            f"{first}); put them before normalisation and noise, or scale or clamp the images"
        )


def operation_table(strength: Strength, height: int, width: int) -> OperationTable:
    """List every operation that a policy can draw for images of this size."""
    bins, shear, shift, share, degrees, factor, bits = strength
    largest = {
        "ShearX": shear,
        "ShearY": shear,
        "TranslateX": shift + share * width,
        "TranslateY": shift + share * height,
        "Rotate": degrees,
        **dict.fromkeys(FACTORS, factor),
        "Posterize": bits,
    }
    return [_bins(name, bins, largest.get(name, 0.0)) for name in OPERATIONS]


@lru_cache(maxsize=1024)
def _bins(name: str, bins: int, largest: float) -> list[tuple[Operation, Operation]]:
    """Each bin of one operation, with a positive and a negative sign.

    Computed in float32, as by torchvision: where a translation or a number of bits is rounded, the
    last bit decides.
    """
    if name == "Posterize":
        values = (8 - torch.arange(bins, device="cpu") / ((bins - 1) / (8 - largest))).round()
    elif name == "Solarize":
        values = torch.linspace(1.0, 0.0, bins, device="cpu")
    else:
        values = torch.linspace(0.0, largest, bins, device="cpu")
    sign = -1 if name in SIGNED else 1
    return [(Operation(name, value), Operation(name, sign * value)) for value in values.tolist()]


def source_index(
    name: str, magnitude: float, height: int, width: int, device: torch.device
) -> Int[Tensor, "h w"]:
    """Number of the source pixel that each output pixel shows, from 1, or 0 for none; int32.

    torchvision moves an image of these numbers, on the CPU and in float32 whatever the images are,
    so that pixels and map agree, and all devices too. Results are cached on each device, up to
    62 MB of them: all moves of TrivialAugment for images of up to 224 x 224.
    """
    if height * width > 2**24:
        raise ValueError(f"{name}: expected at most 2^24 pixels, got {height} x {width}")
    if height * width > CACHED_PIXELS:
        return _source_index(name, magnitude, height, width, device)
    return cached_source_index(name, magnitude, height, width, device)


def gather_pixels(pixels: Images, source: Int[Tensor, "n h w"], fill: Tensor) -> Images:
    """Pixels at a `source_index`; fill, of shape [1,C,1,1] or [1,1,1,1], where it is 0."""
    n, channels, *_ = pixels.shape
    nothing = fill.to(pixels.dtype).flatten(2).expand(n, channels, 1)
    index = source.flatten(1)[:, None].expand(-1, channels, -1)
    return torch.cat([nothing, pixels.flatten(2)], dim=2).gather(2, index).view_as(pixels)


def _source_index(
    name: str, magnitude: float, height: int, width: int, device: torch.device
) -> Int[Tensor, "h w"]:
    from torchvision.transforms.v2 import functional as tv

    # Cached tensors are used outside of inference mode and of autocast too.
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
        numbers = torch.arange(1, height * width + 1, dtype=torch.float32, device="cpu")
        numbers = numbers.view(1, height, width)
        if name == "Rotate":
            return to_device(tv.rotate(numbers, magnitude)[0].int(), device)
        shear, shift, center = [0.0, 0.0], [0.0, 0.0], None
        axis = "XY".index(name[-1])
        if name.startswith("Shear"):
            shear[axis], center = math.degrees(math.atan(magnitude)), [0.0, 0.0]
        else:
            shift[axis] = float(int(magnitude))
        moved = tv.affine(numbers, 0.0, shift, 1.0, shear, center=center)
        return to_device(moved[0].int(), device)


cached_source_index = lru_cache(maxsize=310)(_source_index)
