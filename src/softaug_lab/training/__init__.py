"""The training loop, its objectives and its batches."""

from softaug_lab.training.augmentation import build_arm, drawn_visibility
from softaug_lab.training.loop import build_feed, train
from softaug_lab.training.progress import Progress
from softaug_lab.training.signals import InterruptedRunError, caught_signals
from softaug_lab.training.simsiam import SimSiam, pretrain

__all__ = [
    "InterruptedRunError",
    "Progress",
    "SimSiam",
    "build_arm",
    "build_feed",
    "caught_signals",
    "drawn_visibility",
    "pretrain",
    "train",
]
