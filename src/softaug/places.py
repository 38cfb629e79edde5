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
Homography = Float[Tensor, "3 3"]


def carry(run: Callable[[Tensor], Tensor], seen: Float[Tensor, "h w"], channels: int) -> Map:
    """The map after `run`, a transform of [C,H,W] that repeats its random numbers each time.

    Raises ValueError with the reason where what is seen cannot be told to 1 % of the image.
    """
    carried = _probe(run, channels, seen).cpu().double()
    mass, points = _shown(carried, torch.tensor(seen.shape).view(2, 1, 1))
    size = torch.tensor(seen.shape).view(2, 1, 1, 1)
    row, column = torch.minimum(points.round().long().clamp(min=0), size - 1)
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
    if weight.min() < -0.2:
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
    if whole and _arranged(places, full):
        _check(spread, weight, full, places, full, size)
        return _count(places, full, size)
    homography = _one_map(places, full, whole, size)
    if homography is not None:
        return _straight(homography, places, spread, weight, whole, size)
    if whole:
        raise ValueError(
            "it takes nearest neighbours on a bent or reflected map, where places are too coarse; "
            "choose bilinear interpolation, or split it"
        )
    return _bent(places, spread, weight, size)


def _arranged(places: Places, full: Mask) -> bool:
    """Whether places are those of whole pixels, moved, mirrored or repeated, and none left out.

    Steps to the next pixel are then of one pixel, of none in an edge, or far at a seam. Rounded
    places of nearest neighbours have odd steps, as 1 1 0 1 1, 0 0 1 0 0 or 1 1 2 1 1.
    """
    known = torch.where(full, places, torch.nan)
    for axis in (1, 2):
        steps = known.diff(dim=axis).movedim(axis, -1)
        far = steps.abs().amax(dim=0)
        near, seam = steps.abs().sum(dim=0) <= 1, far >= 3
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


def _one_map(places: Places, full: Mask, whole: bool, size: Tensor) -> Homography | None:
    """The affine or else projective map that all places follow, or None.

    Resampling draws places in at borders: the half that fits best decides (least trimmed squares),
    and the rest may be off by as much as that.
    """
    slopes, bend = _slopes(places)
    area, steep = _area(slopes).abs(), (slopes**2).sum(dim=(0, 1))
    use = full if whole else _all_around(full) & (area > 0.01 * steep) & (steep > 1e-6)
    if min(use.any(dim=0).sum(), use.any(dim=1).sum()) < 3:
        raise ValueError("it shows too few pixels side by side")
    for projective in (False, True):
        off = bend
        for _ in range(1 if whole else 4):
            best = use if whole else use & (off <= off[use].median())
            homography = _fit(places, best, projective)
            reached, area = _reach(homography, _grid(places))
            side = area.sqrt().clamp(min=1)
            off = (reached - places).abs().amax(dim=0) / side
        if whole and (off * side)[full].max() <= 0.75:
            return homography
        held = torch.minimum(reached.clamp(min=0), size - 1)
        clamped = (held - places).abs().amax(dim=0) <= 0.6 + 0.1 * side
        tight = off <= 0.1
        if not whole and (tight | clamped)[full].all() and tight[use].double().mean() > 0.5:
            return homography
    return None


def _fit(places: Places, use: Mask, projective: bool) -> Homography:
    """The homography nearest to the places in use; its last row is (0, 0, 1) if affine."""
    every = max(1, int(use.sum()) // 2000)
    x, y = _grid(places)[:, use][:, ::every].T, places[:, use][:, ::every].T
    # y (1 + h x) = M x, linear in the rows of M and in h; from the middle, so that 1 is not small.
    middle, scale = x.mean(dim=0), x.new_tensor([*use.shape, 1])
    middle[2] = 0
    x = (x - middle) / scale
    none = torch.zeros_like(x)
    rows = torch.cat([torch.cat([x, none], dim=1), torch.cat([none, x], dim=1)])
    if projective:
        rows = torch.cat([rows, torch.cat([-x[:, :2] * y[:, :1], -x[:, :2] * y[:, 1:]])], dim=1)
    solution = torch.linalg.lstsq(rows, y.T.reshape(-1, 1)).solution.flatten()
    last = solution[6:] if projective else solution.new_zeros(2)
    homography = torch.cat([solution[:6], last, solution.new_ones(1)]).view(3, 3) / scale
    homography[:, 2] -= homography[:, :2] @ middle[:2]
    return homography


def _grid(places: Places) -> Float[Tensor, "3 y x"]:
    y, x = (torch.ones_like(places[0]).cumsum(dim) - 1 for dim in (0, 1))
    return torch.stack([y, x, torch.ones_like(y)])


def _reach(homography: Homography, at: Float[Tensor, "3 *n"]) -> tuple[Tensor, Tensor]:
    """Places that a homography reaches from output pixels, and their abs(det J)."""
    row, column, depth = torch.einsum("ij,j...->i...", homography, at)
    front = depth > 1e-3
    depth = depth.clamp(min=1e-3)
    return torch.stack([row, column]) / depth, front * torch.linalg.det(homography).abs() / depth**3


def _straight(
    homography: Homography, places: Places, spread: Map, weight: Map, whole: bool, size: Tensor
) -> Shown:
    """What one map shows: of the parallelogram of each output pixel, what is inside and not hidden.

    It is sampled at points of a Fibonacci lattice, which is even in the plane and on each axis.
    """
    grid = _grid(places)
    reached, area = _reach(homography, grid)
    inner = ((reached >= 0) & (reached <= size - 1)).all(dim=0)
    near = (reached - places).abs().amax(dim=0) <= area.sqrt().clamp(min=1) * (1 if whole else 0.1)
    _check(spread, weight, near, reached, inner & near, size)
    # Beyond the outer pixels' centres a weight tells of the border, which places know better.
    weight = torch.where(inner, weight.clamp(0, 1), _any_around(weight > 0))
    # Nearest neighbours that all lie inside stand for all of their parallelograms.
    fine, turn = (1, 0) if whole and _inside(reached, size).all() else (21, 13)
    if weight.numel() > 10_000 and fine > 1:
        fine, turn = 8, 5
    step = torch.arange(fine)
    within = (torch.stack([step, step * turn % fine]) + 0.5) / fine - 0.5
    at = grid[:, None] + F.pad(within, (0, 0, 0, 1))[:, :, None, None]
    points, area = _reach(homography, at)
    inside = _inside(points, size[..., None])
    # What lies outside is missing from the weight already, where that is below 1.
    part = inside.double().mean(dim=0).clamp(min=1 / fine)
    return area * torch.where(weight < 1, weight / part, 1.0) * inside / fine, points


def _bent(places: Places, spread: Map, weight: Map, size: Tensor) -> Shown:
    """What a smooth bent map shows, from differences of places."""
    slopes, bend = _slopes(places)
    area = _area(slopes)
    known = _all_around((weight - 1).abs() < TOLERANCE)
    if known.sum() < 0.25 * (weight > 0).sum():
        raise ValueError("it shows too few pixels side by side")
    if area[known].max() > 0 > area[known].min() or area[known].abs().min() < 0.05:
        raise ValueError(
            "it folds, reflects or repeats the image while it resamples; pad with zeros"
        )
    if bend[known].max() > 0.5:
        raise ValueError("it is not smooth")
    if not 0.7 < area[known].abs().median() < 1.4:
        raise ValueError("it bends and resizes at once")
    _check(spread, weight, weight > 0, places, known, size)
    area = area.abs() * known
    for _ in range(3):
        around = F.avg_pool2d(torch.stack([area, known.double()]), 3, 1, 1)
        area = torch.where(known, area, around[0] / around[1].clamp(min=1e-9))
        known = around[1] > 0
    if (weight > TOLERANCE)[~known].any():
        raise ValueError("it shows too few pixels side by side")
    return (area * weight.clamp(0, 1))[None], places[:, None]


def _check(
    spread: Map, weight: Map, near: Mask, places: Places, use: Mask, size: Tensor
) -> None:
    """Refuse changes of brightness, and blur: more spread than two resamplings make."""
    dim = near & (weight > 0) & ((weight - 1).abs() > TOLERANCE)
    # At an edge of the source, or of a hole, only a few pixels are dim.
    if _all_around(_all_around(dim)).any():
        raise ValueError("it changes brightness")
    use = use & ((weight - 1).abs() < TOLERANCE)
    if not use.any():
        raise ValueError("it shows too few pixels")
    # Linear interpolation spreads by f (1 - f) on each axis, a reduction by s by s^2 / 6.
    fraction = (places - places.floor())[:, use]
    between = (fraction * (1 - fraction)).sum(dim=0).mean()
    reduced = ((_slopes(places)[0] ** 2).sum(dim=(0, 1)) - 2)[use].clamp(min=0).mean() / 4
    if spread[use].median().abs() > 0.05 + 2 * between + reduced + 4e-7 * (size**2).sum():
        raise ValueError("it blurs or sharpens")


def _slopes(places: Places) -> tuple[Float[Tensor, "2 2 y x"], Map]:
    """Differences of places to both sides, d(y, x) first, and the largest bend between the two."""
    around = F.pad(places[None], (1, 1, 1, 1), mode="replicate")[0]
    before = torch.stack([around[:, :-2, 1:-1], around[:, 1:-1, :-2]])
    after = torch.stack([around[:, 2:, 1:-1], around[:, 1:-1, 2:]])
    return (after - before) / 2, (after + before - 2 * places).abs().amax(dim=(0, 1))


def _area(slopes: Float[Tensor, "2 2 y x"]) -> Map:
    return slopes[0, 0] * slopes[1, 1] - slopes[0, 1] * slopes[1, 0]


def _inside(points: Float[Tensor, "2 *n"], size: Tensor) -> Bool[Tensor, "*n"]:
    return ((points >= -0.5) & (points < size - 0.5)).all(dim=0)


def _any_around(mask: Mask) -> Map:
    return F.max_pool2d(mask[None].double(), 3, 1, 1)[0]


def _all_around(mask: Mask) -> Mask:
    """Whether the mask holds in all of 3 x 3 pixels, none of them outside of the frame."""
    return _any_around(F.pad(~mask, (1, 1, 1, 1), value=True))[1:-1, 1:-1] == 0
