"""All metrics of a model's probabilities, from logits [N,K] and labels int64 [N].

n samples, k classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor

from softaug_lab.metrics import calibration, classwise, proper, selective
from softaug_lab.metrics.bins import BINS

Interval = tuple[float, float]

# Calibration errors of the top-1 confidence, from confidences [N] and the number of bins.
SCORES: Mapping[str, Callable[[Tensor, int], calibration.Cells]] = {
    "ece": calibration.equal_width,
    "ece_mass": calibration.equal_mass,
    "smooth_ece": lambda confidence, _: calibration.smooth(confidence),
}


@dataclass(frozen=True)
class Metrics:
    """Quality of a model's probabilities; temperature scaling changes every field.

    Each calibration error has a floor, the mean that a perfectly calibrated model measures on this
    many samples, and a 95 % bootstrap interval over samples of the error as measured.
    ece: bins of equal width; ece_mass: as many bins of equal mass; smooth_ece: no bins; these
    three are of the top-1 confidence. classwise_ece: the mean over classes, bins of equal width.
    brier = brier_reliability - brier_resolution + brier_uncertainty.
    """

    nll: float
    ece: float
    ece_floor: float
    ece_interval: Interval
    ece_mass: float
    ece_mass_floor: float
    ece_mass_interval: Interval
    smooth_ece: float
    smooth_ece_floor: float
    smooth_ece_interval: Interval
    classwise_ece: float
    classwise_ece_floor: float
    classwise_ece_interval: Interval
    calibration_gap: float
    brier: float
    brier_reliability: float
    brier_resolution: float
    brier_uncertainty: float
    aurc: float
    excess_aurc: float


def measure(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], bins: int = BINS) -> Metrics:
    """Compute all metrics; random draws and resamples are the same for every model."""
    confidence, correct = proper.top_confidence(logits, labels)
    by_class = classwise.class_bins(logits, labels, bins)
    parts = classwise.brier_parts(logits, labels, by_class)
    scores: dict[str, Any] = {}
    for name, kind in SCORES.items():
        cells = kind(confidence, bins)
        scores[name] = calibration.error(cells, confidence, correct)
        scores[f"{name}_floor"] = calibration.floor(cells, confidence)
        scores[f"{name}_interval"] = calibration.interval(cells, confidence, correct)
    return Metrics(
        nll=proper.nll(logits, labels),
        **scores,
        classwise_ece=classwise.classwise_ece(by_class),
        classwise_ece_floor=classwise.classwise_ece_floor(logits, labels, bins),
        classwise_ece_interval=classwise.classwise_ece_interval(logits, labels, bins),
        calibration_gap=proper.calibration_gap(logits, labels),
        brier=proper.brier(logits, labels),
        brier_reliability=parts.reliability,
        brier_resolution=parts.resolution,
        brier_uncertainty=parts.uncertainty,
        aurc=selective.aurc(confidence, correct),
        excess_aurc=selective.excess_aurc(confidence, correct),
    )


def basic_metrics(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], bins: int = BINS
) -> dict[str, float]:
    """Top-1 error, NLL and ECE (bins of equal width), by the keys of an evaluation."""
    confidence, correct = proper.top_confidence(logits, labels)
    cells = calibration.equal_width(confidence, bins)
    return {
        "top1_error": proper.top_k_error(logits, labels),
        "nll": proper.nll(logits, labels),
        "ece": calibration.error(cells, confidence, correct),
    }


def mixed_metrics(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], bins: int = BINS
) -> dict[str, float]:
    """The `basic_metrics` of images of many kinds, with the floor of the ECE, and the AURC."""
    confidence, correct = proper.top_confidence(logits, labels)
    return {
        **basic_metrics(logits, labels, bins),
        "ece_floor": calibration.floor(calibration.equal_width(confidence, bins), confidence),
        "aurc": selective.aurc(confidence, correct),
    }
