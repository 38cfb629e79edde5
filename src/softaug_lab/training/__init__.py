"""Training: the loop, its objectives (supervised, SimSiam), and their batches and augmentation.

Imports basics, data, models, recipes, runs and metrics.
"""

from softaug_lab.training.augmentation import build_arm, drawn_visibility, resolve, rule_of
from softaug_lab.training.batches import AHEAD, build_batches
from softaug_lab.training.initial import adopt_weights, initial_model
from softaug_lab.training.loop import fit
from softaug_lab.training.progress import Progress
from softaug_lab.training.signals import InterruptedRunError, caught_signals, stopped_by_signals
from softaug_lab.training.simsiam import SimSiam

__all__ = [
    "AHEAD",
    "InterruptedRunError",
    "Progress",
    "SimSiam",
    "adopt_weights",
    "build_arm",
    "build_batches",
    "caught_signals",
    "drawn_visibility",
    "fit",
    "initial_model",
    "resolve",
    "rule_of",
    "stopped_by_signals",
]
