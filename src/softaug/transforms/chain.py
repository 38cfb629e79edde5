"""A sequence of transforms as one, and a transform that softens nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Generator, Tensor

from softaug.transforms.base import (
    Drawn,
    Images,
    Seen,
    Transform,
    call,
    closed_form,
    is_lossless,
    named,
    only_pixels,
    size_after,
)
from softaug.transforms.pixels import ones


@dataclass(frozen=True)
class Chain:
    """Apply a sequence of transforms; the map rides along, so visibility is the joint one.

    >>> from softaug import Crop, Flip
    >>> images, seen = Chain([Flip(), Crop(sigma=0.3)])(torch.rand(8, 3, 32, 32))
    """

    transforms: Sequence[Transform]

    def __post_init__(self) -> None:
        if isinstance(self.transforms, Transform):
            raise ValueError(
                f"Chain: expected a list of transforms, got {self.transforms}; Chain([...])"
            )
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
            # A map of ones is neither made nor moved before something is lost.
            if seen is None and is_lossless(transform):
                images = only_pixels(transform, images, named(drawn, str(i)))
            else:
                images, seen = transform.apply(images, seen, named(drawn, str(i)))
        return images, ones(images) if seen is None else seen

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        """The images that `apply` makes."""
        for i, transform in enumerate(self.transforms):
            images = only_pixels(transform, images, named(drawn, str(i)))
        return images

    @property
    def lossless(self) -> bool:
        return all(is_lossless(transform) for transform in self.transforms)

    def visibility(self, height: int, width: int, drawn: Drawn) -> Float[Tensor, "n"] | None:
        """The closed form of the one step that loses anything; None if several do.

        Two steps overlap: a product of their visibilities would be wrong.
        """
        lossy = [i for i, transform in enumerate(self.transforms) if not is_lossless(transform)]
        if len(lossy) != 1:
            return None
        (at,) = lossy
        for transform in self.transforms[:at]:
            height, width = size_after(transform, height, width)
        return closed_form(self.transforms[at], height, width, named(drawn, str(at)))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        for transform in self.transforms:
            height, width = size_after(transform, height, width)
        return height, width

    __call__ = call


@dataclass(frozen=True)
class Hard:
    """Apply a transform whose losses soften nothing: `seen` stays as if all remained visible.

    The paper combines RandAugment with its soft crop in this way. transform: one that keeps the
    size of images.

    >>> from softaug import Crop, RandAugment
    >>> images, seen = Chain([Hard(RandAugment()), Crop(sigma=0.3)])(torch.rand(8, 3, 32, 32))
    """

    transform: Transform
    lossless: ClassVar[bool] = True

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
        """The images that `apply` makes."""
        return only_pixels(self.transform, images, drawn)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return size_after(self.transform, height, width)

    __call__ = call
