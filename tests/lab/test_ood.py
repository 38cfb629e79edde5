"""Out of distribution: closed forms, the pairs counted one by one, and scikit-learn."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.metrics.ood import auroc, detect, fpr95, max_softmax, negative_energy

# Few values, so that most draws hold ties.
SCORES = st.lists(st.integers(-4, 4), min_size=1, max_size=45).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def by_pairs(known: Tensor, other: Tensor) -> float:
    wins: float = sum(
        1.0 if k > o else 0.5 if k == o else 0.0 for k in known.tolist() for o in other.tolist()
    )
    return wins / (len(known) * len(other))


def by_thresholds(known: Tensor, other: Tensor) -> float:
    """The FPR at the largest threshold, of all there are, that 95 of 100 known scores reach."""
    reach = [
        t for t in known.tolist() if 100 * sum(k >= t for k in known.tolist()) >= 95 * len(known)
    ]
    taken = [o for o in other.tolist() if o >= max(reach)]
    return len(taken) / len(other)


@given(SCORES, SCORES)
def test_every_pair_counts_and_ties_count_half(known: Tensor, other: Tensor) -> None:
    assert auroc(known, other) == pytest.approx(by_pairs(known, other), abs=1e-12)
    assert fpr95(known, other) == pytest.approx(by_thresholds(known, other), abs=1e-12)
    assert auroc(known, other) + auroc(other, known) == pytest.approx(1)
    assert auroc(known, known) == 0.5


@given(SCORES, SCORES)
def test_agrees_with_scikit_learn(known: Tensor, other: Tensor) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth = [1] * len(known) + [0] * len(other)
    scores = torch.cat([known, other]).numpy()
    assert auroc(known, other) == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
    fpr, tpr, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert fpr95(known, other) == pytest.approx(fpr[(tpr >= 0.95).argmax()], abs=1e-12)


def test_closed_forms() -> None:
    low, high = torch.arange(20.0), torch.arange(20.0) + 20
    assert (auroc(high, low), fpr95(high, low)) == (1.0, 0.0)
    assert (auroc(low, high), fpr95(low, high)) == (0.0, 1.0)
    assert (auroc(low, low), fpr95(low, low)) == (0.5, 0.95)  # 19 of 20 reach 1
    constant = torch.zeros(30)
    assert (auroc(constant, constant[:7]), fpr95(constant, constant[:7])) == (0.5, 1.0)
    # Two normal distributions one standard deviation apart: Phi(1 / sqrt 2).
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(100_000, generator=generator, dtype=torch.float64) + 1
    other = torch.randn(100_000, generator=generator, dtype=torch.float64)
    assert auroc(known, other) == pytest.approx(0.5 * (1 + math.erf(0.5)), abs=0.003)
    # Phi(1.645 - 1) of the other scores are below the threshold 1 - 1.645.
    assert fpr95(known, other) == pytest.approx(0.5 * (1 + math.erf(0.6449 / 2**0.5)), abs=0.006)


def test_scores_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [1000.0, 1000.0]])
    assert max_softmax(logits).tolist() == pytest.approx([0.5, 0.75, 0.5], abs=1e-7)
    energies = [math.log(2), math.log(4), 1000 + math.log(2)]
    assert negative_energy(logits).tolist() == pytest.approx(energies, abs=1e-6)


def test_known_data_are_the_positive_side_of_both_scores() -> None:
    sure, unsure = torch.tensor([[9.0, 0.0]] * 5), torch.tensor([[1.0, 1.0]] * 8)
    found = detect(sure, unsure)
    assert list(found) == ["softmax", "energy"]
    assert all((one.auroc, one.fpr95) == (1.0, 0.0) for one in found.values())
    # Large logits without preference: energy is taken in, maximum softmax is not.
    loud = torch.tensor([[20.0, 20.0]] * 8)
    assert detect(sure, loud)["softmax"].auroc == 1.0
    assert detect(sure, loud)["energy"].auroc == 0.0
    assert detect(sure, loud)["energy"].fpr95 == 1.0


def test_members_of_an_ensemble_are_averaged() -> None:
    generator = torch.Generator().manual_seed(0)
    known, other = (3 * torch.randn(2, n, 4, generator=generator) for n in (30, 20))
    found = detect(known, other)
    first, second = [
        [math.log(sum(math.exp(z) for z in row)) for row in member] for member in known.tolist()
    ]
    means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert negative_energy(known).tolist() == pytest.approx(means, abs=1e-6)
    p = (known[0].softmax(1) + known[1].softmax(1)) / 2
    assert max_softmax(known).tolist() == pytest.approx(p.amax(1).tolist(), abs=1e-6)
    assert found["softmax"].auroc == auroc(max_softmax(known), max_softmax(other))
    assert detect(known[:1], other[:1]) == detect(known[0], other[0])


def test_refuses_what_does_not_fit() -> None:
    logits = torch.zeros(4, 3)
    with pytest.raises(UsageError, match=r"got \[4, 3\] and \[4, 2\]"):
        detect(logits, logits[:, :2])
    with pytest.raises(UsageError, match=r"got \[2, 4, 3\] and \[4, 3\]"):
        detect(torch.zeros(2, 4, 3), logits)
    broken = logits.clone()
    broken[1, 2] = math.nan
    with pytest.raises(SoftaugError, match="not finite for 1 of 4 out-of-distribution images"):
        detect(logits, broken)
    with pytest.raises(SoftaugError, match="not finite for 1 of 4 known images"):
        detect(broken, logits)
    with pytest.raises(ValueError, match="N, M >= 1"):
        auroc(torch.zeros(0), torch.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        fpr95(torch.zeros(3), torch.tensor([math.nan]))
