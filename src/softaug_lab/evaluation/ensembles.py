"""Deep ensembles: several models whose probabilities are averaged (Lakshminarayanan et al. 2017).

n images, k classes.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.storage import read_json
from softaug_lab.evaluation.predictions import Predictions
from softaug_lab.models import Classifier, load_model
from softaug_lab.runs import RunFolder


class Ensemble(nn.Module):
    """From images to the log of the models' mean probability, which serves as logits [N,K].

    card: that of a member, with the temperature of these logits.
    """

    def __init__(self, models: Sequence[Classifier], temperature: float = 1.0) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.card = replace(models[0].card, temperature=temperature)

    def forward(self, images: Tensor) -> Tensor:
        return log_mean_probability([model(images) for model in self.models])


def load_run(run: RunFolder) -> Classifier | Ensemble:
    """Load the model of a run, or all members of an ensemble with the temperature of their mean.

    Raises UsageError for an ensemble that is not evaluated yet, SoftaugError for broken files.
    """
    own, *members = run.model_files
    if own.exists() or not members:
        return load_model(own)
    if not run.finished:
        raise UsageError(
            f"{run.folder}: an ensemble of {len(members)} models that is not evaluated yet; go on "
            f"with it by --resume, or name a member, such as {shlex.quote(str(members[0].parent))}"
        )
    temperature = read_json(run.evaluation_file).get("temperature")
    models = [load_model(file) for file in members]
    if len({(model.card.classes, model.card.channels) for model in models}) > 1:
        raise SoftaugError(f"{run.folder}: its members are of different classes or channels")
    try:
        return Ensemble(models, 1.0 if temperature is None else temperature)
    except ValueError as error:
        raise SoftaugError(f"{run.evaluation_file}: {error}") from error


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
