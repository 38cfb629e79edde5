"""What a recipe makes of its arm: the augmentation with its curve, and the law of its draws."""

from collections.abc import Callable

import torch

from softaug import (
    Chain,
    Constant,
    Crop,
    Curve,
    Flip,
    GaussianBlur,
    Hard,
    PowerCurve,
    SoftAugment,
    Still,
    Transform,
    per_sample,
    visibility,
)
from softaug.transforms.colour import ColourJitter, Greyscale
from softaug_lab.models import SMALL_IMAGE
from softaug_lab.recipes import Recipe, read_arm, transform_of

DRAWS, BLOCK = 20_000, 1_000  # for means over a transform's draws, and how many at a time


def build_arm(recipe: Recipe, num_classes: int, height: int, width: int) -> SoftAugment:
    """The augmentation and the targets of a recipe's arm.

    Without labels the curve ends at 0, not at 1/K. 1/K is what a guess at the label is worth where
    nothing is seen; a pair of views has no label to guess, and of the many images whose view the
    other one might be, the chance to hit the right one is next to 0. Such a pair has no weight.
    """
    arm = read_arm(recipe.arm)
    transform = transform_of(recipe, arm, height, width)
    chance = 0.0 if arm.self_supervised else 1 / num_classes
    soft = PowerCurve(k=arm.k or recipe.k, chance=chance, ceiling=arm.ceiling)
    curves: dict[str, Callable[[], Curve]] = {
        "hard": lambda: Constant(1.0),
        "smoothed": lambda: Constant(smoothed(arm.alpha, num_classes)),
        "online": lambda: Constant(1 - arm.alpha),
        "constant": lambda: Constant(mean_confidence(transform, soft, height, width)),
        "soft": lambda: soft,
    }
    if arm.self_supervised:
        transform = Chain([transform, *_colours(recipe, height, width)])
    return SoftAugment(
        Chain([Flip(), transform]) if recipe.flip else transform,
        num_classes,
        # Where only the loss is weighted, the curve says by how much.
        curve=(curves["soft"] if arm.weighted else curves[arm.targets])(),
        soften=arm.targets != "hard",
        weight=per_sample if arm.weighted else None,
    )


def build_end_phase(recipe: Recipe, num_classes: int) -> SoftAugment:
    """What every arm does in its last `end_epochs`: flips, and the labels of whole images."""
    arm = read_arm(recipe.arm)
    p = smoothed(arm.alpha, num_classes) if arm.targets == "smoothed" else 1.0
    return SoftAugment(Flip() if recipe.flip else Still(), num_classes, curve=Constant(p))


def _colours(recipe: Recipe, height: int, width: int) -> list[Transform]:
    """What is done to the colours of a view (Chen and He 2021, appendices A and D)."""
    small = max(height, width) <= SMALL_IMAGE
    blur = recipe.blur if recipe.blur is not None else 0.0 if small else 0.5
    colours: list[Transform] = [ColourJitter(), Greyscale()]
    if blur:
        # A tenth of the side, as in SimCLR. It softens nothing: the pair is judged by its crops.
        reach = max(1, round(min(height, width) / 20))
        colours.append(Hard(GaussianBlur(2 * reach + 1, probability=blur)))
    return colours


def smoothed(alpha: float, num_classes: int) -> float:
    """What label smoothing leaves the label."""
    return 1 - alpha * (1 - 1 / num_classes)


def mean_confidence(transform: Transform, curve: Curve, height: int, width: int) -> float:
    """The mean of the curve over the law by which a transform's parameters are drawn.

    Exactly for a crop alone, else over DRAWS draws, the same ones every time.
    """
    if isinstance(transform, Crop):
        rows = 1 - torch.arange(-height, height + 1).abs() / height
        columns = 1 - torch.arange(-width, width + 1).abs() / width
        shares = (rows[:, None] * columns).flatten()
        vertical, horizontal = transform.sigmas
        law = _offset_law(vertical, height)[:, None] * _offset_law(horizontal, width)
        return float((curve(shares.double()) * law.flatten()).sum())
    return float(curve(drawn_visibility(transform, height, width)).mean())


def drawn_visibility(transform: Transform, height: int, width: int) -> torch.Tensor:
    """The visibilities of DRAWS draws of a transform on images of this size, float32 [DRAWS]."""
    generator = torch.Generator().manual_seed(0)
    blank = torch.zeros(1, 1, height, width, dtype=torch.uint8).expand(BLOCK, -1, -1, -1)
    shares = []
    for _ in range(DRAWS // BLOCK):
        drawn = transform.draw(BLOCK, height, width, generator)
        shares.append(visibility(transform.apply(blank, None, drawn)[1]))
    return torch.cat(shares)


def _offset_law(sigma: float, size: int) -> torch.Tensor:
    """The probability of each whole offset -size ... size, float64 [2 size + 1]."""
    if sigma == 0:
        return (torch.arange(-size, size + 1) == 0).double()
    edges = (torch.arange(-size, size + 2, dtype=torch.float64) - 0.5).clamp(-size, size)
    below: torch.Tensor = torch.special.ndtr(edges / (sigma * size))
    return below.diff() / (below[-1] - below[0])
