"""Borrowed: transforms of other libraries (torchvision v2, kornia, any function of an image).

Visibility is measured: the transform runs again, with the same random numbers, on probe images
whose pixels hold their own positions (see `measure` and `geometry`). This package imports the
transforms' common parts, and no other library.

c channels, h w pixels of the image, y x pixels of the result.
"""

import random
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, call, host_draws
from softaug.transforms.borrowed.measure import measure
from softaug.transforms.pixels import in_layout_of, ones

__all__ = ["Borrowed"]


@dataclass(frozen=True)
class Borrowed:
    """Use a transform of torchvision v2, of kornia, or any function of one image.

    Each sample has its own seed, with which the transform runs on that sample alone: the pixels are
    the transform's, and `seen` is measured. A source pixel counts once, however often it is shown.

    The measurement is exact for whole pixels (crop, pad, flip, erase). It is correct to about 1 %
    of the image for affine, perspective, resizing and smooth elastic maps, but with nearest
    neighbours to a source pixel at each border and hole. Transforms that cannot be measured so well
    raise ValueError: reflected borders and folds under interpolation, elastic maps that also
    resize, holes that are then reduced, several resamplings that blur or cut each other. In a Chain
    each step is measured separately. A blur that mixes no more pixels than two interpolations is
    taken for interpolation.

    transform: takes [C,H,W], uint8 or float, returns [C,H,W] or [1,C,H,W], of one size for all
        samples, and draws from the global random state of torch, Python or NumPy, which is restored
        afterwards. It runs once for each sample on its image and 6 times on float32 probe images,
        so it must treat all dtypes and values alike. This takes 2 to 10 ms for an image of 32 x 32,
        15 to 100 ms for 224 x 224.
    colour: states that the transform moves and hides nothing, so that `seen` is passed on. Changes
        of colour, blur and noise cannot be measured, and raise ValueError without it.

    >>> from softaug import Chain
    >>> from torchvision.transforms import v2
    >>> move, jitter = v2.RandomAffine(30, scale=(0.5, 2)), v2.ColorJitter(brightness=0.5)
    >>> transform = Chain([Borrowed(move), Borrowed(jitter, colour=True)])
    >>> images, seen = transform(torch.rand(8, 3, 32, 32))
    """

    transform: Callable[[Any], Any]
    colour: bool = False

    def __post_init__(self) -> None:
        if not callable(self.transform):
            raise ValueError(
                f"Borrowed: transform must be a function of an image, got {self.transform!r}"
            )

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        # NumPy, Python and torch all accept seeds below 2^31.
        return {"seed": torch.randint(2**31 - 1, (n,), generator=generator, device="cpu")}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        seen = ones(images) if seen is None else seen
        with _restored_random_state(images.device):
            blank = self._run(images.new_zeros(images.shape[1:]), seed=0)
            moved = blank.new_empty(len(images), *blank.shape)
            moved_seen = seen.new_empty(len(images), 1, *blank.shape[1:])
            for i, seed in enumerate(host_draws(drawn, "seed", len(images)).tolist()):
                out = self._run(images[i], seed)
                if out.shape != blank.shape:
                    raise ValueError(
                        f"Borrowed: {self._name()} must give images of one size, got "
                        f"{list(blank.shape)} and {list(out.shape)}; add a crop or resize to it"
                    )
                moved[i], moved_seen[i] = out, self._measure(seen[i], len(images[i]), out, seed)
        return in_layout_of(images, moved), moved_seen

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        with _restored_random_state(torch.device("cpu")):
            # A fill may have one value per channel, for 3, 1 or 4 channels.
            for channels in (3, 1):
                with suppress(Exception):
                    out = self._run(torch.zeros(channels, height, width), seed=0)
                    return out.shape[1], out.shape[2]
            out = self._run(torch.zeros(4, height, width), seed=0)
        return out.shape[1], out.shape[2]

    def _run(self, image: Shaped[Tensor, "c h w"], seed: int) -> Shaped[Tensor, "k y x"]:
        """Run the transform on a copy of the image with the random numbers of a seed."""
        _seed_all(seed, image.device)
        out = self.transform(image.clone())
        if isinstance(out, Tensor) and out.ndim == 4 and len(out) == 1:
            out = out[0]
        if not isinstance(out, Tensor) or out.ndim != 3:
            got = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(
                f"Borrowed: {self._name()} must give an image [C,H,W] or [1,C,H,W] for "
                f"{list(image.shape)}, got {got}"
            )
        return out.as_subclass(Tensor)

    @torch.no_grad()
    def _measure(
        self, seen: Float[Tensor, "1 h w"], channels: int, out: Tensor, seed: int
    ) -> Float[Tensor, "1 y x"]:
        """The map of one sample after the transform."""
        if self.colour:
            if out.shape[1:] != seen.shape[1:]:
                raise ValueError(
                    f"Borrowed: {self._name()} changes the size of images from "
                    f"{list(seen.shape[1:])} to {list(out.shape[1:])}: leave out colour=True"
                )
            return seen
        try:
            measured = measure(lambda image: self._run(image, seed), seen[0], channels)
            if measured.shape != out.shape[1:]:
                raise ValueError("it gives another size for a float32 image")
            return measured[None]
        except ValueError as reason:
            raise ValueError(
                f"Borrowed: {self._name()} cannot be measured: {reason}. Split a Compose as "
                "Chain([Borrowed(a), Borrowed(b)]), which measures each step; changes of colour, "
                "blur and noise must stay outside: Chain([Borrowed(geometry), Borrowed(colours, "
                "colour=True)]), where colour=True states that a transform moves and hides nothing"
            ) from reason.__cause__

    def _name(self) -> str:
        return textwrap.shorten(str(self.transform), 200)

    __call__ = call


def _seed_all(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


@contextmanager
def _restored_random_state(device: torch.device) -> Iterator[None]:
    """Restore the global random states afterwards: torch's, Python's, and NumPy's if imported."""
    python, numpy = random.getstate(), sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy else None
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            if numpy:
                numpy.random.set_state(state)
