"""Transforms: each moves a batch of images and, with the pixels, the map of what is still seen."""

from softaug.transforms.base import Drawn, Transform, take, visible
from softaug.transforms.blur import Blur, GaussianBlur
from softaug.transforms.chain import Chain, Hard
from softaug.transforms.crop import Crop, UniformCrop
from softaug.transforms.erase import Cutout, Erase
from softaug.transforms.flip import Flip, Still, VerticalFlip
from softaug.transforms.noise import DiffusionNoise, Noise
from softaug.transforms.resized_crop import RandomResizedCrop, ResizedCrop

__all__ = [
    "Blur", "Chain", "Crop", "Cutout", "DiffusionNoise", "Drawn", "Erase", "Flip", "GaussianBlur",
    "Hard", "Noise", "RandomResizedCrop", "ResizedCrop", "Still", "Transform", "UniformCrop",
    "VerticalFlip", "take", "visible",
]  # fmt: skip
