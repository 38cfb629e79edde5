"""What an unknown transform shows: where each of its output pixels looks in the source.

To move and to resample pixels is linear, out = A in + b with b the fill. So images of 1, y, x and
y^2 + x^2, less a blank image, come out as A 1, A y, A x and A (y^2 + x^2) without any fill: A 1 is
a pixel's weight, below 1 where something is hidden, and A y / A 1 is its place in the source. All
places must be those of one of three kinds of maps, or what is seen cannot be told:

1. whole pixels in any arrangement (crop, pad, flip, tiles): each source pixel counts once;
2. one affine or projective map: an output pixel shows a parallelogram of the source, spanned by the
   slopes J, of area abs(det J), of which counts what lies inside of the source and is not hidden;
3. a smooth bent map: as 2, with slopes from differences of places.

c channels, h w pixels of the source, y x pixels of the result, p points in each of these. Places
are (row, column) in pixels of the source, 0 the centre of the first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

TOLERANCE = 1e-3  # of probes, which lie in [0, 1], and of places, in pixels

Map = Float[Tensor, "y x"]
Mask = Bool[Tensor, "y x"]
Places = Float[Tensor, "2 y x"]
Slopes = Float[Tensor, "2 2 y x"]  # d(row, column) / d(y, x)
Points = tuple[
    Float[Tensor, "p y x"], Float[Tensor, "2 p y x"]
]  # source pixels that each is; places


@dataclass(frozen=True)
class Look:
    """What the probes tell of each output pixel."""

    weight: Map  # 0 where no place is shown
    places: Places
    spread: Map  # variance of the source pixels that are mixed, in square pixels
    full: Mask  # shown, with nothing hidden
    whole: bool  # all of these are at whole pixels: nothing, or nearest neighbours, was resampled
    size: Float[Tensor, "2 1 1"]  # of the source


def carry(run: Callable[[Tensor], Tensor], seen: Float[Tensor, "h w"], channels: int) -> Map:
    """The map after `run`, a transform of [C,H,W] that repeats its random numbers on each call.

    Raises ValueError with the reason where what is seen cannot be told to about 1 % of the image.
    """
    # On the CPU: not every device has float64.
    look, before = _look(_probe(run, channels, seen).cpu().double(), seen), seen.cpu().double()
    mass, points = _shown(look)
    row, column = torch.minimum(points.round().clamp(min=0), look.size[..., None] - 1).long()
    moved = (mass * before[row, column]).sum(dim=0) * (mass[0].numel() / seen.numel())
    # Never more than there was, not even when float32 rounds.
    more = moved.mean() / before.mean().clamp(min=1e-30)
    if more > 1 or (mass != mass.round()).any():
        moved = moved * (1 - 5e-7) / more.clamp(min=1)
    return moved.float().to(seen.device)


def _probe(
    run: Callable[[Tensor], Tensor], channels: int, like: Float[Tensor, "h w"]
) -> Float[Tensor, "4 y x"]:
    """A 1, A y, A x and A (y^2 + x^2), with y and x as shares of the side and all in [0, 1]."""
    height, width = like.shape
    y, x = (torch.ones_like(like).cumsum(dim) - 0.5 for dim in (0, 1))
    square = (y**2 + x**2) / (height**2 + width**2)
    probes = torch.stack([torch.ones_like(like), y / height, x / width, square])
    # Unlike the probes: darkest where these are brightest, and other shares in each channel.
    shares = 0.1 + 0.05 * torch.stack([torch.arange(4).roll(c) for c in range(channels)]).to(like)
    shares = torch.cat([shares[:, :1] + 0.5, -shares[:, 1:]], dim=1)
    mixture = torch.einsum("cq,qhw->chw", shares, probes)
    try:
        # As many channels as the image has: random fills draw for each channel, then for the place.
        blank = run(torch.zeros_like(mixture)).float()
        carried = torch.stack([run(probe.expand_as(mixture)).float() for probe in probes]) - blank
        mixed = run(mixture).float() - blank
    except Exception as error:
        raise ValueError(f"it fails on a float32 image in [0, 1] ({error})") from error
    if len(blank) != channels:
        raise ValueError(f"it makes {len(blank)} channels of {channels}")
    if (carried - carried[:, :1]).abs().max() > TOLERANCE:
        raise ValueError("it treats channels differently")
    if (mixed - torch.einsum("cq,qcyx->cyx", shares, carried)).abs().max() > TOLERANCE:
        raise ValueError("it changes values, mixes channels, or draws numbers that no seed repeats")
    whole = (carried[0, 0] - 1).abs() < TOLERANCE / 100
    if (blank.abs().amax(dim=0) * whole).max() > 10 * TOLERANCE:
        raise ValueError("it adds to pixels that it does not hide")
    return carried[:, 0]


def _look(carried: Float[Tensor, "4 y x"], seen: Float[Tensor, "h w"]) -> Look:
    if carried[0].min() < -0.5:
        raise ValueError("it inverts values")
    size = torch.tensor(seen.shape).double().view(2, 1, 1)
    square = (size**2).sum()
    means = carried[1:] / carried[0].clamp(min=TOLERANCE)
    places = means[:2] * size - 0.5
    # Without rounding errors, so that what moves whole pixels is exact.
    places = torch.where((places - places.round()).abs() < TOLERANCE, places.round(), places)
    spread = means[2] * square - ((places + 0.5) ** 2).sum(dim=0)
    # A fill with the mean of the image mixes all of it.
    shown = (carried[0] > TOLERANCE) & ((spread * 12 / square - 1).abs() > 0.05)
    full = shown & ((carried[0] - 1).abs() < TOLERANCE)
    if shown.any() and not full.any():
        raise ValueError("it shows no pixel in full, or changes brightness")
    whole = bool((places == places.round())[:, full].all())
    return Look(torch.where(shown, carried[0], 0), places, spread, full, whole, size)


def _shown(look: Look) -> Points:
    """The points of the source that are shown, by the kind of the map."""
    if not look.full.any():
        return look.weight[None], look.places[:, None]
    if look.whole and _arranged(look):
        _refuse_colour(look, look.places, torch.zeros(2, 2, *look.weight.shape).double())
        return _once(look)
    reached, slopes = _one_map(look) or _bent_map(look)
    _refuse_colour(look, reached, slopes)
    return _inside_and_not_hidden(look, reached, slopes)


def _arranged(look: Look) -> bool:
    """Whether whole pixels are moved, mirrored or repeated: none is left out between two others.

    Steps to the next pixel are then of one pixel, of none beyond an edge, or far at a seam. Nearest
    neighbours of a map have odd steps, as 1 1 0 1 1, 0 0 1 0 0 or 1 1 2 1 1.
    """
    places = torch.where(look.full, look.places, torch.nan)
    at_edge = ((places == 0) | (places == look.size - 1)).any(dim=0)
    for axis in (0, 1):
        steps = places.diff(dim=axis + 1).movedim(axis + 1, -1)
        edge = at_edge.movedim(axis, -1)[..., 1:]
        near, far = steps.abs().sum(dim=0), steps.abs().amax(dim=0)
        single = (near == 1) | ((near == 0) & edge)
        before, step, after = steps[..., :-2], steps[..., 1:-1], steps[..., 2:]
        odd = (before == after) & ((step - after).abs() == 1)
        if odd.any() or (~single & (far < 3)).any() or single.sum() <= (far >= 3).sum():
            return False
    return True


def _once(look: Look) -> Points:
    """Each source pixel once, divided among the output pixels that show it."""
    count = int(look.size.prod())
    index = (look.places[0] * look.size[1] + look.places[1]).long().clamp(0, count - 1)
    times = index[look.full].bincount(minlength=count).clamp(min=1)
    return (look.full / times[index].double())[None], look.places[:, None]


def _one_map(look: Look) -> tuple[Places, Slopes] | None:
    """The affine or else projective map that all places follow, and its slopes, or None."""
    places, full = look.places, look.full
    slopes, bend = _differences(places)
    steep = (slopes**2).sum(dim=(0, 1))
    use = full if look.whole else _all_around(full) & (_area(slopes).abs() > 0.01 * steep)
    if min(use.any(dim=0).sum(), use.any(dim=1).sum()) < 3:
        raise ValueError("it shows too few pixels side by side")
    for projective in (False, True):
        trust = full.double() if look.whole else (use & (bend <= bend[use].median())).double()
        for _ in range(20 if look.whole else 4):
            reached, slopes = _fit(places, trust, projective)
            off = (reached - places).abs().amax(dim=0) / (1 if look.whole else _side(slopes))
            if look.whole and off[full].max() <= 0.5:
                break
            if look.whole:
                # Rounded by up to half a pixel: the map whose worst error is least (Lawson 1961).
                trust = trust * off / off[full].max().clamp(min=1e-9)
            else:
                # Drawn in at borders: the half that fits best (least trimmed squares, Rousseeuw).
                trust = (use & (off <= off[use].median())).double()
        if look.whole:
            fits = (off <= 0.75)[full].all()
        else:
            # At borders resampling draws places in, by up to half a pixel and some.
            inwards = (reached - reached[:, full].mean(dim=1).view(2, 1, 1)).sign()
            drawn = (torch.minimum(reached.clamp(min=0), look.size - 1) - places) * inwards
            fits = ((drawn > -0.2 * _side(slopes)) & (drawn < 0.6 + 0.1 * _side(slopes)))[:, full]
            fits = fits.all() & ((off <= 0.1)[use].double().mean() > 0.5)
        if fits:
            return reached, slopes
    return None


def _fit(places: Places, trust: Map, projective: bool) -> tuple[Places, Slopes]:
    """The affine or projective map nearest to the places that are trusted."""
    y, x = trust.nonzero(as_tuple=True)
    middle, scale = torch.stack([y, x]).double().mean(dim=1), max(trust.shape)
    grid = (_grid(places) - middle.view(2, 1, 1)) / scale
    some = slice(None, None, max(1, len(y) // 2000))
    at, to, root = grid[:, y, x][:, some].T, places[:, y, x][:, some].T, trust[y, x][some].sqrt()
    # to (1 + h at) = M at + m, linear in the rows of (M, m) and in h.
    one, none = torch.ones_like(at[:, :1]), torch.zeros(len(at), 3).double()
    rows = [torch.cat([at, one, none], dim=1), torch.cat([none, at, one], dim=1)]
    bends = torch.cat([-at * to[:, :1], -at * to[:, 1:]]) * projective
    design = torch.cat([torch.cat(rows), bends], dim=1) * root.repeat(2)[:, None]
    target = (to.T * root).reshape(-1, 1)
    solution = torch.linalg.lstsq(design, target, driver="gelsd").solution.flatten()
    linear, shift, h = solution[:6].view(2, 3)[:, :2], solution[[2, 5]], solution[6:]
    depth = 1 + torch.einsum("d,dyx->yx", h, grid)
    depth = torch.where(depth.abs() < 1e-3, 1e-3, depth)  # the horizon
    reached = torch.einsum("pd,dyx->pyx", linear, grid) + shift.view(2, 1, 1)
    reached = reached / depth
    slopes = (linear[..., None, None] - reached[:, None] * h.view(1, 2, 1, 1)) / depth / scale
    return reached, slopes


def _bent_map(look: Look) -> tuple[Places, Slopes]:
    """Places and slopes of a smooth bent map."""
    if look.whole:
        raise ValueError(
            "it takes nearest neighbours on a bent or reflected map, where places are too coarse; "
            "choose bilinear interpolation, or split it"
        )
    slopes, bend = _differences(look.places)
    known, area = _all_around(look.full), _area(slopes)
    if known.sum() < 0.25 * (look.weight > 0).sum():
        raise ValueError("it shows too few pixels side by side")
    if area[known].min() < 0.05 and area[known].max() > -0.05:
        raise ValueError("it folds, reflects or repeats what it resamples; pad with zeros")
    if bend[known].max() > 0.5 or not 0.8 < area[known].abs().median() < 1.25:
        raise ValueError("it bends the image, and steeply or while it resizes")
    # At borders go on the planes that touch the map next to there.
    grid = _grid(look.places)
    planes = torch.cat([slopes.flatten(0, 1), look.places - _along(slopes, grid)])
    for _ in range(3):
        sums = F.avg_pool2d(torch.cat([planes * known, known[None].double()]), 3, 1, 1)
        planes = torch.where(known, planes, sums[:6] / sums[6].clamp(min=1e-9))
        known = sums[6] > 0
    slopes = planes[:4].view_as(slopes) * known
    return planes[4:] + _along(slopes, grid), slopes


def _refuse_colour(look: Look, reached: Places, slopes: Slopes) -> None:
    near = (reached - look.places).abs().amax(dim=0) <= (1 if look.whole else 0.1) * _side(slopes)
    # At an edge of the source, or of a hole, resampling dims a few pixels.
    dim = near & (look.weight > 0) & ~look.full
    if (_all_around(_all_around(dim)) if slopes.any() else dim).any():
        raise ValueError("it changes brightness")
    # Linear interpolation spreads by 1/3 on average, a reduction by s by s^2 / 3; twice that is let
    # pass, for two steps.
    reduced = ((slopes**2).sum(dim=(0, 1)) - 2).clamp(min=0) / 4
    most = (0.05 if look.whole else 0.7) + reduced + 4e-7 * (look.size**2).sum()
    if (look.spread.abs() - most)[near & look.full].median() > 0:
        raise ValueError("it blurs or sharpens")


def _inside_and_not_hidden(look: Look, reached: Places, slopes: Slopes) -> Points:
    """Each output pixel's parallelogram in the source, cut at the source's borders, by its weight.

    In points of a Fibonacci lattice, which is even in the plane and on each axis.
    """
    area, weight = _area(slopes).abs(), look.weight
    inside = _inside(reached, look.size)
    aligned = (slopes[0, 0] * slopes[0, 1]).abs().max() < 1e-3 * area.mean()
    if look.whole and aligned and (inside | look.full).all():
        # Resized to nearest neighbours, which may be rounded down: none is beyond a border.
        return (area * weight)[None], reached[:, None]
    # Near a border of the source a weight tells of the border, which places know better.
    edge = torch.zeros(()) if inside.all() else _side(slopes) - 1
    inner = ((reached >= edge) & (reached <= look.size - 1 - edge)).all(dim=0)
    visible = torch.where(inner, weight, F.max_pool2d(weight[None], 3, 1, 1)[0]).clamp(0, 1)
    fine, turn = (21, 13) if weight.numel() < 10_000 else (8, 5)
    step = torch.arange(fine)
    within = (torch.stack([step, step * turn % fine]) + 0.5).double() / fine - 0.5
    points = reached[:, None] + torch.einsum("pdyx,df->pfyx", slopes, within)
    mass = area * visible * _inside(points, look.size[..., None]) / fine
    if _doubt(look, reached, slopes, mass.sum(dim=0), inner) > 0.01 * look.size.prod():
        raise ValueError("it shows too little of the edges of what it hides")
    return mass, points


def _doubt(look: Look, reached: Places, slopes: Slopes, mass: Map, inner: Mask) -> Tensor:
    """How many source pixels may be counted wrong."""
    area, side, weight = _area(slopes).abs(), _side(slopes), look.weight
    # What is too far from known planes.
    doubt = weight[area == 0].sum()
    # What is fainter than a border leaves it: at least the square of linear interpolation.
    over = torch.maximum(-reached, reached - look.size + 1)
    least = torch.minimum(1 - over, (side - over) / (2 * side - 1)).clamp(0, 1).prod(dim=0) ** 2
    least = (over.amax(dim=0) < 0.25).double() if look.whole else least
    faint = (1 - weight / least.clamp(min=0.05)).clamp(min=0) * (least > 0.05)
    doubt += (mass * faint)[~inner].sum()
    # What is fainter than its place tells: dimmed twice, by the border of an earlier step.
    linear = 1 - (reached - look.places).abs().amax(dim=0)
    dimmed = inner & (weight > 0) & (not look.whole)
    doubt += (area * (linear - weight).clamp(min=0))[dimmed].sum()
    # Edges that fall between the pixels of a reduction.
    between = side * (side - 1) / 2 * inner
    for axis in (0, 1):
        sharp = (4 * weight.diff(dim=axis).abs() - 3).clamp(0, 1)
        doubt += (between.unfold(axis, 2, 1).amin(dim=-1) * sharp).sum()
    return doubt


def _differences(places: Places) -> tuple[Slopes, Map]:
    """Slopes, from the pixels on both sides, and the largest bend between the two."""
    around = F.pad(places[None], (1, 1, 1, 1), mode="replicate")[0]
    before = torch.stack([around[:, :-2, 1:-1], around[:, 1:-1, :-2]], dim=1)
    after = torch.stack([around[:, 2:, 1:-1], around[:, 1:-1, 2:]], dim=1)
    return (after - before) / 2, (after + before - 2 * places[:, None]).abs().amax(dim=(0, 1))


def _area(slopes: Slopes) -> Map:
    return slopes[0, 0] * slopes[1, 1] - slopes[0, 1] * slopes[1, 0]


def _side(slopes: Slopes) -> Map:
    """The side of an output pixel in the source, or 1 if it is smaller."""
    return _area(slopes).abs().sqrt().clamp(min=1)


def _grid(places: Places) -> Float[Tensor, "2 y x"]:
    return torch.ones_like(places[0]).nonzero().T.reshape(places.shape).double()


def _along(slopes: Slopes, way: Float[Tensor, "2 y x"]) -> Places:
    return torch.einsum("pdyx,dyx->pyx", slopes, way)


def _inside(points: Float[Tensor, "2 *n"], size: Tensor) -> Bool[Tensor, "*n"]:
    return ((points >= -0.5) & (points < size - 0.5)).all(dim=0)


def _all_around(mask: Mask) -> Mask:
    """Whether the mask holds in all of 3 x 3 pixels, none of them outside of the frame."""
    outside = F.pad((~mask).double(), (1, 1, 1, 1), value=1)
    return F.max_pool2d(outside[None], 3, 1)[0] == 0
