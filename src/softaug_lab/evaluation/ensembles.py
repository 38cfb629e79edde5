"""Deep ensembles: several models whose probabilities are averaged (Lakshminarayanan et al. 2017).

n images, k classes.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

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
    """Predictions of an ensemble from those of its members: of whole images, views and held-out."""

    def mean(name: str) -> Tensor | None:
        found = [getattr(member, name) for member in members]
        return None if found[0] is None else log_mean_probability(found)

    first = members[0]
    return replace(
        first,
        logits=log_mean_probability([member.logits for member in members]),
        levels={
            key: replace(
                level,
                logits=log_mean_probability([member.levels[key].logits for member in members]),
            )
            for key, level in first.levels.items()
        },
        mix_logits=mean("mix_logits"),
        held_out_logits=mean("held_out_logits"),
    )
