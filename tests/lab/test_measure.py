"""Each metric follows its own definition: none uses another's bins, floor or interval."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from support import random_samples

from softaug_lab.metrics import calibration, classwise, proper, selective
from softaug_lab.metrics.calibration import Cells
from softaug_lab.metrics.record import Metrics, basic_metrics, measure

LOGITS, _ = random_samples(150)
# Calibrated, so that bins differ in the sign of their gaps and errors in what they sum.
LABELS = torch.multinomial(LOGITS.softmax(1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
MEASURED = measure(LOGITS, LABELS, bins=10)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("ece", partial(calibration.equal_width, bins=10)),
        ("ece_mass", partial(calibration.equal_mass, bins=10)),
        ("smooth_ece", calibration.smooth),
    ],
)
def test_errors_of_the_top_confidence(key: str, kind: Callable[..., Cells]) -> None:
    confidence, correct = proper.top_confidence(LOGITS, LABELS)
    cells = kind(confidence)
    assert getattr(MEASURED, key) == calibration.error(cells, confidence, correct)
    assert getattr(MEASURED, f"{key}_floor") == calibration.floor(cells, confidence)
    expected = calibration.interval(cells, confidence, correct)
    assert getattr(MEASURED, f"{key}_interval") == expected


def test_metrics_of_every_class() -> None:
    bins = classwise.class_bins(LOGITS, LABELS, bins=10)
    assert MEASURED.classwise_ece == classwise.classwise_ece(bins)
    assert MEASURED.classwise_ece_floor == classwise.classwise_ece_floor(LOGITS, LABELS, bins=10)
    expected = classwise.classwise_ece_interval(LOGITS, LABELS, bins=10)
    assert MEASURED.classwise_ece_interval == expected
    parts = classwise.brier_parts(LOGITS, LABELS, bins)
    assert MEASURED.brier_reliability == parts.reliability
    assert MEASURED.brier_resolution == parts.resolution
    assert MEASURED.brier_uncertainty == parts.uncertainty
    whole = MEASURED.brier_reliability - MEASURED.brier_resolution + MEASURED.brier_uncertainty
    assert whole == pytest.approx(MEASURED.brier)


def test_the_rest_and_that_no_two_are_the_same() -> None:
    confidence, correct = proper.top_confidence(LOGITS, LABELS)
    assert MEASURED.nll == proper.nll(LOGITS, LABELS)
    assert MEASURED.brier == proper.brier(LOGITS, LABELS)
    assert MEASURED.calibration_gap == proper.calibration_gap(LOGITS, LABELS)
    assert MEASURED.aurc == selective.aurc(confidence, correct)
    assert MEASURED.excess_aurc == selective.excess_aurc(confidence, correct)
    assert len(set(vars(MEASURED).values())) == len(Metrics.__dataclass_fields__)


def test_the_basic_metrics_are_those_of_the_whole_record() -> None:
    assert basic_metrics(LOGITS, LABELS, bins=10) == {
        "top1_error": proper.top_k_error(LOGITS, LABELS),
        "nll": MEASURED.nll,
        "ece": MEASURED.ece,
    }
