"""Deep ensembles: several models whose probabilities are averaged (Lakshminarayanan et al. 2017).

n images, k classes.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softaug_lab.evaluation.predictions import Predictions


class Ensemble(nn.Module):
    """From images to the log of the models' mean probability, which serves as logits [N,K]."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        return log_mean_probability([model(images) for model in self.models])


def log_mean_probability(logits: Sequence[Float[Tensor, "n k"]]) -> Float[Tensor, "n k"]:
    """Log of the mean over models of their probabilities; logits: [N,K] of each model."""
    log_probabilities = torch.stack([member.log_softmax(dim=1) for member in logits])
    return log_probabilities.logsumexp(dim=0) - math.log(len(logits))


def mean_of(members: Sequence[Predictions]) -> Predictions:
    """Predictions of an ensemble from those of its members: whole, occluded and held-out images."""
    held_out = [m.held_out_logits for m in members if m.held_out_logits is not None]
    return Predictions(
        members[0].labels,
        log_mean_probability([member.logits for member in members]),
        {
            fill: {
                share: log_mean_probability([member.at(share, fill) for member in members])
                for share in by_share
            }
            for fill, by_share in members[0].occluded_logits.items()
        },
        members[0].held_out_labels,
        log_mean_probability(held_out) if held_out else None,
    )
