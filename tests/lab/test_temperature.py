"""Temperature: recovers a known one, agrees with another solver, stays in its bounds."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import random_samples, samples
from torch import Tensor

from softaug_lab.metrics import proper
from softaug_lab.metrics.calibration import equal_width, error, floor
from softaug_lab.metrics.temperature import HIGHEST, LOWEST, fit_temperature, nll_slopes, scale


def sharpened(true: float, n: int = 4000, k: int = 5) -> tuple[Tensor, Tensor]:
    """Logits whose labels were drawn at this temperature."""
    logits, _ = random_samples(n, k)
    generator = torch.Generator().manual_seed(1)
    p = (logits.double() / true).softmax(dim=1)
    return logits, torch.multinomial(p, 1, generator=generator)[:, 0]


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_recovers_the_temperature_of_the_labels(true: float) -> None:
    logits, labels = sharpened(true)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(true, rel=0.06)
    # At the optimum the gap and the ECE are what chance leaves.
    confidence, correct = proper.top_confidence(scale(logits, found), labels)
    bins = equal_width(confidence)
    assert error(bins, confidence, correct) < 2 * floor(bins, confidence)


@given(samples())
def test_agrees_with_a_bounded_search(drawn: tuple[Tensor, Tensor]) -> None:
    from scipy.optimize import minimize_scalar

    logits, labels = drawn
    found = fit_temperature(logits, labels)
    assert LOWEST <= found <= HIGHEST

    def loss(log_temperature: float) -> float:
        return proper.nll(scale(logits, math.exp(log_temperature)), labels)

    ends = math.log(LOWEST), math.log(HIGHEST)
    # In log T the loss has one valley, though it is not convex there.
    search = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})
    least = min(search.fun, *map(loss, ends))
    assert loss(math.log(found)) <= least + 1e-9
    assert loss(math.log(found)) <= loss(0.0) + 1e-12


@given(samples(), st.floats(0.01, 100))
def test_scaling_leaves_every_ranking(drawn: tuple[Tensor, Tensor], divisor: float) -> None:
    logits, labels = drawn
    scaled = scale(logits, divisor)
    for k in (1, 2, 3):
        assert proper.top_k_error(scaled, labels, k) == proper.top_k_error(logits, labels, k)


def test_scaling_keeps_the_closest_logits_of_float32_apart() -> None:
    one = torch.tensor(1.0)
    logits = torch.stack([one, torch.nextafter(one, 2 * one)])[None]
    for divisor in (0.7, 1.1, 3.3):
        assert proper.top_k_error(scale(logits, divisor), torch.tensor([1])) == 0.0


def test_the_slope_is_zero_there() -> None:
    logits, labels = sharpened(1.7, n=200)
    found = fit_temperature(logits, labels)
    inverse = torch.tensor(1 / found, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.cross_entropy(logits.double() * inverse, labels).backward()
    assert inverse.grad is not None
    assert inverse.grad.item() == pytest.approx(0, abs=1e-9)
    assert fit_temperature(logits, labels) == found


@pytest.mark.parametrize("factor", [0.1, 7.0, 30.0])
def test_the_temperature_scales_with_the_logits(factor: float) -> None:
    logits, labels = sharpened(1.3, n=300)
    found = fit_temperature(logits.double() * factor, labels)
    assert found == pytest.approx(factor * fit_temperature(logits, labels), rel=1e-7)


def test_a_shift_of_a_sample_s_logits_changes_nothing() -> None:
    logits, labels = sharpened(1.3, n=300)
    shifted = logits.double() + 1e4 * torch.arange(300)[:, None]
    assert fit_temperature(shifted, labels) == pytest.approx(fit_temperature(logits, labels))


def test_bounds() -> None:
    logits, _ = random_samples(50)
    right = logits.argmax(dim=1)
    # Nothing is wrong, and any number of samples without an error would ask for certainty.
    assert fit_temperature(logits, right) == 1.0
    # Worse than chance: the calmer the better.
    assert fit_temperature(logits, logits.argmin(dim=1)) == HIGHEST
    # No logit tells anything, and no temperature matters.
    assert fit_temperature(torch.ones(3, 4), torch.tensor([0, 1, 2])) == 1.0
    assert fit_temperature(torch.tensor([[2.0, 2.0], [5.0, 5.0]]), torch.tensor([0, 1])) == 1.0


def test_few_passes_over_the_logits_are_enough() -> None:
    # Halvings alone would take some 25.
    passes = []

    def counted(logits: Tensor, labels: Tensor, inverse: float) -> tuple[float, float]:
        passes.append(inverse)
        return nll_slopes(logits, labels, inverse)

    for factor in (0.3, 1.3, 8.0):
        passes.clear()
        logits, labels = sharpened(1.3, n=300)
        fit_temperature(logits * factor, labels, counted)
        assert len(passes) <= 12


def test_optimum_far_from_1_and_from_the_other_bound() -> None:
    for factor in (50.0, 0.02):
        logits, labels = sharpened(1.0, n=500)
        assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.2)


def test_blocks_change_nothing() -> None:
    logits, labels = sharpened(1.7, n=200)
    whole = fit_temperature(logits, labels)
    in_blocks = partial(nll_slopes, block=35)
    assert fit_temperature(logits, labels, in_blocks) == pytest.approx(whole, rel=1e-9)


def test_refuses_what_it_cannot_fit() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(torch.tensor([[0.0, -math.inf]]), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"\[0, 2\)"):
        fit_temperature(torch.tensor([[0.0, 1.0]]), torch.tensor([2]))
    with pytest.raises(ValueError, match="N >= 1"):
        fit_temperature(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    for divisor in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="above 0"):
            scale(torch.zeros(1, 2), divisor)
