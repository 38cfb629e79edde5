"""Maps that all measured positions follow: affine, projective or smoothly bent.

y x pixels of the result; positions and slopes as in `geometry`.
"""

import torch
import torch.nn.functional as F

from softaug.transforms.borrowed.geometry import (
    Geometry,
    Map,
    Mask,
    Positions,
    Slopes,
    differences,
    interior,
    linear_term,
    pixel_grid,
    pixel_side,
    signed_area,
)

Fit = tuple[Positions, Slopes]


def fit_affine_or_projective(geometry: Geometry) -> Fit | None:
    """Fit an affine map, then a projective one, to all positions; None where neither fits."""
    positions, full = geometry.positions, geometry.full
    slopes, bend = differences(positions)
    steep = (slopes**2).sum(dim=(0, 1))
    use = full if geometry.whole else interior(full) & (signed_area(slopes).abs() > 0.01 * steep)
    if min(use.any(dim=0).sum(), use.any(dim=1).sum()) < 3:
        raise ValueError("it shows too few pixels side by side")
    for projective in (False, True):
        if geometry.whole:
            fit = _fit_rounded(positions, full, projective)
        else:
            smoother_half = use & (bend <= bend[use].median())
            fit = _fit_resampled(geometry, use, smoother_half, projective)
        if fit is not None:
            return fit
    return None


def _fit_rounded(positions: Positions, full: Mask, projective: bool) -> Fit | None:
    """Fit positions that nearest neighbours rounded by up to half a pixel.

    Minimises the largest error (Lawson 1961).
    """
    trust = full.double()
    for _ in range(20):
        fitted, slopes = _least_squares(positions, trust, projective)
        residual = (fitted - positions).abs().amax(dim=0)
        if residual[full].max() <= 0.5:
            break
        trust = trust * residual / residual[full].max().clamp(min=1e-9)
    return (fitted, slopes) if (residual <= 0.75)[full].all() else None


def _fit_resampled(geometry: Geometry, use: Mask, trusted: Mask, projective: bool) -> Fit | None:
    """Fit positions that resampling drew inwards at borders, by slightly more than half a pixel.

    Fits the trusted pixels first, then the better half (least trimmed squares, Rousseeuw).
    """
    positions, full = geometry.positions, geometry.full
    for _ in range(4):
        fitted, slopes = _least_squares(positions, trusted.double(), projective)
        residual = (fitted - positions).abs().amax(dim=0) / pixel_side(slopes)
        trusted = use & (residual <= residual[use].median())
    side = pixel_side(slopes)
    inwards = (fitted - fitted[:, full].mean(dim=1).view(2, 1, 1)).sign()
    drawn = (torch.minimum(fitted.clamp(min=0), geometry.size - 1) - positions) * inwards
    explained = ((drawn > -0.2 * side) & (drawn < 0.6 + 0.1 * side))[:, full].all()
    close = (residual <= 0.1)[use].double().mean() > 0.5
    return (fitted, slopes) if explained and close else None


def _least_squares(positions: Positions, trust: Map, projective: bool) -> Fit:
    """Fit a map to positions by least squares, each weighted by `trust`."""
    y, x = trust.nonzero(as_tuple=True)
    middle, scale = torch.stack([y, x]).double().mean(dim=1), max(trust.shape)
    grid = (pixel_grid(positions) - middle.view(2, 1, 1)) / scale
    some = slice(None, None, max(1, len(y) // 2000))
    at, to, root = grid[:, y, x][:, some].T, positions[:, y, x][:, some].T, trust[y, x][some].sqrt()
    # The map is to (1 + h at) = M at + m, which is linear in the rows of (M, m) and in h.
    one, none = torch.ones_like(at[:, :1]), torch.zeros(len(at), 3).double()
    rows = [torch.cat([at, one, none], dim=1), torch.cat([none, at, one], dim=1)]
    bends = torch.cat([-at * to[:, :1], -at * to[:, 1:]]) * projective
    design = torch.cat([torch.cat(rows), bends], dim=1) * root.repeat(2)[:, None]
    target = (to.T * root).reshape(-1, 1)
    solution = torch.linalg.lstsq(design, target, driver="gelsd").solution.flatten()
    linear, shift, h = solution[:6].view(2, 3)[:, :2], solution[[2, 5]], solution[6:]
    depth = 1 + torch.einsum("d,dyx->yx", h, grid)
    depth = torch.where(depth.abs() < 1e-3, 1e-3, depth)  # 0 at the horizon
    fitted = torch.einsum("pd,dyx->pyx", linear, grid) + shift.view(2, 1, 1)
    fitted = fitted / depth
    slopes = (linear[..., None, None] - fitted[:, None] * h.view(1, 2, 1, 1)) / depth / scale
    return fitted, slopes


def fit_smooth_map(geometry: Geometry) -> Fit:
    """Positions and slopes of a smooth bent map, continued beyond the pixels shown in full."""
    if geometry.whole:
        raise ValueError(
            "it takes nearest neighbours on a bent or reflected map, where positions are too "
            "coarse; choose bilinear interpolation, or split it"
        )
    slopes, bend = differences(geometry.positions)
    known, area = interior(geometry.full), signed_area(slopes)
    if known.sum() < 0.25 * (geometry.weight > 0).sum():
        raise ValueError("it shows too few pixels side by side")
    if area[known].min() < 0.05 and area[known].max() > -0.05:
        raise ValueError("it folds, reflects or repeats what it resamples; pad with zeros")
    if bend[known].max() > 0.5 or not 0.8 < area[known].abs().median() < 1.25:
        raise ValueError("it bends the image, and steeply or while it resizes")
    # At borders the tangent planes of the nearest known pixels are continued.
    grid = pixel_grid(geometry.positions)
    planes = torch.cat([slopes.flatten(0, 1), geometry.positions - linear_term(slopes, grid)])
    for _ in range(3):
        sums = F.avg_pool2d(torch.cat([planes * known, known[None].double()]), 3, 1, 1)
        planes = torch.where(known, planes, sums[:6] / sums[6].clamp(min=1e-9))
        known = sums[6] > 0
    slopes = planes[:4].view_as(slopes) * known
    return planes[4:] + linear_term(slopes, grid), slopes
