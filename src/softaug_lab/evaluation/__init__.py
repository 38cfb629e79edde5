"""Evaluation of trained models: predictions, views, corruptions, ensembles, probes of features.

Imports `softaug` and the lab's basics, data, metrics, models, corruptions, recipes and runs.
"""

from softaug_lab.evaluation.ensembles import Ensemble, load_run, mean_of
from softaug_lab.evaluation.evaluate import PASSES, evaluate, predict_views, summarise
from softaug_lab.evaluation.fills import Fills
from softaug_lab.evaluation.image_files import FileProbabilities, predict_files
from softaug_lab.evaluation.predictions import Predictions
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
from softaug_lab.evaluation.record import Evaluation, ProbeErrors, ViewLevel, has_views
from softaug_lab.evaluation.robustness import evaluate_corruptions, evaluate_sets
from softaug_lab.evaluation.views import example_views

__all__ = [
    "PASSES",
    "Ensemble",
    "Evaluation",
    "FileProbabilities",
    "Fills",
    "Predictions",
    "Probe",
    "ProbeErrors",
    "ViewLevel",
    "cached_features",
    "evaluate",
    "evaluate_corruptions",
    "evaluate_sets",
    "example_views",
    "features_of",
    "has_views",
    "load_run",
    "mean_of",
    "predict_files",
    "predict_views",
    "probe_errors",
    "probe_run",
    "refuse_stream",
    "require_one_backbone",
    "save_probed",
    "summarise",
]
