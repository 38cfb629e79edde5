"""The learned curve: it finds the curve of a model that it can calibrate, and checks its input."""

import copy
import inspect
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from softaug import CalibratedCurve, Crop, PowerCurve, SoftAugment

CLASSES = 10
CHANCE = 1 / CLASSES


def model_that_obeys(
    curve: CalibratedCurve, truth: PowerCurve, visibility: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The logits of a model that is as sure as its targets said, and right as often as `truth`."""
    n = len(visibility)
    confidence = curve(visibility.double()).clamp(max=1 - 1e-6)
    logits = torch.full((n, CLASSES), 0.0, dtype=torch.float64)
    logits[:, 0] = (confidence * (CLASSES - 1) / (1 - confidence)).log()
    wrong = torch.rand(n, generator=generator) >= truth(visibility)
    return logits, wrong.long()


@pytest.mark.parametrize(("ceiling", "k"), [(0.95, 1.2), (0.8, 3.0), (1.0, 0.7)])
def test_it_finds_the_curve_of_an_obedient_model(ceiling: float, k: float) -> None:
    generator = torch.Generator().manual_seed(0)
    truth, curve = PowerCurve(k, chance=CHANCE, ceiling=ceiling), CalibratedCurve(CHANCE)
    for _ in range(12):
        v = torch.rand(4000, generator=generator)
        v[:2000] = 1
        curve.observe(*model_that_obeys(curve, truth, v, generator), v)
    v = torch.linspace(0, 1, 21)
    assert (curve(v) - truth(v)).abs().max() < 0.02
    assert curve.ceiling == pytest.approx(ceiling, abs=0.01)


def test_whole_images_tell_the_ceiling_alone() -> None:
    """The change is half of the mean gap, a little less since few images prove little."""
    generator = torch.Generator().manual_seed(0)
    truth, curve = PowerCurve(2, chance=CHANCE, ceiling=0.9), CalibratedCurve(CHANCE)
    logits, labels = model_that_obeys(curve, truth, torch.ones(2000), generator)
    gap = 1 - (labels == 0).double().mean().item()
    curve.observe(logits, labels)
    assert curve.k == 2
    assert 1 - curve.ceiling == pytest.approx(gap / 2 * 2000 / 2100, rel=0.01)
    few = CalibratedCurve(CHANCE)
    few.observe(logits[:50], labels[:50])
    assert 0 < few.alpha < (1 - (labels[:50] == 0).double().mean().item()) / 4


def test_it_starts_at_the_papers_curve_and_stays_within_bounds() -> None:
    curve, v = CalibratedCurve(CHANCE), torch.linspace(0, 1, 11)
    assert torch.equal(curve(v), PowerCurve(2, chance=CHANCE)(v))
    sure = torch.eye(CLASSES)[torch.zeros(1000, dtype=torch.int64)] * 20
    half_whole = torch.cat([torch.ones(500), torch.rand(500)])
    for _ in range(20):
        curve.observe(sure, torch.ones(1000, dtype=torch.int64), half_whole)
    assert [curve.alpha, curve.k] == pytest.approx([0.3, 0.5])
    for _ in range(40):  # never sure and always right
        curve.observe(sure / 100, torch.zeros(1000, dtype=torch.int64), half_whole)
    assert [curve.alpha, curve.k] == pytest.approx([0, 4])


def test_the_step_is_the_gradient_of_the_family() -> None:
    """Its derivatives are autograd's."""
    curve = CalibratedCurve(CHANCE)
    curve.load_state_dict({"alpha": 0.1, "log_k": 0.3})
    v = torch.tensor([0.0, 0.3, 0.9, 1.0], dtype=torch.float64)
    a, b = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.1, 0.3))
    ceiling = 1 - a * (1 - CHANCE)
    p = ceiling - (ceiling - CHANCE) * (1 - v) ** b.exp()
    for row, value in zip(curve._slopes(v), p, strict=True):
        expected = torch.autograd.grad(value, (a, b), retain_graph=True)
        assert row.tolist() == pytest.approx([float(g) for g in expected], nan_ok=True)


def test_its_state_goes_into_a_checkpoint_and_to_other_processes() -> None:
    curve = CalibratedCurve(CHANCE)
    curve.observe(torch.randn(100, CLASSES), torch.zeros(100, dtype=torch.int64), torch.rand(100))
    restored = CalibratedCurve(CHANCE)
    restored.load_state_dict(curve.state_dict())
    v = torch.rand(9)
    for other in (restored, copy.deepcopy(curve), pickle.loads(pickle.dumps(curve))):
        assert torch.equal(other(v), curve(v))
    assert not torch.equal(curve(v), CalibratedCurve(CHANCE)(v))
    restored.load_state_dict({"alpha": 0.1, "log_k": 0.3})  # of an earlier version
    assert restored.alpha == 0.1


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": 1}, "expected a state of alpha and log_k, got weight"),
        ({}, "expected a state of alpha and log_k, got an empty one"),
        (None, "expected a state of alpha and log_k, got None"),
        ({"alpha": math.nan, "log_k": 0.3}, r"alpha must be in \[0, 0.3\] in a state, got nan"),
        ({"alpha": 9, "log_k": 0.3}, r"alpha must be in \[0, 0.3\] in a state, got 9"),
        ({"alpha": 0.1, "log_k": 5}, "log_k must be in .* got 5"),
        ({"alpha": "x", "log_k": 0.3}, "a state must be a number, got 'x'"),
        ({"alpha": 0.1, "log_k": 0.3, "chance": 0.5}, "curve of chance 0.5, and this one has 0.1"),
    ],
)
def test_the_state_of_something_else_is_refused(state: Any, message: str) -> None:
    curve = CalibratedCurve(CHANCE)
    before = curve.state_dict()
    with pytest.raises(ValueError, match=message):
        curve.load_state_dict(state)
    assert curve.state_dict() == before


def test_arrays_and_lists_are_observed_as_tensors_are() -> None:
    curve, other = CalibratedCurve(CHANCE), CalibratedCurve(CHANCE)
    logits, labels = torch.randn(3, CLASSES), torch.tensor([0, 1, 2])
    curve.observe(logits, labels, torch.tensor([1.0, 0.5, 0.25]))
    other.observe(logits, labels.numpy(), [1.0, 0.5, 0.25])
    assert other.state_dict() == curve.state_dict()


def test_a_soft_augment_uses_what_it_has_learned() -> None:
    curve = CalibratedCurve(CHANCE)
    augment = SoftAugment(Crop(0), CLASSES, curve=curve)
    images, labels = torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])
    assert augment(images, labels)[1].max() == 1
    curve.observe(torch.eye(CLASSES).repeat(50, 1) * 9, torch.zeros(500, dtype=torch.int64))
    assert augment(images, labels)[1].max().item() == pytest.approx(curve.ceiling)


@pytest.mark.parametrize(
    ("logits", "labels", "visibility", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0).long(), None, r"one image or more, got \[0, 3\]"),
        (torch.full((2, 3), math.nan), torch.zeros(2).long(), None, "finite, 2 of 2 images"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), None, r"labels must be in \[0, 3\).*got 3"),
        (torch.zeros(2, 3), torch.zeros(3).long(), None, r"labels must be \[N\] with N = 2"),
        (torch.zeros(2, 3), torch.zeros(2).long(), torch.ones(3), r"visibility must be \[N\]"),
        (torch.zeros(1, 3), torch.zeros(1).long(), torch.tensor([1.5]), r"in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_observations_are_refused(
    logits: Tensor, labels: Tensor, visibility: Tensor | None, message: str
) -> None:
    curve = CalibratedCurve(CHANCE)
    with pytest.raises(ValueError, match=message):
        curve.observe(logits, labels, visibility)
    assert curve.state_dict() == CalibratedCurve(CHANCE).state_dict()


@pytest.mark.parametrize("chance", [-0.1, 1.0, "a", None])
def test_a_wrong_chance_is_refused(chance: Any) -> None:
    made = object.__new__(CalibratedCurve)  # the tests' own check of types would come first
    with pytest.raises(ValueError, match=r"chance must be (in|a number)"):
        inspect.unwrap(CalibratedCurve.__init__)(made, chance)
