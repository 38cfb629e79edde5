"""Labelled images from any source, decoded to memory or streamed. Imports basics.

`load` reads a data set; `Data`, `ImageSet` and `Stream` hold it; `inspect` looks through one
without loading it. `decode_all` and `read_image` decode single files; `fit`, `centre_crop` and
`with_channels` bring tensors to a model's shape, and `png_text` encodes an image for a page.
"""

from softaug_lab.data.dataset import Data, ImageSet, pixel_statistics
from softaug_lab.data.decode import (
    IMAGE_ENDINGS,
    Decoded,
    decode_all,
    decode_image,
    decoders,
    read_image,
)
from softaug_lab.data.headers import MAX_OWN_SIDE, choose_side
from softaug_lab.data.held_out import halves, hold_out, number_to_hold_out, share_to_hold_out
from softaug_lab.data.identity import content_digest, content_keys
from softaug_lab.data.image_paths import as_sample, counted, find_images
from softaug_lab.data.inspection import Glance, Inspection, inspect
from softaug_lab.data.load import load, read_images
from softaug_lab.data.memory import available_memory
from softaug_lab.data.objects import begun
from softaug_lab.data.png import png_text
from softaug_lab.data.resize import centre_crop, fit, with_channels
from softaug_lab.data.sample import Sample, Unreadable
from softaug_lab.data.sources import BUILT_IN, is_address
from softaug_lab.data.stream import Stream, StreamOptions
from softaug_lab.data.summary import summary

__all__ = [
    "BUILT_IN",
    "IMAGE_ENDINGS",
    "MAX_OWN_SIDE",
    "Data",
    "Decoded",
    "Glance",
    "ImageSet",
    "Inspection",
    "Sample",
    "Stream",
    "StreamOptions",
    "Unreadable",
    "as_sample",
    "available_memory",
    "begun",
    "centre_crop",
    "choose_side",
    "content_digest",
    "content_keys",
    "counted",
    "decode_all",
    "decode_image",
    "decoders",
    "find_images",
    "fit",
    "halves",
    "hold_out",
    "inspect",
    "is_address",
    "load",
    "number_to_hold_out",
    "pixel_statistics",
    "png_text",
    "read_image",
    "read_images",
    "share_to_hold_out",
    "summary",
    "with_channels",
]
