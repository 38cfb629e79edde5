"""Fills: what a transform shows where nothing of its image is left.

A fill is a number, one number for each channel, or a word. What a word needs is drawn with the
transform's other numbers, after them: `seed` int64 [n], `kind` int64 [n] in 0 ... 3, and `donor`
int64 [n], from which `donor_index` finds another image. n samples, c channels, h w pixels.
"""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int, Integer, Shaped
from torch import Generator, Tensor

from softaug.devices import to_device
from softaug.transforms._kernels import bits, needs_reference
from softaug.transforms.base import Drawn, Images, draws
from softaug.transforms.hashed_noise import (
    draw_seeds,
    random_bytes,
    random_bytes_by_numpy,
    standard_normal,
)
from softaug.transforms.pixels import as_float, fill_or_none, in_dtype_of, memory_format

Fill: TypeAlias = float | Sequence[float] | str

WORDS = ("mean", "reflect", "other", "colour", "noise", "mixed")
# The kinds of "mixed", a quarter of the samples each, as numbers in `kind`.
BLACK, COLOUR, NOISE, OTHER = range(4)
KIND_OF = {"colour": COLOUR, "noise": NOISE, "other": OTHER}


def check_fill(owner: str, fill: object) -> None:
    """The fill of a class (owner) is a number, a number for each channel, or one of WORDS."""
    if isinstance(fill, str):
        good = fill in WORDS
    elif isinstance(fill, Sequence):
        good = len(fill) > 0 and all(isinstance(number, Real) for number in fill)
    else:
        good = isinstance(fill, Real)
    if not good:
        words = ", ".join(f'"{word}"' for word in WORDS)
        raise ValueError(
            f"{owner}: fill must be a number, one for each channel, or one of {words}, got {fill!r}"
        )


def draw_fill(fill: Fill, n: int, generator: Generator | None) -> Drawn:
    """Draw what a fill needs for n samples: nothing for numbers, "mean" and "reflect"."""
    if fill not in (*KIND_OF, "mixed"):
        return {}
    return {"seed": draw_seeds(n, generator), **draw_choice(fill, n, generator)}


def draw_choice(fill: Fill, n: int, generator: Generator | None) -> Drawn:
    """Draw what a fill needs beside a seed: `kind` for "mixed", `donor` for it and "other"."""
    drawn: Drawn = {}
    if fill == "mixed":
        drawn["kind"] = torch.randint(4, (n,), generator=generator, device="cpu")
    if fill in ("mixed", "other"):
        drawn["donor"] = torch.randint(2**62, (n,), generator=generator, device="cpu")
    return drawn


def donor_index(donor: Int[Tensor, "m"], place: Int[Tensor, "m"], n: int) -> Int[Tensor, "m"]:
    """Find, for samples at these places among n images, another image: int64 in 0 ... n - 1.

    donor: the numbers drawn, 0 or more, uniform over so many values that each of the n - 1 others
    is equally likely; they don't depend on n. A sample is never its own donor; -1 where n is 1.
    """
    if n < 2:
        return torch.full_like(donor, -1)
    return (place + 1 + donor % (n - 1)) % n


def fill_pixels(
    fill: Fill, images: Images, drawn: Drawn, size: tuple[int, int] | None = None
) -> Shaped[Tensor, "#n #c #y #x"] | None:
    """Make the pixels of a fill, which broadcast over the images, in their dtype; None is zeros.

    fill: all but "reflect", which every transform makes from its own image. drawn: the draws of
    `draw_fill`; size: height and width of the result, the images' own where it is None.

    `others` in drawn, [n,c,y,x] in the units of the images, are the donors; without it each donor
    is another image of the batch, by `donor_index`. Donors of another size are resized. A sample
    without a donor, of a batch of one or with a negative number in `donor`, shows noise.
    """
    if not isinstance(fill, str):
        return fill_or_none(fill, images)
    if fill == "mean":
        return in_dtype_of(images, as_float(images).mean(dim=(-2, -1), keepdim=True))
    size = (images.shape[-2], images.shape[-1]) if size is None else size
    drawn = _of_fill(fill, images, drawn)
    if fill == "colour":
        return _random(images, drawn["seed"], (1, 1))
    kind = drawn["kind"] if fill == "mixed" else torch.full_like(drawn["seed"], KIND_OF[fill])
    if "donor" in drawn:
        alone = drawn["donor"] < 0
        if len(images) < 2 and "others" not in drawn:
            alone = torch.ones_like(alone)
        kind = torch.where((kind == OTHER) & alone, NOISE, kind)
    make = _reference if needs_reference(images) else _by_kind
    return make(images, kind, drawn, size)


def _of_fill(fill: str, images: Images, drawn: Drawn) -> Drawn:
    """The draws that a fill needs, on the images' device; `donor` and `others` where given."""
    needed = ["seed", *["kind"] * (fill == "mixed"), *["donor"] * ("donor" in drawn)]
    given = {"others": to_device(drawn["others"], images.device)} if "others" in drawn else {}
    return {name: draws(drawn, name, images) for name in needed} | given


def reflected(images: Images, tx: Int[Tensor, "n"], ty: Int[Tensor, "n"]) -> Images:
    """Move the frame of images that go on as mirror images beyond their edges, without end.

    Output pixel (y, x) is input pixel (y + ty, x + tx). The pixels at an edge are not repeated, as
    in `F.pad(mode="reflect")`. tx, ty: int64, any values.
    """
    height, width = images.shape[-2:]
    rows, columns = _mirrored(ty, height), _mirrored(tx, width)
    index = (rows[:, None, :, None] * width + columns[:, None, None, :]).expand(images.shape)
    moved: Tensor = images.flatten(2).gather(2, index.flatten(2)).view(images.shape)
    return moved


def _mirrored(offset: Int[Tensor, "n"], side: int) -> Int[Tensor, "n {side}"]:
    """Which position of one axis each position shows after a shift by an offset."""
    period = max(1, 2 * side - 2)
    position = (torch.arange(side, device=offset.device) + offset[:, None]) % period
    return torch.minimum(position, period - position)


# Each kind's pixels, for the samples at some places of a batch.

Size: TypeAlias = tuple[int, int]
Places: TypeAlias = Int[np.ndarray, "m"]
Bits: TypeAlias = Integer[np.ndarray, "m #c #y #x"]


def _colour(images: Images, place: Int[Tensor, "m"], drawn: Drawn, size: Size) -> Tensor:
    del size
    return _random(images, drawn["seed"].index_select(0, place), (1, 1))


def _noise(images: Images, place: Int[Tensor, "m"], drawn: Drawn, size: Size) -> Tensor:
    return _random(images, drawn["seed"].index_select(0, place), size)


def _random(images: Images, seed: Int[Tensor, "m"], size: Size) -> Shaped[Tensor, "m c y x"]:
    """Random values: standard normal for floats, uniform in 0 ... 255 for integers."""
    shape = (images.shape[1], *size)
    if images.is_floating_point():
        return standard_normal(seed, shape).to(images.dtype)
    return random_bytes(seed, shape).to(images.dtype)


def _other(images: Images, place: Int[Tensor, "m"], drawn: Drawn, size: Size) -> Tensor:
    donors: Tensor
    if "others" in drawn:
        donors = drawn["others"].index_select(0, place).to(images.dtype)
    else:
        donor = drawn["donor"].index_select(0, place)
        donors = images.index_select(0, donor_index(donor, place, len(images)).clamp(min=0))
    if donors.shape[-2:] == size:
        return donors
    resized = F.interpolate(as_float(donors), size, mode="bilinear", antialias=True)
    return in_dtype_of(donors, resized)


MAKERS: dict[int, Callable[[Images, Tensor, Drawn, Size], Tensor]] = {
    COLOUR: _colour,
    NOISE: _noise,
    OTHER: _other,
}


def _reference(
    images: Images, kind: Int[Tensor, "n"], drawn: Drawn, size: Size
) -> Shaped[Tensor, "n c y x"]:
    """Every kind for all samples, in plain torch, without reading a number."""
    place = torch.arange(len(images), device=images.device)
    out = images.new_zeros(len(images), images.shape[1], *size)
    for number, make in MAKERS.items():
        if number != OTHER or "donor" in drawn:
            chosen = (kind == number)[:, None, None, None]
            out = torch.where(chosen, make(images, place, drawn, size), out)
    return out


def _by_kind(
    images: Images, kind: Int[Tensor, "n"], drawn: Drawn, size: Size
) -> Shaped[Tensor, "n c y x"]:
    """Each kind for the samples that show it, written as bits by NumPy, which is fast at that."""
    out = images.new_empty(len(images), images.shape[1], *size)
    out = out.contiguous(memory_format=memory_format(images))
    written, kinds = bits(out), kind.numpy()
    written[kinds == BLACK] = 0
    for number, make in BITS.items():
        place = np.flatnonzero(kinds == number)
        if len(place):
            written[place] = make(images, place, drawn, size)
    return out


def _colour_bits(images: Images, place: Places, drawn: Drawn, size: Size) -> Bits:
    del size
    return _random_bits(images, place, drawn, (1, 1))


def _random_bits(images: Images, place: Places, drawn: Drawn, size: Size) -> Bits:
    seed = drawn["seed"].numpy()[place]
    if images.dtype == torch.uint8:
        return random_bytes_by_numpy(seed, (images.shape[1], *size))
    return bits(_random(images, torch.from_numpy(seed), size))


def _other_bits(images: Images, place: Places, drawn: Drawn, size: Size) -> Bits:
    index = torch.from_numpy(place)
    if "others" in drawn or images.shape[-2:] != size:
        return bits(_other(images, index, drawn, size))
    donor = donor_index(drawn["donor"].index_select(0, index), index, len(images))
    found: Bits = bits(images)[donor.numpy()]
    return found


BITS: dict[int, Callable[[Images, Places, Drawn, Size], Bits]] = {
    COLOUR: _colour_bits,
    NOISE: _random_bits,
    OTHER: _other_bits,
}
