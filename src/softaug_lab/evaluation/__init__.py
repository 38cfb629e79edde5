"""Trained models on test images: predictions, occlusion, corruptions, probes."""

from softaug_lab.evaluation.ensembles import Ensemble, mean_of
from softaug_lab.evaluation.evaluate import Evaluation, evaluate, summarise
from softaug_lab.evaluation.occlusion import OCCLUSION_SHARES, Fill
from softaug_lab.evaluation.predictions import Predictions, predict_logits
from softaug_lab.evaluation.probe import (
    cached_features,
    check_run,
    features_of,
    probe_figures,
    probe_run,
    refuse_stream,
    save_probed,
)
from softaug_lab.evaluation.robustness import evaluate_corruptions, evaluate_sets

__all__ = [
    "OCCLUSION_SHARES",
    "Ensemble",
    "Evaluation",
    "Fill",
    "Predictions",
    "cached_features",
    "check_run",
    "evaluate",
    "evaluate_corruptions",
    "evaluate_sets",
    "features_of",
    "mean_of",
    "predict_logits",
    "probe_figures",
    "probe_run",
    "refuse_stream",
    "save_probed",
    "summarise",
]
