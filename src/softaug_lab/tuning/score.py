"""What a search minimises, computed from a run's logits for images that no trial trained on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from softaug_lab.evaluation import Predictions
from softaug_lab.metrics import fit_temperature, sample_nll, scale, top_k_error
from softaug_lab.tuning.surface import Prior


@dataclass(frozen=True)
class Objective:
    """A score, lower is better.

    about: in words. percent: whether it is a share. guarded: whether whole images may pay for it
    with half a point of error at most.
    """

    about: str
    of: Callable[[Predictions], float]
    prior: Prior
    percent: bool = False
    guarded: bool = False


def score(objective: str, predictions: Predictions) -> float:
    """Compute the score of an objective, by its name in OBJECTIVES."""
    return OBJECTIVES[objective].of(predictions)


def mix_nll(predictions: Predictions) -> float:
    """NLL of the mix of whole, cut-off and hidden images, after a temperature.

    The temperature is fitted on the whole images of one half and applied to the mix of the other,
    and the other way round: no image is scored by a temperature that it helped to fit.
    """
    assert predictions.mix_logits is not None
    halves = [torch.arange(start, len(predictions.labels), 2) for start in (0, 1)]
    total = 0.0
    for fitted, scored in (halves, halves[::-1]):
        temperature = fit_temperature(predictions.logits[fitted], predictions.labels[fitted])
        logits = scale(predictions.mix_logits[scored], temperature)
        total += float(sample_nll(logits, predictions.labels[scored]).sum())
    return total / len(predictions.labels)


def error(predictions: Predictions) -> float:
    """Top-1 error on whole images."""
    return top_k_error(predictions.logits, predictions.labels)


def cut_off_error(predictions: Predictions) -> float:
    """Top-1 error with a part cut off, the mean over shares and fills."""
    levels = [level.logits for (kind, *_), level in predictions.levels.items() if kind == "cut_off"]
    return _mean([top_k_error(logits, predictions.labels) for logits in levels])


def _mean(values: list[float]) -> float:
    return float(Tensor(values).double().mean())


OBJECTIVES = {
    "mix_nll": Objective(
        "NLL of the mix of whole, cut-off and hidden images, after a temperature",
        mix_nll,
        Prior(curvature=0.02, slope=0.1, noise=0.04),
        guarded=True,
    ),
    "error": Objective(
        "error on whole images",
        error,
        Prior(curvature=0.02, slope=0.05, noise=0.04),
        percent=True,
    ),
    "cut_off_error": Objective(
        "error on images with a part cut off",
        cut_off_error,
        Prior(curvature=0.03, slope=0.1, noise=0.03),
        percent=True,
    ),
}
