"""Crops that shift the frame by whole pixels: the soft crop, and the standard hard one."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from softaug.checks import check_numbers, check_whole
from softaug.maps import share_of_image
from softaug.transforms._kernels import shift, shift_with_map
from softaug.transforms.base import Drawn, Images, Seen, call, draws, named
from softaug.transforms.fills import Fill, check_fill, draw_fill, fill_pixels, reflected


class _Shift:
    """What crops share: the frame moves by tx and ty whole pixels, drawn for each sample.

    Output pixel (y, x) shows input pixel (y + ty, x + tx), or `fill` outside of the image.
    """

    fill: Fill

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        tx, ty = _offsets(images, drawn)
        return shift_with_map(images, seen, tx, ty, self._fill_pixels(images, drawn, tx, ty))

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        """The images that `apply` makes."""
        tx, ty = _offsets(images, drawn)
        return shift(images, tx, ty, self._fill_pixels(images, drawn, tx, ty))

    def _fill_pixels(
        self, images: Images, drawn: Drawn, tx: Int[Tensor, "n"], ty: Int[Tensor, "n"]
    ) -> Tensor | None:
        if self.fill == "reflect":
            return reflected(images, tx, ty)
        return fill_pixels(self.fill, images, drawn)

    def visibility(self, height: int, width: int, drawn: Drawn) -> Float[Tensor, "n"]:
        """(W - |tx|)(H - |ty|) / (W H) for images that were whole: Liu et al. 2023, section 3."""
        rows = (height - named(drawn, "ty").long().abs()).clamp(min=0)
        columns = (width - named(drawn, "tx").long().abs()).clamp(min=0)
        return share_of_image((rows * columns).float(), height, width)


@dataclass(frozen=True)
class Crop(_Shift):
    """Shift the frame by a truncated normal offset: the soft crop.

    tx and ty are independent, normal with standard deviation sigma * width and sigma * height,
    truncated at the side (distributed as if drawn again until within it, instead of clamped), then
    rounded to whole pixels. Output pixel (y, x) shows input pixel (y + ty, x + tx), or `fill`
    outside of the image.

    sigma: a share of the side, in [0, 1]; the paper takes 0.3. A pair is (vertical, horizontal).
    fill: a number, or one for each channel, in the units of the images, or a word:
        "mean", the image's own mean colour; "reflect", the image mirrored at its edges;
        "colour", one random colour for each sample; "noise", a random value for each pixel;
        "other", another image of the batch in the same places;
        "mixed", for each sample 0 in all channels, "colour", "noise" or "other", a quarter each.
        Random values are uniform in 0 ... 255 for uint8 images and standard normal for float
        images, which suits normalised ones. A batch of one has no other image, and shows noise.
        `seen` counts the own image alone, whatever the fill.
    Source: Liu et al. 2023, section 3; per axis, where the paper takes the longer side.

    >>> images, seen = Crop(sigma=0.3)(torch.rand(8, 3, 32, 32))
    >>> images.shape, seen.shape
    (torch.Size([8, 3, 32, 32]), torch.Size([8, 1, 32, 32]))
    """

    sigma: float | tuple[float, float] = 0.3
    fill: Fill = 0

    def __post_init__(self) -> None:
        check_numbers("Crop", "sigma", *self.sigmas)
        if not all(0 <= sigma <= 1 for sigma in self.sigmas):
            raise ValueError(
                "Crop: sigma is a share of the image side, expected 0 to 1 (the paper: 0.3), "
                f"got {self.sigma}; divide an offset in pixels by the side"
            )
        check_fill("Crop", self.fill)

    @property
    def sigmas(self) -> tuple[float, float]:
        """The strength of each axis: vertical, horizontal."""
        return self.sigma if isinstance(self.sigma, tuple) else (self.sigma, self.sigma)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        vertical, horizontal = self.sigmas
        tx = truncated_normal(n, horizontal, generator).mul_(width)
        ty = truncated_normal(n, vertical, generator).mul_(height)
        offsets = {"tx": tx.round_().long(), "ty": ty.round_().long()}
        return offsets | draw_fill(self.fill, n, generator)

    __call__ = call


@dataclass(frozen=True)
class UniformCrop(_Shift):
    """Crop at a uniform place after padding by `padding` pixels: the standard hard crop.

    tx and ty are independent and uniform over the whole numbers -padding to padding.
    fill: as in `Crop`.
    Source: Liu et al. 2023, eq. 1.
    """

    padding: int = 4
    fill: Fill = 0

    def __post_init__(self) -> None:
        check_whole("UniformCrop", "padding", self.padding, 0, "pixels")
        check_fill("UniformCrop", self.fill)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        if self.padding > min(height, width):
            raise ValueError(
                f"UniformCrop: padding must be at most the side, got {self.padding} "
                f"for images of {height} x {width} pixels"
            )
        low, high = -self.padding, self.padding + 1
        offsets = {
            "tx": torch.randint(low, high, (n,), generator=generator, device="cpu"),
            "ty": torch.randint(low, high, (n,), generator=generator, device="cpu"),
        }
        return offsets | draw_fill(self.fill, n, generator)

    __call__ = call


def truncated_normal(n: int, sigma: float, generator: Generator | None) -> Float[Tensor, "n"]:
    """Normal numbers with standard deviation sigma, truncated (not clamped) to [-1, 1]: float64.

    Computed by the inverse of the distribution function, from one uniform number for each sample,
    whatever sigma is, so that nothing is drawn again.
    """
    uniform = torch.rand(n, dtype=torch.float64, generator=generator, device="cpu").mul_(2).sub_(1)
    if sigma == 0:
        return torch.zeros_like(uniform)
    inside = math.erf(1 / (sigma * math.sqrt(2)))
    normal = uniform.mul_(inside).erfinv_().mul_(math.sqrt(2))
    # erfinv is infinite where `inside` rounds to 1 and the uniform number is -1 exactly.
    return normal.mul_(sigma).clamp_(-1, 1)


def _offsets(images: Images, drawn: Drawn) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """tx and ty, on the images' device."""
    return draws(drawn, "tx", images), draws(drawn, "ty", images)
