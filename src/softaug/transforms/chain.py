"""A sequence of transforms as one, and a transform that softens nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, Transform, call, size_after
from softaug.transforms.flip import Flip, Still, VerticalFlip
from softaug.transforms.pixels import ones


@dataclass(frozen=True)
class Chain:
    """A sequence of transforms as one; the map rides along, so visibility is the joint one.

    >>> from softaug import Crop, Flip
    >>> images, seen = Chain([Flip(), Crop(sigma=0.3)])(torch.rand(8, 3, 32, 32))
    """

    transforms: Sequence[Transform]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", tuple(self.transforms))
        if not self.transforms:
            raise ValueError(
                "Chain: expected at least one transform, got none; Still() does nothing"
            )

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        drawn: Drawn = {}
        for i, transform in enumerate(self.transforms):
            drawn[str(i)] = transform.draw(n, height, width, generator)
            height, width = size_after(transform, height, width)
        return drawn

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        for i, transform in enumerate(self.transforms):
            # A map of ones is neither made nor carried about before something is lost.
            if seen is None and type(transform) in KEEPING:
                assert isinstance(transform, KEEPING)
                images = transform.pixels(images, drawn[str(i)])
            else:
                images, seen = transform.apply(images, seen, drawn[str(i)])
        return images, ones(images) if seen is None else seen

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        for transform in self.transforms:
            height, width = size_after(transform, height, width)
        return height, width

    __call__ = call


@dataclass(frozen=True)
class Hard:
    """A transform whose losses soften nothing: `seen` is only carried, as if all stayed visible.

    So does the paper combine RandAugment with its soft crop. transform: one that keeps the size.

    >>> from softaug import Crop, RandAugment
    >>> images, seen = Chain([Hard(RandAugment()), Crop(sigma=0.3)])(torch.rand(8, 3, 32, 32))
    """

    transform: Transform

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        after = self.output_size(height, width)
        if after != (height, width):
            raise ValueError(
                f"Hard: expected a transform that keeps the size of images, got {self.transform}, "
                f"which makes {list(after)} of {[height, width]}"
            )
        return self.transform.draw(n, height, width, generator)

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return self.pixels(images, drawn), ones(images) if seen is None else seen.clone()

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        return self.transform.apply(images, None, drawn)[0]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return size_after(self.transform, height, width)

    __call__ = call


KEEPING = (Flip, VerticalFlip, Still, Hard)  # what leaves the sum of any map as it is
