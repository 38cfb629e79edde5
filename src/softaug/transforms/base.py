"""What every transform shares: the two steps, and the words for what they take and give.

A transform is a pair of steps. `draw(n, height, width, generator)` draws the random numbers of n
samples on the CPU, as a dict of tensors with leading axis n (nested for a chain).
`apply(images, seen, drawn)` is deterministic. Calling a transform is draw, then apply.

n samples, c channels, h w pixels.
"""

from typing import Any, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float, Int, Shaped
from torch import Generator, Tensor

Drawn: TypeAlias = dict[str, Any]  # name: tensor with leading axis n, or a nested Drawn
Images = Shaped[Tensor, "n c h w"]
Seen = Float[Tensor, "n 1 h w"]


@runtime_checkable
class Transform(Protocol):
    """What SoftAugment and Chain ask of a transform.

    One that changes the size of images also has `output_size(height, width) -> (height, width)`.
    """

    def draw(
        self, n: int, height: int, width: int, generator: Generator | None = None
    ) -> Drawn: ...

    def apply(self, images: Tensor, seen: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]: ...


def call(
    transform: Transform,
    images: Shaped[Tensor, "*n c h w"],
    seen: Float[Tensor, "*n 1 h w"] | None = None,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw, then apply; the `__call__` of every transform.

    images: [N,C,H,W] or one image [C,H,W], any dtype, never changed; seen: the map so far,
    float32 [N,1,H,W] or [1,H,W], None for all ones; generator: on the CPU, None for torch's own.
    Returns (images, seen), new tensors of the same dtypes.
    """
    if images.ndim == 3:
        one, seen_one = call(
            transform, images[None], None if seen is None else seen[None], generator
        )
        return one[0], seen_one[0]
    if images.ndim != 4:
        raise ValueError(f"images must be [N,C,H,W] or [C,H,W], got {list(images.shape)}")
    drawn = transform.draw(len(images), images.shape[-2], images.shape[-1], generator)
    return transform.apply(images, seen, drawn)


def take(drawn: Drawn, index: Int[Tensor, "m"] | slice) -> Drawn:
    """The draws of some samples: what was drawn for an epoch, looked up for a batch."""
    return {
        name: take(value, index) if isinstance(value, dict) else value[index]
        for name, value in drawn.items()
    }


def size_after(transform: Transform, height: int, width: int) -> tuple[int, int]:
    """Height and width of images after a transform: what its `output_size` says, if it has one."""
    output_size = getattr(transform, "output_size", None)
    return (height, width) if output_size is None else output_size(height, width)
