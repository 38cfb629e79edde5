"""Evaluation of trained models: predictions, occlusion, corruptions, ensembles, probes of features.

Imports `softaug` and the lab's basics, data, metrics, models, corruptions, recipes and runs.
"""

from softaug_lab.evaluation.ensembles import Ensemble, mean_of
from softaug_lab.evaluation.evaluate import evaluate, summarise
from softaug_lab.evaluation.occlusion import Fill, OcclusionLevel
from softaug_lab.evaluation.predictions import Predictions, predict_logits
from softaug_lab.evaluation.probe import (
    Probe,
    cached_features,
    features_of,
    probe_errors,
    probe_run,
    refuse_stream,
    require_one_backbone,
    save_probed,
)
from softaug_lab.evaluation.record import Evaluation, ProbeErrors
from softaug_lab.evaluation.robustness import evaluate_corruptions, evaluate_sets

__all__ = [
    "Ensemble",
    "Evaluation",
    "Fill",
    "OcclusionLevel",
    "Predictions",
    "Probe",
    "ProbeErrors",
    "cached_features",
    "evaluate",
    "evaluate_corruptions",
    "evaluate_sets",
    "features_of",
    "mean_of",
    "predict_logits",
    "probe_errors",
    "probe_run",
    "refuse_stream",
    "require_one_backbone",
    "save_probed",
    "summarise",
]
