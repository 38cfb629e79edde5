"""The geometry of an unknown transform, measured by probe images.

Moving and resampling pixels is linear, out = A in + b with b the fill. So images of 1, y, x and
y^2 + x^2, minus a blank image, come out as A 1, A y, A x and A (y^2 + x^2) without any fill: A 1 is
a pixel's weight, below 1 where something is hidden, and A y / A 1 is its position in the source.

c channels, h w pixels of the source, y x pixels of the result, p points in each of these. Positions
are (row, column) in pixels of the source, where 0 is the centre of the first pixel.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

TOLERANCE = 1e-3  # of probes, which lie in [0, 1], and of positions, in pixels

Map = Float[Tensor, "y x"]
Mask = Bool[Tensor, "y x"]
Positions = Float[Tensor, "2 y x"]
Slopes = Float[Tensor, "2 2 y x"]  # d(row, column) / d(y, x)


@dataclass(frozen=True)
class Geometry:
    """Where each output pixel comes from in the source, as measured by the probe images."""

    weight: Map  # 1 where nothing is hidden, 0 where no position is shown
    positions: Positions
    spread: Map  # variance of the source pixels that are mixed, in square pixels
    full: Mask  # weight 1: shown, with nothing hidden
    whole: bool  # all full pixels come from whole pixels: not resampled, or by nearest neighbours
    size: Float[Tensor, "2 1 1"]  # of the source


def run_probes(
    run: Callable[[Tensor], Tensor], channels: int, like: Float[Tensor, "h w"]
) -> Float[Tensor, "4 y x"]:
    """Transform the probe images: A 1, A y, A x and A (y^2 + x^2), with y, x as shares of the side.

    like: the map before, whose size and device the probes have. All probes lie in [0, 1].
    Raises ValueError where the transform fails on them, or changes more than positions.
    """
    height, width = like.shape
    y, x = (torch.ones_like(like).cumsum(dim) - 0.5 for dim in (0, 1))
    square = (y**2 + x**2) / (height**2 + width**2)
    probes = torch.stack([torch.ones_like(like), y / height, x / width, square])
    # A mixture unlike the probes: darkest where they are brightest, different in each channel.
    shares = 0.1 + 0.05 * torch.stack([torch.arange(4).roll(c) for c in range(channels)]).to(like)
    shares = torch.cat([shares[:, :1] + 0.5, -shares[:, 1:]], dim=1)
    mixture = torch.einsum("cq,qhw->chw", shares, probes)
    try:
        # Probes have the image's channels: random fills draw for each channel, then the position.
        blank = run(torch.zeros_like(mixture)).float()
        responses = torch.stack([run(probe.expand_as(mixture)).float() for probe in probes]) - blank
        mixed = run(mixture).float() - blank
    except Exception as error:
        raise ValueError(f"it fails on a float32 image in [0, 1] ({error})") from error
    if len(blank) != channels:
        raise ValueError(f"it makes {len(blank)} channels of {channels}")
    if (responses - responses[:, :1]).abs().max() > TOLERANCE:
        raise ValueError("it treats channels differently")
    if (mixed - torch.einsum("cq,qcyx->cyx", shares, responses)).abs().max() > TOLERANCE:
        raise ValueError("it changes values, mixes channels, or draws numbers that no seed repeats")
    whole = (responses[0, 0] - 1).abs() < TOLERANCE / 100
    if (blank.abs().amax(dim=0) * whole).max() > 10 * TOLERANCE:
        raise ValueError("it adds to pixels that it does not hide")
    return responses[:, 0]


def read_geometry(responses: Float[Tensor, "4 y x"], height: int, width: int) -> Geometry:
    """Compute the geometry from the responses to the probes; height, width: of the source.

    Raises ValueError where pixels are inverted or never shown in full.
    """
    if responses[0].min() < -0.5:
        raise ValueError("it inverts values")
    size = torch.tensor((height, width)).double().view(2, 1, 1)
    square = (size**2).sum()
    means = responses[1:] / responses[0].clamp(min=TOLERANCE)
    positions = means[:2] * size - 0.5
    # Rounding errors are removed, so that moves by whole pixels are exact.
    positions = torch.where(
        (positions - positions.round()).abs() < TOLERANCE, positions.round(), positions
    )
    spread = means[2] * square - ((positions + 0.5) ** 2).sum(dim=0)
    # A pixel filled with the image's mean mixes all of the source: it shows no position.
    shown = (responses[0] > TOLERANCE) & ((spread * 12 / square - 1).abs() > 0.05)
    full = shown & ((responses[0] - 1).abs() < TOLERANCE)
    if shown.any() and not full.any():
        raise ValueError("it shows no pixel in full, or changes brightness")
    whole = bool((positions == positions.round())[:, full].all())
    return Geometry(torch.where(shown, responses[0], 0), positions, spread, full, whole, size)


def differences(positions: Positions) -> tuple[Slopes, Map]:
    """Slopes from the pixels on both sides, and the largest second difference."""
    around = F.pad(positions[None], (1, 1, 1, 1), mode="replicate")[0]
    before = torch.stack([around[:, :-2, 1:-1], around[:, 1:-1, :-2]], dim=1)
    after = torch.stack([around[:, 2:, 1:-1], around[:, 1:-1, 2:]], dim=1)
    return (after - before) / 2, (after + before - 2 * positions[:, None]).abs().amax(dim=(0, 1))


def signed_area(slopes: Slopes) -> Map:
    """Determinant of the slopes: source pixels per output pixel, negative where mirrored."""
    return slopes[0, 0] * slopes[1, 1] - slopes[0, 1] * slopes[1, 0]


def pixel_side(slopes: Slopes) -> Map:
    """Side of an output pixel in the source, in source pixels, at least 1."""
    return signed_area(slopes).abs().sqrt().clamp(min=1)


def pixel_grid(positions: Positions) -> Float[Tensor, "2 y x"]:
    """Row and column of each output pixel."""
    return torch.ones_like(positions[0]).nonzero().T.reshape(positions.shape).double()


def linear_term(slopes: Slopes, way: Float[Tensor, "2 y x"]) -> Positions:
    """Slopes times a way in the output: the way in the source."""
    return torch.einsum("pdyx,dyx->pyx", slopes, way)


def is_inside(points: Float[Tensor, "2 *n"], size: Tensor) -> Bool[Tensor, "*n"]:
    """Whether points lie within the pixels of a source of this size."""
    return ((points >= -0.5) & (points < size - 0.5)).all(dim=0)


def interior(mask: Mask) -> Mask:
    """Pixels whose 3 x 3 neighbourhood is in the mask and within the frame."""
    outside = F.pad((~mask).double(), (1, 1, 1, 1), value=1)
    return F.max_pool2d(outside[None], 3, 1)[0] == 0
