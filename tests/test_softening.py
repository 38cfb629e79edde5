"""Softening is a channel on rows, and a weight can ride in the row: laws, then references."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softaug import (
    batch_mean,
    mean_one,
    per_sample,
    smooth,
    smooth_by_confusion,
    smooth_multilabel,
    weigh,
)

K = 5


def reference(rows: list[list[float]], confidence: list[float]) -> list[list[float]]:
    """p t + (1 - p)(s - t)/(K - 1), one number at a time."""
    return [
        [p * t + (1 - p) * (sum(row) - t) / (len(row) - 1) for t in row]
        for row, p in zip(rows, confidence, strict=True)
    ]


confidences = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(torch.tensor)
hard = st.lists(st.integers(0, K - 1), min_size=4, max_size=4).map(
    lambda labels: F.one_hot(torch.tensor(labels), K).float()
)
loose = st.lists(st.lists(st.floats(0, 2), min_size=K, max_size=K), min_size=4, max_size=4).map(
    torch.tensor
)
mixed = st.tuples(hard, hard, st.floats(0, 1)).map(lambda m: m[2] * m[0] + (1 - m[2]) * m[1])
any_rows = st.one_of(hard, mixed, loose)


@given(any_rows, confidences)
def test_agrees_with_the_slow_reference(rows: Tensor, p: Tensor) -> None:
    expected = torch.tensor(reference(rows.tolist(), p.tolist()))
    torch.testing.assert_close(smooth(rows, p, K), expected, rtol=1e-5, atol=1e-6)


@given(any_rows)
def test_confidence_one_is_the_identity(rows: Tensor) -> None:
    assert torch.equal(smooth(rows, torch.ones(4), K), rows)


@given(any_rows)
def test_chance_is_uniform(rows: Tensor) -> None:
    uniform = rows.mean(dim=1, keepdim=True).expand_as(rows)
    torch.testing.assert_close(smooth(rows, torch.full((4,), 1 / K), K), uniform)


@given(any_rows, confidences)
def test_keeps_the_mass_of_each_row(rows: Tensor, p: Tensor) -> None:
    torch.testing.assert_close(smooth(rows, p, K).sum(dim=1), rows.sum(dim=1))


@given(any_rows, confidences, confidences)
def test_composes(rows: Tensor, p1: Tensor, p2: Tensor) -> None:
    both = p1 * p2 + (1 - p1) * (1 - p2) / (K - 1)
    twice = smooth(smooth(rows, p1, K), p2, K)
    torch.testing.assert_close(twice, smooth(rows, both, K), rtol=1e-4, atol=1e-5)


@given(any_rows, any_rows, confidences, st.floats(0, 1))
def test_commutes_with_mixing(a: Tensor, b: Tensor, p: Tensor, share: float) -> None:
    before = smooth(share * a + (1 - share) * b, p, K)
    after = share * smooth(a, p, K) + (1 - share) * smooth(b, p, K)
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_become_the_papers_targets(dtype: torch.dtype) -> None:
    got = smooth(torch.tensor([0, 3], dtype=dtype), torch.tensor([0.7, 1.0]), 4)
    expected = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0, 0, 0, 1]])
    torch.testing.assert_close(got, expected)


def logits_and_rows() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, K, generator=generator, dtype=torch.float64, requires_grad=True)
    p = torch.tensor([1.0, 0.9, 0.5, 0.2, 0.05, 0.7], dtype=torch.float64)
    return logits, F.one_hot(torch.arange(6) % K, K).double(), p


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


def test_folded_weights_are_explicit_weights_in_value_and_gradient() -> None:
    logits, rows, w = logits_and_rows()
    folded = F.cross_entropy(logits, weigh(rows, w))
    explicit = (w * F.cross_entropy(logits, rows, reduction="none")).sum() / len(w)
    torch.testing.assert_close(folded, explicit)
    torch.testing.assert_close(gradient(folded, logits), gradient(explicit, logits))


def test_soft_weight_is_the_unspread_soft_target() -> None:
    """Rows 3 and 4 of the paper's table of losses: equal gradients, values apart by p log p."""
    logits, rows, p = logits_and_rows()
    target = p[:, None] * rows
    unspread = F.kl_div(logits.log_softmax(dim=1), target, reduction="none").sum(dim=1).mean()
    weighted = F.cross_entropy(logits, weigh(rows, p))
    torch.testing.assert_close(gradient(unspread, logits), gradient(weighted, logits))
    torch.testing.assert_close(unspread - weighted, (p * p.log()).mean())


def test_kl_and_cross_entropy_differ_by_the_targets_entropy() -> None:
    logits, rows, p = logits_and_rows()
    target = smooth(rows.float(), p.float(), K).double()
    kl = F.kl_div(logits.log_softmax(dim=1), target, reduction="batchmean")
    entropy = -torch.xlogy(target, target).sum(dim=1).mean()
    torch.testing.assert_close(F.cross_entropy(logits, target) - kl, entropy)
    torch.testing.assert_close(
        gradient(F.cross_entropy(logits, target), logits), gradient(kl, logits)
    )


def test_target_and_weight_is_equation_6() -> None:
    logits, rows, p = logits_and_rows()
    q = (1 - p) / (K - 1)
    log_probabilities = logits.log_softmax(dim=1)
    right = (rows * log_probabilities).sum(dim=1)
    wrong = ((1 - rows) * log_probabilities).sum(dim=1)
    expected = -(p * (p * right + q * wrong)).mean()
    both = weigh(smooth(rows.float(), p.float(), K), p.float())
    torch.testing.assert_close(F.cross_entropy(logits.float(), both), expected.float())


def test_weight_rules() -> None:
    p = torch.tensor([1.0, 0.9, 0.5, 0.2])
    assert torch.equal(per_sample(p), p)
    torch.testing.assert_close(mean_one(p).mean(), torch.tensor(1.0))
    torch.testing.assert_close(mean_one(p) / mean_one(p)[0], p / p[0])
    # The published code: weights (N,1) times losses (N,) is (N,N).
    losses = torch.tensor([3.0, 1.0, 4.0, 1.0])
    torch.testing.assert_close((batch_mean(p) * losses).mean(), (p[:, None] * losses).mean())


@given(any_rows, confidences)
def test_spreading_over_all_classes_is_the_same_channel_at_another_p(
    rows: Tensor, gamma: Tensor
) -> None:
    """(1 - gamma) t + gamma s/K, the rule of mollification and of torch's label smoothing."""
    column = gamma[:, None]
    over_all = (1 - column) * rows + column * rows.sum(dim=1, keepdim=True) / K
    p = 1 - gamma * (K - 1) / K
    torch.testing.assert_close(smooth(rows, p, K), over_all, rtol=1e-4, atol=1e-6)


@given(any_rows, confidences, st.floats(0.1, 10))
def test_even_confusion_is_smooth(rows: Tensor, p: Tensor, scale: float) -> None:
    even = torch.full((K, K), scale)
    got = smooth_by_confusion(rows, p, even)
    torch.testing.assert_close(got, smooth(rows, p, K), rtol=1e-4, atol=1e-6)


def test_confusion_is_not_rounded_in_autocast() -> None:
    confusion = torch.rand(K, K, generator=torch.Generator().manual_seed(0))
    labels, p = torch.arange(K), torch.linspace(0.1, 0.9, K)
    expected = smooth_by_confusion(labels, p, confusion)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(smooth_by_confusion(labels, p, confusion), expected)


@given(any_rows, confidences, st.integers(0, 99))
def test_confusion_keeps_the_mass_and_goes_where_it_says(
    rows: Tensor, p: Tensor, seed: int
) -> None:
    confusion = torch.rand(K, K, generator=torch.Generator().manual_seed(seed))
    got = smooth_by_confusion(rows, p, confusion)
    torch.testing.assert_close(got.sum(dim=1), rows.sum(dim=1))
    for i, (row, confidence) in enumerate(zip(rows.tolist(), p.tolist(), strict=True)):
        for k in range(K):
            inflow = sum(
                row[j]
                * confusion[j, k].item()
                / sum(confusion[j, m].item() for m in range(K) if m != j)
                for j in range(K)
                if j != k
            )
            expected = confidence * row[k] + (1 - confidence) * inflow
            assert got[i, k].item() == pytest.approx(expected, abs=1e-5)


@given(
    st.lists(st.lists(st.booleans(), min_size=K, max_size=K), min_size=4, max_size=4), confidences
)
def test_multilabel_is_a_binary_channel_for_each_class(labels: list[list[bool]], p: Tensor) -> None:
    got = smooth_multilabel(torch.tensor(labels), p)
    expected = [
        [c if there else 1 - c for there in row] for row, c in zip(labels, p.tolist(), strict=True)
    ]
    torch.testing.assert_close(got, torch.tensor(expected))
    # One class of two is the channel of `smooth` at K = 2.
    pair = smooth(torch.tensor([0, 1, 0, 1]), p, 2)
    torch.testing.assert_close(smooth_multilabel(torch.eye(2)[[0, 1, 0, 1]], p), pair)


@given(
    st.lists(st.lists(st.booleans(), min_size=K, max_size=K), min_size=4, max_size=4), confidences
)
def test_a_prior_takes_the_place_of_chance(labels: list[list[bool]], p: Tensor) -> None:
    """Nothing is left of a label at p = 1/2, all at 1, and a prior of 1/2 is none."""
    hot, p = torch.tensor(labels).float(), 0.5 + p / 2
    prior = torch.linspace(0, 1, K)
    got = smooth_multilabel(hot, p, prior)
    for i, k in product(range(4), range(K)):
        kept = 2 * p[i].item() - 1
        expected = kept * hot[i, k].item() + (1 - kept) * prior[k].item()
        assert got[i, k].item() == pytest.approx(expected, abs=1e-6)
    half = torch.full((K,), 0.5)
    torch.testing.assert_close(smooth_multilabel(hot, p, half), smooth_multilabel(hot, p))


def test_bad_priors_are_named() -> None:
    hot, p = torch.eye(3), torch.full((3,), 0.9)
    with pytest.raises(ValueError, match=r"prior must be \[K\] = \[3\], got \[2\]"):
        smooth_multilabel(hot, p, torch.zeros(2))
    with pytest.raises(ValueError, match=r"prior must be in \[0, 1\], got 2\.0 for class 1"):
        smooth_multilabel(hot, p, torch.tensor([0.1, 2, 0.1]))
    with pytest.raises(ValueError, match=r"0\.5 or more .* got 0\.25 for sample 0"):
        smooth_multilabel(hot, torch.tensor([0.25, 1, 1]), torch.zeros(3))


def test_bad_confusions_and_multilabels_are_named() -> None:
    labels, p = torch.tensor([0, 1]), torch.ones(2)
    lonely = torch.eye(3)
    with pytest.raises(ValueError, match=r"something beside the diagonal, got 0\.0 for sample 0"):
        smooth_by_confusion(labels, p, lonely)
    with pytest.raises(ValueError, match=r"multi-hot labels must be in \[0, 1\], got 2\.0"):
        smooth_multilabel(torch.tensor([[0, 2], [1, 0]]), p)


@pytest.mark.parametrize(
    ("labels", "confidence", "classes", "message"),
    [
        (torch.tensor([0, 7]), torch.ones(2), 5, r"labels must be in \[0, 5\).*got 7 for sample 1"),
        (torch.tensor([-1]), torch.ones(1), 5, "got -1 for sample 0"),
        (torch.tensor([0]), torch.ones(1), 1, "num_classes must be at least 2, got 1"),
        (torch.tensor([0.5]), torch.ones(1), 5, r"labels must be integers \[N\] or rows"),
        (torch.ones(2, 4), torch.ones(2), 5, r"\[N, 5\], got \[2, 4\]"),
        (-torch.ones(2, 5), torch.ones(2), 5, r"rows must be finite and >= 0, got -1\.0"),
        (torch.full((1, 5), torch.nan), torch.ones(1), 5, "rows must be finite.*got nan"),
        (torch.tensor([0]), torch.tensor([1.5]), 5, r"confidence must be in \[0, 1\], got 1\.5"),
        (torch.tensor([0]), torch.tensor([torch.nan]), 5, "confidence must be.*got nan"),
        (torch.tensor([0]), torch.ones(2), 5, r"confidence must be \[N\] = \[1\], got \[2\]"),
    ],
)
def test_bad_values_are_named(
    labels: Tensor, confidence: Tensor, classes: int, message: str
) -> None:
    # Without the run-time check of shapes, which users do not have.
    plain = getattr(smooth, "__wrapped__", smooth)
    with pytest.raises(ValueError, match=message):
        plain(labels, confidence, classes)


def test_weights_of_a_column_are_refused() -> None:
    plain = getattr(weigh, "__wrapped__", weigh)
    with pytest.raises(ValueError, match=r"weight must be \[N\] = \[3\], got \[3, 1\]"):
        plain(torch.ones(3, K), torch.ones(3, 1))
