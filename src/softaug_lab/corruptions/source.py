"""source: TODO."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class CorruptedSet:
    """Labels int64 [N] and the images under one corruption, uint8, of any slice of them."""

    labels: Int64[Tensor, "n"]
    images: Callable[[slice], UInt8[Tensor, "m c h w"]]


Source = Callable[[str, int], CorruptedSet]  # by name and severity
