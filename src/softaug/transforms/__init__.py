"""Transforms: each moves a batch of images and, with the pixels, the map of what is still seen.

A new transform is a module here and its name below, which makes it public as `softaug.NAME` and
gives it a word in the expressions of the command line.
"""

from softaug.transforms.base import Drawn, Transform, take
from softaug.transforms.blur import Blur, GaussianBlur
from softaug.transforms.borrowed import Borrowed
from softaug.transforms.chain import Chain, Hard
from softaug.transforms.crop import Crop, UniformCrop
from softaug.transforms.erase import Cutout, Erase
from softaug.transforms.flip import Flip, Still, VerticalFlip
from softaug.transforms.noise import DiffusionNoise, Noise
from softaug.transforms.policies import RandAugment, TrivialAugment
from softaug.transforms.resized_crop import RandomResizedCrop, ResizedCrop
from softaug.transforms.strips import FrequencyMask, TimeMask

__all__ = [
    "Blur", "Borrowed", "Chain", "Crop", "Cutout", "DiffusionNoise", "Drawn", "Erase", "Flip",
    "FrequencyMask", "GaussianBlur", "Hard", "Noise", "RandAugment", "RandomResizedCrop",
    "ResizedCrop", "Still", "TimeMask", "Transform", "TrivialAugment", "UniformCrop",
    "VerticalFlip", "take",
]  # fmt: skip
