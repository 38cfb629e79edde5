"""Labelled images from anywhere: found, decoded, split, in memory or streamed."""

from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.decode import IMAGE_ENDINGS, decode, decoders, read_image
from softaug_lab.data.load import load, read_images
from softaug_lab.data.resize import centre_crop, fit, with_channels
from softaug_lab.data.sample import Sample
from softaug_lab.data.sources.built_in import BUILT_IN
from softaug_lab.data.sources.found import report_faults
from softaug_lab.data.stream import Stream, StreamOptions

__all__ = [
    "BUILT_IN",
    "IMAGE_ENDINGS",
    "Data",
    "ImageSet",
    "Sample",
    "Stream",
    "StreamOptions",
    "centre_crop",
    "decode",
    "decoders",
    "fit",
    "load",
    "read_image",
    "read_images",
    "report_faults",
    "with_channels",
]
