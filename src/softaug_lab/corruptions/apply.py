"""The 15 common and the 4 extra corruptions, in five severities, for whole batches.

Hendrycks & Dietterich 2019, arXiv 1903.12261, section 4, with their constants (`constants`).
Implemented for batches: imagecorruptions and similar packages take one image at a time, know only
the constants of 224 pixels, draw from a global state, and depend on OpenCV and scikit-image.

Three differences from the benchmark: values are rounded, while the benchmark truncates them, which
darkens by half a level; frost is a computed texture, while the benchmark uses photographs; grey
images have no saturation, so `saturate` refuses them. scripts/check_corruptions.py measures how
near the images are to those of other packages, and lists the results.

n samples, c channels (1 or 3), h w pixels; pixels are float32 in [0, 1] inside.
"""

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.seeds import keyed
from softaug_lab.corruptions import parts
from softaug_lab.corruptions.constants import COMMON, EXTRA, SEVERITIES, constants
from softaug_lab.corruptions.parts import Draws

Pixels = Float[Tensor, "n c h w"]
MIN_SIDE = 8  # pixels
WATER, MUD = (175, 238, 238), (63, 42, 20)


def names_for(channels: int) -> tuple[str, ...]:
    """Return the corruptions for images of 1 or 3 channels: all but `saturate` for grey ones."""
    return tuple(n for n in (*COMMON, *EXTRA) if channels == 3 or n != "saturate")


def require_size(images: UInt8[Tensor, "n c h w"]) -> None:
    """Raise UsageError where the images are smaller than 8 pixels."""
    if min(images.shape[-2:]) < MIN_SIDE:
        raise UsageError(
            f"corruptions need images of {MIN_SIDE} pixels a side at least, got "
            f"{list(images.shape[-2:])} [H,W]; take a larger --size or leave out --corruptions"
        )


def corrupt(
    images: UInt8[Tensor, "n c h w"],
    name: str,
    severity: int,
    numbers: Sequence[int],
    seed: int = 0,
) -> UInt8[Tensor, "n c h w"]:
    """Apply one corruption to images, on their device.

    severity: 1 to 5. numbers: the index of each image in its data set. The random draws of an image
    depend on name, severity, index and seed, so that every model sees the same images, in batches
    of any size. Raises ValueError for an unknown name or severity, and for images of other kinds.
    """
    channels, height, width = images.shape[1:]
    if images.dtype != torch.uint8 or channels not in (1, 3) or min(height, width) < MIN_SIDE:
        raise ValueError(
            f"corruptions take uint8 images [N,C,H,W] with 1 or 3 channels and sides of {MIN_SIDE} "
            f"pixels at least, got {images.dtype} {list(images.shape)}"
        )
    if name not in names_for(channels):
        raise ValueError(
            f"no corruption {name!r} of images with {channels} channels; there are "
            f"{', '.join(names_for(channels))}"
        )
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be 1 to 5, got {severity}")
    if len(numbers) != len(images):
        raise ValueError(f"{len(images)} images need a number each, got {len(numbers)}")
    generators = [keyed("corruption", seed, name, severity, int(i)) for i in numbers]
    draws = Draws(generators, images.device)
    strength = constants(name, severity, height, width)
    # By a tensor: a GPU multiplies by the reciprocal of a number, and Poisson draws depend on bits.
    levels = torch.full((), 255.0, device=images.device)
    pixels = _CORRUPTIONS[name](images.float() / levels, strength, draws)
    return (255 * pixels).round().clamp(0, 255).to(torch.uint8)


def _gaussian_noise(x: Pixels, sigma: float, draws: Draws) -> Pixels:
    return x + sigma * draws.normal(*x.shape[1:])


def _shot_noise(x: Pixels, photons: float, draws: Draws) -> Pixels:
    return draws.poisson(x * photons) / photons


def _impulse_noise(x: Pixels, share: float, draws: Draws) -> Pixels:
    u = draws.uniform(*x.shape[1:])
    return torch.where(u < share / 2, 0.0, torch.where(u >= 1 - share / 2, 1.0, x))


def _speckle_noise(x: Pixels, sigma: float, draws: Draws) -> Pixels:
    return x + x * sigma * draws.normal(*x.shape[1:])


def _defocus_blur(x: Pixels, c: tuple[float, float], _: Draws) -> Pixels:
    return parts.convolve(x, parts.disc(*c))


def _gaussian_blur(x: Pixels, sigma: float, _: Draws) -> Pixels:
    return parts.gaussian_blur(x, sigma)


def _glass_blur(x: Pixels, c: tuple[float, int, int], draws: Draws) -> Pixels:
    sigma, reach, times = c
    height, width = x.shape[-2:]
    # Truncated to whole levels between the two blurs, as published.
    x = (parts.gaussian_blur(x, sigma) * 255 + 1e-3).floor() / 255
    for _ in range(times):
        u = draws.uniform(2, height, width)
        source = parts.shuffled(reach, (u * 2 * reach).long() - reach)
        x = x.flatten(2).gather(2, source[:, None].expand(-1, x.shape[1], -1)).view(x.shape)
    return parts.gaussian_blur(x, sigma)


def _motion_blur(x: Pixels, c: tuple[int, float], draws: Draws) -> Pixels:
    return parts.motion_blur(x, *c, angle=90 * draws.uniform() - 45)


def _zoom_blur(x: Pixels, c: tuple[float, int], _: Draws) -> Pixels:
    step, count = c
    out = x.clone()
    for i in range(count):
        out += parts.zoom(x, 1 + i * step)
    return out / (count + 1)


def _snow(x: Pixels, c: tuple[float, ...], draws: Draws) -> Pixels:
    mean, sd, zoom, threshold, radius, sigma, left = c
    layer = mean + sd * draws.normal(1, *x.shape[-2:])
    layer = parts.zoom(layer, zoom)
    layer = torch.where(layer < threshold, 0.0, layer).clamp(0, 1)
    layer = parts.motion_blur(layer, int(radius), sigma, angle=90 * draws.uniform() - 135)
    whitened = torch.maximum(x, 1.5 * parts.luminance(x) + 0.5)
    return left * x + (1 - left) * whitened + layer + layer.flip(2, 3)


def _frost(x: Pixels, c: tuple[float, float], draws: Draws) -> Pixels:
    angle, light = draws.uniform(2).unbind(1)
    frost = parts.ice(draws.normal(1, *x.shape[-2:]), 60 * angle, light)
    return c[0] * x + c[1] * (frost if x.shape[1] == 3 else parts.luminance(frost))


def _fog(x: Pixels, c: tuple[float, float], draws: Draws) -> Pixels:
    weight, decay = c
    height, width = x.shape[-2:]
    side = 2 ** math.ceil(math.log2(max(height, width)))
    fog = parts.cloud(2 * draws.uniform(side, side) - 1, decay, height, width)
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + weight * fog) * brightest / (brightest + weight)


def _spatter(x: Pixels, c: tuple[float, float, float, float, float, bool], draws: Draws) -> Pixels:
    mean, sd, smoothness, threshold, strength, mud = c
    liquid = parts.gaussian_blur(mean + sd * draws.normal(1, *x.shape[-2:]), smoothness)
    colour = x.new_tensor(MUD if mud else WATER)[:, None, None] / 255
    if x.shape[1] == 1:
        colour = parts.luminance(colour[None])[0]
    if mud:
        covered = parts.gaussian_blur((liquid > threshold).float(), strength)
        covered = torch.where(covered < 0.8, 0.0, covered)
        return x * (1 - covered) + colour * covered
    liquid = torch.where(liquid < threshold, 0.0, (255 * liquid).floor().clamp(0, 255))
    drops = liquid * parts.relief(liquid)
    return x + strength * drops / drops.amax((2, 3), keepdim=True).clamp_min(1e-9) * colour


def _brightness(x: Pixels, added: float, _: Draws) -> Pixels:
    """Add to the value of HSV, the largest channel; the other channels are scaled with it."""
    value = x.amax(1, keepdim=True)
    brighter = (value + added).clamp(max=1)
    return torch.where(value > 0, x * brighter / value.clamp_min(1e-9), brighter)


def _saturate(x: Pixels, c: tuple[float, float], _: Draws) -> Pixels:
    """Scale the saturation of HSV: each channel's distance to the largest one scales with it."""
    factor, added = c
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    saturation = (value - least) / value.clamp_min(1e-9)
    target = (saturation * factor + added).clamp(0, 1)
    coloured = value - (value - x) * target / saturation.clamp_min(1e-9)
    # Grey pixels have hue 0, which is red.
    red = torch.cat([value, value * (1 - target), value * (1 - target)], dim=1)
    return torch.where(saturation > 0, coloured, red)


def _contrast(x: Pixels, left: float, _: Draws) -> Pixels:
    mean = x.mean((2, 3), keepdim=True)
    return mean + left * (x - mean)


def _elastic_transform(x: Pixels, c: tuple[float, float, float], draws: Draws) -> Pixels:
    """Map three points near the middle affinely, then displace each pixel smoothly."""
    amplitude, sigma, reach = c
    n, _, height, width = x.shape
    whole = partial(torch.tensor, device=x.device)
    middle, arm = whole([width // 2, height // 2]), min(height, width) // 3
    corners = middle + arm * whole([[1, 1], [1, -1], [-1, -1]])
    moved = corners + reach * (2 * draws.uniform(3, 2) - 1)
    ones = moved.new_ones(n, 3, 1, dtype=torch.float64)
    back = torch.linalg.solve(torch.cat([moved.double(), ones], dim=2), corners.double())
    axes = (torch.arange(side, device=x.device) for side in (height, width))
    y, x_ = torch.meshgrid(*axes, indexing="ij")
    place = torch.stack([x_, y, torch.ones_like(y)], dim=2).double()
    source = (place.view(1, -1, 3) @ back).view(n, height, width, 2)
    size = whole([width, height])
    # The published code reflects at the centres of the border pixels here, at their outer edges
    # below.
    grid = 2 * source / (size - 1) - 1
    x = F.grid_sample(x, grid.float(), padding_mode="reflection", align_corners=True)
    if amplitude == 0:
        return x
    shift = parts.gaussian_blur(2 * draws.uniform(2, height, width) - 1, sigma, 3.0, mirror=True)
    source = place[..., :2] + amplitude * shift.permute(0, 2, 3, 1)
    grid = (2 * source + 1) / size - 1
    return F.grid_sample(x, grid.float(), padding_mode="reflection", align_corners=False)


def _pixelate(x: Pixels, share: float, _: Draws) -> Pixels:
    height, width = x.shape[-2:]
    small_height, small_width = int(height * share), int(width * share)
    shrink = parts.box_matrix(height, small_height), parts.box_matrix(width, small_width)
    enlarge = parts.box_matrix(small_height, height), parts.box_matrix(small_width, width)
    small = (255 * parts.along_both(x, *shrink)).round() / 255  # stored as uint8
    return parts.along_both(small, *enlarge)


def _jpeg_compression(x: Pixels, quality: int, _: Draws) -> Pixels:
    images = (255 * x).round().byte().cpu()
    return torch.stack([_through_jpeg(image, quality) for image in images]).to(x.device) / 255


def _through_jpeg(image: UInt8[Tensor, "c h w"], quality: int) -> Tensor:
    array = image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=quality)
    decoded = torch.from_numpy(np.array(Image.open(file)))
    return decoded[None] if decoded.ndim == 2 else decoded.permute(2, 0, 1)


_CORRUPTIONS: dict[str, Callable[[Pixels, Any, Draws], Pixels]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "spatter": _spatter,
    "saturate": _saturate,
}
