"""Two augmented views of each image, for pre-training without labels."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from softaug import Drawn, Transform
from softaug.transforms.base import Images, Seen, size_after


@dataclass(frozen=True)
class TwoViews:
    """Applies one transform twice to each image, with independent draws.

    `apply` returns the views [N,2,C,H,W] and their maps [N,2,1,H,W]; both views start from the
    unaugmented images.
    """

    transform: Transform

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {
            name: self.transform.draw(n, height, width, generator) for name in ("first", "second")
        }

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        first, second = (
            self.transform.apply(images, seen, drawn[name]) for name in ("first", "second")
        )
        return torch.stack([first[0], second[0]], dim=1), torch.stack([first[1], second[1]], dim=1)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return size_after(self.transform, height, width)
