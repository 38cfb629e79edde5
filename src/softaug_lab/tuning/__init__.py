"""Search for the strength of the arm auto that suits some data, by short runs around its rule.

Imports basics, data, metrics, models, recipes, runs, training, evaluation and experiments.
"""

from softaug_lab.tuning.plan import Plan, make_plan, read_plan, require_tunable
from softaug_lab.tuning.score import OBJECTIVES
from softaug_lab.tuning.study import Study, Trial, as_record

__all__ = [
    "OBJECTIVES",
    "Plan",
    "Study",
    "Trial",
    "as_record",
    "make_plan",
    "read_plan",
    "require_tunable",
]
