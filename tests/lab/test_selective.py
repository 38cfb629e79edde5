"""Risk and coverage: against the mean over all orders of ties, closed forms, and laws."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softaug_lab.metrics.selective import (
    Risk,
    aurc,
    excess_aurc,
    paired_bootstrap_aurc,
    risk_coverage,
    risks,
)
from softaug_lab.metrics.significance import resample_counts


@st.composite
def answers(draw: Any, most: int = 6) -> tuple[Tensor, Tensor]:
    """Confidences [N] of four values, so that ties abound, and whether each was right."""
    n = draw(st.integers(1, most))
    confidence = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    correct = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return torch.tensor(confidence).double() / 4, torch.tensor(correct)


def slow_risks(confidence: list[float], correct: list[bool]) -> list[float]:
    """The mean over every order in which no surer sample comes later."""
    n, total, orders = len(correct), [0.0] * len(correct), 0
    for order in itertools.permutations(range(n)):
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order)):
            orders += 1
            wrong = 0
            for rank, i in enumerate(order):
                wrong += not correct[i]
                total[rank] += wrong / (rank + 1)
    return [risk / orders for risk in total]


@settings(max_examples=60)
@given(answers())
def test_risks_are_the_mean_over_the_orders_of_ties(drawn: tuple[Tensor, Tensor]) -> None:
    slow = slow_risks(drawn[0].tolist(), drawn[1].tolist())
    assert risks(*drawn).tolist() == pytest.approx(slow)
    assert aurc(*drawn) == pytest.approx(math.fsum(slow) / len(slow))


@given(answers(most=30), st.randoms(use_true_random=False))
def test_range_order_and_ends(drawn: tuple[Tensor, Tensor], random: Any) -> None:
    confidence, correct = drawn
    error = 1 - correct.double().mean().item()
    assert 0 <= aurc(*drawn) <= 1
    assert excess_aurc(*drawn) >= -1e-12
    assert risks(*drawn)[-1].item() == pytest.approx(error)
    order = torch.tensor(random.sample(range(len(correct)), len(correct)))
    shuffled = confidence[order], correct[order]
    assert risks(*shuffled).tolist() == pytest.approx(risks(*drawn).tolist())
    # Confidences that tell nothing: the error at every coverage.
    assert aurc(torch.ones_like(confidence), correct) == pytest.approx(error)


def test_by_hand() -> None:
    confidence = torch.tensor([0.9, 0.8, 0.7, 0.6])
    correct = torch.tensor([True, False, True, False])
    assert risks(confidence, correct).tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc(confidence, correct) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)
    # In the best order the errors come third and fourth.
    best = (1 / 3 + 2 / 4) / 4
    assert excess_aurc(confidence, correct) == pytest.approx((4 / 3) / 4 - best)
    assert excess_aurc(confidence, torch.tensor([True, True, False, False])) == 0
    assert excess_aurc(confidence, torch.tensor([False, False, True, True])) > 0.3


def test_the_curve_is_at_every_hundredth_rounded_up_to_samples() -> None:
    n = 250
    confidence = torch.arange(n).double() / n
    correct = torch.arange(n) % 3 > 0
    curve, every = risk_coverage(confidence, correct), risks(confidence, correct)
    assert len(curve) == 100
    counts = [math.ceil(2.5 * i) for i in range(1, 101)]
    assert [point.coverage for point in curve] == [count / n for count in counts]
    assert [point.risk for point in curve] == every[[count - 1 for count in counts]].tolist()
    assert curve[-1] == Risk(1.0, every[-1].item())
    assert [p.coverage for p in risk_coverage(confidence, correct, points=4)] == [
        63 / 250,
        125 / 250,
        188 / 250,
        1.0,
    ]


def test_few_samples_are_few_points() -> None:
    curve = risk_coverage(torch.tensor([0.5, 0.9]), torch.tensor([True, False]))
    assert curve == [Risk(0.5, 1.0), Risk(1.0, 0.5)]


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\[N\]"):
        risks(torch.tensor([0.5]), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="N >= 1"):
        aurc(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    with pytest.raises(ValueError, match="NaN"):
        aurc(torch.tensor([math.nan]), torch.tensor([True]))
    with pytest.raises(ValueError, match="points must be"):
        risk_coverage(torch.tensor([0.5]), torch.tensor([True]), points=0)


def test_the_bootstrap_computes_the_aurc_of_every_resample_anew() -> None:
    generator = torch.Generator().manual_seed(0)
    n, seeds = 30, 2
    # Multiples of 1/8, so that images tie.
    confidence = torch.randint(1, 9, (2, seeds, n), generator=generator).double() / 8
    correct = torch.rand(2, seeds, n, generator=generator) < confidence
    found = paired_bootstrap_aurc(
        confidence[0], correct[0], confidence[1], correct[1], resamples=50, seed=3
    )

    def difference(rows: Tensor) -> float:
        a, b = (
            sum(aurc(c[rows], r[rows]) for c, r in zip(confidence[arm], correct[arm], strict=True))
            for arm in (0, 1)
        )
        return (a - b) / seeds

    assert found.mean == pytest.approx(difference(torch.arange(n)))
    slow = []
    for counts in resample_counts(n, 50, seed=3):
        for row in torch.from_numpy(counts).long():
            slow.append(difference(torch.arange(n).repeat_interleave(row)))
    errors = torch.tensor(slow).double() - torch.tensor(slow).double().mean()
    low, high = found.mean + torch.quantile(errors, torch.tensor([0.025, 0.975]).double())
    assert (found.low, found.high) == pytest.approx((low.item(), high.item()))


def test_the_bootstrap_of_the_aurc_wants_arms_of_one_shape() -> None:
    right = torch.ones(1, 3).numpy()
    with pytest.raises(ValueError, match="one shape"):
        paired_bootstrap_aurc(right, right, right[:, :2], right)
    with pytest.raises(ValueError, match="shape of conf"):
        paired_bootstrap_aurc(right, right[:, :2], right, right[:, :2])
