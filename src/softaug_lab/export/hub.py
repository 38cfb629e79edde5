"""Metadata at the head of a model card, as the Hugging Face Hub reads it."""

import yaml

from softaug_lab.evaluation import Evaluation
from softaug_lab.models import ModelCard


def hub_metadata(card: ModelCard, evaluation: Evaluation, data: str, library: str | None) -> str:
    """Write the metadata as YAML between two lines of dashes; the licence is left to the uploader.

    data: the name of the data. library: the one that loads the folder by its name alone, None where
    none does. The figures are those of the exported logits.
    """
    figures = evaluation.scaled or evaluation.metrics
    metrics = {
        "accuracy": 1 - evaluation.top1_error,
        "nll": figures.nll,
        "ece": figures.ece,
        "brier": figures.brier,
    }
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": data, "type": data},
        "metrics": [{"type": name, "value": value} for name, value in metrics.items()],
    }
    metadata = {
        **({} if library is None else {"library_name": library}),
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "soft-augmentation"],
        "model-index": [{"name": f"{card.model} on {data}", "results": [result]}],
    }
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
