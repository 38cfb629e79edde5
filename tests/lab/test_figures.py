"""Each figure is that of its own definition: none takes another's bins, floor or interval."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from made_up_logits import random_samples

from softaug_lab.metrics import calibration, classwise, selective
from softaug_lab.metrics import proper as metrics
from softaug_lab.metrics.calibration import Cells
from softaug_lab.metrics.measure import Figures, figures

LOGITS, _ = random_samples(150)
# Calibrated, so that bins differ in the sign of their gaps and errors in what they sum.
LABELS = torch.multinomial(LOGITS.softmax(1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
FIGURES = figures(LOGITS, LABELS, bins=10)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("ece", partial(calibration.equal_width, bins=10)),
        ("ece_mass", partial(calibration.equal_mass, bins=10)),
        ("smooth_ece", calibration.smooth),
    ],
)
def test_errors_of_the_top_confidence(key: str, kind: Callable[..., Cells]) -> None:
    confidence, correct = metrics.top_confidence(LOGITS, LABELS)
    cells = kind(confidence)
    assert getattr(FIGURES, key) == pytest.approx(calibration.error(cells, confidence, correct))
    assert getattr(FIGURES, f"{key}_floor") == calibration.floor(cells, confidence)
    expected = calibration.interval(cells, confidence, correct)
    assert getattr(FIGURES, f"{key}_interval") == expected


def test_figures_of_every_class() -> None:
    bins = classwise.class_bins(LOGITS, LABELS, bins=10)
    assert FIGURES.classwise_ece == classwise.classwise_ece(bins)
    assert FIGURES.classwise_ece_floor == classwise.classwise_ece_floor(LOGITS, LABELS, bins=10)
    expected = classwise.classwise_ece_interval(LOGITS, LABELS, bins=10)
    assert FIGURES.classwise_ece_interval == expected
    parts = classwise.brier_parts(LOGITS, LABELS, bins)
    assert FIGURES.brier_reliability == parts.reliability
    assert FIGURES.brier_resolution == parts.resolution
    assert FIGURES.brier_uncertainty == parts.uncertainty
    whole = FIGURES.brier_reliability - FIGURES.brier_resolution + FIGURES.brier_uncertainty
    assert whole == pytest.approx(FIGURES.brier)


def test_the_rest_and_that_no_two_are_the_same() -> None:
    confidence, correct = metrics.top_confidence(LOGITS, LABELS)
    assert FIGURES.nll == metrics.nll(LOGITS, LABELS)
    assert FIGURES.brier == metrics.brier(LOGITS, LABELS)
    assert FIGURES.calibration_gap == metrics.calibration_gap(LOGITS, LABELS)
    assert FIGURES.aurc == selective.aurc(confidence, correct)
    assert FIGURES.excess_aurc == selective.excess_aurc(confidence, correct)
    assert len(set(vars(FIGURES).values())) == len(Figures.__dataclass_fields__)
