"""Random number generators keyed by their purpose, so that no draw depends on earlier draws."""

from hashlib import sha256
from typing import Any

from torch import Generator


def key(*parts: Any) -> int:
    """Hash the parts to a seed of 63 bits; it is the same on every machine, in every process."""
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def keyed(*parts: Any) -> Generator:
    """Make a CPU generator that is seeded by `key(*parts)`."""
    return Generator().manual_seed(key(*parts))
