"""Checks of arguments and of values in tensors, each of which raises ValueError in one line.

Values on a GPU are checked by a device-side assertion, so that no step waits for the device. While
torch.compile makes a graph, values are not checked.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def check_images(images: Tensor) -> None:
    """Images are a batch [N,C,H,W] of uint8 or floating-point pixels, channels first."""
    if images.ndim != 4:
        raise ValueError(f"images must be [N,C,H,W] or [C,H,W], got {list(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images must be uint8 or floating point, got {images.dtype}; .float()?")
    if not (images.shape[2] and images.shape[3]):
        raise ValueError(f"images must have pixels, got {list(images.shape)}")
    # Images may have any number of bands; but a last axis of 1 to 4 is one of channels.
    if images.shape[3] <= 4 < images.shape[1]:
        raise ValueError(
            f"images must be [N,C,H,W], got {list(images.shape)} with {images.shape[1]} channels; "
            "permute(0, 3, 1, 2)?"
        )


def check_batch(images: Tensor, labels: Tensor, seen: Tensor | None) -> None:
    """Images, labels and map have the same N, the map the images' size, and pixels are finite."""
    check_images(images)
    if labels.ndim == 0 or len(labels) != len(images):
        # timm's Mixup takes the entries of rows [N,K] for labels, and returns [N K, K].
        mixed = labels.ndim == 2 and len(labels) == len(images) * labels.shape[1]
        raise ValueError(
            f"labels must be [N] or [N, num_classes] with N = {len(images)} as the images, "
            f"got {list(labels.shape)}" + ("; timm's Mixup goes before softaug" if mixed else "")
        )
    if labels.device != images.device:
        raise ValueError(
            f"labels must be on the images' device, {images.device}, got {labels.device}"
        )
    expected = (len(images), 1, *images.shape[-2:])
    if seen is not None and seen.shape != expected:
        raise ValueError(f"seen must be {list(expected)}, got {list(seen.shape)}")
    check_finite(images)


def check_drawn(drawn: Mapping[str, Any], n: int) -> None:
    """Draws that were given are those of n samples, and finite."""
    for name, value in drawn.items():
        if isinstance(value, Mapping):
            check_drawn(value, n)
        elif isinstance(value, Tensor) and (value.ndim == 0 or len(value) != n):
            count = "one number" if value.ndim == 0 else f"{len(value)}"
            raise ValueError(f"drawn must be of {n} samples as the images, {name!r} has {count}")
        elif isinstance(value, Tensor) and value.is_floating_point():
            check_values(value.isfinite(), value, f"drawn must be finite, {name!r}")


def check_visibility(share: Tensor) -> None:
    """Visibilities [N] lie in [0, 1], to rounding."""
    expected = "visibility must be in [0, 1], so the mean of seen at most 1 (see as_seen)"
    check_between(share, 0, 1.001, expected)


def check_finite(images: Tensor) -> None:
    """No pixel is NaN or infinite."""
    if torch.compiler.is_compiling() or not images.is_floating_point():
        return
    if images.device.type != "cpu":
        torch._assert_async(images.isfinite().all())
    # One sum is cheaper than a mask; pixels are only examined where the sum is suspect.
    elif not images.sum(dtype=torch.float32).isfinite():
        bad = (~images.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        if bad:  # else the pixels are finite and their sum is too large for float32
            raise ValueError(
                f"images must be finite, got NaN or infinite pixels in samples {bad[:10]}"
            )


def check_num_classes(num_classes: int) -> None:
    """There are two classes or more."""
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Integer labels lie in [0, num_classes)."""
    if not torch.compiler.is_compiling():  # num_classes may be a symbol there, which has no text
        expected = f"labels must be in [0, {num_classes}) for num_classes={num_classes}"
        check_between(labels, 0, num_classes - 1, expected)


def check_between(values: Tensor, least: float, most: float, expected: str) -> None:
    """All values lie in [least, most]; NaN lies outside. expected: the range in words."""
    if torch.compiler.is_compiling():
        return
    if values.device.type == "cpu" and values.numel():
        # Two numbers are cheaper than a mask.
        low, high = (end.item() for end in values.detach().aminmax())
        if least <= low and high <= most:
            return
    check_values((values >= least) & (values <= most), values, expected)


def check_values(good: Tensor, values: Tensor, expected: str, of: str = "sample") -> None:
    """All entries of good [N, ...] are true; the error names the first bad value and its sample.

    of: what the first axis counts.
    """
    if torch.compiler.is_compiling():
        return
    if good.device.type != "cpu":
        torch._assert_async(good.all())
        return
    if not good.all():
        position = tuple((~good).nonzero()[0].tolist())
        raise ValueError(f"{expected}, got {values[position].item()} for {of} {position[0]}")


def check_numbers(owner: str, option: str, *values: object) -> None:
    """The option of a class (owner) is a real number, or several: texts are not read as such."""
    for value in values:
        if not isinstance(value, Real):
            raise ValueError(f"{owner}: {option} must be a number, got {value!r}")


def check_unit(owner: str, option: str, value: float) -> None:
    """The option of a class (owner) is a share or probability in [0, 1]."""
    check_numbers(owner, option, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{owner}: {option} must be in [0, 1], got {value}")


def check_positive(owner: str, option: str, value: float, usual: str = "") -> None:
    """The option is finite and above 0. usual: a usual value, such as "the paper: 2"."""
    check_numbers(owner, option, value)
    if not 0 < value < math.inf:
        hint = f" ({usual})" if usual else ""
        raise ValueError(f"{owner}: {option} must be finite and above 0{hint}, got {value}")


def check_whole(owner: str, option: str, value: int, least: int, unit: str = "") -> None:
    """The option is at least a whole number of units, such as "pixels"."""
    if not isinstance(value, Integral):
        raise ValueError(f"{owner}: {option} must be a whole number, got {value!r}")
    if value < least:
        words = f"{least} {unit}".strip()
        raise ValueError(f"{owner}: {option} must be {words} or more, got {value}")


def check_rising(
    owner: str, option: str, ends: tuple[float, float], most: float = math.inf
) -> None:
    """The option is a pair with 0 < least <= largest <= most, and finite."""
    if not isinstance(ends, Sequence) or len(ends) != 2:
        raise ValueError(f"{owner}: {option} must be two numbers, got {ends!r}")
    check_numbers(owner, option, *ends)
    if not (0 < ends[0] <= ends[1] <= most and ends[1] < math.inf):
        limit = "" if most == math.inf else f" <= {most:g}"
        raise ValueError(f"{owner}: {option} must be 0 < least <= largest{limit}, got {ends}")
