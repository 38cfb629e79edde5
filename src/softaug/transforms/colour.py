"""Changes of colour for self-supervised learning; no pixel moves, so `seen` stays as it is.

n samples, c channels, h w pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from softaug.transforms._kernels import needs_reference
from softaug.transforms.base import Drawn, Images, Seen, call, draws
from softaug.transforms.pixels import GREY, constants, in_dtype_of, ones, white
from softaug.transforms.policies.operations import check_range

Change: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # pixels and how much to pixels


@dataclass(frozen=True)
class ColourJitter:
    """Change brightness, contrast, saturation and hue of each sample, in a random order.

    Images are uint8, or float in [0, 1]; without three channels only brightness and contrast
    change.
    brightness, contrast, saturation: factors are uniform in 1 plus and minus these; hue: shifts are
    uniform in plus and minus this share of the circle; probability: that a sample is changed.
    The law and the pixels are those of torchvision's `v2.ColorJitter` on float images, which draws
    once for a batch. Source: Chen and He 2021, arXiv 2011.10566, appendix A, for the strengths.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    probability: float = 0.8

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        del height, width
        uniform = 2 * torch.rand(n, 4, generator=generator, device="cpu") - 1
        widths = [self.brightness, self.contrast, self.saturation, self.hue]
        return {
            "change": uniform * torch.tensor(widths, device="cpu"),
            "order": torch.rand(n, 4, generator=generator, device="cpu").argsort(dim=1),
            "applied": torch.rand(n, generator=generator, device="cpu") < self.probability,
        }

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        check_range(images)
        pixels = images.float() / white(images)
        change = draws(drawn, "change", images, torch.float32)
        order = draws(drawn, "order", images)
        applied = draws(drawn, "applied", images, torch.bool)
        changes: Sequence[Change] = [_brighten, _contrast] + [_saturate, _turn] * (
            images.shape[1] == 3
        )
        apply_to = _apply_to_all if needs_reference(images) else _apply_to_members
        for step in range(4):
            for number, function in enumerate(changes):
                members = applied & (order[:, step] == number)
                pixels = apply_to(members, function, pixels, change[:, number, None, None, None])
        # Samples that are not changed are not rounded either.
        changed = in_dtype_of(images, pixels * white(images))
        kept = torch.where(applied[:, None, None, None], changed, images)
        return kept, ones(images) if seen is None else seen.clone()

    __call__ = call


@dataclass(frozen=True)
class Greyscale:
    """Make a sample grey, in all three channels; images of other channels stay as they are.

    Source: Chen and He 2021, appendix A, for the probability.
    """

    probability: float = 0.2

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        del height, width
        return {"grey": torch.rand(n, generator=generator, device="cpu") < self.probability}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        seen = ones(images) if seen is None else seen.clone()
        if images.shape[1] != 3:
            return images.clone(), seen
        grey = in_dtype_of(images, _grey(images.float()).expand(images.shape))
        members = draws(drawn, "grey", images, torch.bool)[:, None, None, None]
        return torch.where(members, grey, images), seen

    __call__ = call


def _apply_to_members(
    members: Bool[Tensor, "n"], function: Change, pixels: Tensor, amount: Tensor
) -> Tensor:
    """Change some samples, which are counted; pixels are overwritten."""
    index = members.nonzero()[:, 0]
    pixels[index] = function(pixels[index], amount[index]).clamp(0, 1)
    return pixels


def _apply_to_all(
    members: Bool[Tensor, "n"], function: Change, pixels: Tensor, amount: Tensor
) -> Tensor:
    """Change all samples and keep some, so that no count is read; pixels stay as they are."""
    changed = function(pixels, amount).clamp(0, 1)
    return torch.where(members[:, None, None, None], changed, pixels)


def _brighten(pixels: Tensor, change: Tensor) -> Tensor:
    return pixels * (1 + change)


def _contrast(pixels: Tensor, change: Tensor) -> Tensor:
    grey = _grey(pixels) if pixels.shape[1] == 3 else pixels
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (1 + change) * (pixels - mean)


def _saturate(pixels: Tensor, change: Tensor) -> Tensor:
    grey = _grey(pixels)
    return grey + (1 + change) * (pixels - grey)


def _turn(pixels: Tensor, change: Tensor) -> Tensor:
    """Turn the hue by a share of the circle; value and chroma stay (Smith 1978, HSV)."""
    red, green, blue = pixels.split(1, dim=1)
    value = pixels.amax(dim=1, keepdim=True)
    chroma = value - pixels.amin(dim=1, keepdim=True)
    divisor = torch.where(chroma == 0, 1.0, chroma)
    # In sixths of the circle, from the channel that is largest.
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    place = (
        sixths + 6 * change + constants((5.0, 3.0, 1.0), pixels, pixels.dtype)[:, None, None]
    ) % 6
    return value - chroma * torch.minimum(place, 4 - place).clamp(0, 1)


def _grey(pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    weights = constants(GREY, pixels, pixels.dtype)[:, None, None]
    return (pixels * weights).sum(dim=1, keepdim=True)
