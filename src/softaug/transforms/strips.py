"""Masks of spectrograms: a strip of time, or a band of frequencies, that is hidden."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from softaug.checks import check_unit
from softaug.transforms.base import Drawn, call
from softaug.transforms.erase import Hide, Share, as_range, check_shares
from softaug.transforms.fills import Fill, check_fill


@dataclass(frozen=True)
class _Strip(Hide):
    """Base of both masks: one strip from edge to edge, at a uniform place."""

    share: Share = (0.02, 0.3)
    fill: Fill = 0
    probability: float = 1.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_shares(name, "share", self.share)
        check_unit(name, "probability", self.probability)
        check_fill(name, self.fill)

    def _ends(self, n: int, side: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Draw where strips begin and end along a side, in pixels; ends exclusive."""
        uniform = torch.rand(3, n, dtype=torch.float64, generator=generator, device="cpu")
        low, high = as_range(self.share)
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
        top = torch.zeros_like(left)
        return self.rectangles(top, left, top + height, right, generator)


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
        left = torch.zeros_like(top)
        return self.rectangles(top, left, bottom, left + width, generator)
