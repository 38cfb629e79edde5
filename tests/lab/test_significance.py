"""Intervals and p values: closed forms, scipy, slow references, and simulated coverage."""

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats

from softaug_lab.metrics.calibration import equal_width, error, paired_bootstrap_ece
from softaug_lab.metrics.significance import (
    Estimate,
    holm,
    paired_bootstrap,
    paired_t,
    resample_counts,
    seeds_needed,
)

oracle: Any = scipy_stats  # its types hide half of it
Array = npt.NDArray[np.float64]


def calibrated(
    rng: np.random.Generator, seeds: int, images: int, exponent: float = 1.0
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Confidences [seeds, images] and hits; over-confident where the exponent is above 1."""
    confidence = 0.2 + 0.8 * rng.beta(3, 1, size=(seeds, images))
    return confidence, rng.random((seeds, images)) < confidence**exponent


def ece(confidence: Array, correct: npt.NDArray[np.bool_], bins: int) -> float:
    """ECE of one seed by the definition, a bin at a time."""
    total = 0.0
    for i in range(bins):
        inside = (confidence > i / bins) & (confidence <= (i + 1) / bins)
        if i == 0:
            inside |= confidence == 0
        if inside.any():
            total += inside.sum() * abs(correct[inside].mean() - confidence[inside].mean())
    return total / len(confidence)


# Paired t over seeds


def test_paired_t_by_hand() -> None:
    # Two seeds: t has one degree of freedom, the Cauchy law, whose 97.5 % point is tan(0.475 pi).
    estimate = paired_t([1.0, 3.0])
    assert estimate is not None
    half = math.tan(0.475 * math.pi) * 1.0  # sd sqrt(2), over sqrt(2)
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((2, 2 - half, 2 + half))
    assert estimate.p == pytest.approx(1 - 2 * math.atan(2) / math.pi)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_paired_t_agrees_with_scipy(n: int, level: float) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=n), rng.normal(0.5, 1, size=n)
    expected = oracle.ttest_rel(a, b)
    interval = expected.confidence_interval(level)
    estimate = paired_t(a - b, level)
    assert estimate is not None
    assert estimate.p == pytest.approx(expected.pvalue)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))


def test_paired_t_interval_and_p_say_the_same() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        estimate = paired_t(rng.normal(1, 1, size=4))
        assert estimate is not None
        assert (estimate.low > 0 or estimate.high < 0) == (estimate.p < 0.05)


@pytest.mark.parametrize("differences", [[], [0.5]])
def test_paired_t_has_no_answer_below_two_seeds(differences: list[float]) -> None:
    assert paired_t(differences) is None
    assert seeds_needed(differences) is None


def test_paired_t_without_spread() -> None:
    assert paired_t([0.0, 0.0, 0.0]) == Estimate(0.0, 0.0, 0.0, 1.0)
    assert paired_t([0.01, 0.01]) is None
    # The same difference of 0.01, but for rounding.
    assert paired_t([0.11 - 0.10, 0.31 - 0.30, 0.92 - 0.91]) is None


def test_paired_t_covers_where_it_says_so() -> None:
    rng = np.random.default_rng(1)
    trials = 1000
    covered = 0
    for _ in range(trials):
        estimate = paired_t(rng.normal(0.3, 1, size=3))
        assert estimate is not None
        covered += estimate.low <= 0.3 <= estimate.high
    assert covered / trials == pytest.approx(0.95, abs=0.025)


# Paired bootstrap over images


def test_bootstrap_interval_is_near_the_normal_one() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random((3, 2000)), rng.random((3, 2000)) + 0.02
    estimate = paired_bootstrap(a, b)
    per_image = (a - b).mean(axis=0)
    error = per_image.std() / 2000**0.5
    assert estimate.mean == pytest.approx((a - b).mean())
    assert estimate.low == pytest.approx(estimate.mean - 1.96 * error, abs=0.15 * error)
    assert estimate.high == pytest.approx(estimate.mean + 1.96 * error, abs=0.15 * error)
    normal_p = 2 * oracle.norm.sf(abs(estimate.mean) / error)
    assert estimate.p == pytest.approx(normal_p, abs=0.02)


def test_bootstrap_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    difference = rng.exponential(size=(1, 60))
    ours = paired_bootstrap(difference, np.zeros((1, 60)), resamples=20_000)
    theirs = oracle.bootstrap(
        (difference[0],), np.mean, n_resamples=20_000, method="percentile", rng=rng
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_bootstrap_covers_where_it_says_so() -> None:
    rng = np.random.default_rng(4)
    trials = covered = 400
    for trial in range(trials):
        # What both arms share, the image's difficulty, must cancel.
        difficulty = rng.exponential(size=(1, 200))
        a = difficulty + rng.normal(0.1, 0.5, size=(2, 200))
        b = difficulty + rng.normal(0.0, 0.5, size=(2, 200))
        estimate = paired_bootstrap(a, b, resamples=300, seed=trial)
        covered -= not estimate.low <= 0.1 <= estimate.high
    assert covered / trials == pytest.approx(0.95, abs=0.035)


def test_bootstrap_p_is_uniform_without_a_difference() -> None:
    rng = np.random.default_rng(5)
    arms = rng.normal(size=(400, 2, 1, 200))
    p = np.array([paired_bootstrap(a, b, resamples=300).p for a, b in arms])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert (p < 0.5).mean() == pytest.approx(0.5, abs=0.08)


def test_bootstrap_p_is_never_zero_and_one_for_equal_arms() -> None:
    a = np.random.default_rng(6).random((2, 50))
    assert paired_bootstrap(a, a, resamples=99) == Estimate(0.0, 0.0, 0.0, 1.0)
    sure = paired_bootstrap(a + 5, a, resamples=99)
    assert sure.p == pytest.approx(1 / 100)
    assert (sure.low, sure.high) == pytest.approx((5, 5))


def test_bootstrap_repeats_and_follows_its_seed() -> None:
    a, b = np.random.default_rng(7).random((2, 3, 40))
    assert paired_bootstrap(a, b, seed=1) == paired_bootstrap(a, b, seed=1)
    assert paired_bootstrap(a, b, seed=1) != paired_bootstrap(a, b, seed=2)


def test_bootstrap_takes_its_counterpart_s_sign() -> None:
    a, b = np.random.default_rng(8).random((2, 3, 40))
    one, other = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))
    assert one.p == other.p


def test_blocks_of_resamples_change_nothing() -> None:
    a, b = np.random.default_rng(9).random((2, 3, 40))
    whole = paired_bootstrap(a, b, resamples=100)
    parts = paired_bootstrap(a, b, resamples=100, block=7 * 40)
    assert astuple(parts) == pytest.approx(astuple(whole))


def test_resamples_draw_as_many_images_as_there_are() -> None:
    counts = np.concatenate(list(resample_counts(images=50, resamples=2000, seed=0)))
    assert counts.shape == (2000, 50)
    assert (counts.sum(axis=1) == 50).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.1)
    assert counts.var() == pytest.approx(49 / 50, abs=0.03)


# Paired bootstrap of ECE


def test_ece_bootstrap_agrees_with_a_slow_loop() -> None:
    rng = np.random.default_rng(10)
    seeds, images, bins, resamples = 2, 60, 5, 80
    conf_a, correct_a = calibrated(rng, seeds, images)
    conf_b, correct_b = calibrated(rng, seeds, images, exponent=1.5)
    conf_a[0, :3] = [1.0, 0.2, 0.0]

    def difference(chosen: npt.NDArray[np.intp]) -> float:
        gaps = [
            ece(conf_a[s, chosen], correct_a[s, chosen], bins)
            - ece(conf_b[s, chosen], correct_b[s, chosen], bins)
            for s in range(seeds)
        ]
        return float(np.mean(gaps))

    observed = difference(np.arange(images))
    [counts] = resample_counts(images, resamples, seed=0)
    slow = np.array([difference(np.repeat(np.arange(images), row.astype(int))) for row in counts])
    errors = slow - slow.mean()
    low, high = observed + np.quantile(errors, [0.025, 0.975])
    p = (np.sum(np.abs(errors) >= abs(observed)) + 1) / (resamples + 1)

    fast = paired_bootstrap_ece(
        conf_a, correct_a, conf_b, correct_b, bins=bins, resamples=resamples
    )
    assert astuple(fast) == pytest.approx((observed, low, high, p))


def test_ece_bootstrap_s_mean_is_the_difference_of_the_metric() -> None:
    import torch

    rng = np.random.default_rng(11)
    conf_a, correct_a = calibrated(rng, 3, 500)
    conf_b, correct_b = calibrated(rng, 3, 500, exponent=1.5)
    # Edges and both ends: bins must agree with those of the metric there too.
    conf_a[:, :16] = np.arange(16) / 15

    def mean_ece(confidence: Array, correct: npt.NDArray[np.bool_]) -> float:
        return sum(
            error(equal_width(torch.from_numpy(c)), torch.from_numpy(c), torch.from_numpy(k))
            for c, k in zip(confidence, correct, strict=True)
        ) / len(confidence)

    estimate = paired_bootstrap_ece(conf_a, correct_a, conf_b, correct_b, resamples=10)
    expected = mean_ece(conf_a, correct_a) - mean_ece(conf_b, correct_b)
    assert estimate.mean == pytest.approx(expected, abs=1e-12)


def test_ece_bootstrap_holds_its_level_between_calibrated_arms() -> None:
    rng = np.random.default_rng(12)
    trials, rejected, excluded = 200, 0, 0
    for trial in range(trials):
        arms = *calibrated(rng, 1, 500), *calibrated(rng, 1, 500)
        estimate = paired_bootstrap_ece(*arms, resamples=200, seed=trial)
        rejected += estimate.p < 0.05
        excluded += estimate.low > 0 or estimate.high < 0
    assert rejected / trials < 0.07
    assert excluded / trials < 0.08


def test_ece_bootstrap_covers_the_difference_measured_at_this_size() -> None:
    # One arm calibrated, one not: here the unmoved percentile interval covers in 65 % of trials.
    rng = np.random.default_rng(13)
    estimates = [
        paired_bootstrap_ece(
            *calibrated(rng, 5, 2000), *calibrated(rng, 5, 2000, 1.5), resamples=200, seed=trial
        )
        for trial in range(100)
    ]
    expected = np.mean([estimate.mean for estimate in estimates])
    covered = np.mean([estimate.low <= expected <= estimate.high for estimate in estimates])
    assert covered > 0.89


def test_ece_bootstrap_finds_a_large_difference_and_none_in_equal_arms() -> None:
    rng = np.random.default_rng(14)
    good, bad = calibrated(rng, 3, 2000), calibrated(rng, 3, 2000, exponent=2.0)
    found = paired_bootstrap_ece(*good, *bad, resamples=999)
    assert found.p == pytest.approx(1 / 1000)
    assert found.low < found.mean < found.high < 0
    same = paired_bootstrap_ece(*good, *good, resamples=99)
    assert same == Estimate(0.0, 0.0, 0.0, 1.0)


def test_bootstraps_refuse_what_does_not_pair() -> None:
    two, three = np.full((1, 2), 0.5), np.full((1, 3), 0.5)
    with pytest.raises(ValueError, match="one shape"):
        paired_bootstrap(two, three)
    with pytest.raises(ValueError, match="2 axes"):
        paired_bootstrap(two[0], two[0])
    with pytest.raises(ValueError, match="finite"):
        paired_bootstrap(two, two * np.nan)
    with pytest.raises(ValueError, match="one shape"):
        paired_bootstrap(np.zeros((1, 0)), np.zeros((1, 0)))
    with pytest.raises(ValueError, match="resamples"):
        paired_bootstrap(two, two, resamples=0)
    with pytest.raises(ValueError, match="level"):
        paired_bootstrap(two, two, level=95.0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        paired_bootstrap_ece(two * 3, two, two, two)
    with pytest.raises(ValueError, match="bins"):
        paired_bootstrap_ece(two, two, two, two, bins=0)
    with pytest.raises(ValueError, match="shape of conf"):
        paired_bootstrap_ece(two, three, two, three)


# Many questions, and how many seeds


@pytest.mark.parametrize(
    ("given_p", "adjusted"),
    [
        ([], []),
        ([None], [None]),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.01, None, 0.04, 0.03, 0.005], [0.03, None, 0.06, 0.06, 0.02]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_by_hand(given_p: list[float | None], adjusted: list[float | None]) -> None:
    # approx compares None with None only outside of itself.
    result = holm(given_p)
    assert [p is None for p in result] == [p is None for p in adjusted]
    assert [p for p in result if p is not None] == pytest.approx(
        [p for p in adjusted if p is not None]
    )


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_none_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = [value for value in holm(p) if value is not None]
    assert len(adjusted) == len(p)
    for raw, value in zip(p, adjusted, strict=True):
        assert raw <= value <= min(1, len(p) * raw) or value == pytest.approx(raw)
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_probability(bad: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, bad])


def test_seeds_needed_is_the_smallest_number_with_the_power() -> None:
    def power(effect: float, n: int) -> float:
        threshold = oracle.t.ppf(0.975, n - 1)
        law = oracle.nct(n - 1, effect * n**0.5)
        return float(law.sf(threshold) + law.cdf(-threshold))

    for effect in (0.3, 0.5, 1.0, 3.0):
        differences = effect + np.array([-1.0, 0.0, 1.0])  # sd 1
        for signed in (differences, -differences, 1e-4 * differences):
            needed = seeds_needed(signed)
            assert needed is not None
            assert power(effect, needed) >= 0.8
            assert power(effect, needed - 1) < 0.8 if needed > 2 else True
    # The textbook's: 34 pairs for an effect of half a standard deviation.
    assert seeds_needed(0.5 + np.array([-1.0, 0.0, 1.0])) == 34


def test_seeds_needed_keep_their_promise() -> None:
    rng = np.random.default_rng(15)
    needed = seeds_needed([0.0, 1.0, 2.0])
    assert needed is not None
    found = 0
    for _ in range(1000):
        estimate = paired_t(rng.normal(1, 1, size=needed))
        found += estimate is not None and estimate.p < 0.05
    # Whole seeds overshoot the power a little.
    assert 0.77 < found / 1000 < 0.88


def test_seeds_needed_has_no_answer() -> None:
    assert seeds_needed([-1.0, 1.0]) is None
    assert seeds_needed([0.0, 0.0]) is None
    assert seeds_needed([0.01, 0.01]) is None
    assert seeds_needed([-1.0, 1.0 + 1e-3]) is None  # beyond the cap
    with pytest.raises(ValueError, match="power"):
        seeds_needed([1.0, 2.0], power=1.0)


def test_paired_t_refuses_bad_numbers() -> None:
    with pytest.raises(ValueError, match="finite"):
        paired_t([1.0, math.nan])
    with pytest.raises(ValueError, match="level"):
        paired_t([1.0, 2.0], level=0.0)
    with pytest.raises(ValueError, match="1 axes"):
        paired_t([[1.0, 2.0]])


@pytest.mark.parametrize("level", [0.95, 0.9975])
@pytest.mark.parametrize("effect", [0.8, 2.0, 5.8])
def test_seeds_needed_have_the_power_in_simulation(effect: float, level: float) -> None:
    """Also where the far tail of the distribution is too small for a float."""
    observed = np.array([effect - 1, effect, effect + 1])  # this mean, and a deviation of 1
    needed = seeds_needed(observed, level=level)
    assert needed is not None

    def power(n: int) -> float:
        drawn = np.random.default_rng(0).normal(effect, 1, (20_000, n))
        t = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / n**0.5)
        return float((np.abs(t) > special.stdtrit(n - 1, (1 + level) / 2)).mean())

    assert power(needed) > 0.79
    assert needed == 2 or power(needed - 1) < 0.81
