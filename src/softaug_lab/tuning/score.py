"""What a search minimises, computed from a run's logits for images that it did not train on.

n images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from softaug_lab.evaluation import Predictions
from softaug_lab.metrics import fit_temperature, sample_nll, scale
from softaug_lab.tuning.surface import Prior

WHOLE, NEW = 1 / 4, "unseen"  # of the mix: the share of whole images, the group of its fills


@dataclass(frozen=True)
class Objective:
    """A score of each image, lower is better, of which a search takes the mean.

    about: in words. percent: whether it is a share. guarded: whether whole images may pay for it
    with half a point of error at most.
    """

    about: str
    of: Callable[[Predictions], Float[Tensor, "n"]]
    prior: Prior
    percent: bool = False
    guarded: bool = False


def score(objective: str, predictions: Predictions) -> float:
    """Compute the score of an objective, by its name in OBJECTIVES."""
    return float(OBJECTIVES[objective].of(predictions).mean())


def mix_nll(predictions: Predictions) -> Float[Tensor, "n"]:
    """NLL over the mix of whole, cut-off and hidden images, after a temperature.

    That of an image is its mean over all shares lost, by fills that no arm trains on. The
    temperature is fitted on the whole images of one half and applied to the other, and the other
    way round: no image is scored by a temperature that it helped to fit.
    """
    labels, losses = predictions.labels, torch.zeros(len(predictions.labels), dtype=torch.float64)
    lacking = [level.logits for (_, group, _), level in predictions.levels.items() if group == NEW]
    views = [(WHOLE, predictions.logits)]
    views += [((1 - WHOLE) / len(lacking), logits) for logits in lacking]
    halves = [torch.arange(start, len(labels), 2) for start in (0, 1)]
    for fitted, scored in (halves, halves[::-1]):
        temperature = fit_temperature(predictions.logits[fitted], labels[fitted])
        for weight, logits in views:
            nll = sample_nll(scale(logits[scored], temperature), labels[scored])
            losses[scored] += weight * nll.double()
    return losses


def error(predictions: Predictions) -> Float[Tensor, "n"]:
    """Top-1 error on whole images: 0 or 1."""
    return _wrong(predictions.logits, predictions.labels)


def cut_off_error(predictions: Predictions) -> Float[Tensor, "n"]:
    """Top-1 error with a part cut off, the mean over shares and fills."""
    levels = [level.logits for (kind, *_), level in predictions.levels.items() if kind == "cut_off"]
    return torch.stack([_wrong(logits, predictions.labels) for logits in levels]).mean(dim=0)


def _wrong(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
    return (logits.argmax(dim=1) != labels).double()


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
