"""Transforms of other libraries (torchvision v2, kornia, any function of an image) as ours.

What such a transform loses is measured. It runs once on the image and then, with the same random
numbers, on probes whose pixels hold 1, y, x and y^2 + x^2. To move and to resample pixels is
linear, out = A in + b with b the fill: a probe's result less that of a blank image is A 1, A y, A x
without any fill, and A y / A 1 is the place in the source at which an output pixel looks. The pixel
shows a parallelogram of the source around that place, spanned by the slopes J of the places, of
area abs(det J); of it counts what lies inside of the source, once however often it is shown.
What is not of this form is refused.

c channels, h w pixels of the image, y x pixels of the result. Places are (row, column) in pixels, 0
the centre of the first; slopes are d(row, column) / d(y, x).
"""

import math
import random
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, call
from softaug.transforms.pixels import in_layout_of, ones

TOLERANCE = 1e-3  # of probes, which lie in [0, 1], and of places, in pixels

Map = Float[Tensor, "y x"]
Mask = Bool[Tensor, "y x"]
Places = Float[Tensor, "2 y x"]
Slopes = Float[Tensor, "2 2 y x"]


@dataclass(frozen=True)
class Borrowed:
    """A transform of torchvision v2, of kornia, or any function of one image, as ours.

    Each sample has a seed of its own, under which the transform runs alone: the pixels are what it
    gives, and `seen` is measured. A source pixel counts once, however often it is shown.

    Exact for whole pixels (crop, pad, flip, erase); to within 1 % of the image for affine,
    perspective, resizing and usual elastic maps; to a source pixel at each border with nearest
    neighbours. Several maps in one Compose may add up to 3 %: a Chain measures each on its own.
    Worst, up to 7 %: bicubic enlarging, or reducing an elastic map, by 4.

    transform: takes [C,H,W], uint8 or float, gives [C,H,W] or [1,C,H,W], of one size for all
        samples, and draws from the global random state of torch, Python or NumPy, which is put
        back. It runs once for each sample on its image and 6 times on float32 probes, so it must
        do the same to all dtypes; some 4 ms at 32 x 32 pixels, 55 ms at 224 x 224.
    colour: states that it moves and hides nothing: `seen` is only carried. What changes colours,
        blurs or adds noise cannot be measured, and raises ValueError unless this is said.

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
        # Below 2^31: what NumPy, Python and torch all take as a seed.
        return {"seed": torch.randint(2**31 - 1, (n,), generator=generator)}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        seen = ones(images) if seen is None else seen
        with _random_state_kept(images.device):
            blank = self._run(images.new_zeros(images.shape[1:]), seed=0)
            moved = blank.new_empty(len(images), *blank.shape)
            moved_seen = seen.new_empty(len(images), 1, *blank.shape[1:])
            for i, seed in enumerate(drawn["seed"].tolist()):
                out = self._run(images[i], seed)
                if out.shape != blank.shape:
                    raise ValueError(
                        f"Borrowed: {self._name()} must give images of one size, got "
                        f"{list(blank.shape)} and {list(out.shape)}; add a crop or resize to it"
                    )
                moved[i], moved_seen[i] = out, self._carry(seen[i], len(images[i]), out, seed)
        return in_layout_of(images, moved), moved_seen

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        with _random_state_kept(torch.device("cpu")):
            # A fill may have a value for each of 3 channels, or of 1 or 4.
            for channels in (3, 1):
                with suppress(Exception):
                    out = self._run(torch.zeros(channels, height, width), seed=0)
                    return out.shape[1], out.shape[2]
            out = self._run(torch.zeros(4, height, width), seed=0)
        return out.shape[1], out.shape[2]

    def _run(self, image: Shaped[Tensor, "c h w"], seed: int) -> Shaped[Tensor, "k y x"]:
        """What the transform makes of a copy of the image with the random numbers of a seed."""
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
    def _carry(
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
            carried = _probe(lambda image: self._run(image, seed), channels, seen[0])
            if carried.shape[1:] != out.shape[1:]:
                raise ValueError("it gives another size for a float32 image")
            return _conserve(seen[0].double(), *_look(carried, *seen.shape[1:]))[None].float()
        except ValueError as reason:
            raise ValueError(
                f"Borrowed: {self._name()} cannot be measured: {reason}. Changes of colour, blur "
                "and noise must stay outside: split a Compose as Chain([Borrowed(geometry), "
                "Borrowed(colours, colour=True)]), where colour=True states that a transform moves "
                "and hides nothing"
            ) from reason.__cause__

    def _name(self) -> str:
        return textwrap.shorten(str(self.transform), 200)

    __call__ = call


def _probe(
    run: Callable[[Tensor], Tensor], channels: int, like: Float[Tensor, "h w"]
) -> Float[Tensor, "4 y x"]:
    """A 1, A y, A x and A (y^2 + x^2), with y and x as shares of the side and all in [0, 1]."""
    height, width = like.shape
    y, x = (torch.ones_like(like).cumsum(dim) - 0.5 for dim in (0, 1))
    square = (y**2 + x**2) / (height**2 + width**2)
    probes = torch.stack([torch.ones_like(like), y / height, x / width, square])
    # As many channels as the image has: random fills draw for each channel, then for the place.
    channel = torch.arange(channels, device=like.device)
    turns = [(channel + turn) % 4 for turn in range(4)]
    # Not of sum 1: 1 - P would pass for linear.
    shares = 0.1 + 0.05 * torch.stack(turns, dim=1).float()
    mixture = torch.einsum("cq,qhw->chw", shares, probes)
    try:
        blank = run(torch.zeros_like(mixture)).float()
        turned = torch.stack([run(probes[turn]).float() for turn in turns]) - blank
        mixed = run(mixture).float() - blank
    except Exception as error:
        raise ValueError(f"it fails on a float32 image in [0, 1] ({error})") from error
    if len(blank) != channels:
        raise ValueError(f"it makes {len(blank)} channels of {channels}")
    # [q, c]: probe q as channel c carried it.
    carried = torch.stack([turned[(q - channel) % 4, channel] for q in range(4)])
    if (carried - carried[:, :1]).abs().max() > TOLERANCE:
        raise ValueError("it treats channels differently, or mixes them")
    if (mixed - torch.einsum("cq,qcyx->cyx", shares, carried)).abs().max() > TOLERANCE:
        raise ValueError("it changes values, or draws numbers that no seed repeats")
    whole = (carried[0, 0] - 1).abs() < TOLERANCE / 100
    if (blank.abs().amax(dim=0) * whole).max() > 10 * TOLERANCE:
        raise ValueError("it adds to pixels that it does not hide")
    return carried[:, 0].double()


def _look(
    carried: Float[Tensor, "4 y x"], height: int, width: int
) -> tuple[Map, Places, Slopes, float]:
    """How much of its place in the source each pixel shows (0 to 1), the place, and the slopes.

    And how often, by an uneven count, what is shown twice would be shown at least.
    """
    weight = torch.where((carried[0] - 1).abs() < TOLERANCE, 1.0, carried[0])
    if weight.min() < -0.2:
        raise ValueError("it inverts values")
    shown = weight > TOLERANCE
    size = torch.tensor([height, width], device=weight.device)[:, None, None]
    means = carried[1:] / weight.clamp(min=TOLERANCE)
    places = _whole(means[:2] * size - 0.5)
    spread = means[2] * (size**2).sum() - ((places + 0.5) ** 2).sum(dim=0)

    # Smooth: no fold, no border at which places are clamped, and no step next to it.
    slopes, bend = _planes(places)
    steep = (slopes**2).sum(dim=(0, 1))
    smooth = _all_around(shown) & (_area(slopes) > 0.01 * steep) & (steep > 1e-6)
    # Antialiasing and fine elastic maps bend all planes a little.
    typical = (4 * bend[smooth].quantile(0.25)).clamp(max=0.03) if smooth.any() else 0
    smooth = smooth & (bend <= typical + 5e-3)
    if smooth.any() and spread[smooth].median().abs() > _most_spread(places, steep, smooth, size):
        raise ValueError("it blurs or sharpens")
    # A mean of much of the image shows no place.
    shown = shown & (spread < torch.maximum((size**2).sum() / 48, steep / 2))
    if not shown.any():
        return weight * shown, places, slopes, math.inf

    full, rounded = shown & (weight == 1), _rounded(places, shown)
    known = smooth & _all_around(full)
    # At an edge of the source, or of a hole, only a few pixels are dimmed.
    dimmed = shown & ~full if rounded else _all_around(_all_around(smooth & ~full))
    if dimmed.any() or (smooth.any() and not (known.any() or rounded)):
        raise ValueError("it changes brightness")

    use = known & (bend <= typical + 1e-4)
    if min(use.any(dim=0).sum(), use.any(dim=1).sum()) < 2:
        use = _any_around(use) > 0 if use.any() else shown
    mapped = (
        _one_map(places, use, known, shown, size) if not rounded else _rounded_map(places, full)
    )
    if mapped is None and not known.any():
        raise ValueError("it shows too few pixels side by side")
    reached, slopes = mapped or _extend(known, places, slopes)
    clamped = _clamped(reached, places, slopes, size) | ~shown
    places = _whole(torch.where(clamped, reached, places))
    # Beyond the outer pixels' centres a weight tells of the border, which places know better.
    inner = ((places >= 0) & (places <= size - 1)).all(dim=0)
    weight = torch.where(inner, weight.clamp(max=1) * shown, _any_around(shown))
    # One map shows nothing twice; where it is left (reflection), it still knows the slopes.
    twice = 1.7 if mapped is None else 1.2 if not clamped.all() else math.inf
    return weight, places, slopes, twice


def _conserve(
    seen: Float[Tensor, "h w"], weight: Map, places: Places, slopes: Slopes, twice: float
) -> Map:
    """Each source pixel's share of `seen`, divided among the output pixels that show it."""
    height, width = seen.shape
    size = torch.tensor([height, width], device=seen.device).view(2, 1, 1, 1)
    # Points of a Fibonacci lattice: even in the plane, and still fine when projected on an axis.
    # Whole pixels need one, large images few.
    whole = (places == places.round()).all() and ((slopes - slopes.round()).abs() < 1e-9).all()
    slopes = slopes.round() if whole else slopes
    fine, turn = (1, 0) if whole else (21, 13) if height * width < 10_000 else (8, 5)
    step = torch.arange(fine, device=seen.device)
    within = (torch.stack([step, step * turn % fine]) + 0.5).to(slopes.dtype) / fine - 0.5
    points = places[:, None] + 0.5 + torch.einsum("pdyx,df->pfyx", slopes, within)
    inside = ((points >= 0) & (points < size)).all(dim=0)
    # What lies outside is missing from the weight already, where that is below 1.
    part = inside.double().mean(dim=0).clamp(min=1 / fine)
    weight = torch.where(weight < 1, weight / part, 1.0)
    mass = _area(slopes) * weight * inside / fine
    if twice < math.inf:
        # How often the source is shown, in cells that are no finer than the points and tile it.
        coarse = (slopes**2).sum(dim=(0, 1)).mean().div(2).sqrt().clamp(min=1)
        tiles = (size / coarse).long().clamp(min=1)
        row, column = torch.minimum((points * tiles / size).long().clamp(min=0), tiles - 1)
        cell = row * tiles[1] + column
        times = seen.new_zeros(int(tiles.prod())).index_add(0, cell.flatten(), mass.flatten())
        times = times * tiles.prod() / (height * width)
        # Points fall unevenly into cells: a little more than once counts only beside twice.
        around = F.max_pool2d(times.view(1, *tiles.flatten().tolist()), 3, 1, 1).flatten()
        mass = mass / torch.where((around > twice) & (times > 1.1), times, 1.0)[cell]
    row, column = torch.minimum(points.long().clamp(min=0), size - 1)
    moved = (mass * seen[row, column]).sum(dim=0)
    moved = moved * (moved.numel() / seen.numel())
    if whole and moved.numel() == seen.numel() and (mass == mass.round()).all():
        return moved
    # Never more than there was, not even when float32 rounds.
    return moved * (seen.mean() / moved.mean().clamp(min=1e-30)).clamp(max=1) * (1 - 5e-7)


def _rounded(places: Places, shown: Mask) -> bool:
    """Whether places are nearest neighbours: whole, with odd steps, as 1 1 0 1 1 or 0 0 1 0 0.

    Whole pixels that are moved, repeated or reflected have steps as 0 0 1 1 and -1 -1 0 1 1.
    """
    places = torch.where(shown, places, torch.nan)
    if (places != places.round())[:, shown].any():
        return False
    for axis in (1, 2):
        steps = places.diff(dim=axis).movedim(axis, -1)
        before, step, after = steps[..., :-2], steps[..., 1:-1], steps[..., 2:]
        if ((before == after) & ((step - after).abs() == 1)).any():
            return True
    return False


def _planes(places: Places) -> tuple[Slopes, Map]:
    """The plane through the places of 3 x 3 pixels: its slopes, and its error, 0 if straight."""
    flat, side = places.new_ones(3), places.new_tensor([-1, 0, 1])
    kernels = torch.stack(
        [torch.outer(side, flat), torch.outer(flat, side), torch.outer(flat, flat)]
    )
    sums = F.conv2d(torch.cat([places, places**2])[:, None], kernels[:, None], padding=1)
    slopes = sums[:2, :2] / 6
    variance = (sums[2:, 2] / 9 - (sums[:2, 2] / 9) ** 2).sum(dim=0)
    error = variance - (slopes**2).sum(dim=(0, 1)) * 2 / 3
    return slopes, error / (_area(slopes) * 4 / 3).clamp(min=1e-9)


def _one_map(
    places: Places, use: Mask, known: Mask, shown: Mask, size: Tensor
) -> tuple[Places, Slopes] | None:
    """One map for all pixels, affine or else projective, if it fits."""
    for projective in (False, True):
        reached, slopes = _fit(places, use, projective)
        near, among = (reached - places).abs().amax(dim=0) <= 0.1 * _area(slopes).sqrt(), known
        if not known.any():
            near, among = _clamped(reached, places, slopes, size), shown
        if near[among].sum() >= 0.85 * among.sum():
            return reached, slopes
    return None


def _rounded_map(places: Places, full: Mask) -> tuple[Places, Slopes]:
    """The map, affine or else projective, whose places were rounded."""
    for projective in (False, True):
        reached, slopes = _fit(places, full, projective)
        if ((reached - places).abs().amax(dim=0) <= 1)[full].all():
            return reached, slopes
    raise ValueError(
        "it takes nearest neighbours on a bent or reflected map, where places are too coarse; "
        "choose bilinear interpolation, or split it"
    )


def _fit(places: Places, use: Mask, projective: bool) -> tuple[Places, Slopes]:
    """The affine or projective map nearest to all places; the identity where nothing tells."""
    x, y = use.nonzero().double(), places[:, use].T
    grid = torch.ones_like(use).nonzero() - x.mean(dim=0)
    middle, x, y = y.mean(dim=0), x - x.mean(dim=0), y - y.mean(dim=0)
    # y (1 + h x) = M x + m, linear in the rows of (M, m) and in h.
    one, none = torch.ones_like(x[:, :1]), torch.zeros(len(x), 3, dtype=x.dtype, device=x.device)
    rows = [torch.cat([x, one, none], dim=1), torch.cat([none, x, one], dim=1)]
    bends = [-x * y[:, :1] * projective, -x * y[:, 1:] * projective]
    design = torch.cat([torch.cat(rows), torch.cat(bends)], dim=1)
    ridge = 1e-6 * torch.eye(8, dtype=x.dtype, device=x.device)
    target = design.T @ y.T.flatten() + ridge[0] + ridge[4]
    solution = torch.linalg.solve(design.T @ design + ridge, target)
    linear, h = solution[:6].view(2, 3), solution[6:]
    below = (1 + grid @ h).clamp(min=1e-3)[:, None]
    reached = (grid @ linear[:, :2].T + linear[:, 2]) / below
    slopes = (linear[:, :2] - reached[:, :, None] * h) / below[:, :, None]
    shape = use.shape
    return (reached + middle).T.view(2, *shape), slopes.permute(1, 2, 0).reshape(2, 2, *shape)


def _extend(known: Mask, places: Places, slopes: Slopes) -> tuple[Places, Slopes]:
    """Places and slopes where they are known, and elsewhere along the plane of the nearest such."""
    height, width = known.shape
    index = torch.arange(height * width, device=known.device).view(height, width)
    origin = torch.where(known, index, -1).double()
    while (origin < 0).any():
        origin = torch.where(origin < 0, F.max_pool2d(origin[None], 3, 1, 1)[0], origin)
    origin = origin.long()
    way = torch.stack([index // width - origin // width, index % width - origin % width])
    places, slopes = places.flatten(1)[:, origin], slopes.flatten(2)[:, :, origin]
    return places + torch.einsum("pdyx,dyx->pyx", slopes, way.to(slopes.dtype)), slopes


def _clamped(reached: Places, places: Places, slopes: Slopes, size: Tensor) -> Mask:
    """Whether a map is off only as much as resampling clamps places at a border."""
    scale = _area(slopes).sqrt()
    held = torch.minimum(reached.clamp(min=0), size - 1)
    outside = (held != reached).any(dim=0)
    allowed = torch.where(outside, 1 + scale, 0.75 + 0.25 * scale)
    return (held - places).abs().amax(dim=0) <= allowed


def _most_spread(places: Places, steep: Map, smooth: Mask, size: Tensor) -> Tensor:
    """More than four resamplings spread, and float32 rounds; in square pixels.

    Linear interpolation spreads by f (1 - f) on each axis, a reduction by s by s^2 / 6.
    """
    fraction = (places - places.floor())[:, smooth]
    between = (fraction * (1 - fraction)).sum(dim=0).mean()
    reduced = (steep[smooth] - 2).clamp(min=0).mean() / 4
    return 0.05 + 4 * between + reduced + 4e-7 * (size**2).sum()


def _whole(places: Places) -> Places:
    """Without rounding errors, so that what moves whole pixels is exact."""
    return torch.where((places - places.round()).abs() < TOLERANCE, places.round(), places)


def _area(slopes: Slopes) -> Map:
    return (slopes[0, 0] * slopes[1, 1] - slopes[0, 1] * slopes[1, 0]).abs()


def _any_around(mask: Mask) -> Map:
    return F.max_pool2d(mask[None].double(), 3, 1, 1)[0]


def _all_around(mask: Mask) -> Mask:
    """Whether the mask holds in all of 3 x 3 pixels, none of them outside of the frame."""
    return _any_around(F.pad(~mask, (1, 1, 1, 1), value=True))[1:-1, 1:-1] == 0


def _seed_all(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """Put the global random states back: torch's, Python's, and NumPy's if anything uses it."""
    python, numpy = random.getstate(), sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy else None
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            if numpy:
                numpy.random.set_state(state)
