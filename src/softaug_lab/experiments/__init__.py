"""From recipes to records: one run, comparisons, costs, Ray."""

from softaug_lab.experiments.compare import compare_runs, open_runs, require_comparable
from softaug_lab.experiments.cost import plan
from softaug_lab.experiments.record import augmented_samples, collect
from softaug_lab.experiments.run_one import (
    measure_corruptions,
    measure_ood,
    occlusion_fills,
    perform,
)

__all__ = [
    "augmented_samples",
    "collect",
    "compare_runs",
    "measure_corruptions",
    "measure_ood",
    "occlusion_fills",
    "open_runs",
    "perform",
    "plan",
    "require_comparable",
]
