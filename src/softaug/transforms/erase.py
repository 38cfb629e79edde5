"""Erasing: rectangles that hide a part of the image."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from softaug.checks import check_numbers, check_rising, check_unit, check_whole
from softaug.maps import share_of_image
from softaug.transforms._kernels import cover, cover_with_map
from softaug.transforms.base import Drawn, Images, Seen, call, draws, named
from softaug.transforms.fills import Fill, check_fill, draw_choice, fill_pixels
from softaug.transforms.hashed_noise import draw_seeds

Share = float | tuple[float, float]  # one number, or least and largest
EDGES = ("top", "bottom", "left", "right")


class Hide:
    """Base of transforms that hide a rectangle of each sample under a fill; ends are exclusive."""

    fill: Fill

    def rectangles(
        self, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor, generator: Generator | None
    ) -> Drawn:
        """Put the ends of rectangles, int64 [n] in pixels, beside draws for the fill."""
        n = len(top)
        return {
            "top": top,
            "left": left,
            "bottom": bottom,
            "right": right,
            "seed": draw_seeds(n, generator),
            **draw_choice(self.fill, n, generator),
        }

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        fill = self._fill_pixels(images, drawn)
        return cover_with_map(images, seen, _edges(images, drawn), fill)

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        """The images that `apply` makes."""
        fill = self._fill_pixels(images, drawn)
        return cover(images, _edges(images, drawn), fill)

    def _fill_pixels(self, images: Images, drawn: Drawn) -> Tensor | None:
        if self.fill == "reflect":
            return images.flip(-1)
        return fill_pixels(self.fill, images, drawn)

    def visibility(self, height: int, width: int, drawn: Drawn) -> Float[Tensor, "n"]:
        """1 less the share of a whole image that the rectangle covers inside of the image."""
        top, bottom, left, right = (named(drawn, name).long() for name in EDGES)
        tall = (bottom.clamp(max=height) - top.clamp(min=0)).clamp(min=0)
        wide = (right.clamp(max=width) - left.clamp(min=0)).clamp(min=0)
        return share_of_image((height * width - tall * wide).float(), height, width)


@dataclass(frozen=True)
class Erase(Hide):
    """Hide one rectangle, wholly inside the image, at a uniform place: soft random erasing.

    Its share of the area is uniform over `area`, its aspect (height / width) log-uniform over the
    part of `aspect` that fits, so that the share is always the one drawn, up to whole pixels.

    area: least and largest share of the image in [0, 1], or one number; aspect: least and largest,
    above 0; probability: that anything is erased.
    fill: as in `Crop`; "reflect" shows the image mirrored left to right, in the same places.
    A curve with k = 1 suits chains that only erase (Siedel et al. 2025, arXiv 2507.16427, erase
    softly with confidence linear in the share left).
    Source: Zhong et al. 2020, "Random Erasing Data Augmentation", arXiv 1708.04896.

    >>> _, seen = Erase(area=0.25, aspect=(1, 1))(torch.rand(8, 3, 32, 32))
    >>> seen.mean()
    tensor(0.7500)
    """

    area: Share = (0.02, 0.33)
    aspect: tuple[float, float] = (0.3, 3.3)
    fill: Fill = 0
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_shares("Erase", "area", self.area)
        check_rising("Erase", "aspect", self.aspect)
        check_unit("Erase", "probability", self.probability)
        check_fill("Erase", self.fill)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        uniform = torch.rand(5, n, dtype=torch.float64, generator=generator, device="cpu")
        low, high = as_range(self.area)
        share = low + (high - low) * uniform[0]
        narrowest = (share * height / width).clamp(min=self.aspect[0])
        widest = (height / (width * share)).clamp(max=self.aspect[1])
        # Where no aspect of the range fits the image, the nearest one that does.
        widest = torch.maximum(widest, share * height / width)
        narrowest = torch.minimum(narrowest, widest)
        aspect = (narrowest.log().lerp(widest.log(), uniform[1])).exp()
        tall = (share * aspect * height * width).sqrt().round().long().clamp(1, height)
        wide = (share / aspect * height * width).sqrt().round().long().clamp(1, width)
        erased = (uniform[2] < self.probability) & (share > 0)
        tall, wide = tall * erased, wide * erased
        top = (uniform[3] * (height - tall + 1)).long()
        left = (uniform[4] * (width - wide + 1)).long()
        return self.rectangles(top, left, top + tall, left + wide, generator)

    __call__ = call


@dataclass(frozen=True)
class Cutout(Hide):
    """Hide one square around a uniform pixel, less the part of it that lies outside of the image.

    side: the square's, in pixels, 1 or more; fill: as in `Erase`.
    Source: DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with
    Cutout", arXiv 1708.04552.
    """

    side: int = 16
    fill: Fill = 0

    def __post_init__(self) -> None:
        check_whole("Cutout", "side", self.side, 1, "pixel")
        check_fill("Cutout", self.fill)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        top = torch.randint(height, (n,), generator=generator, device="cpu") - self.side // 2
        left = torch.randint(width, (n,), generator=generator, device="cpu") - self.side // 2
        return self.rectangles(top, left, top + self.side, left + self.side, generator)

    __call__ = call


def as_range(share: Share) -> tuple[float, float]:
    """Return least and largest of a share that may be one number."""
    return share if isinstance(share, tuple) else (share, share)


def check_shares(owner: str, option: str, share: Share) -> None:
    """Raise ValueError unless a share, or its least and largest value, is in [0, 1]."""
    low, high = as_range(share)
    check_numbers(owner, option, low, high)
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"{owner}: {option} must be shares of the image, 0 <= least <= largest <= 1, "
            f"got {share}"
        )


def _edges(images: Images, drawn: Drawn) -> Int[Tensor, "4 n"]:
    """Top, bottom, left and right of each rectangle."""
    return torch.stack([draws(drawn, name, images) for name in EDGES])
