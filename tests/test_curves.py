"""Curves: eq. 7 of the paper, label smoothing, and how the two join."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from softaug import Constant, Crop, Gated, PowerCurve, TableCurve, smooth, visibility

# tx, ty, visibility, confidence at 100 classes: figure 1 of the paper, 32 x 32 pixels, k = 2.
FIGURE_1 = [
    (4, -4, 0.765625, 0.945618),
    (8, -16, 0.375, 0.613281),
    (4, -24, 0.21875, 0.395752),
    (16, 16, 0.25, 0.443125),
]
unit = st.floats(0, 1)


@pytest.mark.parametrize(("tx", "ty", "share", "confidence"), FIGURE_1)
def test_figure_1_of_the_paper(tx: int, ty: int, share: float, confidence: float) -> None:
    drawn = {"tx": torch.tensor([tx]), "ty": torch.tensor([ty])}
    _, seen = Crop(sigma=0.3).apply(torch.zeros(1, 3, 32, 32), None, drawn)
    assert visibility(seen).item() == share
    got = PowerCurve(k=2, chance=0.01)(visibility(seen))
    assert got.item() == pytest.approx(confidence, abs=1e-6)


@given(v=unit, k=st.floats(0.1, 8), chance=st.floats(0, 0.9))
def test_equation_7(v: float, k: float, chance: float) -> None:
    got = PowerCurve(k=k, chance=chance)(torch.tensor([v], dtype=torch.float64))
    assert got.item() == pytest.approx(1 - (1 - chance) * (1 - v) ** k, abs=1e-12)


@given(k=st.floats(0.1, 8), chance=st.floats(0, 0.5), ceiling=st.floats(0.6, 1))
def test_curve_rises_from_chance_to_ceiling(k: float, chance: float, ceiling: float) -> None:
    confidence = PowerCurve(k=k, chance=chance, ceiling=ceiling)(torch.linspace(0, 1, 51))
    assert (confidence.diff() >= 0).all()
    assert confidence[0].item() == pytest.approx(chance, abs=1e-6)
    assert confidence[-1].item() == pytest.approx(ceiling, abs=1e-6)


def test_visibility_above_one_by_rounding_is_no_nan() -> None:
    assert PowerCurve(k=0.5, chance=0.1)(torch.tensor([1 + 1e-6])).item() == 1


@given(v=st.lists(unit, min_size=3, max_size=3), k=st.floats(0.5, 4), c=st.floats(0.3, 1))
def test_ceiling_is_label_smoothing_after_the_plain_curve(
    v: list[float], k: float, c: float
) -> None:
    """At chance 1/K, a ceiling equals `smooth` by Constant(ceiling) after the plain curve."""
    labels, share = torch.arange(3), torch.tensor(v)
    joined = smooth(labels, PowerCurve(k=k, chance=0.25, ceiling=c)(share), 4)
    plain = smooth(labels, PowerCurve(k=k, chance=0.25)(share), 4)
    torch.testing.assert_close(joined, smooth(plain, Constant(c)(share), 4))


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_constant_is_torchs_label_smoothing(epsilon: float) -> None:
    classes = 7
    logits = torch.randn(9, classes, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(9) % classes
    p = Constant(1 - epsilon * (classes - 1) / classes)(torch.ones(9))
    ours = F.cross_entropy(logits, smooth(labels, p, classes))
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, label_smoothing=epsilon))


rising = st.lists(unit, min_size=2, max_size=6, unique=True).map(sorted)


@given(rising, st.lists(unit, min_size=6, max_size=6).map(sorted), st.lists(unit, min_size=1))
def test_a_table_is_joined_by_straight_lines(
    v: list[float], p: list[float], asked: list[float]
) -> None:
    if min(b - a for a, b in pairwise(v)) < 1e-3:
        return  # a slope that float32 cannot follow
    points = list(zip(v, p, strict=False))
    curve = TableCurve(points)
    got = curve(torch.tensor(asked))
    expected = np.interp(asked, v, p[: len(v)])
    np.testing.assert_allclose(got, expected, atol=2e-3)
    assert (curve(torch.linspace(0, 1, 101)).diff() >= -1e-6).all()
    np.testing.assert_allclose(curve(torch.tensor(v)), p[: len(v)], atol=1e-6)


def test_a_dense_table_of_eq_7_is_eq_7() -> None:
    plain = PowerCurve(k=2, chance=0.01)
    grid = torch.linspace(0, 1, 201)
    table = TableCurve(list(zip(grid.tolist(), plain(grid).tolist(), strict=True)))
    v = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(table(v), plain(v), rtol=0, atol=1e-4)


@given(operations=st.integers(1, 12), limit=st.integers(2, 9))
def test_a_gate_fades_softening_along_a_straight_line(operations: int, limit: int) -> None:
    plain = PowerCurve(chance=0.1)
    v = torch.linspace(0, 1, 11)
    gate = max(0.0, (limit - operations) / (limit - 1))
    torch.testing.assert_close(1 - Gated(plain, operations, limit)(v), gate * (1 - plain(v)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PowerCurve(k=0.0, chance=0.1), r"k must be finite and above 0.*got 0\.0"),
        (lambda: PowerCurve(k=float("nan"), chance=0.1), "k must be finite and above 0.*got nan"),
        (lambda: PowerCurve(chance=1.0), r"chance must be in \[0, 1\).*got 1\.0"),
        (lambda: PowerCurve(chance=-0.1), r"chance must be.*got -0\.1"),
        (lambda: PowerCurve(chance=0.5, ceiling=0.5), r"ceiling must be above chance 0\.5"),
        (lambda: PowerCurve(chance=0.5, ceiling=1.5), r"ceiling.*got 1\.5"),
        (lambda: TableCurve([(0, 0.1)]), "2 points or more, got 1"),
        (lambda: TableCurve([(0, 0.1), (1, 1.2)]), r"in \[0, 1\], got \(1\.0, 1\.2\)"),
        (lambda: TableCurve([(0.5, 0.1), (0.5, 1)]), r"must rise.* got \(0\.5, 0\.1\) before"),
        (lambda: TableCurve([(0, 0.5), (1, 0.4)]), "confidences must not fall"),
        (lambda: Constant(1.01), r"p must be in \[0, 1\], got 1\.01"),
    ],
)
def test_values_out_of_range_are_named(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
