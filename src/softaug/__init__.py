"""Soft augmentation: harsher augmentation, with targets softened by what it destroyed.

The method of Liu et al., "Soft Augmentation for Image Classification", CVPR 2023
(arXiv 2211.04625). To read it in the order of the paper: augment, targets, curves, maps,
transforms/base, transforms/chain, transforms/crop.
"""

from softaug import transforms
from softaug.augment import SoftAugment
from softaug.calibrated import CalibratedCurve
from softaug.curves import Constant, Curve, Gated, PowerCurve, TableCurve
from softaug.maps import as_seen, visibility
from softaug.recommend import recommended
from softaug.targets import (
    batch_mean,
    mean_one,
    per_sample,
    smooth,
    smooth_by_confusion,
    smooth_multilabel,
    weigh,
)
from softaug.transforms import *  # noqa: F403  the names that its door lists

__all__ = [
    "CalibratedCurve",
    "Constant",
    "Curve",
    "Gated",
    "PowerCurve",
    "SoftAugment",
    "TableCurve",
    "as_seen",
    "batch_mean",
    "mean_one",
    "per_sample",
    "recommended",
    "smooth",
    "smooth_by_confusion",
    "smooth_multilabel",
    "visibility",
    "weigh",
]
__all__ += transforms.__all__

__version__ = "0.1.0"
