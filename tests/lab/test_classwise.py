"""Class-wise calibration and the parts of the Brier score, against slow sums and libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from support import random_samples, samples
from torch import Tensor

from softaug_lab.metrics import proper
from softaug_lab.metrics.classwise import (
    brier_parts,
    class_bins,
    classwise_ece,
    classwise_ece_floor,
    classwise_ece_interval,
)
from softaug_lab.metrics.logits import BLOCK
from softaug_lab.metrics.significance import Counts, bootstrap_interval


def probabilities(logits: Tensor) -> Tensor:
    # Those of our own blocks, so that rounding at an edge cannot part the two.
    return logits.double().log_softmax(dim=1).exp()


def slow_bin(p: float, bins: int) -> int:
    return next(i for i in range(bins) if p <= (i + 1) / bins)


def slow_parts(p: list[list[float]], labels: list[int], bins: int) -> tuple[float, float, float]:
    """Reliability, resolution and uncertainty term by term, after Stephenson et al. 2008."""
    n, reliability, resolution, uncertainty = len(labels), 0.0, 0.0, 0.0
    for k in range(len(p[0])):
        pairs = [(row[k], float(y == k)) for row, y in zip(p, labels, strict=True)]
        base = sum(hit for _, hit in pairs) / n
        uncertainty += base * (1 - base)
        for i in range(bins):
            inside = [pair for pair in pairs if slow_bin(pair[0], bins) == i]
            if not inside:
                continue
            mean = sum(q for q, _ in inside) / len(inside)
            share = sum(hit for _, hit in inside) / len(inside)
            reliability += len(inside) * (mean - share) ** 2 / n
            resolution += len(inside) * (share - base) ** 2 / n
            resolution -= sum((q - mean) ** 2 for q, _ in inside) / n
            resolution += 2 * sum((q - mean) * (hit - share) for q, hit in inside) / n
    return reliability, resolution, uncertainty


@settings(max_examples=50)
@given(samples())
def test_agrees_with_the_slow_reference(drawn: tuple[Tensor, Tensor]) -> None:
    logits, labels = drawn
    p, own = probabilities(logits).tolist(), labels.tolist()
    n, k = logits.shape
    for bins in (1, 4, 15):
        gaps = [[0.0] * bins for _ in range(k)]
        for row, label in zip(p, own, strict=True):
            for c, q in enumerate(row):
                gaps[c][slow_bin(q, bins)] += (c == label) - q
        slow = math.fsum(abs(gap) for row in gaps for gap in row) / (n * k)
        found = class_bins(logits, labels, bins)
        assert classwise_ece(found) == pytest.approx(slow, abs=1e-12)
        parts = brier_parts(logits, labels, found)
        assert (parts.reliability, parts.resolution, parts.uncertainty) == pytest.approx(
            slow_parts(p, own, bins), abs=1e-12
        )
        total = parts.reliability - parts.resolution + parts.uncertainty
        assert total == pytest.approx(proper.brier(logits, labels), abs=1e-12)


def test_class_wise_ece_is_the_mean_of_torchmetrics_binary_ones() -> None:
    from torchmetrics.functional.classification import binary_calibration_error

    logits, labels = random_samples()
    p = probabilities(logits).T.contiguous()
    each = [float(binary_calibration_error(p[c], (labels == c).long())) for c in range(6)]
    assert classwise_ece(class_bins(logits, labels)) == pytest.approx(np.mean(each), abs=1e-6)


def test_scores_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import brier_score_loss, log_loss

    logits, labels = random_samples()
    p = probabilities(logits).numpy()
    assert proper.nll(logits, labels) == pytest.approx(log_loss(labels, p))
    ours = proper.brier(logits, labels)
    each = [brier_score_loss(labels == c, p[:, c]) for c in range(6)]
    assert ours == pytest.approx(math.fsum(each))
    assert ours == pytest.approx(brier_score_loss(labels, p, scale_by_half=False))


def test_certainty_by_hand() -> None:
    # Probabilities of exactly 0 and 1: the first and the last bin, where torchmetrics has one more.
    logits = torch.tensor([[1000.0, 0.0], [1000.0, 0.0], [0.0, 1000.0], [0.0, 1000.0]])
    labels = torch.tensor([0, 1, 1, 1])
    bins = class_bins(logits, labels, bins=10)
    assert bins.counts.tolist() == [[2.0, *[0.0] * 8, 2.0]] * 2
    # Of class 0: 0 expected and 0 found, 2 expected and 1 found. Of class 1 likewise.
    assert classwise_ece(bins) == pytest.approx((0 + 1 + 1 + 0) / (4 * 2))
    # A calibrated model that is always sure is always right.
    assert classwise_ece_floor(logits, labels) == 0.0
    parts = brier_parts(logits, labels, bins)
    assert parts.reliability == pytest.approx(2 * 2 * 0.5**2 / 4)
    assert parts.uncertainty == pytest.approx(2 * 0.25 * 0.75)
    assert parts.resolution == pytest.approx(2 * (2 * 0.25**2 + 2 * 0.25**2) / 4)


def test_blocks_change_nothing() -> None:
    logits, labels = random_samples(50)

    def every_metric(block: int) -> list[float]:
        bins = class_bins(logits, labels, block=block)
        confidence, correct = proper.top_confidence(logits, labels, block)
        return [
            *proper.sample_nll(logits, labels, block).tolist(),
            proper.brier(logits, labels, block),
            *confidence.tolist(),
            *correct.tolist(),
            classwise_ece(bins),
            *vars(brier_parts(logits, labels, bins, block)).values(),
            *classwise_ece_interval(logits, labels, resamples=20, block=block),
        ]

    whole = every_metric(BLOCK)
    # 16 rows of logits, the last block of 2; 1 class and 2 resamples at a time.
    assert every_metric(100) == pytest.approx(whole, rel=1e-12)
    # 4 classes at a time, then 2.
    in_classes = classwise_ece_interval(logits, labels, resamples=20, block=50 * 15 * 4)
    assert in_classes == pytest.approx(whole[-2:], rel=1e-12)
    # Other draws, but the same law.
    floor = classwise_ece_floor(logits, labels, draws=200, block=100)
    assert floor == pytest.approx(classwise_ece_floor(logits, labels, draws=200), rel=0.05)


def test_floor_of_one_sample_is_its_closed_form() -> None:
    # The first label is drawn with chance 0.8: each class is then off by 0.2, else by 0.8.
    logits, labels = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0])
    floor = classwise_ece_floor(logits, labels, draws=4000)
    assert floor == pytest.approx(2 * 0.8 * 0.2, abs=0.02)


def test_floor_is_what_calibrated_models_measure() -> None:
    logits, _ = random_samples(400)
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(60):
        labels = torch.multinomial(probabilities(logits), 1, generator=generator)[:, 0]
        found.append(classwise_ece(class_bins(logits, labels)))
    floor = classwise_ece_floor(logits, labels)
    assert floor == pytest.approx(np.mean(found), rel=0.05)
    assert (
        classwise_ece_floor(logits, labels) == floor != classwise_ece_floor(logits, labels, seed=1)
    )
    assert found[0] < 2 * floor < classwise_ece(class_bins(3 * logits, labels))


def test_interval_is_that_of_resampled_images() -> None:
    logits, labels = random_samples(60, k=4)

    def statistic(counts: Counts) -> Counts:
        rows = []
        for row in counts:
            times = torch.from_numpy(row).long()
            repeated = logits.repeat_interleave(times, dim=0), labels.repeat_interleave(times)
            rows.append(classwise_ece(class_bins(*repeated)))
        return np.array(rows)

    slow = bootstrap_interval(statistic, 60, 100, 0.9, seed=3)
    found = classwise_ece_interval(logits, labels, resamples=100, level=0.9, seed=3)
    assert found == pytest.approx(slow)
    assert found[0] < classwise_ece(class_bins(logits, labels)) < found[1]


def test_refuses_settings_and_samples_that_do_not_fit() -> None:
    logits, labels = random_samples(3)
    with pytest.raises(ValueError, match="draws must be"):
        classwise_ece_floor(logits, labels, draws=0)
    with pytest.raises(ValueError, match="bins must be"):
        class_bins(logits, labels, bins=0)
    with pytest.raises(ValueError, match=r"\[0, 6\)"):
        class_bins(logits, labels + 6)
