"""Random number generators keyed by their purpose, so that no draw depends on earlier draws."""

from hashlib import sha256
from typing import Any

import torch
from torch import Generator, Tensor

# The constants of splitmix64 as signed numbers, since torch has no unsigned arithmetic.
GOLDEN, FIRST, SECOND = (c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9,
                                             0x94D049BB133111EB))  # fmt: skip
MOST = 2**24  # words for each number


def key(*parts: Any) -> int:
    """Hash the parts to a seed of 63 bits; it is the same on every machine, in every process."""
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def keyed(*parts: Any) -> Generator:
    """Make a CPU generator that is seeded by `key(*parts)`."""
    return Generator().manual_seed(key(*parts))


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed the generator of a device, from which dropout draws.

    `torch.manual_seed` would also seed the generators of all kinds of devices that torch knows,
    which takes 100 times as long.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    elif device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def hashed_words(numbers: Tensor, count: int, *parts: Any) -> Tensor:
    """Hash each number and the parts to `count` random words: int64 [N,count], all 64 bits random.

    numbers: int64 [N], from 0. A row depends on its number and the parts alone, so that samples
    get the same words in any batch. count: at most 2**24.

    References: Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators".
    """
    if not 0 <= count <= MOST:
        raise ValueError(f"count must be in [0, {MOST}], got {count}")
    words = (numbers[:, None] * MOST + torch.arange(1, count + 1)) * GOLDEN + key(*parts)
    for shift, factor in ((30, FIRST), (27, SECOND)):
        words = (words ^ _shifted(words, shift)) * factor
    return words ^ _shifted(words, 31)


def hashed_uniform(numbers: Tensor, count: int, *parts: Any) -> Tensor:
    """Hash each number and the parts to `count` uniform numbers in [0, 1): float64 [N,count]."""
    uniform: Tensor = _shifted(hashed_words(numbers, count, *parts), 11).double() / 2**53
    return uniform


def _shifted(words: Tensor, by: int) -> Tensor:
    """Shift to the right with zeros from the left; torch repeats the sign."""
    shifted: Tensor = (words >> by) & (2 ** (64 - by) - 1)
    return shifted
