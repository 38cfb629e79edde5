"""Soft augmentation: harsher augmentation, with targets softened by what it destroyed.

The method of Liu et al., "Soft Augmentation for Image Classification", CVPR 2023
(arXiv 2211.04625). To read it in the order of the paper: augment, targets, curves, maps,
transforms/base, transforms/chain, transforms/crop.
"""

from softaug.augment import SoftAugment
from softaug.curves import Constant, Curve, Gated, PowerCurve, TableCurve
from softaug.maps import as_seen, visibility
from softaug.targets import (
    batch_mean,
    mean_one,
    per_sample,
    smooth,
    smooth_by_confusion,
    smooth_multilabel,
    weigh,
)
from softaug.transforms import (
    Blur,
    Chain,
    Crop,
    Cutout,
    DiffusionNoise,
    Drawn,
    Erase,
    Flip,
    GaussianBlur,
    Hard,
    Noise,
    RandomResizedCrop,
    ResizedCrop,
    Still,
    Transform,
    UniformCrop,
    VerticalFlip,
    take,
)
from softaug.transforms.borrowed import Borrowed
from softaug.transforms.policies import RandAugment, TrivialAugment

__all__ = [
    "Blur",
    "Borrowed",
    "Chain",
    "Constant",
    "Crop",
    "Curve",
    "Cutout",
    "DiffusionNoise",
    "Drawn",
    "Erase",
    "Flip",
    "Gated",
    "GaussianBlur",
    "Hard",
    "Noise",
    "PowerCurve",
    "RandAugment",
    "RandomResizedCrop",
    "ResizedCrop",
    "SoftAugment",
    "Still",
    "TableCurve",
    "Transform",
    "TrivialAugment",
    "UniformCrop",
    "VerticalFlip",
    "as_seen",
    "batch_mean",
    "mean_one",
    "per_sample",
    "smooth",
    "smooth_by_confusion",
    "smooth_multilabel",
    "take",
    "visibility",
    "weigh",
]

__version__ = "0.1.0"
