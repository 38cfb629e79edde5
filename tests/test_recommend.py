"""The recommended strength: what it is made of, and that the lab's arm auto is the same."""

import inspect
from typing import Any

import pytest
import torch

import softaug
from softaug.recommend import strength

BUDGET: dict[str, Any] = {"epochs": 30, "images": 10_000, "side": 32}


def test_it_softens_by_what_its_crop_loses() -> None:
    augment = softaug.recommended(10, **BUDGET, generator=torch.Generator().manual_seed(0))
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(64) % 10
    _, targets = augment(images, labels)
    p = targets.gather(1, labels[:, None]).flatten()
    assert torch.allclose(targets.sum(dim=1), torch.ones(64))
    assert p.min() < 0.98
    assert p.max() > 0.95


def test_it_softens_by_the_curve_of_the_paper() -> None:
    """By k = 2, for which docs/budget.md has the measurements."""
    assert softaug.recommended(10, **BUDGET).curve == softaug.PowerCurve(k=2, chance=0.1)


@pytest.mark.parametrize("robust", [0, 1, 2])
def test_robust_is_about_erasing_alone(robust: int) -> None:
    chosen, rule = strength(**BUDGET, robust=robust), strength(**BUDGET)
    assert chosen.sigma == rule.sigma
    chain = softaug.recommended(10, **BUDGET, robust=robust, flip=False).transform
    assert isinstance(chain, softaug.Chain)
    erases = [t for t in chain.transforms if isinstance(t, softaug.Erase)]
    assert [t.probability for t in erases] == ([chosen.erase] if chosen.erase else [])
    assert [strength(**BUDGET, robust=r).erase for r in (0, 1, 2)] == [0, 0.1, 0.25]


def test_more_training_bears_more() -> None:
    chosen = [strength(epochs=n, images=10_000, side=32) for n in range(1, 600)]
    for policy in (False, True):
        sigmas = [one.sigma for one in chosen if one.policy == policy]
        assert sigmas == sorted(sigmas)
    assert chosen[0].sigma == 0.05
    assert chosen[58].sigma > chosen[59].sigma == 0.1  # beside a policy the crop begins anew
    assert chosen[-1].sigma == 0.3


@pytest.mark.parametrize(("epochs", "policy"), [(59, False), (60, True)])
def test_long_training_adds_a_policy_that_softens_nothing(epochs: int, policy: bool) -> None:
    budget = {**BUDGET, "epochs": epochs}
    chain = softaug.recommended(10, **budget, flip=False).transform
    assert isinstance(chain, softaug.Chain)
    first, second, *_ = chain.transforms
    assert (first == softaug.Hard(softaug.RandAugment())) == policy
    assert isinstance(second if policy else first, softaug.Crop)
    turned = softaug.recommended(10, **budget, flip=False, policy=not policy).transform
    assert isinstance(turned, softaug.Chain)
    chosen = strength(**budget, policy=not policy)
    assert len(turned.transforms) == len(chain.transforms) + (-1 if policy else 1)
    assert softaug.Crop(chosen.sigma, fill="mixed") in turned.transforms


def test_a_shift_of_a_small_image_is_a_pixel_at_least() -> None:
    assert strength(epochs=1, images=100, side=8).sigma == 1 / 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "recommended: epochs must be 1 epoch or more, got 0"),
        ({"images": 0}, "recommended: images must be 1 image or more, got 0"),
        ({"side": 0}, "recommended: side must be 1 pixel or more, got 0"),
        ({"robust": 3}, "recommended: robust must be 0, 1 or 2, got 3"),
    ],
)
def test_wrong_budgets(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        softaug.recommended(10, **{**BUDGET, **changes})


@pytest.mark.parametrize("num_classes", [0, 1, "10"])
def test_wrong_numbers_of_classes(num_classes: Any) -> None:
    recommended = inspect.unwrap(softaug.recommended)  # the tests' own check of types comes first
    with pytest.raises(ValueError, match="recommended: num_classes must be"):
        recommended(num_classes, **BUDGET)


def test_it_is_printed_without_addresses() -> None:
    shown = repr(softaug.recommended(10, **{**BUDGET, "epochs": 60}))
    assert "FromConfidence(polynomial_confidence, chance=0, k=2)" in shown
    assert " at 0x" not in shown
