"""Where a transform of another library looks: what each of its output pixels shows of the source.

To move and to resample pixels is linear, out = A in + b with b the fill. So probes that hold 1, y,
x and y^2 + x^2, each less a blank image, come out as A 1, A y, A x and A (y^2 + x^2), the fill gone.
A y / A 1 is the place in the source at which an output pixel looks, and A 1 falls below 1 where a
part of it is hidden. Three kinds of maps are told from these places; anything else is refused:

1. whole pixels in any arrangement (crop, pad, flip, tiles): each source pixel counts once;
2. one affine or projective map: an output pixel shows abs(det J) pixels of the source, J the
   slopes of the map, and of them what lies inside of the source;
3. a smooth bent map: abs(det J) from differences of places.

c channels, h w pixels of the source, y x pixels of the result. Places are (row, column) in pixels of
the source, 0 the centre of the first; a homography takes (row, column, 1) of an output pixel there.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

TOLERANCE = 1e-3  # of probes, which lie in [0, 1], and of places, in pixels

Map = Float[Tensor, "y x"]
Mask = Bool[Tensor, "y x"]
Places = Float[Tensor, "2 y x"]
Shown = tuple[Float[Tensor, "p y x"], Float[Tensor, "2 p y x"]]
Slopes = Float[Tensor, "2 2 y x"]  # d(row, column) / d(y, x)
Planes = tuple[Places, Slopes]  # a map near each output pixel


def carry(run: Callable[[Tensor], Tensor], seen: Float[Tensor, "h w"], channels: int) -> Map:
    """The map after `run`, a transform of [C,H,W] that repeats its random numbers each time.

    Raises ValueError with the reason where what is seen cannot be told to 1 % of the image.
    """
    carried = _probe(run, channels, seen).cpu().double()
    mass, points = _shown(carried, torch.tensor(seen.shape).view(2, 1, 1))
    size = torch.tensor(seen.shape).view(2, 1, 1, 1)
    row, column = torch.minimum(points.round().clamp(min=0), size - 1).long()
    moved = (mass * seen.cpu().double()[row, column]).sum(dim=0) * mass[0].numel() / seen.numel()
    # Never more than there was, not even when float32 rounds.
    more = moved.mean() / seen.mean().clamp(min=1e-30)
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
    return carried[:, 0]


def _shown(carried: Float[Tensor, "4 y x"], size: Tensor) -> Shown:
    """Points of the source that each output pixel shows, and how many source pixels each is."""
    weight = carried[0]
    if weight.min() < -0.5:
        raise ValueError("it inverts values")
    means = carried[1:] / weight.clamp(min=TOLERANCE)
    places = means[:2] * size - 0.5
    # Without rounding errors, so that what moves whole pixels is exact.
    places = torch.where((places - places.round()).abs() < TOLERANCE, places.round(), places)
    # The variance of the pixels that are mixed into one, in square pixels.
    spread = means[2] * (size**2).sum() - ((places + 0.5) ** 2).sum(dim=0)
    # A fill with the mean of the image shows no place.
    shown = (weight > TOLERANCE) & ((spread * 12 / (size**2).sum() - 1).abs() > 0.05)
    weight = torch.where(shown, weight, 0)
    full = (weight - 1).abs() < TOLERANCE
    if not shown.any():
        return weight[None], places[:, None]
    if not full.any():
        raise ValueError("it shows no pixel in full, or changes brightness")
    whole = bool((places == places.round())[:, full].all())
    if whole and _arranged(places, full, size):
        if (shown & ~full).any():
            raise ValueError("it changes brightness")
        _refuse_blur(spread, places, torch.zeros_like(weight), full, size)
        return _count(places, full, size)
    planes = _one_map(places, full, whole, size) or _bent(places, weight, full, whole)
    near = (planes[0] - places).abs().amax(dim=0) <= (1 if whole else 0.1) * _side(planes[1])
    inner = ((planes[0] >= 0) & (planes[0] <= size - 1)).all(dim=0)
    # At an edge of the source, or of a hole, only a few pixels are dim.
    if _all_around(_all_around(shown & ~full & near)).any():
        raise ValueError("it changes brightness")
    steep = (planes[1] ** 2).sum(dim=(0, 1))
    _refuse_blur(spread, planes[0], steep, inner & near & full, size)
    return _part(*planes, places, weight, whole, size)


def _arranged(places: Places, full: Mask, size: Tensor) -> bool:
    """Whether places are those of whole pixels, moved, mirrored or repeated, and none left out.

    Steps to the next pixel are then of one pixel, of none in an edge, or far at a seam. Rounded
    places of nearest neighbours have odd steps, as 1 1 0 1 1, 0 0 1 0 0 or 1 1 2 1 1.
    """
    known = torch.where(full, places, torch.nan)
    frame = ((places == 0) | (places == size - 1)).any(dim=0)
    for axis in (1, 2):
        steps = known.diff(dim=axis).movedim(axis, -1)
        far, sum_ = steps.abs().amax(dim=0), steps.abs().sum(dim=0)
        again = (sum_ == 0) & frame.narrow(axis - 1, 0, frame.shape[axis - 1] - 1).movedim(axis - 1, -1)
        near = (sum_ == 1) | again
        seam = far >= 3
        before, step, after = steps[..., :-2], steps[..., 1:-1], steps[..., 2:]
        odd = (before == after) & ((step - after).abs() == 1)
        if odd.any() or (~(near | seam | far.isnan())).any() or near.sum() <= seam.sum():
            return False
    return True


def _count(places: Places, full: Mask, size: Tensor) -> Shown:
    """Each source pixel once, divided among the output pixels that show it."""
    index = (places[0] * size[1] + places[1]).long().clamp(0, int(size.prod()) - 1)
    times = index[full].bincount(minlength=int(size.prod())).clamp(min=1)
    return (full / times[index].double())[None], places[:, None]


def _one_map(places: Places, full: Mask, whole: bool, size: Tensor) -> Planes | None:
    """The affine or else projective map that all places follow, or None.

    Resampling draws places in at borders: the half that fits best decides (least trimmed squares),
    and the rest may be off by as much as that.
    """
    slopes, bend = _slopes(places)
    steep = (slopes**2).sum(dim=(0, 1))
    use = full if whole else _all_around(full) & (_area(slopes).abs() > 0.01 * steep)
    if min(use.any(dim=0).sum(), use.any(dim=1).sum()) < 3:
        raise ValueError("it shows too few pixels side by side")
    for projective in (False, True):
        trust = (use & (bend <= bend[use].median()) | full * whole).double()
        for _ in range(20 if whole else 4):
            reached, slopes = _fit(places, trust, projective)
            side = _side(slopes)
            off = (reached - places).abs().amax(dim=0)
            if whole and off[full].max() <= 0.5:
                break
            if whole:
                trust = trust * off / off[full].max().clamp(min=1e-9)
            else:
                trust = (use & (off / side <= (off / side)[use].median())).double()
        if whole and off[full].max() <= 0.75:
            return reached, slopes
        held = torch.minimum(reached.clamp(min=0), size - 1)
        clamped = (held - places).abs().amax(dim=0) <= 0.6 + 0.1 * side
        middle = reached[:, full].mean(dim=1).view(2, 1, 1)
        outward = ((places - reached) * (reached - middle).sign()).amax(dim=0) > 0.2 * side
        tight = off <= 0.1 * side
        drawn_in = tight | clamped & ~outward
        if not whole and drawn_in[full].all() and tight[use].double().mean() > 0.5:
            return reached, slopes
    return None


def _fit(places: Places, trust: Map, projective: bool) -> Planes:
    """The affine or projective map nearest to the places that are trusted."""
    y, x = trust.nonzero(as_tuple=True)
    middle, scale = torch.stack([y, x]).double().mean(dim=1), max(trust.shape)
    grid = (_grid(places) - middle.view(2, 1, 1)) / scale
    every = max(1, len(y) // 2000)
    at, to = grid[:, y, x][:, ::every].T, places[:, y, x][:, ::every].T
    # to (1 + h at) = M at + m, linear in the rows of (M, m) and in h.
    one, none = torch.ones_like(at[:, :1]), torch.zeros(len(at), 3, dtype=at.dtype)
    rows = [torch.cat([at, one, none], dim=1), torch.cat([none, at, one], dim=1)]
    bends = [-at * to[:, :1] * projective, -at * to[:, 1:] * projective]
    design = torch.cat([torch.cat(rows), torch.cat(bends)], dim=1)
    root = trust[y, x][::every].sqrt().repeat(2)[:, None]
    solution = torch.linalg.lstsq(root * design, root * to.T.reshape(-1, 1), driver="gelsd").solution
    linear, h = solution[:6].view(2, 3), solution[6:, 0]
    depth = 1 + torch.einsum("d,dyx->yx", h, grid)
    depth = torch.where(depth.abs() < 1e-3, 1e-3, depth)  # the horizon
    reached = torch.einsum("pd,dyx->pyx", linear[:, :2], grid) + linear[:, 2].view(2, 1, 1)
    reached = reached / depth
    slopes = (linear[:, :2, None, None] - reached[:, None] * h.view(1, 2, 1, 1)) / depth / scale
    return reached, slopes


def _bent(places: Places, weight: Map, full: Mask, whole: bool) -> Planes:
    """The planes that a smooth bent map follows, from differences of places."""
    if whole:
        raise ValueError(
            "it takes nearest neighbours on a bent or reflected map, where places are too coarse; "
            "choose bilinear interpolation, or split it"
        )
    slopes, bend = _slopes(places)
    known, area = _all_around(full), _area(slopes)
    if known.sum() < 0.25 * (weight > 0).sum():
        raise ValueError("it shows too few pixels side by side")
    if area[known].min() < 0.05 and area[known].max() > -0.05:
        raise ValueError("it folds, reflects or repeats what it resamples; pad with zeros")
    if bend[known].max() > 0.5 or not 0.8 < area[known].abs().median() < 1.25:
        raise ValueError("it bends the image, and steeply or while it resizes")
    # Beside what is known, as at borders, goes on the mean of the planes next to it.
    grid = _grid(places)
    planes = torch.cat([slopes.flatten(0, 1), places - _along(slopes, grid)])
    for _ in range(3):
        sums = F.avg_pool2d(torch.cat([planes * known, known[None].double()]), 3, 1, 1)
        planes = torch.where(known, planes, sums[:6] / sums[6].clamp(min=1e-9))
        known = sums[6] > 0
    slopes = planes[:4].view_as(slopes) * known
    return planes[4:] + _along(slopes, grid), slopes


def _refuse_blur(spread: Map, reached: Places, steep: Map, use: Mask, size: Tensor) -> None:
    """Refuse what mixes more pixels than two resamplings do."""
    if not use.any():
        raise ValueError("it shows too few pixels side by side")
    # Linear interpolation spreads by f (1 - f) on each axis, a reduction by s by s^2 / 6.
    fraction = (reached - reached.floor())[:, use]
    between = (fraction * (1 - fraction)).sum(dim=0).mean()
    reduced = (steep[use] - 2).clamp(min=0).mean() / 4
    if spread[use].median().abs() > 0.05 + 2 * between + reduced + 4e-7 * (size**2).sum():
        raise ValueError("it blurs or sharpens")


def _part(
    reached: Places, slopes: Slopes, places: Places, weight: Map, whole: bool, size: Tensor
) -> Shown:
    """What is inside of the source, and not hidden, of the parallelogram of each output pixel.

    Sampled at points of a Fibonacci lattice, which is even in the plane and on each axis.
    """
    inside = _inside(reached, size)
    aligned = (slopes[0, 0] * slopes[0, 1]).abs().max() < 1e-3 * _area(slopes).abs().mean()
    if whole and aligned and (inside | (weight > 0)).all():
        # Nearest neighbours round up or down: all are shown, so none is at a border.
        return (_area(slopes).abs() * weight)[None], reached[:, None]
    fine, turn = (21, 13) if weight.numel() < 10_000 else (8, 5)
    step = torch.arange(fine)
    within = (torch.stack([step, step * turn % fine]) + 0.5).double() / fine - 0.5
    points = reached[:, None] + torch.einsum("pdyx,df->pfyx", slopes, within)
    # Near a border of the source a weight tells of the border, which places know better.
    side = _side(slopes)
    edge = torch.zeros(()) if inside.all() else side - 1
    inner = ((reached >= edge) & (reached <= size - 1 - edge)).all(dim=0)
    visible = torch.where(inner, weight, _most_around(weight)).clamp(0, 1)
    mass = _area(slopes).abs() * visible * _inside(points, size[..., None]) / fine
    # In doubt: what is fainter there than a border leaves it, which is no less than the square of
    # linear interpolation; edges that fall between pixels; and what is too far from known planes.
    over = torch.maximum(-reached, reached - size + 1)
    least = torch.minimum(1 - over, (side - over) / (2 * side - 1)).clamp(0, 1).prod(dim=0) ** 2
    least = (over.amax(dim=0) < 0.25).double() if whole else least
    faint = (1 - weight / least.clamp(min=0.05)).clamp(min=0) * (least > 0.05) * ~inner
    doubt = (mass.sum(dim=0) * faint).sum() + weight[_area(slopes) == 0].sum()
    linear = 1 - (reached - places).abs().amax(dim=0)
    doubt += (_area(slopes).abs() * (linear - weight).clamp(min=0))[inner & (weight > 0)].sum() * (not whole)
    between = side * (side - 1) / 2 * inner
    for y in (0, 1):
        sharp = (4 * weight.diff(dim=y).abs() - 3).clamp(0, 1)
        doubt += (between.unfold(y, 2, 1).amin(dim=-1) * sharp).sum()
    if doubt > 0.01 * size.prod():
        raise ValueError("it shows too little of the edges of what is hidden")
    return mass, points


def _slopes(places: Places) -> tuple[Slopes, Map]:
    """Differences of places to both sides, and the largest bend between the two."""
    around = F.pad(places[None], (1, 1, 1, 1), mode="replicate")[0]
    before = torch.stack([around[:, :-2, 1:-1], around[:, 1:-1, :-2]], dim=1)
    after = torch.stack([around[:, 2:, 1:-1], around[:, 1:-1, 2:]], dim=1)
    return (after - before) / 2, (after + before - 2 * places[:, None]).abs().amax(dim=(0, 1))


def _area(slopes: Slopes) -> Map:
    return slopes[0, 0] * slopes[1, 1] - slopes[0, 1] * slopes[1, 0]


def _side(slopes: Slopes) -> Map:
    """The side of an output pixel in the source, in pixels, 1 if it is smaller."""
    return _area(slopes).abs().sqrt().clamp(min=1)


def _along(slopes: Slopes, way: Float[Tensor, "2 y x"]) -> Places:
    return torch.einsum("pdyx,dyx->pyx", slopes, way)


def _grid(places: Places) -> Float[Tensor, "2 y x"]:
    return torch.ones_like(places[0]).nonzero().T.reshape(places.shape).double()


def _inside(points: Float[Tensor, "2 *n"], size: Tensor) -> Bool[Tensor, "*n"]:
    return ((points >= -0.5) & (points < size - 0.5)).all(dim=0)


def _most_around(values: Map) -> Map:
    return F.max_pool2d(values[None], 3, 1, 1)[0]


def _all_around(mask: Mask) -> Mask:
    """Whether the mask holds in all of 3 x 3 pixels, none of them outside of the frame."""
    outside = F.pad((~mask).double(), (1, 1, 1, 1), value=1)
    return _most_around(outside)[1:-1, 1:-1] == 0
