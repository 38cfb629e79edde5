"""The map after an unknown transform, measured from its geometry.

All positions must follow one of three kinds of maps; otherwise visibility cannot be measured:

1. whole pixels in any arrangement (crop, pad, flip, tiles): each source pixel counts once;
2. one affine or projective map: an output pixel shows a parallelogram of the source, spanned by the
   slopes J, of area abs(det J), of which the part inside the source and not hidden counts;
3. a smooth bent map: as 2, with slopes from differences of positions.

h w pixels of the source, y x pixels of the result, p points in each of these.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from softaug.transforms.borrowed.fit import fit_affine_or_projective, fit_smooth_map
from softaug.transforms.borrowed.geometry import (
    Geometry,
    Map,
    Mask,
    Positions,
    Slopes,
    interior,
    is_inside,
    pixel_side,
    read_geometry,
    run_probes,
    signed_area,
)

# Source pixels that each point stands for, and positions of the points
Points = tuple[Float[Tensor, "p y x"], Float[Tensor, "2 p y x"]]


def measure(run: Callable[[Tensor], Tensor], seen: Float[Tensor, "h w"], channels: int) -> Map:
    """Measure the map of one image after `run`, a transform of [C,H,W], from the map before.

    run: repeats its random numbers on each call; channels: C of the images.
    Raises ValueError with the reason where visibility cannot be measured to about 1 % of the image.
    """
    # On the CPU, because not every device has float64.
    responses, before = run_probes(run, channels, seen).cpu().double(), seen.cpu().double()
    geometry = read_geometry(responses, *seen.shape)
    mass, points = _points_shown(geometry)
    row, column = torch.minimum(points.round().clamp(min=0), geometry.size[..., None] - 1).long()
    moved = (mass * before[row, column]).sum(dim=0) * (mass[0].numel() / seen.numel())
    # Rounding to float32 must not make visibility grow.
    growth = moved.mean() / before.mean().clamp(min=1e-30)
    if growth > 1 or (mass != mass.round()).any():
        moved = moved * (1 - 5e-7) / growth.clamp(min=1)
    return moved.float().to(seen.device)


def _points_shown(geometry: Geometry) -> Points:
    """Points of the source that each output pixel shows, by the kind of the map."""
    if not geometry.full.any():
        return geometry.weight[None], geometry.positions[:, None]
    if geometry.whole and _is_rearrangement(geometry):
        _check_colour_unchanged(
            geometry, geometry.positions, torch.zeros(2, 2, *geometry.weight.shape).double()
        )
        return _count_pixels_once(geometry)
    fitted, slopes = fit_affine_or_projective(geometry) or fit_smooth_map(geometry)
    _check_colour_unchanged(geometry, fitted, slopes)
    return _visible_points(geometry, fitted, slopes)


def _is_rearrangement(geometry: Geometry) -> bool:
    """Whether whole pixels are moved, mirrored or repeated, leaving none out between two others.

    The source position then steps by one pixel, by none beyond an edge, or by many at a seam.
    Nearest neighbours of a resampling map have odd steps, such as 1 1 0 1 1 or 1 1 2 1 1.
    """
    positions = torch.where(geometry.full, geometry.positions, torch.nan)
    at_edge = ((positions == 0) | (positions == geometry.size - 1)).any(dim=0)
    for axis in (0, 1):
        steps = positions.diff(dim=axis + 1).movedim(axis + 1, -1)
        edge = at_edge.movedim(axis, -1)[..., 1:]
        near, far = steps.abs().sum(dim=0), steps.abs().amax(dim=0)
        single = (near == 1) | ((near == 0) & edge)
        before, step, after = steps[..., :-2], steps[..., 1:-1], steps[..., 2:]
        odd = (before == after) & ((step - after).abs() == 1)
        if odd.any() or (~single & (far < 3)).any() or single.sum() <= (far >= 3).sum():
            return False
    return True


def _count_pixels_once(geometry: Geometry) -> Points:
    """Count each source pixel once, divided among the output pixels that show it."""
    count = int(geometry.size.prod())
    row, column = geometry.positions
    index = (row * geometry.size[1] + column).long().clamp(0, count - 1)
    times = index[geometry.full].bincount(minlength=count).clamp(min=1)
    return (geometry.full / times[index].double())[None], geometry.positions[:, None]


def _check_colour_unchanged(geometry: Geometry, fitted: Positions, slopes: Slopes) -> None:
    """Raise ValueError where brightness changes or neighbours mix beyond what resampling does."""
    residual = (fitted - geometry.positions).abs().amax(dim=0)
    near = residual <= (1 if geometry.whole else 0.1) * pixel_side(slopes)
    # At an edge of the source, or of a hole, resampling dims a few pixels.
    dim = near & (geometry.weight > 0) & ~geometry.full
    if (interior(interior(dim)) if slopes.any() else dim).any():
        raise ValueError("it changes brightness")
    # Linear interpolation spreads by 1/3 on average, a reduction by s by s^2 / 3. Twice that is
    # allowed, for two steps.
    reduced = ((slopes**2).sum(dim=(0, 1)) - 2).clamp(min=0) / 4
    most = (0.05 if geometry.whole else 0.7) + reduced + 4e-7 * (geometry.size**2).sum()
    if (geometry.spread.abs() - most)[near & geometry.full].median() > 0:
        raise ValueError("it blurs or sharpens")


def _visible_points(geometry: Geometry, fitted: Positions, slopes: Slopes) -> Points:
    """Sample each output pixel's parallelogram in the source, cut at the borders, times its weight.

    The samples are a Fibonacci lattice, which is even in the plane and on each axis.
    """
    area, weight = signed_area(slopes).abs(), geometry.weight
    inside = is_inside(fitted, geometry.size)
    aligned = (slopes[0, 0] * slopes[0, 1]).abs().max() < 1e-3 * area.mean()
    if geometry.whole and aligned and (inside | geometry.full).all():
        # Nearest neighbours of a resize may round down, but never to beyond a border.
        return (area * weight)[None], fitted[:, None]
    # Near a border of the source the weight is dimmed by the border, which positions show better.
    edge = torch.zeros(()) if inside.all() else pixel_side(slopes) - 1
    inner = ((fitted >= edge) & (fitted <= geometry.size - 1 - edge)).all(dim=0)
    visible = torch.where(inner, weight, F.max_pool2d(weight[None], 3, 1, 1)[0]).clamp(0, 1)
    fine, turn = (21, 13) if weight.numel() < 10_000 else (8, 5)
    step = torch.arange(fine)
    within = (torch.stack([step, step * turn % fine]) + 0.5).double() / fine - 0.5
    points = fitted[:, None] + torch.einsum("pdyx,df->pfyx", slopes, within)
    mass = area * visible * is_inside(points, geometry.size[..., None]) / fine
    uncertain = _uncertain_pixels(geometry, fitted, slopes, mass.sum(dim=0), inner)
    if uncertain > 0.01 * geometry.size.prod():
        raise ValueError("it shows too little of the edges of what it hides")
    return mass, points


def _uncertain_pixels(
    geometry: Geometry, fitted: Positions, slopes: Slopes, mass: Map, inner: Mask
) -> Tensor:
    """Bound the number of source pixels that may be counted wrong."""
    area, side, weight = signed_area(slopes).abs(), pixel_side(slopes), geometry.weight
    # Pixels too far from known tangent planes.
    uncertain = weight[area == 0].sum()
    # Pixels fainter than a border makes them, which is at least linear interpolation squared.
    over = torch.maximum(-fitted, fitted - geometry.size + 1)
    least = torch.minimum(1 - over, (side - over) / (2 * side - 1)).clamp(0, 1).prod(dim=0) ** 2
    least = (over.amax(dim=0) < 0.25).double() if geometry.whole else least
    faint = (1 - weight / least.clamp(min=0.05)).clamp(min=0) * (least > 0.05)
    uncertain += (mass * faint)[~inner].sum()
    # Pixels fainter than their position explains: dimmed twice, by the border of an earlier step.
    linear = 1 - (fitted - geometry.positions).abs().amax(dim=0)
    dimmed = inner & (weight > 0) & (not geometry.whole)
    uncertain += (area * (linear - weight).clamp(min=0))[dimmed].sum()
    # Edges of holes that fall between the pixels of a reduction.
    between = side * (side - 1) / 2 * inner
    for axis in (0, 1):
        sharp = (4 * weight.diff(dim=axis).abs() - 3).clamp(0, 1)
        uncertain += (between.unfold(axis, 2, 1).amin(dim=-1) * sharp).sum()
    return uncertain
