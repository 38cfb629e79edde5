"""What corruptions are made of: draws for each image, blurs, zooms, clouds, ice, drops.

Deterministic, but for `Draws`. n samples, c channels, h w pixels; pixels are float32 in [0, 1].
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from scipy.ndimage import distance_transform_edt, label  # type: ignore[attr-defined]
from torch import Generator, Tensor

GREY = (0.299, 0.587, 0.114)  # luminance (ITU-R BT.601)


class Draws:
    """Random numbers for each image from a generator of its own: no other image matters."""

    def __init__(self, generators: Sequence[Generator]) -> None:
        self.generators = generators

    def normal(self, *shape: int) -> Tensor:
        """Mean 0, standard deviation 1, [N, *shape]."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1), [N, *shape]."""
        return torch.stack([torch.rand(shape, generator=g) for g in self.generators])

    def poisson(self, rates: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        pairs = zip(rates, self.generators, strict=True)
        return torch.stack([torch.poisson(rate, generator=g) for rate, g in pairs])


def luminance(x: Tensor) -> Tensor:
    """Grey of RGB, [N,1,H,W]; what is grey stays."""
    return x if x.shape[1] == 1 else (x * torch.tensor(GREY)[:, None, None]).sum(1, keepdim=True)


def along_both(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each axis as a linear map of its own: rows @ x @ columns^T."""
    return rows @ (x @ columns.T)


def reflected(index: Tensor, n: int) -> Tensor:
    """Indices beyond 0 ... n - 1 thrown back at the outermost pixels' centres: 2 1 | 0 1 2."""
    if n == 1:
        return torch.zeros_like(index)
    index = index % (2 * n - 2)
    return torch.minimum(index, 2 * n - 2 - index)


def gaussian_blur(x: Tensor, sigma: float, truncate: float = 4.0, mirror: bool = False) -> Tensor:
    """Gaussian of the standard deviation in pixels, cut at `truncate` of them.

    Beyond the border stands the border's pixel, or with `mirror` the image's mirror image.
    """
    height, width = x.shape[-2:]
    return along_both(
        x,
        _gaussian_matrix(height, sigma, truncate, mirror),
        _gaussian_matrix(width, sigma, truncate, mirror),
    )


@lru_cache(maxsize=64)
def _gaussian_matrix(n: int, sigma: float, truncate: float, mirror: bool) -> Tensor:
    """The blur as a matrix, [n,n], with the border folded in."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return torch.eye(n)
    offset = torch.arange(-radius, radius + 1)
    weight = (-0.5 * (offset.double() / sigma).square()).exp()
    source = torch.arange(n)[:, None] + offset
    if mirror:
        source = source % (2 * n)
        source = torch.minimum(source, 2 * n - 1 - source)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    matrix.scatter_add_(1, source.clamp(0, n - 1), (weight / weight.sum()).expand(n, -1))
    return matrix.float()


@lru_cache(maxsize=16)
def disc(radius: float, sigma: float) -> Float[Tensor, "k k"]:
    """A disc of the radius in pixels, of sum 1, its rim smoothed by a small Gaussian."""
    reach, half = (8, 1) if radius <= 8 else (math.ceil(radius), 2)
    grid = torch.arange(-reach, reach + 1, dtype=torch.float64)
    inside = (grid[:, None].square() + grid.square() <= radius**2).double()
    tap = torch.arange(-half, half + 1)
    weight = (-0.5 * (tap.double() / sigma).square()).exp()
    source = reflected(torch.arange(len(grid))[:, None] + tap, len(grid))
    blur = torch.zeros(len(grid), len(grid), dtype=torch.float64)
    blur.scatter_add_(1, source, (weight / weight.sum()).expand(len(grid), -1))
    kernel = (blur @ (inside / inside.sum()) @ blur.T).float()
    used = int((kernel[reach] > 1e-8).sum()) // 2
    return kernel[reach - used : reach + used + 1, reach - used : reach + used + 1]


def convolve(x: Tensor, kernel: Float[Tensor, "k k"]) -> Tensor:
    """The kernel at each pixel of each channel; the border reflects at its pixels' centres."""
    n, channels, height, width = x.shape
    reach = len(kernel) // 2
    rows = reflected(torch.arange(-reach, height + reach), height)
    columns = reflected(torch.arange(-reach, width + reach), width)
    padded = x[:, :, rows][..., columns].reshape(n * channels, 1, *map(len, (rows, columns)))
    return F.conv2d(padded, kernel.to(x.dtype)[None, None]).view(x.shape)


def motion_blur(x: Tensor, radius: int, sigma: float, angle: Float[Tensor, "n"]) -> Tensor:
    """Half a Gaussian along a line at each image's angle, in degrees, as ImageMagick blurs.

    A pixel sees 2 radius + 1 pixels on one side of it; beyond the border stands the border's pixel.
    """
    n, channels, height, width = x.shape
    step = torch.arange(2 * radius + 1)
    weight = (-0.5 * (step.double() / sigma).square()).exp()
    weight = (weight / weight.sum()).float()
    turn = torch.deg2rad(angle.double())[:, None]
    down = (step * turn.sin() - 0.5).ceil().long()
    right = (step * turn.cos() - 0.5).ceil().long()
    y, x_ = torch.arange(height)[:, None], torch.arange(width)
    flat, out = x.reshape(n, channels, -1), torch.zeros_like(x)
    for i in step.tolist():
        if weight[i] < 1e-6:  # of 255 levels, nothing
            break
        rows = (y + down[:, i, None, None]).clamp(0, height - 1)
        columns = (x_ + right[:, i, None, None]).clamp(0, width - 1)
        source = (rows * width + columns).view(n, 1, -1).expand(-1, channels, -1)
        out += weight[i] * flat.gather(2, source).view(x.shape)
    return out


def zoom(x: Tensor, factor: float) -> Tensor:
    """The middle of the image enlarged to the whole of it, bilinear between pixels' centres."""
    return along_both(x, _zoom_matrix(x.shape[-2], factor), _zoom_matrix(x.shape[-1], factor))


@lru_cache(maxsize=256)
def _zoom_matrix(n: int, factor: float) -> Tensor:
    """[n,n]: the middle ceil(n / factor) pixels on all n."""
    kept = math.ceil(n / factor)
    enlarged = max(n, round(kept * factor))
    first, trim = (n - kept) // 2, (enlarged - n) // 2
    place = torch.arange(trim, trim + n, dtype=torch.float64) * (kept - 1) / (enlarged - 1)
    below = place.floor().long().clamp(max=max(0, kept - 2))
    share = (place - below)[:, None]
    matrix = torch.zeros(n, n, dtype=torch.float64)
    matrix.scatter_add_(1, first + below[:, None], 1 - share)
    matrix.scatter_add_(1, (first + below[:, None] + 1).clamp(max=n - 1), share)
    return matrix.float()


@lru_cache(maxsize=64)
def box_matrix(n: int, m: int) -> Tensor:
    """[m,n]: n pixels to m by the mean of those whose centres lie in the box of the new pixel."""
    scale = n / m
    centre = (torch.arange(m, dtype=torch.float64)[:, None] + 0.5) * scale
    offset = (torch.arange(n) + 0.5 - centre) / max(scale, 1.0)
    inside = ((offset > -0.5) & (offset <= 0.5)).double()
    return (inside / inside.sum(1, keepdim=True)).float()


def cloud(
    uniform: Float[Tensor, "n m m"], decay: float, height: int, width: int
) -> Float[Tensor, "n 1 h w"]:
    """A cloud in [0, 1] by the diamond-square algorithm on a torus, cut from one of m x m pixels.

    uniform: in [-1, 1], one draw for each pixel; m: a power of 2; decay: of the amplitude's root
    from a scale to the next finer one.
    """
    side = uniform.shape[-1]
    heights = torch.zeros_like(uniform)
    step, amplitude = side, 100.0
    while step >= 2:
        half = step // 2
        noise = amplitude**2 * uniform
        corner = heights[:, ::step, ::step]
        right, down = corner.roll(-1, 2), corner.roll(-1, 1)
        middle = (corner + right + down + right.roll(-1, 1)) / 4 + noise[:, half::step, half::step]
        heights[:, half::step, half::step] = middle
        heights[:, ::step, half::step] = (middle + middle.roll(1, 1) + corner + right) / 4 + noise[
            :, ::step, half::step
        ]
        heights[:, half::step, ::step] = (middle + middle.roll(1, 2) + corner + down) / 4 + noise[
            :, half::step, ::step
        ]
        step, amplitude = half, amplitude / decay
    low = heights.amin((1, 2), keepdim=True)
    heights = (heights - low) / (heights.amax((1, 2), keepdim=True) - low)
    return heights[:, None, :height, :width]


def ice(
    noise: Float[Tensor, "n 1 h w"], angle: Float[Tensor, "n"], light: Float[Tensor, "n"]
) -> Float[Tensor, "n 3 h w"]:
    """A texture of ice: needles at 60 degrees to each other, in the colours of frost.

    noise: standard normal; angle: of the first needles, in degrees; light: in [0, 1]. Mean colours
    from (90, 120, 135) to (198, 202, 212) and a standard deviation of 24 levels, as the benchmark's
    five photographs of frosted glass have (14 to 35); needles and clumps grow with the image.
    """

    def standard(x: Tensor) -> Tensor:
        x = x - x.mean((2, 3), keepdim=True)
        return x / x.std((2, 3), keepdim=True).clamp_min(1e-6)

    length = min(noise.shape[-2:]) / 16
    needles = torch.stack(
        [motion_blur(noise, round(2 * length), length, angle + turn) for turn in (0.0, 60.0, 120.0)]
    ).amax(0)
    needles = standard(standard(needles) + standard(gaussian_blur(needles, length / 2)))
    dark, bright = (torch.tensor(c) / 255 for c in ((90.0, 120.0, 135.0), (198.0, 202.0, 212.0)))
    colour = dark + light[:, None] * (bright - dark)
    return (colour[:, :, None, None] + 24 / 255 * needles).clamp(0, 1)


def shuffled(reach: int, offset: Int64[Tensor, "n 2 h w"]) -> Int64[Tensor, "n hw"]:
    """Which pixel stands where after each, from the last to the first, took one within reach.

    offset: rows and columns, in -reach ... reach - 1. The benchmark means to swap the two pixels;
    but numpy's views make its code copy one over the other, and its images are so made.
    """
    n, _, height, width = offset.shape
    # Pixels by turns, so that a turn reads and writes none that another of the turn does: the
    # result is that of one pixel after another.
    source = torch.arange(height * width)[:, None].repeat(1, n)
    move = (offset[:, 0] * width + offset[:, 1]).view(n, -1).T
    for pixels in _turns(height, width, reach):
        source[pixels] = source.gather(0, pixels[:, None] + move[pixels])
    return source.T


@lru_cache(maxsize=16)
def _turns(height: int, width: int, reach: int) -> tuple[Tensor, ...]:
    """Pixels, by their number, in turns: an antidiagonal so steep that none is in reach."""
    y = torch.arange(reach + 1, height - reach + 1)
    x = torch.arange(reach + 1, width - reach + 1)
    turn = ((reach + 1) * (height - reach - y)[:, None] + (width - reach - x)).flatten()
    number = (y[:, None] * width + x).flatten()
    order = turn.argsort(stable=True)
    counts = turn.bincount()
    turns: tuple[Tensor, ...] = number[order].split(counts[counts > 0].tolist())
    return turns


def relief(layer: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """How light falls on drops, in 0 to 255: the distance to their rims, equalised and embossed.

    layer: in 0 to 255, 0 where there is no drop.
    """
    away = torch.from_numpy(
        # Images are as far apart as no pixel is from a rim: none sees another's.
        distance_transform_edt(~_rims(layer[:, 0]), sampling=(1e3, 1, 1)).clip(max=20)
    ).float()[:, None]
    mean = torch.full((3, 3), 1 / 9)
    level = (convolve(away, mean) + 1e-4).floor().long().clamp(0, 20).flatten(1)
    count = torch.zeros(len(layer), 21, dtype=torch.int64)
    count.scatter_add_(1, level, torch.ones_like(level))
    lowest = level.amin(1, keepdim=True)
    first = count.gather(1, lowest)
    total = level.shape[1] - first
    rank = (count.cumsum(1) - first).clamp(min=0).float() * 255 / total.clamp(min=1)
    rank = torch.where(total > 0, rank.round(), lowest.float())
    emboss = torch.tensor([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])
    lit = convolve(rank.gather(1, level).view(layer.shape), emboss).clamp(0, 255)
    return convolve(lit, mean).round()


def _rims(layer: Float[Tensor, "n h w"]) -> Any:
    """Edges by Canny's detector (1986), thresholds 50 and 150: an array of bool [n,h,w]."""
    padded = F.pad(layer[:, None], (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    gx = F.conv2d(padded, across[None, None])
    gy = F.conv2d(padded, across.T[None, None])
    size = F.pad(gx.abs() + gy.abs(), (1, 1, 1, 1))
    height, width = layer.shape[1:]

    def beside(down: int, right: int) -> Tensor:
        return size[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    here, slope = beside(0, 0), gy.abs() / gx.abs().clamp_min(1e-9)
    flat, steep = math.tan(math.radians(22.5)), math.tan(math.radians(67.5))
    horizontal = (here > beside(0, -1)) & (here >= beside(0, 1))
    vertical = (here > beside(-1, 0)) & (here >= beside(1, 0))
    falling = (here > beside(-1, -1)) & (here > beside(1, 1))
    rising = (here > beside(-1, 1)) & (here > beside(1, -1))
    diagonal = torch.where(gx * gy >= 0, falling, rising)
    peak = torch.where(slope < flat, horizontal, torch.where(slope > steep, vertical, diagonal))
    weak = (peak & (here > 50))[:, 0].numpy()
    # Weak edges stand where they touch a strong one, within an image.
    within = np.zeros((3, 3, 3), dtype=bool)
    within[1] = True
    part, count = label(weak, within)
    strong = np.zeros(count + 1, dtype=bool)
    strong[np.unique(part[(here > 150)[:, 0].numpy() & weak])] = True
    strong[0] = False
    return strong[part]
