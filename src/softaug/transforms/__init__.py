"""Transforms: each moves a batch of images and, with the pixels, the map of what is still seen."""

from softaug.transforms.base import Drawn, Transform, take
from softaug.transforms.chain import Chain
from softaug.transforms.crop import Crop, UniformCrop
from softaug.transforms.flip import Flip, Still

__all__ = ["Chain", "Crop", "Drawn", "Flip", "Still", "Transform", "UniformCrop", "take"]
