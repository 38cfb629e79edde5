"""Calibration errors against slow references, scikit-learn, torchmetrics, and their own laws."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softaug_lab.metrics.bins import mass_index, reliability_diagram, width_index
from softaug_lab.metrics.calibration import (
    Cells,
    equal_mass,
    equal_width,
    error,
    floor,
    interval,
    paired_bootstrap_ece,
    smooth,
)

KINDS: list[Callable[..., Cells]] = [equal_width, equal_mass, smooth]
every_kind = pytest.mark.parametrize("kind", KINDS)


@st.composite
def answers(draw: Any, most: int = 20) -> tuple[Tensor, Tensor]:
    """Confidences [N] and whether each was right; multiples of 1/8 make ties and edges common."""
    confidence = draw(
        st.lists(
            st.one_of(st.integers(0, 8).map(lambda i: i / 8), st.floats(0, 1)),
            min_size=1,
            max_size=most,
        )
    )
    correct = draw(st.lists(st.booleans(), min_size=len(confidence), max_size=len(confidence)))
    return torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct)


def stream(n: int, right: Callable[[float], float]) -> tuple[Tensor, Tensor]:
    """Confidences all over [0, 1], right with the chance `right(confidence)`; no generator's."""
    numbers = torch.arange(1, n + 1, dtype=torch.float64)
    confidence, uniform = numbers * 0.6180339887498949 % 1, numbers * 0.7548776662466927 % 1
    chance = torch.tensor([right(c) for c in confidence.tolist()], dtype=torch.float64)
    return confidence, uniform < chance


def measured(kind: Callable[..., Cells], confidence: Tensor, correct: Tensor) -> float:
    return error(kind(confidence), confidence, correct)


# Bins of equal mass


@given(answers(), st.integers(1, 20))
def test_equal_mass_is_the_slow_reference(drawn: tuple[Tensor, Tensor], bins: int) -> None:
    values, hits = drawn[0].tolist(), drawn[1].tolist()
    expected = []
    for value in values:
        smaller, equal = sum(v < value for v in values), values.count(value)
        middle = smaller + Fraction(equal, 2)
        expected.append(math.floor(bins * middle / len(values)))
    assert mass_index(drawn[0], bins).tolist() == expected
    gaps = [
        math.fsum(hit - p for p, hit, b in zip(values, hits, expected, strict=True) if b == i)
        for i in range(bins)
    ]
    slow = math.fsum(map(abs, gaps)) / len(values)
    assert error(equal_mass(drawn[0], bins), *drawn) == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize(("n", "bins"), [(90, 15), (97, 15), (7, 15), (15, 1)])
def test_masses_are_equal_without_ties(n: int, bins: int) -> None:
    confidence, _ = stream(n, lambda c: c)
    index = mass_index(confidence, bins)
    counts = index.bincount(minlength=bins)
    assert len(counts) == bins
    assert counts.max() - counts.min() <= 1
    assert (index[confidence.argsort()].diff() >= 0).all()


def test_equal_confidences_share_a_bin_whatever_their_order() -> None:
    confidence = torch.tensor([0.9, 0.5, 0.9, 0.9, 0.1, 0.9])
    # The four of 0.9 stand in the middle of ranks 2 to 6, so of six bins in the fifth.
    assert mass_index(confidence, 6).tolist() == [4, 1, 4, 4, 0, 4]
    assert mass_index(confidence.flip(0), 6).tolist() == [4, 0, 4, 4, 1, 4]
    assert mass_index(torch.ones(5), 4).tolist() == [2] * 5


def test_equal_mass_is_scikit_learn_s_quantile_strategy_without_ties() -> None:
    from sklearn.calibration import calibration_curve

    confidence, correct = stream(300, lambda c: c**2)
    accuracy, means = calibration_curve(
        correct.numpy(), confidence.numpy(), n_bins=15, strategy="quantile"
    )
    # Each bin holds 20 of 300.
    expected = float(np.abs(accuracy - means).mean())
    assert error(equal_mass(confidence), confidence, correct) == pytest.approx(expected)


def test_ties_at_an_edge_by_hand_where_scikit_learn_merges_the_bins() -> None:
    from sklearn.calibration import calibration_curve

    confidence = torch.tensor([0.2, 0.6, 0.6, 0.6], dtype=torch.float64)
    correct = torch.tensor([True, True, False, False])
    # One bin for 0.2, short of 0.8 hits, and one for the ties, with 1.8 expected and 1 found.
    assert error(equal_mass(confidence, 2), confidence, correct) == pytest.approx(1.6 / 4)
    # The quantile 0.6 is an edge there, and what equals it is below: all four in one bin, 2 of 2.
    accuracy, means = calibration_curve(correct, confidence, n_bins=2, strategy="quantile")
    assert (accuracy.tolist(), means.tolist()) == ([0.5], [0.5])


def test_equal_width_with_empty_bins_agrees_with_both_libraries() -> None:
    from sklearn.calibration import calibration_curve
    from torchmetrics.functional.classification import binary_calibration_error

    confidence = torch.tensor([0.05, 0.07, 0.55, 0.58, 0.59], dtype=torch.float64)
    correct = torch.tensor([False, True, True, True, False])
    ours = error(equal_width(confidence, 10), confidence, correct)
    assert ours == pytest.approx((0.88 + 0.28) / 5)
    theirs = binary_calibration_error(confidence, correct.long(), n_bins=10)
    assert ours == pytest.approx(float(theirs))
    accuracy, means = calibration_curve(correct, confidence, n_bins=10)
    weights = np.array([2, 3]) / 5
    assert ours == pytest.approx(float((weights * np.abs(accuracy - means)).sum()))


def test_a_confidence_of_one_by_hand_where_torchmetrics_gives_it_a_bin() -> None:
    from torchmetrics.functional.classification import binary_calibration_error

    confidence = torch.tensor([0.95, 1.0], dtype=torch.float64)
    correct = torch.tensor([True, False])
    assert error(equal_width(confidence, 10), confidence, correct) == pytest.approx(0.475)
    theirs = binary_calibration_error(confidence, correct.long(), n_bins=10)
    assert float(theirs) == pytest.approx(0.525)


@given(answers(), st.integers(1, 20))
def test_equal_width_is_the_ece_of_the_reliability_diagram(
    drawn: tuple[Tensor, Tensor], bins: int
) -> None:
    gaps = [
        entry.count * abs(entry.accuracy - entry.confidence)
        for entry in reliability_diagram(*drawn, bins)
        if entry.accuracy is not None and entry.confidence is not None
    ]
    expected = math.fsum(gaps) / len(drawn[0])
    assert error(equal_width(drawn[0], bins), *drawn) == pytest.approx(expected, abs=1e-12)


# Smooth


def slow_smooth(confidence: Tensor, correct: Tensor, points: int = 500) -> float:
    """The paper's definition: every sample mirrored at 0 and 1, and the integral as a sum."""
    from scipy.optimize import brentq

    def gaussian(z: Any) -> Any:
        return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

    f, excess = confidence.numpy(), (correct.double() - confidence).numpy()
    t = (np.arange(points) + 0.5)[:, None] / points

    def at(bandwidth: float) -> float:
        kernel = sum(
            gaussian((t - f - 2 * turn) / bandwidth) + gaussian((t + f - 2 * turn) / bandwidth)
            for turn in range(-2, 3)
        )
        return float(np.abs((kernel * excess).mean(axis=1)).mean()) / bandwidth

    return float(brentq(lambda bandwidth: at(bandwidth) - bandwidth, 1e-3, 1.0, xtol=1e-6))


# Chance of being right, samples, and SmoothECE of relplot 1.0.3, which searches the bandwidth in
# steps of 2**-10, so that its figure is off by up to about one.
STREAMS = {
    "calibrated": (1000, lambda c: c, 0.014576),
    "over-confident": (1000, lambda c: c**1.5, 0.102854),
    "under-confident": (500, lambda c: min(1, c + 0.2), 0.176367),
    "waves": (2000, lambda c: c + 0.48 * math.sin(25 * c) * c * (1 - c), 0.037101),
}


@pytest.mark.parametrize("name", STREAMS)
def test_smooth_error_is_the_paper_s_and_relplot_s(name: str) -> None:
    n, right, relplot = STREAMS[name]
    confidence, correct = stream(n, right)
    found = measured(smooth, confidence, correct)
    assert found == pytest.approx(slow_smooth(confidence, correct), abs=4e-6)
    assert found == pytest.approx(relplot, abs=1e-3)


def test_smooth_error_of_a_wide_bandwidth_is_reflected_more_than_once() -> None:
    # relplot 1.0.3 says 0.3586 here: it cuts its kernel at half the unit interval.
    confidence, correct = stream(300, lambda c: 1 - c)
    found = measured(smooth, confidence, correct)
    assert found == pytest.approx(slow_smooth(confidence, correct), abs=4e-6)


@pytest.mark.parametrize("place", [0.0, 0.3, 1.0])
def test_smooth_error_at_one_place_is_the_gap_there(place: float) -> None:
    # Whatever the bandwidth: the kernel's mass is 1 also where most of it is reflected.
    confidence = torch.full((10,), place, dtype=torch.float64)
    correct = torch.arange(10) < 4
    assert measured(smooth, confidence, correct) == pytest.approx(abs(0.4 - place), abs=2e-6)


def test_an_excess_is_split_over_the_two_nearest_cells_and_reflected_at_the_ends() -> None:
    # Of four cells the centres are 1/8, 3/8, 5/8 and 7/8.
    for confidence, expected in {
        0.0: [1, 0, 0, 0],
        0.1: [1, 0, 0, 0],
        0.375: [0, 1, 0, 0],
        0.5: [0, 0.5, 0.5, 0],
        0.5625: [0, 0.25, 0.75, 0],
        1.0: [0, 0, 0, 1],
    }.items():
        cells = smooth(torch.tensor([confidence]), grid=4)
        assert cells.sums(torch.ones(1).double()).tolist() == pytest.approx(expected)


def test_smooth_error_does_not_jump_at_an_edge() -> None:
    correct = torch.tensor([True, False, True])
    edge = 0.4  # 6 / 15; the first two cancel below it and add above
    for kind, jumps in ((equal_width, True), (smooth, False)):
        below, above = (
            measured(kind, torch.tensor([edge + shift, 0.35, 0.5]).double(), correct)
            for shift in (-1e-6, 1e-6)
        )
        assert (abs(above - below) > 0.1) == jumps
        assert jumps or above == pytest.approx(below, abs=5e-6)


@given(answers())
def test_smooth_error_does_not_depend_on_the_grid(drawn: tuple[Tensor, Tensor]) -> None:
    coarse = error(smooth(drawn[0], 1024), *drawn)
    fine = error(smooth(drawn[0], 8192), *drawn)
    # Below a few cells the kernel is no Gaussian yet.
    assert coarse == pytest.approx(fine, rel=2e-3, abs=2 / 1024)


# Laws of all


@every_kind
@given(answers(), st.randoms(use_true_random=False))
def test_range_bound_and_order(
    kind: Callable[..., Cells], drawn: tuple[Tensor, Tensor], random: Any
) -> None:
    confidence, correct = drawn
    found = measured(kind, *drawn)
    excess = correct.double() - confidence
    # Apart, excesses of two signs count in full; together, they cancel: the signed gap is least.
    assert abs(excess.mean().item()) - 2e-6 <= found <= excess.abs().mean().item() + 2e-6
    assert 0 <= found <= 1
    order = torch.tensor(random.sample(range(len(correct)), len(correct)))
    assert measured(kind, confidence[order], correct[order]) == pytest.approx(found, abs=2e-6)


@every_kind
def test_certainty(kind: Callable[..., Cells]) -> None:
    sure = torch.tensor([1.0, 1.0, 0.0])
    assert measured(kind, sure, torch.tensor([True, True, False])) == 0.0
    wrong = torch.zeros(3, dtype=torch.bool)
    assert measured(kind, torch.ones(3), wrong) == pytest.approx(1, abs=2e-6)
    assert floor(kind(sure), sure) == 0.0
    assert interval(kind(sure), sure, torch.tensor([True, True, False])) == (0.0, 0.0)


@every_kind
def test_refuses_what_is_no_confidence(kind: Callable[..., Cells]) -> None:
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            kind(torch.tensor([value]))
    with pytest.raises(ValueError, match="N >= 1"):
        kind(torch.zeros(0))
    half = torch.tensor([0.5])
    with pytest.raises(ValueError, match="correct must be"):
        error(kind(half), half, torch.tensor([True, False]))
    with pytest.raises(ValueError, match="draws must be"):
        floor(kind(half), half, draws=0)
    with pytest.raises(ValueError, match="resamples must be"):
        interval(kind(half), half, torch.tensor([True]), resamples=0)


def test_refuses_no_bins() -> None:
    for index in (width_index, mass_index):
        with pytest.raises(ValueError, match="bins must be"):
            index(torch.tensor([0.5]), 0)


# Noise floor


@every_kind
def test_floor_of_one_sample_is_its_closed_form(kind: Callable[..., Cells]) -> None:
    # Right with chance p it is off by 1 - p, else by p: 2 p (1 - p) on average.
    one = torch.tensor([0.8])
    assert floor(kind(one), one, draws=1000) == pytest.approx(2 * 0.8 * 0.2, abs=0.03)


def calibrated(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    confidence = 1 - 0.6 * torch.rand(n, generator=generator, dtype=torch.float64).square()
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    return confidence, uniform < confidence


@every_kind
def test_floor_is_what_calibrated_models_measure(kind: Callable[..., Cells]) -> None:
    generator = torch.Generator().manual_seed(3)
    found = [measured(kind, *calibrated(500, generator)) for _ in range(100)]
    confidence, _ = calibrated(500, generator)
    assert floor(kind(confidence), confidence) == pytest.approx(float(np.mean(found)), rel=0.08)
    assert floor(kind(confidence), confidence) == floor(kind(confidence), confidence)
    assert floor(kind(confidence), confidence, seed=1) != floor(kind(confidence), confidence)


# An error of noise over sqrt(n * bandwidth) that equals the bandwidth falls as the cubic root.
@pytest.mark.parametrize(
    ("kind", "ratio"), [(equal_width, 2), (equal_mass, 2), (smooth, 4 ** (1 / 3))]
)
def test_floor_falls_with_the_number_of_samples(kind: Callable[..., Cells], ratio: float) -> None:
    confidence, _ = calibrated(4000, torch.Generator().manual_seed(4))
    few = floor(kind(confidence[:1000]), confidence[:1000])
    many = floor(kind(confidence), confidence)
    assert few / many == pytest.approx(ratio, rel=0.1)


# Interval


@every_kind
def test_interval_covers_the_error_measured_at_this_size(kind: Callable[..., Cells]) -> None:
    generator = torch.Generator().manual_seed(5)

    def sample() -> tuple[Tensor, Tensor]:
        confidence, _ = calibrated(300, generator)
        uniform = torch.rand(300, generator=generator, dtype=torch.float64)
        return confidence, uniform < confidence**2

    found = [measured(kind, *sample()) for _ in range(200)]
    covered, widths = 0, []
    for _ in range(60):
        confidence, correct = sample()
        low, high = interval(kind(confidence), confidence, correct, resamples=60)
        assert 0 <= low <= measured(kind, confidence, correct) <= high <= 1
        covered += bool(low <= np.mean(found) <= high)
        widths.append(high - low)
    assert covered >= 52  # of 57 expected
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(found), rel=0.15)


def test_interval_of_equal_width_is_that_of_the_paired_bootstrap_against_a_perfect_arm() -> None:
    confidence, correct = stream(200, lambda c: c**2)
    perfect = np.ones((1, 200))
    paired = paired_bootstrap_ece(
        confidence[None].numpy(), correct[None].numpy(), perfect, perfect, resamples=300, seed=2
    )
    low, high = interval(equal_width(confidence), confidence, correct, resamples=300, seed=2)
    assert (low, high) == pytest.approx((paired.low, paired.high))


@settings(max_examples=20)
@given(answers())
def test_interval_is_within_the_range_and_wider_at_a_higher_level(
    drawn: tuple[Tensor, Tensor],
) -> None:
    for kind in KINDS:
        cells = kind(drawn[0])
        low, high = interval(cells, *drawn, resamples=20, level=0.99)
        inner_low, inner_high = interval(cells, *drawn, resamples=20, level=0.5)
        assert 0 <= low <= inner_low <= inner_high <= high <= 1
