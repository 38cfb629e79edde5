"""Fills: what a view of a test image shows where the image is missing.

The usual ones are what training fills with: black, the mean colour, noise, another image. The
unseen ones are in no arm's training. Every pattern follows from the image's number in the test set
and a seed alone: it is the same for every model, batch size and number of processes. n images, c
channels, h w pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from softaug_lab.basics.seeds import hashed_uniform, hashed_words, keyed

USUAL = ("black", "mean", "noise", "other")
UNSEEN = ("checkerboard", "white", "ellipses", "texture")
CLOTHES = "clothes"  # unseen too, unless they are the data
ELLIPSES = 6  # in each image
WAVES = 24  # in the texture

Numbers = Int64[Tensor, "n"]
Pixels = UInt8[Tensor, "n c h w"]
Paint = Callable[[Numbers, tuple[object, ...]], Tensor]


@dataclass(frozen=True, eq=False)
class Fills:
    """Painter of all fills for one test set.

    images: the test images, of which other ones are shown. mean: the mean colour of the training
    images, 0 to 255, a number for each channel. clothes: grey images [M,1,h,w] of other things,
    which are shown in random colours; None where they are the data.
    """

    images: Pixels
    mean: Sequence[float]
    clothes: UInt8[Tensor, "m 1 height width"] | None = None

    def __post_init__(self) -> None:
        channels = self.images.shape[1]
        if len(self.mean) != channels or not all(0 <= value <= 255 for value in self.mean):
            raise ValueError(
                f"mean must be in [0, 255], a number for each of {channels} channels, "
                f"got {self.mean}"
            )

    @cached_property
    def _paints(self) -> dict[str, Paint]:
        channels, height, width = shape = tuple(self.images.shape[1:])
        paints: dict[str, Paint] = {
            "black": partial(_plain, shape, [0.0] * channels),
            "mean": partial(_plain, shape, self.mean),
            "noise": partial(_noise, shape),
            "other": partial(_other, self.images),
            "checkerboard": partial(_checkerboard, shape),
            "white": partial(_plain, shape, [255.0] * channels),
            "ellipses": partial(_ellipses, shape),
            "texture": partial(_shifted_texture, make_texture(*shape)),
        }
        if self.clothes is not None:
            size = (height, width)
            scaled = interpolate(self.clothes.float(), size, mode="bilinear", antialias=True)
            paints[CLOTHES] = partial(_tinted, channels, scaled[:, 0] / 255)
        return paints

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The names of the fills of each group."""
        unseen = UNSEEN if self.clothes is None else (*UNSEEN, CLOTHES)
        return {"usual": USUAL, "unseen": unseen}

    def paint(self, names: Sequence[str], fill: Tensor, numbers: Numbers, *key: object) -> Pixels:
        """Paint a whole picture for each image number [n]: names[fill[i]], uint8 [n,c,h,w].

        key: what the random numbers depend on beside the fill and the number.
        """
        painted = self.images.new_empty((len(numbers), *self.images.shape[1:]))
        for i, name in enumerate(names):
            rows = (fill == i).nonzero()[:, 0]
            if len(rows):
                painted[rows] = self._paints[name](numbers[rows], (name, *key))
        return painted


Shape = tuple[int, ...]  # channels, height, width


def _plain(shape: Shape, colour: Sequence[float], numbers: Numbers, _: object) -> Tensor:
    pixels = torch.tensor([round(value) for value in colour], dtype=torch.uint8)
    return pixels[:, None, None].expand(len(numbers), *shape)


def _noise(shape: Shape, numbers: Numbers, key: tuple[object, ...]) -> Tensor:
    """Every value of every pixel uniform."""
    values = shape[0] * shape[1] * shape[2]
    words = hashed_words(numbers, -(-values // 8), *key)
    return words.view(torch.uint8)[:, :values].reshape(len(numbers), *shape)


def _other(images: Pixels, numbers: Numbers, key: tuple[object, ...]) -> Tensor:
    """Another test image; noise where there is no other."""
    if len(images) == 1:
        return _noise(tuple(images.shape[1:]), numbers, key)
    further = 1 + (hashed_uniform(numbers, 1, *key)[:, 0] * (len(images) - 1)).long()
    chosen: Tensor = images[(numbers + further) % len(images)]
    return chosen


def _checkerboard(shape: Shape, numbers: Numbers, key: tuple[object, ...]) -> Tensor:
    """Black and white cells of 1/16 to 1/4 of the short side."""
    channels, height, width = shape
    size, *phases = hashed_uniform(numbers, 3, *key).T
    cell = (min(height, width) * (1 + 3 * size) / 16).round().long().clamp(min=1)
    rows, columns = (
        (torch.arange(side) + (2 * cell * phase).long()[:, None]) // cell[:, None]
        for side, phase in zip((height, width), phases, strict=True)
    )
    light: Tensor = 255 * ((rows[:, :, None] + columns[:, None, :]) % 2)
    return light.to(torch.uint8)[:, None].expand(-1, channels, -1, -1)


def _ellipses(shape: Shape, numbers: Numbers, key: tuple[object, ...]) -> Tensor:
    """Ellipses in random colours, radii 1/20 to 7/20 of the sides, on a ground of another."""
    channels, height, width = shape
    drawn = hashed_uniform(numbers, (1 + ELLIPSES) * (4 + channels), *key).float()
    drawn = drawn.view(len(numbers), 1 + ELLIPSES, 4 + channels)
    colours = (256 * drawn[:, :, 4:]).to(torch.uint8)[..., None, None]
    painted: Tensor = colours[:, 0].expand(-1, -1, height, width)
    for i in range(1, 1 + ELLIPSES):
        y, x, tall, wide = drawn[:, i, :4, None].unbind(dim=1)
        rows = ((torch.arange(height) / height - y) / (0.05 + 0.3 * tall)).square()
        columns = ((torch.arange(width) / width - x) / (0.05 + 0.3 * wide)).square()
        inside = (rows[:, :, None] + columns[:, None, :] < 1)[:, None]
        painted = torch.where(inside, colours[:, i], painted)
    return painted


def make_texture(channels: int, height: int, width: int) -> UInt8[Tensor, "c h w"]:
    """Make one texture of plane waves, 1 to 8 in each side, the same for every seed; it repeats."""
    generator = keyed("texture", channels, height, width)
    waves = torch.randint(-8, 9, (WAVES, 2), generator=generator).double()
    waves[(waves == 0).all(dim=1)] = 1
    phase = torch.rand(channels, WAVES, 1, 1, generator=generator, dtype=torch.float64)
    y, x = torch.arange(height) / height, torch.arange(width) / width
    turns = waves[:, 0, None, None] * y[:, None] + waves[:, 1, None, None] * x + phase
    strength = 1 / waves.norm(dim=1)[:, None, None]
    heights: Tensor = ((2 * torch.pi * turns).sin() * strength).sum(dim=1)
    spread = strength.square().sum().div(2).sqrt()
    texture: Tensor = 127.5 * (1 + heights / (1.5 * spread))
    return texture.clamp(0, 255).to(torch.uint8)


def _shifted_texture(texture: Tensor, numbers: Numbers, key: tuple[object, ...]) -> Tensor:
    """The texture, shifted by a random part of its sides."""
    height, width = texture.shape[1:]
    up, along = hashed_uniform(numbers, 2, *key).T
    rows = (torch.arange(height) + (up * height).long()[:, None]) % height
    columns = (torch.arange(width) + (along * width).long()[:, None]) % width
    return texture[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)


def _tinted(
    channels: int,
    clothes: Float[Tensor, "m h w"],
    numbers: Numbers,
    key: tuple[object, ...],
) -> Tensor:
    """One of the grey images, from one random colour where it is black to another where white."""
    drawn = hashed_uniform(numbers, 1 + 2 * channels, *key).float()
    chosen = clothes[(drawn[:, 0] * len(clothes)).long()][:, None]
    colours = 256 * drawn[:, 1:].view(len(numbers), 2, channels, 1, 1)
    dark, light = colours.unbind(dim=1)
    return torch.lerp(dark, light, chosen).clamp(max=255).to(torch.uint8)
