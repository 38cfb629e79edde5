"""Building blocks of corruptions: random draws per image, blurs, zooms, clouds, ice, drops.

All but `Draws` are deterministic. n samples, c channels, h w pixels; pixels are float32 in [0, 1].
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from softaug_lab.data import with_channels


class Draws:
    """Random numbers for a batch, each image's from its own generator, independent of the batch.

    They are drawn on the CPU, so that they are the same for every device, and moved to `device`.
    """

    def __init__(self, generators: Sequence[Generator], device: torch.device) -> None:
        self.generators = generators
        self.device = device

    def normal(self, *shape: int) -> Tensor:
        """Draw from the standard normal distribution, [N, *shape]."""
        return self._moved([torch.randn(shape, generator=g) for g in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniformly from [0, 1), [N, *shape]."""
        return self._moved([torch.rand(shape, generator=g) for g in self.generators])

    def poisson(self, rates: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Draw from Poisson distributions of these means."""
        pairs = zip(rates.cpu(), self.generators, strict=True)
        return self._moved([torch.poisson(rate, generator=g) for rate, g in pairs])

    def _moved(self, drawn: list[Tensor]) -> Tensor:
        return torch.stack(drawn).to(self.device)


def luminance(x: Tensor) -> Tensor:
    """Convert RGB to grey [N,1,H,W] (ITU-R BT.601); grey images are returned as they are."""
    return with_channels(x, 1)


def along_both(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply one linear map to each axis: rows @ x @ columns^T."""
    return rows.to(x.device) @ (x @ columns.T.to(x.device))


def reflected(index: Tensor, n: int) -> Tensor:
    """Reflect indices beyond 0 ... n - 1 at the centres of the border pixels: 2 1 | 0 1 2."""
    if n == 1:
        return torch.zeros_like(index)
    index = index % (2 * n - 2)
    return torch.minimum(index, 2 * n - 2 - index)


def gaussian_blur(x: Tensor, sigma: float, truncate: float = 4.0, mirror: bool = False) -> Tensor:
    """Convolve with a Gaussian of standard deviation `sigma` pixels.

    truncate: radius of the kernel in standard deviations. Beyond the border the image is continued
    by its border pixels, or with `mirror` by its mirror image.
    """
    height, width = x.shape[-2:]
    return along_both(
        x,
        _gaussian_matrix(height, sigma, truncate, mirror),
        _gaussian_matrix(width, sigma, truncate, mirror),
    )


@lru_cache(maxsize=64)
def _gaussian_matrix(n: int, sigma: float, truncate: float, mirror: bool) -> Tensor:
    """Build the matrix [n,n] of the blur, its border handling included."""
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
    """Build the kernel of a disc, of sum 1; radius in pixels; sigma: of a Gaussian on its rim."""
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
    """Convolve each channel with a kernel; the border reflects at the centres of its pixels."""
    n, channels, height, width = x.shape
    reach = len(kernel) // 2
    rows = reflected(torch.arange(-reach, height + reach, device=x.device), height)
    columns = reflected(torch.arange(-reach, width + reach, device=x.device), width)
    padded = x[:, :, rows][..., columns].reshape(n * channels, 1, *map(len, (rows, columns)))
    # A GPU rounds the factors of a convolution to 10 bits (TF32), but not in double precision.
    exact = padded.double() if x.is_cuda else padded
    return F.conv2d(exact, kernel.to(exact)[None, None]).view(x.shape).to(x.dtype)


def motion_blur(x: Tensor, radius: int, sigma: float, angle: Float[Tensor, "n"]) -> Tensor:
    """Blur along a line with one half of a Gaussian, as ImageMagick's motion blur.

    angle: of each image, in degrees. Each pixel averages 2 radius + 1 pixels to one side of it;
    beyond the border the image is continued by its border pixels.
    """
    n, channels, height, width = x.shape
    step = torch.arange(2 * radius + 1, device=x.device)
    unscaled = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(2 * radius + 1)]
    weights = [one / sum(unscaled) for one in unscaled]
    turn = torch.deg2rad(angle.double())[:, None]
    down = (step * turn.sin() - 0.5).ceil().long()
    right = (step * turn.cos() - 0.5).ceil().long()
    y = torch.arange(height, device=x.device)[:, None]
    x_ = torch.arange(width, device=x.device)
    flat, out = x.reshape(n, channels, -1), torch.zeros_like(x)
    for i, weight in enumerate(weights):
        if weight < 1e-6:  # changes none of 255 levels
            break
        rows = (y + down[:, i, None, None]).clamp(0, height - 1)
        columns = (x_ + right[:, i, None, None]).clamp(0, width - 1)
        source = (rows * width + columns).view(n, 1, -1).expand(-1, channels, -1)
        out += weight * flat.gather(2, source).view(x.shape)
    return out


def zoom(x: Tensor, factor: float) -> Tensor:
    """Enlarge the middle of the image to the whole of it, bilinear between pixel centres."""
    return along_both(x, _zoom_matrix(x.shape[-2], factor), _zoom_matrix(x.shape[-1], factor))


@lru_cache(maxsize=256)
def _zoom_matrix(n: int, factor: float) -> Tensor:
    """Build the matrix [n,n] that enlarges the middle ceil(n / factor) pixels to n."""
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
    """Build the matrix [m,n] that averages the pixels whose centres lie in each new pixel's box."""
    scale = n / m
    centre = (torch.arange(m, dtype=torch.float64)[:, None] + 0.5) * scale
    offset = (torch.arange(n) + 0.5 - centre) / max(scale, 1.0)
    inside = ((offset > -0.5) & (offset <= 0.5)).double()
    return (inside / inside.sum(1, keepdim=True)).float()


def cloud(
    uniform: Float[Tensor, "n m m"], decay: float, height: int, width: int
) -> Float[Tensor, "n 1 h w"]:
    """Make a cloud in [0, 1] by the diamond-square algorithm on a torus, cropped from m x m pixels.

    uniform: draws in [-1, 1], one for each pixel; m is a power of 2. decay: the square root of the
    amplitude is divided by it from each scale to the next finer one.
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
    """Make a texture of ice: needles at 60 degrees to each other, in the colours of frost.

    noise: standard normal. angle: of the first needles, in degrees. light: in [0, 1], chooses the
    mean colour between (90, 120, 135) and (198, 202, 212). The standard deviation is
    24 levels. Both follow the benchmark's five photographs of frosted glass (14 to 35). Needles and
    clumps scale with the image.
    """

    def standard(x: Tensor) -> Tensor:
        x = x - x.mean((2, 3), keepdim=True)
        return x / x.std((2, 3), keepdim=True).clamp_min(1e-6)

    length = min(noise.shape[-2:]) / 16
    needles = torch.stack(
        [motion_blur(noise, round(2 * length), length, angle + turn) for turn in (0.0, 60.0, 120.0)]
    ).amax(0)
    needles = standard(standard(needles) + standard(gaussian_blur(needles, length / 2)))
    dark, bright = (
        noise.new_tensor(c) / 255 for c in ((90.0, 120.0, 135.0), (198.0, 202.0, 212.0))
    )
    colour = dark + light[:, None] * (bright - dark)
    return (colour[:, :, None, None] + 24 / 255 * needles).clamp(0, 1)


def shuffled(reach: int, offset: Int64[Tensor, "n 2 h w"]) -> Int64[Tensor, "n hw"]:
    """Return the source of each pixel after a local shuffle (glass blur).

    From the last pixel to the first, each is overwritten by the pixel at its offset. offset: in
    rows and columns, in -reach ... reach - 1. The benchmark's code intends to swap the two pixels,
    but as NumPy's views alias it copies one over the other, and its images are made that way.
    """
    n, _, height, width = offset.shape
    # Pixels are processed in groups within which no pixel reads what another writes: the result is
    # that of one pixel after another.
    source = torch.arange(height * width, device=offset.device)[:, None].repeat(1, n)
    move = (offset[:, 0] * width + offset[:, 1]).view(n, -1).T
    order, counts = _independent_groups(height, width, reach)
    for pixels in order.to(offset.device).split(counts):
        source[pixels] = source.gather(0, pixels[:, None] + move[pixels])
    return source.T


@lru_cache(maxsize=16)
def _independent_groups(height: int, width: int, reach: int) -> tuple[Tensor, list[int]]:
    """Group pixels in antidiagonals so steep that no two are within reach.

    Returns the pixels' indices, one group after another, and the size of each group.
    """
    y = torch.arange(reach + 1, height - reach + 1)
    x = torch.arange(reach + 1, width - reach + 1)
    group = ((reach + 1) * (height - reach - y)[:, None] + (width - reach - x)).flatten()
    number = (y[:, None] * width + x).flatten()
    order = group.argsort(stable=True)
    counts = group.bincount()
    return number[order], counts[counts > 0].tolist()


def relief(layer: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Compute the light on drops, 0 to 255: the distance to their rims, equalised and embossed.

    layer: amount of liquid, 0 to 255, 0 where there is no drop.
    """
    # SciPy takes half a second to import.
    from scipy.ndimage import distance_transform_edt

    away = torch.from_numpy(
        # The sampling puts images so far apart that no pixel is nearer to another image's rim.
        distance_transform_edt(~_rims(layer[:, 0].cpu()), sampling=(1e3, 1, 1)).clip(max=20)
    ).to(layer)[:, None]
    mean = torch.full((3, 3), 1 / 9)
    level = (convolve(away, mean) + 1e-4).floor().long().clamp(0, 20).flatten(1)
    count = level.new_zeros(len(layer), 21)
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
    """Detect edges by Canny's method (1986), thresholds 50 and 150: a boolean array [n,h,w]."""
    from scipy.ndimage import label

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
    # Weak edges remain where they are connected to a strong one in the same image.
    within = np.zeros((3, 3, 3), dtype=bool)
    within[1] = True
    part, count = label(weak, within)
    strong = np.zeros(count + 1, dtype=bool)
    strong[np.unique(part[(here > 150)[:, 0].numpy() & weak])] = True
    strong[0] = False
    return strong[part]
