"""Soft augmentation: harsher augmentation, with targets softened by what it destroyed.

The method of Liu et al., "Soft Augmentation for Image Classification", CVPR 2023
(arXiv 2211.04625). Read transforms, visibility, curves, softening, augment, in this order.
"""

from softaug.augment import SoftAugment
from softaug.curves import Constant, Curve, PowerCurve
from softaug.softening import batch_mean, mean_one, per_sample, smooth, weigh
from softaug.transforms import Chain, Crop, Drawn, Flip, Still, Transform, UniformCrop, take
from softaug.visibility import visibility

__version__ = "0.1.0"

__all__ = [
    "Chain",
    "Constant",
    "Crop",
    "Curve",
    "Drawn",
    "Flip",
    "PowerCurve",
    "SoftAugment",
    "Still",
    "Transform",
    "UniformCrop",
    "batch_mean",
    "mean_one",
    "per_sample",
    "smooth",
    "take",
    "visibility",
    "weigh",
]
