"""What every transform shares: two steps, draw and apply, and how visibility follows from them.

`draw(n, height, width, generator)` draws the random numbers of n samples on the CPU, as a dict of
tensors with leading axis n (nested for a chain). `apply(images, seen, drawn)` is deterministic: it
moves images and, with the pixels, the map of what is still seen. Calling a transform is draw, then
apply.

n samples, c channels, h w pixels.
"""

from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Generator, Tensor

from softaug.checks import check_images
from softaug.devices import to_device, without_autocast
from softaug.maps import visibility

Drawn: TypeAlias = dict[str, Any]  # name: tensor with leading axis n, or a nested Drawn
Images = Shaped[Tensor, "n c h w"]
Seen = Float[Tensor, "n 1 h w"]


@runtime_checkable
class Transform(Protocol):
    """What SoftAugment and Chain need of a transform: `draw` and `apply`.

    A transform that changes the size of images also has
    `output_size(height, width) -> (height, width)`.

    Three more members are optional, and spare the map of images that were whole:
    `visibility(height, width, drawn)`, float32 [n] or None, is the closed form of the map's mean;
    `lossless = True` states that the mean of any map stays as it is, whatever is drawn;
    `pixels(images, drawn)` gives the images of `apply` alone. They count only where one class
    defines them and `apply`: a subclass with an `apply` of its own must define them anew.
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

    images: [N,C,H,W] or one image [C,H,W], uint8 or float, never changed; seen: the map so far,
    float32 [N,1,H,W] or [1,H,W], None for all ones; generator: on the CPU, None for torch's own.
    Returns (images, seen), new tensors of the same dtypes.
    """
    if images.ndim == 3:
        one, seen_one = call(
            transform, images[None], None if seen is None else seen[None], generator
        )
        return one[0], seen_one[0]
    check_images(images)
    drawn = transform.draw(len(images), images.shape[-2], images.shape[-1], generator)
    with without_autocast(images):
        return transform.apply(images, seen, drawn)


def visible(
    transform: Transform, images: Images, seen: Seen | None, drawn: Drawn
) -> tuple[Shaped[Tensor, "n c y x"], Float[Tensor, "n"]]:
    """Apply a transform, and return the images and the visibility of each, float32 [n].

    Visibility is the mean of the map. For images that were whole (seen is None) it is computed
    without a map where the transform has a closed form, with the same bits.
    """
    with without_autocast(images):
        if seen is None:
            height, width = images.shape[-2:]
            share = closed_form(transform, height, width, drawn)
            if share is None and is_lossless(transform):
                share = torch.ones(len(images), device=images.device)
            if share is not None:
                pixels = only_pixels(transform, images, drawn)
                return pixels, to_device(share, images.device)
        images, seen = transform.apply(images, seen, drawn)
        return images, visibility(seen)


def is_lossless(transform: Transform) -> bool:
    """Whether the transform states that the mean of any map stays as it is."""
    return bool(_stated(transform, "lossless"))


def closed_form(
    transform: Transform, height: int, width: int, drawn: Drawn
) -> Float[Tensor, "n"] | None:
    """The visibility of whole images after a transform that states it; None for others."""
    formula = _stated(transform, "visibility")
    return None if formula is None else formula(height, width, drawn)


def only_pixels(transform: Transform, images: Images, drawn: Drawn) -> Images:
    """The images that a transform makes, without the map where it can do so."""
    pixels = _stated(transform, "pixels")
    return transform.apply(images, None, drawn)[0] if pixels is None else pixels(images, drawn)


def _stated(transform: Transform, name: str) -> Any:
    """An optional member; None unless the class that defines `apply` is the one that defines it."""
    for cls in type(transform).__mro__:
        defined = cls.__dict__
        if "apply" in defined or name in defined:
            return getattr(transform, name) if "apply" in defined and name in defined else None
    return None


def draws(
    drawn: Drawn, name: str, images: Images, dtype: torch.dtype = torch.int64
) -> Shaped[Tensor, "n *rest"]:
    """Read checked draws for `apply`: one for each image, on the images' device."""
    return to_device(host_draws(drawn, name, len(images), dtype), images.device, dtype)


def host_draws(
    drawn: Drawn, name: str, n: int, dtype: torch.dtype = torch.int64
) -> Shaped[Tensor, "n *rest"]:
    """Read checked draws where they are, for transforms whose host looks them up.

    Raises ValueError unless they are of n samples and of the kind of dtype: whole numbers, real
    numbers, or true and false.
    """
    found: Tensor = named(drawn, name)
    if found.ndim == 0 or len(found) != n or _kind(found.dtype) != _kind(dtype):
        raise ValueError(
            f"drawn[{name!r}] must be {str(dtype)[6:]} of {n} samples as the images, "
            f"got {str(found.dtype)[6:]} {list(found.shape)}"
        )
    return found


def named(drawn: Drawn, name: str) -> Any:
    """Look up draws by name; the ValueError for one that is missing says why that may be."""
    if name not in drawn:
        raise ValueError(f"drawn must have {name!r}, has {list(drawn)}; is it another transform's?")
    return drawn[name]


def _kind(dtype: torch.dtype) -> tuple[bool, bool]:
    return dtype.is_floating_point, dtype == torch.bool


def take(drawn: Drawn, index: Int[Tensor, "m"] | slice) -> Drawn:
    """The draws of some samples: what was drawn for an epoch, looked up for a batch."""
    return {
        name: take(value, index) if isinstance(value, dict) else value[index]
        for name, value in drawn.items()
    }


def size_after(transform: Transform, height: int, width: int) -> tuple[int, int]:
    """Height and width of images after a transform: its `output_size`, or unchanged without one."""
    output_size = getattr(transform, "output_size", None)
    return (height, width) if output_size is None else output_size(height, width)
