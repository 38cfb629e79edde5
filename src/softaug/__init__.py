"""Soft augmentation: harsher augmentation, with targets softened by what it destroyed.

The method of Liu et al., "Soft Augmentation for Image Classification", CVPR 2023
(arXiv 2211.04625). Read transforms, seen, curves, softening, augment, in this order.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softaug.names import *  # noqa: F403  all that it lists

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """A public name, on its first use: torch takes seconds, and not all that is asked needs it."""
    names = import_module("softaug.names")
    if name in ("__all__", *names.__all__):
        return getattr(names, name)
    if name in globals():  # a module of ours, which is here since it was imported
        return globals()[name]
    raise AttributeError(f"module 'softaug' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("softaug.names").__all__})
