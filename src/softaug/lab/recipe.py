"""A recipe: one experiment as data. The arms: what a comparison lets differ, in one table."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from cyclopts import Parameter

from softaug import (
    Chain,
    Constant,
    Crop,
    Curve,
    Flip,
    PowerCurve,
    SoftAugment,
    Still,
    Transform,
    UniformCrop,
    per_sample,
)
from softaug.lab.errors import UsageError, unknown_name

LABEL_SMOOTHING = 0.1

# What each arm is. The flip and the fill colour are shared by all.
ARMS = {
    "none": "no augmentation, hard labels",
    "standard": "crop by up to an eighth of the side, hard labels",
    "standard-smoothed": f"the standard crop, label smoothing {LABEL_SMOOTHING}",
    "harsh": "the soft arm's crop, hard labels",
    "harsh-constant": "the soft arm's crop, the soft arm's mean confidence for every image",
    "soft": "soft crop: the target softened by the visibility",
    "soft-weight": "soft crop: the loss weighted by the confidence, hard labels",
    "soft-both": "soft crop: target softened and loss weighted (the paper's eq. 6)",
}
SIX_ARMS = ("none", "standard", "standard-smoothed", "harsh", "harsh-constant", "soft")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment. Everything but `arm` and `seed` is shared by the arms of a comparison.

    Parameters
    ----------
    arm
        A name of ARMS; NAME@SIGMA for another sigma.
    sigma
        Strength of the soft crop, a share of the image side.
    k
        Exponent of the softening curve.
    flip
        Mirror left and right with probability 1/2, in every arm.
    model
        small, or a model of timm by its name.
    pretrained
        Begin with timm's pretrained weights and normalisation.
    epochs
        Passes over the training images.
    batch_size
        Images in a step.
    optimizer
        SGD with Nesterov momentum, or AdamW.
    lr
        Peak learning rate, after warm-up and before the cosine; for AdamW take about 0.001.
    momentum
        Of SGD.
    weight_decay
        On weights, not on norms and biases.
    warmup_epochs
        Epochs of linear warm-up, at most half of all steps.
    precision
        auto is bf16 where the processor computes it in hardware, else fp32.
    seed
        Of weights, order and augmentation: the same seed gives the same run.
    """

    # No option of its own: `train` takes one arm, `compare` several.
    arm: Annotated[str, Parameter(parse=False)] = "soft"
    sigma: float = 0.3
    k: float = 2.0
    flip: bool = True
    model: str = "small"
    pretrained: bool = False
    epochs: int = 20
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: float = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < low:
                raise UsageError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("lr", "k"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum must be in [0, 1), got {self.momentum}")
        split_arm(self.arm, self.sigma)


def split_arm(arm: str, sigma: float) -> tuple[str, float]:
    """The name and the sigma of an arm: `soft` takes the given sigma, `soft@0.15` its own."""
    name, _, own = arm.partition("@")
    if name not in ARMS:
        raise unknown_name("arm", arm, ARMS)
    try:
        sigma = float(own) if own else sigma
    except ValueError as error:
        raise UsageError(f"arm {arm!r}: {own!r} is no number; write {name}@0.15, say") from error
    try:
        Crop(sigma=sigma)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return name, sigma


def build_arm(recipe: Recipe, num_classes: int, height: int, width: int) -> SoftAugment:
    """The augmentation of a recipe's arm: one row of the table of baselines."""
    name, sigma = split_arm(recipe.arm, recipe.sigma)
    soft = PowerCurve(k=recipe.k, chance=1 / num_classes)
    certain = Constant(1.0)
    smoothed = Constant(1 - LABEL_SMOOTHING * (num_classes - 1) / num_classes)
    crop = Crop(sigma=sigma)
    standard = UniformCrop(padding=round(min(height, width) / 8))
    transforms: dict[str, Transform] = {"none": Still(), "standard": standard}
    transforms["standard-smoothed"] = standard
    curves: dict[str, Curve] = {
        "none": certain,
        "standard": certain,
        "standard-smoothed": smoothed,
        "harsh": certain,
        "harsh-constant": Constant(mean_confidence(crop, soft, height, width)),
    }
    transform = transforms.get(name, crop)
    return SoftAugment(
        Chain([Flip(), transform]) if recipe.flip else transform,
        num_classes,
        curve=curves.get(name, soft),
        soften=name != "soft-weight",
        weight=per_sample if name in ("soft-weight", "soft-both") else None,
    )


def mean_confidence(crop: Crop, curve: Curve, height: int, width: int) -> float:
    """The mean of the curve over the law by which the crop's offsets are drawn, exactly."""
    vertical, horizontal = crop.sigmas
    rows = 1 - torch.arange(-height, height + 1).abs() / height
    columns = 1 - torch.arange(-width, width + 1).abs() / width
    shares = (rows[:, None] * columns).flatten()
    law = _offset_law(vertical, height)[:, None] * _offset_law(horizontal, width)
    return float((curve(shares.double()) * law.flatten()).sum())


def _offset_law(sigma: float, size: int) -> torch.Tensor:
    """The probability of each whole offset -size ... size, float64 [2 size + 1]."""
    if sigma == 0:
        return (torch.arange(-size, size + 1) == 0).double()
    edges = (torch.arange(-size, size + 2, dtype=torch.float64) - 0.5).clamp(-size, size)
    below: torch.Tensor = torch.special.ndtr(edges / (sigma * size))
    return below.diff() / (below[-1] - below[0])
