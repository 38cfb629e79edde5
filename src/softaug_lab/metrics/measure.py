"""All figures of a model's probabilities, from logits [N,K] and labels int64 [N]."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from softaug_lab.metrics import calibration, classwise, selective
from softaug_lab.metrics import proper as metrics

Interval = tuple[float, float]


@dataclass(frozen=True)
class Figures:
    """What the probabilities are worth; temperature scaling changes all of it.

    Of each calibration error: the floor, what a perfectly calibrated model measures on so many
    samples on average, and the 95 % bootstrap interval over samples of the figure as measured.
    ece: bins of equal width; ece_mass: as many of equal mass; smooth_ece: none; these three are of
    the top-1 confidence. classwise_ece: the mean over classes, bins of equal width.
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


def figures(
    logits: Float[Tensor, "n k"],
    labels: Int64[Tensor, "n"],
    bins: int = calibration.BINS,
) -> Figures:
    """Compute them all; draws and resamples are the same for every model."""
    confidence, correct = metrics.top_confidence(logits, labels)
    mass = calibration.equal_mass(confidence, bins)
    width = calibration.equal_width(confidence, bins)
    smooth = calibration.smooth(confidence)
    by_class = classwise.class_bins(logits, labels, bins)
    brier = classwise.brier_parts(logits, labels, by_class)
    return Figures(
        nll=metrics.nll(logits, labels),
        ece=metrics.ece(metrics.reliability(confidence, correct, bins)),
        ece_floor=metrics.ece_floor(confidence, bins),
        ece_interval=calibration.interval(width, confidence, correct),
        ece_mass=calibration.error(mass, confidence, correct),
        ece_mass_floor=calibration.floor(mass, confidence),
        ece_mass_interval=calibration.interval(mass, confidence, correct),
        smooth_ece=calibration.error(smooth, confidence, correct),
        smooth_ece_floor=calibration.floor(smooth, confidence),
        smooth_ece_interval=calibration.interval(smooth, confidence, correct),
        classwise_ece=classwise.classwise_ece(by_class),
        classwise_ece_floor=classwise.classwise_ece_floor(logits, labels, bins),
        classwise_ece_interval=classwise.classwise_ece_interval(logits, labels, bins),
        calibration_gap=metrics.calibration_gap(logits, labels),
        brier=metrics.brier(logits, labels),
        brier_reliability=brier.reliability,
        brier_resolution=brier.resolution,
        brier_uncertainty=brier.uncertainty,
        aurc=selective.aurc(confidence, correct),
        excess_aurc=selective.excess_aurc(confidence, correct),
    )
