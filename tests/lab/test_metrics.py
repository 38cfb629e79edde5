"""Metrics against a slow reference in plain Python, torchmetrics, laws, and the edges."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from support import random_samples, samples
from torch import Tensor

from softaug_lab.metrics import proper
from softaug_lab.metrics.bins import Bin, reliability_diagram, width_index
from softaug_lab.metrics.calibration import equal_width, error, floor


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / math.fsum(powers) for power in powers]


def slow_top_k_error(logits: list[list[float]], labels: list[int], k: int) -> float:
    wrong = 0
    for row, label in zip(logits, labels, strict=True):
        ranked = sorted(range(len(row)), key=lambda i: (-row[i], i))
        wrong += label not in ranked[:k]
    return wrong / len(labels)


def slow_ece(confidence: list[float], correct: list[bool], bins: int) -> float:
    gaps = []
    for i in range(bins):
        low, high = i / bins, (i + 1) / bins
        inside = [
            (p, hit)
            for p, hit in zip(confidence, correct, strict=True)
            if low < p <= high or (i == 0 and p == 0)
        ]
        gaps.append(abs(math.fsum(hit - p for p, hit in inside)))
    return math.fsum(gaps) / len(confidence)


def ece(confidence: Tensor, correct: Tensor, bins: int = 15) -> float:
    return error(equal_width(confidence, bins), confidence, correct)


def ece_floor(confidence: Tensor, bins: int = 15, draws: int = 200, seed: int = 0) -> float:
    return floor(equal_width(confidence, bins), confidence, draws, seed)


def ece_of(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    return ece(*proper.top_confidence(logits, labels), bins)


@given(samples(), st.integers(1, 9), st.integers(1, 20))
def test_agrees_with_the_slow_reference(drawn: tuple[Tensor, Tensor], k: int, bins: int) -> None:
    logits, labels = drawn
    rows, own = logits.tolist(), labels.tolist()
    probabilities = [softmax(row) for row in rows]
    n = len(own)

    assert proper.top_k_error(logits, labels, k) == pytest.approx(slow_top_k_error(rows, own, k))
    slow_nll = -math.fsum(math.log(p[y]) for p, y in zip(probabilities, own, strict=True)) / n
    assert proper.nll(logits, labels) == pytest.approx(slow_nll, rel=1e-9, abs=1e-12)
    squares = [
        (p - (c == y)) ** 2
        for row, y in zip(probabilities, own, strict=True)
        for c, p in enumerate(row)
    ]
    assert proper.brier(logits, labels) == pytest.approx(math.fsum(squares) / n, abs=1e-12)

    confidence, correct = proper.top_confidence(logits, labels)
    assert confidence.tolist() == pytest.approx([max(p) for p in probabilities], abs=1e-12)
    assert correct.tolist() == [row.index(max(row)) == y for row, y in zip(rows, own, strict=True)]
    gap = (math.fsum(confidence.tolist()) - sum(correct.tolist())) / n
    assert proper.calibration_gap(logits, labels) == pytest.approx(gap, abs=1e-12)
    # The same confidences go to both, so that rounding at an edge cannot part them.
    slow = slow_ece(confidence.tolist(), correct.tolist(), bins)
    assert ece(confidence, correct, bins) == pytest.approx(slow)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_agrees_with_torchmetrics(bins: int) -> None:
    from torchmetrics.functional import accuracy, calibration_error

    logits, labels = random_samples()
    confidence, _ = proper.top_confidence(logits, labels)
    assert confidence.max() < 1  # at 1.0 torchmetrics 1.9.0 is wrong
    expected = calibration_error(
        logits.double().softmax(dim=1), labels, task="multiclass", num_classes=6, n_bins=bins
    )
    assert ece_of(logits, labels, bins) == pytest.approx(float(expected), abs=1e-6)
    for k in (1, 2, 5):
        kept = accuracy(logits, labels, task="multiclass", num_classes=6, top_k=k, average="micro")
        assert proper.top_k_error(logits, labels, k) == pytest.approx(1 - float(kept), abs=1e-6)


@given(samples(), st.integers(1, 20), st.randoms(use_true_random=False))
def test_ranges_and_order(drawn: tuple[Tensor, Tensor], bins: int, random: Any) -> None:
    logits, labels = drawn
    k = logits.shape[1]
    assert 0 <= ece_of(logits, labels, bins) <= 1
    assert 0 <= proper.brier(logits, labels) <= 2
    assert proper.nll(logits, labels) >= 0
    assert -1 <= proper.calibration_gap(logits, labels) <= 1
    errors = [proper.top_k_error(logits, labels, i) for i in range(1, k + 2)]
    assert errors == sorted(errors, reverse=True)
    assert errors[k - 1] == errors[k] == 0.0

    order = torch.tensor(random.sample(range(len(labels)), len(labels)))
    for metric in (proper.top_k_error, proper.nll, proper.brier, proper.calibration_gap):
        assert metric(logits[order], labels[order]) == pytest.approx(metric(logits, labels))
    shuffled = ece_of(logits[order], labels[order], bins)
    assert shuffled == pytest.approx(ece_of(logits, labels, bins), abs=1e-12)


@given(samples())
def test_a_shift_of_a_sample_s_logits_changes_nothing(drawn: tuple[Tensor, Tensor]) -> None:
    logits, labels = drawn
    shifted = logits + torch.arange(len(labels))[:, None] * 8
    assert proper.nll(shifted, labels) == pytest.approx(proper.nll(logits, labels))
    assert ece_of(shifted, labels) == pytest.approx(ece_of(logits, labels), abs=1e-9)


@given(samples())
def test_one_bin_is_the_absolute_calibration_gap(drawn: tuple[Tensor, Tensor]) -> None:
    gap = abs(proper.calibration_gap(*drawn))
    assert ece_of(*drawn, bins=1) == pytest.approx(gap, abs=1e-12)
    # The triangle inequality: bins can only add to it.
    assert ece_of(*drawn, bins=15) >= gap - 1e-12


@given(samples())
def test_top_1_is_argmax_also_in_ties(drawn: tuple[Tensor, Tensor]) -> None:
    logits, labels = drawn
    wrong = (logits.argmax(dim=1) != labels).double().mean().item()
    assert proper.top_k_error(logits, labels) == wrong
    _, correct = proper.top_confidence(logits, labels)
    assert 1 - correct.double().mean().item() == pytest.approx(wrong)


def test_ties_rank_the_lower_index_first() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.0]])
    errors = [proper.top_k_error(logits, torch.tensor([y]), k=2) for y in range(3)]
    assert errors == [0.0, 0.0, 1.0]


def test_logits_too_close_for_their_probabilities_still_rank() -> None:
    # Both probabilities round to the same float64; the larger logit is of class 1.
    logits = torch.tensor([[1e-20, 2e-20]])
    assert proper.top_k_error(logits, torch.tensor([1])) == 0.0
    assert proper.top_confidence(logits, torch.tensor([1]))[1].item() is True


def test_confidence_of_one_is_in_the_last_bin() -> None:
    answers = torch.tensor([0.95, 1.0]), torch.tensor([True, False])
    diagram = reliability_diagram(*answers, bins=10)
    assert [entry.count for entry in diagram] == [0] * 9 + [2]
    assert ece(*answers, bins=10) == pytest.approx(0.475)


def test_bins_are_right_closed_and_zero_is_in_the_first() -> None:
    confidence = torch.tensor([0.0, 0.1, 0.3, 0.7, 1.0], dtype=torch.float64)
    assert width_index(confidence, 10).tolist() == [0, 0, 2, 6, 9]
    above = torch.nextafter(confidence[:-1], torch.tensor(2.0, dtype=torch.float64))
    assert width_index(above, 10).tolist() == [0, 1, 3, 7]


@pytest.mark.parametrize("bins", [1, 7, 15, 100])
def test_bins_cover_the_unit_interval_and_every_sample(bins: int) -> None:
    generator = torch.Generator().manual_seed(1)
    confidence = torch.rand(500, generator=generator)
    correct = torch.rand(500, generator=generator) < 0.5
    entries = reliability_diagram(confidence, correct, bins)
    assert (entries[0].low, entries[-1].high) == (0.0, 1.0)
    assert all(a.high == b.low for a, b in itertools.pairwise(entries))
    assert sum(entry.count for entry in entries) == 500
    for entry in entries:
        inside = (confidence.double() > entry.low) & (confidence.double() <= entry.high)
        assert entry.count == int(inside.sum())
        if entry.confidence is not None:
            assert entry.low < entry.confidence <= entry.high
            assert entry.accuracy == pytest.approx(correct[inside].double().mean().item())


def test_empty_bins_have_no_means_and_no_weight() -> None:
    answer = torch.tensor([0.75]), torch.tensor([True])
    diagram = reliability_diagram(*answer, bins=2)
    assert diagram == [Bin(0.0, 0.5, 0, None, None), Bin(0.5, 1.0, 1, 0.75, 1.0)]
    assert ece(*answer, bins=2) == 0.25


def test_one_sample_by_hand() -> None:
    logits, labels = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([1])
    assert proper.top_k_error(logits, labels) == 1.0
    assert proper.nll(logits, labels) == pytest.approx(math.log(4))
    assert proper.brier(logits, labels) == pytest.approx(2 * 0.75**2)
    assert proper.calibration_gap(logits, labels) == pytest.approx(0.75)
    assert ece_of(logits, labels) == pytest.approx(0.75)


def test_certainty_is_exact() -> None:
    logits = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])
    labels = torch.tensor([0, 1])
    assert proper.nll(logits, labels) == 500.0
    assert proper.brier(logits, labels) == 1.0
    assert ece_of(logits, labels) == 0.5


def test_small_logits_are_summed_in_float64() -> None:
    # In float32 the mean of these losses is off in the 7th place.
    logits = torch.tensor([[18.0, 0.0]]).repeat(3000, 1)
    labels = torch.zeros(3000, dtype=torch.int64)
    assert proper.nll(logits, labels) == pytest.approx(math.log1p(math.exp(-18)), rel=1e-7)


def test_half_precision_logits_are_taken() -> None:
    logits, labels = random_samples(20)
    low = logits.bfloat16()
    assert proper.nll(low, labels) == pytest.approx(proper.nll(low.float(), labels), abs=0)


def test_inputs_stay_as_they_are() -> None:
    logits, labels = random_samples(20)
    doubles, kept = logits.double(), logits.double()
    proper.brier(doubles, labels)
    proper.nll(doubles, labels)
    assert torch.equal(doubles, kept)


METRICS = [proper.top_k_error, proper.nll, proper.brier, proper.calibration_gap]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[0.0, math.nan], [0.0, 1.0]], [0, 0], "NaN for 1 of 2"),
        ([[0.0, 1.0]], [2], r"\[0, 2\)"),
        ([[0.0, 1.0]], [-1], r"\[0, 2\)"),
    ],
)
def test_refuses_what_fits_no_sample(
    metric: Any, logits: list[list[float]], labels: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(torch.tensor(logits), torch.tensor(labels))


@pytest.mark.parametrize("metric", METRICS)
def test_refuses_shapes_that_do_not_fit(metric: Any) -> None:
    # Where shapes are checked at run time, the annotations refuse these first.
    with pytest.raises((ValueError, TypeCheckError)):
        metric(torch.zeros(1, 2), torch.tensor([0, 1]))
    with pytest.raises((ValueError, TypeCheckError)):
        metric(torch.zeros(2), torch.tensor([0, 1]))
    with pytest.raises((ValueError, TypeCheckError)):
        reliability_diagram(torch.tensor([0.5]), torch.tensor([True, False]))


@pytest.mark.parametrize("metric", METRICS)
def test_refuses_no_samples(metric: Any) -> None:
    with pytest.raises(ValueError, match="N >= 1"):
        metric(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_infinite_logits() -> None:
    masked = torch.tensor([[0.0, -math.inf]])
    assert proper.nll(masked, torch.tensor([0])) == 0.0
    assert proper.nll(masked, torch.tensor([1])) == math.inf
    for row in ([math.inf, 0.0], [-math.inf, -math.inf]):
        with pytest.raises(ValueError, match="inf"):
            proper.nll(torch.tensor([row]), torch.tensor([0]))


def test_refuses_settings_out_of_range() -> None:
    logits, labels = random_samples(3)
    with pytest.raises(ValueError, match="k must be"):
        proper.top_k_error(logits, labels, k=0)
    with pytest.raises(ValueError, match="bins must be"):
        width_index(torch.tensor([0.5]), 0)
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            reliability_diagram(torch.tensor([value]), torch.tensor([True]))
    with pytest.raises(ValueError, match="N >= 1"):
        ece_floor(torch.zeros(0))
    with pytest.raises(ValueError, match="draws must be"):
        ece_floor(torch.tensor([0.5]), draws=0)


def test_floor_of_one_sample_is_its_closed_form() -> None:
    # With one sample the ECE is 1 - p with chance p, else p: 2 p (1 - p) on average.
    floor = ece_floor(torch.tensor([0.8]), draws=20_000)
    assert floor == pytest.approx(2 * 0.8 * 0.2, abs=0.01)
    assert ece_floor(torch.tensor([0.0, 1.0, 1.0])) == 0.0


def test_floor_is_what_calibrated_models_measure() -> None:
    generator = torch.Generator().manual_seed(3)
    confidence = 0.1 + 0.9 * torch.rand(1000, generator=generator, dtype=torch.float64)
    measured = []
    for _ in range(100):
        correct = torch.rand(1000, generator=generator, dtype=torch.float64) < confidence
        measured.append(ece(confidence, correct))
    mean = sum(measured) / len(measured)
    assert ece_floor(confidence) == pytest.approx(mean, rel=0.05)


def test_floor_falls_as_one_over_the_root_of_n_and_repeats() -> None:
    generator = torch.Generator().manual_seed(4)
    confidence = torch.rand(4000, generator=generator)
    few, many = ece_floor(confidence[:1000]), ece_floor(confidence)
    assert few / many == pytest.approx(2, rel=0.1)
    before = torch.get_rng_state()
    assert ece_floor(confidence) == many
    assert ece_floor(confidence, seed=1) != many
    assert torch.equal(torch.get_rng_state(), before)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 20))
def test_floor_is_a_share(values: list[float], bins: int) -> None:
    assert 0 <= ece_floor(torch.tensor(values), bins, draws=5) <= 1
