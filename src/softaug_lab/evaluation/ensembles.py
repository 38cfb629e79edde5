"""Several models as one: the mean of their probabilities (Lakshminarayanan et al. 2017)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softaug_lab.evaluation.predictions import Predictions


class Ensemble(nn.Module):
    """Images to the log of the mean of the models' probabilities, which serve as logits [N,K]."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        return log_mean_probability([model(images) for model in self.models])


def log_mean_probability(logits: Sequence[Float[Tensor, "n k"]]) -> Float[Tensor, "n k"]:
    """The log of the mean over models of their probabilities, from logits [N,K] of each."""
    summed = torch.stack([one.log_softmax(dim=1) for one in logits]).logsumexp(dim=0)
    return summed - math.log(len(logits))


def mean_of(members: Sequence[Predictions]) -> Predictions:
    """What the members of an ensemble predict together, plain, occluded and held out."""
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
