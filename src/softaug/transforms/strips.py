"""Masks of spectrograms: a strip of time, or a band of frequencies, that is hidden."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from softaug.checks import check_numbers, check_unit
from softaug.transforms.base import Drawn, call
from softaug.transforms.erase import Hide
from softaug.transforms.fills import Fill, check_fill, draw_choice
from softaug.transforms.hashed_noise import draw_seeds


@dataclass(frozen=True)
class _Strip(Hide):
    """What both masks share: one strip from edge to edge, at a uniform place."""

    share: float | tuple[float, float] = (0.02, 0.3)
    fill: Fill = 0
    probability: float = 1.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        low, high = self._shares()
        check_numbers(name, "share", low, high)
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"{name}: share must be of the image, 0 <= least <= largest <= 1, got {self.share}"
            )
        check_unit(name, "probability", self.probability)
        check_fill(name, self.fill)

    def _shares(self) -> tuple[float, float]:
        return self.share if isinstance(self.share, tuple) else (self.share, self.share)

    def _ends(self, n: int, side: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Draw where strips begin and end along a side, in pixels; ends exclusive."""
        uniform = torch.rand(3, n, dtype=torch.float64, generator=generator, device="cpu")
        low, high = self._shares()
        share = low + (high - low) * uniform[0]
        wide = (share * side).round().long().clamp(1, side)
        wide = wide * ((uniform[1] < self.probability) & (share > 0))
        begin = (uniform[2] * (side - wide + 1)).long()
        return begin, begin + wide

    __call__ = call


@dataclass(frozen=True)
class TimeMask(_Strip):
    """Hide one strip of time, all frequencies of it: SpecAugment's time masking, with visibility.

    For spectrograms [N,C,frequency,time]: the strip runs over the whole height. Its share of the
    width is uniform over `share`, up to whole pixels.

    share: least and largest share of the width in [0, 1], or one number; probability: that
    anything is hidden; fill: as in `Crop`.
    Source: Park et al. 2019, "SpecAugment", arXiv 1904.08779, section 2 (there the width is drawn
    in frames, and several strips may be hidden: chain as many).

    >>> _, seen = TimeMask(share=0.25)(torch.rand(8, 1, 64, 100))
    >>> seen.mean()
    tensor(0.7500)
    """

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        left, right = self._ends(n, width, generator)
        return {
            "top": torch.zeros_like(left),
            "left": left,
            "bottom": torch.full_like(left, height),
            "right": right,
            "seed": draw_seeds(n, generator),
            **draw_choice(self.fill, n, generator),
        }


@dataclass(frozen=True)
class FrequencyMask(_Strip):
    """Hide one band of frequencies at all times: SpecAugment's frequency masking, with visibility.

    For spectrograms [N,C,frequency,time]: the band runs over the whole width. Its share of the
    height is uniform over `share`, up to whole pixels.

    share: least and largest share of the height in [0, 1], or one number; probability: that
    anything is hidden; fill: as in `Crop`.
    Source: Park et al. 2019, "SpecAugment", arXiv 1904.08779, section 2.

    >>> _, seen = FrequencyMask(share=0.25)(torch.rand(8, 1, 64, 100))
    >>> seen.mean()
    tensor(0.7500)
    """

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        top, bottom = self._ends(n, height, generator)
        return {
            "top": top,
            "left": torch.zeros_like(top),
            "bottom": bottom,
            "right": torch.full_like(top, width),
            "seed": draw_seeds(n, generator),
            **draw_choice(self.fill, n, generator),
        }
