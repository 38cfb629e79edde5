"""Experiments: one run from recipe to record, comparisons with statistics, cost estimates.

Imports basics, data, metrics, models, recipes, runs, training and evaluation. Ray is an optional
extra: the command line imports `softaug_lab.experiments.ray` only where a comparison asks for it.
"""

from softaug_lab.experiments.compare import compare_runs, open_runs, require_comparable
from softaug_lab.experiments.cost import Pace, check_minutes, epochs_within, pace_within, plan
from softaug_lab.experiments.guess import guess_seconds
from softaug_lab.experiments.jobs import run_jobs, side_by_side, threads_of_one
from softaug_lab.experiments.measure import measure_corruptions, measure_ood
from softaug_lab.experiments.record import augmented_samples, collect
from softaug_lab.experiments.run_one import RunRecord, fills_for, require_trainable, run_one

__all__ = [
    "Pace",
    "RunRecord",
    "augmented_samples",
    "check_minutes",
    "collect",
    "compare_runs",
    "epochs_within",
    "fills_for",
    "guess_seconds",
    "measure_corruptions",
    "measure_ood",
    "open_runs",
    "pace_within",
    "plan",
    "require_comparable",
    "require_trainable",
    "run_jobs",
    "run_one",
    "side_by_side",
    "threads_of_one",
]
