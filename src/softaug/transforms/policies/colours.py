"""Changes of colour, with a strength for each image, equal to torchvision's pixels bit for bit.

Steps that round each pixel by itself are computed for all images at once. Sums of floats round
differently for each batch size, and `add_` with a factor rounds once on some processors and twice
on others: on a CPU these run image by image, as in torchvision; on a GPU, where that would be
hundreds of launches, all at once, equal to torchvision's to rounding.

torchvision is imported on first use. n samples, c channels, h w pixels.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from softaug.transforms.base import Images
from softaug.transforms.pixels import GREY, as_float, constants, white

Factors: TypeAlias = Sequence[float]  # one for each image; 1 changes nothing


def recolour(operation: str, magnitudes: Sequence[float], pixels: Images) -> Images:
    """Apply an operation that moves no pixel; other than 1 or 3 channels are each treated as grey.

    magnitudes: one for each image; AutoContrast and Equalize ignore them.
    """
    channels = pixels.shape[1]
    if channels not in (1, 3):
        repeated = [magnitude for magnitude in magnitudes for _ in range(channels)]
        return recolour(operation, repeated, pixels.flatten(0, 1)[:, None]).view_as(pixels)
    # Grey images have no colour, and images without inner pixels cannot be sharpened.
    if (operation, channels) == ("Color", 1) or (
        operation == "Sharpness" and min(pixels.shape[-2:]) <= 2
    ):
        return pixels.clone()
    if operation in FACTORS:
        changed = FACTORS[operation](pixels, [1.0 + magnitude for magnitude in magnitudes])
        # Like torchvision, `to` drops the fraction for uint8.
        return changed.clamp_(0, white(pixels)).to(pixels.dtype)
    if operation == "Posterize":
        return _posterize(pixels, [int(magnitude) for magnitude in magnitudes])
    if operation == "Solarize":
        return _solarize(pixels, magnitudes)
    return _stretch(operation, pixels)


def _brightness(pixels: Images, factors: Factors) -> Float[Tensor, "n c h w"]:
    return as_float(pixels) * _for_each(factors, as_float(pixels[:0]).dtype, pixels)


def _color(pixels: Images, factors: Factors) -> Float[Tensor, "n c h w"]:
    return _blend(pixels, _grey(pixels), factors)


def _contrast(pixels: Images, factors: Factors) -> Float[Tensor, "n c h w"]:
    if _on_cpu(pixels):
        means = [grey.mean(dim=(-3, -2, -1), keepdim=True) for grey in _grey(pixels)]
        return _blend(pixels, torch.stack(means), factors)
    return _blend(pixels, _grey(pixels).mean(dim=(-3, -2, -1), keepdim=True), factors)


def _sharpness(pixels: Images, factors: Factors) -> Float[Tensor, "n c h w"]:
    """Blend with the mean of 3 x 3 pixels, in which the middle pixel counts 5 times."""
    out = as_float(pixels).clone()
    inner = out[:, :, 1:-1, 1:-1]
    smooth = _smooth_floats(pixels) if pixels.is_floating_point() else _smooth_integers(pixels)
    _add_for_each(inner, smooth - inner, factors)
    return out


def _smooth_floats(pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c y x"]:
    around, middle = 1.0 / 13.0, 5.0 / 13.0
    kernel = pixels.new_full((3, 3), around)
    kernel[1, 1].fill_(middle)
    channels = pixels.shape[1]
    kernel = kernel.expand(channels, 1, 3, 3)
    if _on_cpu(pixels) and (channels == 1 or pixels.dtype == torch.float64):
        return torch.stack([F.conv2d(image, kernel, groups=channels) for image in pixels])
    # In float32 a kernel for each channel rounds each pixel by itself, for any layout and batch;
    # channels_last makes torch 10 times faster.
    interleaved = pixels.contiguous(memory_format=torch.channels_last)
    smooth: Tensor = F.conv2d(interleaved, kernel, groups=channels)
    return smooth.contiguous()


def _smooth_integers(pixels: Images) -> Float[Tensor, "n c y x"]:
    """The mean in integers: sums are exact, and multiples of 1/13 are never close to a half."""
    whole = pixels.short()
    three = whole[:, :, :-2] + whole[:, :, 1:-1] + whole[:, :, 2:]
    nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
    return (nine + 4 * whole[:, :, 1:-1, 1:-1]).float().mul_(1.0 / 13.0).round_()


def _blend(pixels: Images, other: Tensor, factors: Factors) -> Float[Tensor, "n c h w"]:
    """factor * pixels + (1 - factor) * other."""
    out = _brightness(pixels, factors)
    _add_for_each(out, other, factors)
    return out


def _add_for_each(out: Tensor, other: Tensor, factors: Factors) -> None:
    """Add (1 - factor) * other to each image, in place."""
    shares = [1.0 - factor for factor in factors]
    if not _on_cpu(out):
        out.add_(other * _for_each(shares, out.dtype, out))
        return
    for i, share in enumerate(shares):
        out[i].add_(other[i], alpha=share)


def _on_cpu(pixels: Images) -> bool:
    return pixels.device.type == "cpu"


def _grey(pixels: Images) -> Float[Tensor, "n 1 h w"]:
    if pixels.shape[1] == 1:
        return as_float(pixels)
    red, green, blue = pixels.split(1, dim=1)
    grey: Tensor = red.mul(GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])
    return grey if pixels.is_floating_point() else grey.floor_()


def _posterize(pixels: Images, bits: list[int]) -> Images:
    if pixels.dtype == torch.uint8:
        return pixels & _for_each([256 - (1 << (8 - kept)) for kept in bits], torch.uint8, pixels)
    levels = _for_each([1 << kept for kept in bits], pixels.dtype, pixels)
    # Levels are powers of 2, so nothing is rounded.
    return torch.minimum((pixels * levels).floor_().clamp_(min=0), levels - 1) / levels


def _solarize(pixels: Images, thresholds: Sequence[float]) -> Images:
    """Invert pixels at or above a threshold; `where` would be slow on pixels that alternate."""
    threshold = _for_each(
        [white(pixels) * m for m in thresholds], as_float(pixels[:0]).dtype, pixels
    )
    if pixels.dtype == torch.uint8:
        bright = (pixels >= threshold.ceil().to(torch.uint8)).view(torch.uint8)
        return pixels ^ bright.neg()  # 255 - x has all bits of x inverted
    # With weights of 0 and 1, `lerp` rounds nothing.
    return torch.lerp(pixels, 1.0 - pixels, (pixels >= threshold).to(pixels.dtype))


def _stretch(operation: str, pixels: Images) -> Images:
    from torchvision.transforms.v2 import functional as tv

    stretched: Tensor = {"AutoContrast": tv.autocontrast, "Equalize": tv.equalize}[operation](
        pixels
    )
    return stretched


def _for_each(values: Sequence[float], dtype: torch.dtype, like: Images) -> Tensor:
    """Numbers as a tensor [n,1,1,1]."""
    return constants(values, like, dtype).view(-1, 1, 1, 1)


FACTORS: dict[str, Callable[[Images, Factors], Tensor]] = {
    "Brightness": _brightness,
    "Color": _color,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
}
