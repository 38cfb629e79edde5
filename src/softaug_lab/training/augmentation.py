"""Build the augmentation of a recipe's arm, and estimate the visibilities that it draws."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from softaug import (
    CalibratedCurve,
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
from softaug.recommend import Strength, strength
from softaug.transforms.colour import ColourJitter, Greyscale
from softaug_lab.data import Data, begun
from softaug_lab.models import SMALL_IMAGE
from softaug_lab.recipes import SIGMA, K, Recipe, expression_of, transform_of

DRAWS, BLOCK = 20_000, 1_000  # draws to estimate visibilities from, and how many at a time


def rule_of(recipe: Recipe, data: Data, *, policy: bool | None = None) -> Strength:
    """Return the strength that the rule of the arms auto chooses for a recipe's epochs and data.

    policy: whether RandAugment comes first, if not by the epochs; never with maps of objects.
    """
    if data.train.objects is not None:
        policy = False  # it would move an image, but not the map of its object
    return strength(
        epochs=recipe.epochs,
        images=data.train_images,
        side=min(data.image_shape[1:]),
        robust=recipe.robust,
        policy=policy,
    )


def resolve(recipe: Recipe, data: Data) -> Recipe:
    """Write into a recipe what it leaves open, so that a run records all that it was trained with.

    In the arms auto a rule chooses by the recipe's epochs and the data. What the recipe states
    stays: its `augment`, sigma and k, each for itself.
    """
    sigma, k, augment = recipe.sigma, recipe.k, recipe.augment
    if not recipe.by_rule:
        return replace(recipe, sigma=SIGMA if sigma is None else sigma, k=K if k is None else k)
    rule = rule_of(recipe, data)
    rule = replace(rule, sigma=rule.sigma if sigma is None else sigma)
    return replace(
        recipe,
        augment=expression_of(rule) if augment is None else augment,
        sigma=rule.sigma,
        k=rule.k if k is None else k,
    )


def build_arm(
    recipe: Recipe,
    num_classes: int,
    height: int,
    width: int,
    objects: UInt8[Tensor, "m 1 h w"] | None = None,
) -> SoftAugment:
    """Build the SoftAugment of a recipe's arm for images of this size.

    objects: maps of the objects in training images, by which visibility is measured if there are
    any: an arm of one confidence for all images has the mean over them.
    Without labels the curve ends at 0 instead of 1/K. 1/K is the chance to guess the label of an
    invisible image; a pair of views has no label, and the chance to guess which of many images the
    other view shows is almost 0. A pair with an invisible view therefore gets no weight.
    """
    arm = recipe.parsed_arm
    transform = transform_of(recipe, height, width)
    chance = 0.0 if arm.self_supervised else 1 / num_classes
    soft = PowerCurve(k=arm.k or recipe.k or K, chance=chance, ceiling=arm.ceiling)
    curves: dict[str, Callable[[], Curve]] = {
        "hard": lambda: Constant(1.0),
        "smoothed": lambda: Constant(smoothed(arm.alpha, num_classes)),
        "online": lambda: Constant(1 - arm.alpha),
        "constant": lambda: Constant(mean_confidence(transform, soft, height, width, objects)),
        "soft": lambda: soft,
        "learned": lambda: CalibratedCurve(chance),
    }
    if arm.self_supervised:
        transform = Chain([transform, *_view_changes(recipe, height, width)])
    return SoftAugment(
        Chain([Flip(), transform]) if recipe.flip else transform,
        num_classes,
        # The weights come from the curve, even where targets stay hard.
        curve=(curves["soft"] if arm.weighted else curves[arm.targets])(),
        soften=arm.targets != "hard",
        weight=per_sample if arm.weighted else None,
    )


def build_end_phase(recipe: Recipe, num_classes: int) -> SoftAugment:
    """Build the augmentation of every arm's last `end_epochs`: flips, and unsoftened targets.

    Label smoothing stays on in the arms that have it.
    """
    arm = recipe.parsed_arm
    p = smoothed(arm.alpha, num_classes) if arm.targets == "smoothed" else 1.0
    return SoftAugment(Flip() if recipe.flip else Still(), num_classes, curve=Constant(p))


def _view_changes(recipe: Recipe, height: int, width: int) -> list[Transform]:
    """List the colour changes and the blur of a view (Chen and He 2021, appendices A and D)."""
    small = max(height, width) <= SMALL_IMAGE
    blur = recipe.blur if recipe.blur is not None else 0.0 if small else 0.5
    changes: list[Transform] = [ColourJitter(), Greyscale()]
    if blur:
        # A kernel of a tenth of the side, as in SimCLR. Hard: only the crop weighs a pair.
        reach = max(1, round(min(height, width) / 20))
        changes.append(Hard(GaussianBlur(2 * reach + 1, probability=blur)))
    return changes


def smoothed(alpha: float, num_classes: int) -> float:
    """Return the label's mass after label smoothing by alpha."""
    return 1 - alpha * (1 - 1 / num_classes)


def mean_confidence(
    transform: Transform,
    curve: Curve,
    height: int,
    width: int,
    objects: UInt8[Tensor, "m 1 h w"] | None = None,
) -> float:
    """Compute the mean confidence of a curve over the draws of a transform.

    Exact for a single crop of whole images, else the mean over DRAWS draws, which are the same in
    every call.
    """
    if isinstance(transform, Crop) and objects is None:
        rows = 1 - torch.arange(-height, height + 1).abs() / height
        columns = 1 - torch.arange(-width, width + 1).abs() / width
        shares = (rows[:, None] * columns).flatten()
        vertical, horizontal = transform.sigmas
        law = _offset_law(vertical, height)[:, None] * _offset_law(horizontal, width)
        return float((curve(shares.double()) * law.flatten()).sum())
    return float(curve(drawn_visibility(transform, height, width, objects)).mean())


def drawn_visibility(
    transform: Transform,
    height: int,
    width: int,
    objects: UInt8[Tensor, "m 1 h w"] | None = None,
) -> torch.Tensor:
    """Return the visibilities, float32 [DRAWS], of DRAWS draws for images of this size.

    objects: maps of objects, to measure each draw on one of them instead of on a whole image.
    """
    generator, choice = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    blank = torch.zeros(1, 1, height, width, dtype=torch.uint8).expand(BLOCK, -1, -1, -1)
    shares = []
    for _ in range(DRAWS // BLOCK):
        drawn = transform.draw(BLOCK, height, width, generator)
        seen = None
        if objects is not None:
            seen = begun(objects[torch.randint(len(objects), (BLOCK,), generator=choice)])
        shares.append(visibility(transform.apply(blank, seen, drawn)[1]))
    return torch.cat(shares)


def _offset_law(sigma: float, size: int) -> torch.Tensor:
    """Return the probability of each whole offset -size ... size, float64 [2 size + 1]."""
    if sigma == 0:
        return (torch.arange(-size, size + 1) == 0).double()
    edges = (torch.arange(-size, size + 2, dtype=torch.float64) - 0.5).clamp(-size, size)
    below: torch.Tensor = torch.special.ndtr(edges / (sigma * size))
    return below.diff() / (below[-1] - below[0])
