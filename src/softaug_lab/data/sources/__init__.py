"""The kinds of sources that images come from; each lists its shards before any image is read.

A new kind of source is a module here with a function that returns a `Listing`, and a line in
`find`. Imports basics and the rest of the data package below `load`.
"""

from softaug_lab.data.sources.built_in import BUILT_IN
from softaug_lab.data.sources.find import find, is_address
from softaug_lab.data.sources.folder import list_any_images, list_folder
from softaug_lab.data.sources.listing import Listing
from softaug_lab.data.sources.objects import with_objects

__all__ = [
    "BUILT_IN",
    "Listing",
    "find",
    "is_address",
    "list_any_images",
    "list_folder",
    "with_objects",
]
