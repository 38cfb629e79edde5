"""Soft augmentation: harsher augmentation, with targets softened by what it destroyed.

The method of Liu et al., "Soft Augmentation for Image Classification", CVPR 2023
(arXiv 2211.04625). Read transforms, seen, curves, softening, augment, in this order.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# A type checker that saw `__getattr__` would take any name for one of ours.
if TYPE_CHECKING:
    from softaug.names import *  # noqa: F403  all that it lists
    from softaug.names import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        """A public name, on its first use: torch takes seconds, and not all uses need it."""
        names = import_module("softaug.names")
        if name in ("__all__", *names.__all__):
            return getattr(names, name)
        if name in globals():  # a module of ours, which is here since it was imported
            return globals()[name]
        raise AttributeError(f"module 'softaug' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("softaug.names").__all__})
