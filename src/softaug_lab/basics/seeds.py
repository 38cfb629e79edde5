"""Random numbers keyed by what they are for, so that no draw depends on what was drawn before."""

from hashlib import sha256
from typing import Any

from torch import Generator


def key(*parts: Any) -> int:
    """A seed of 63 bits from the parts; the same on every machine and in every process."""
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def keyed(*parts: Any) -> Generator:
    """A generator on the CPU with the seed of the parts."""
    return Generator().manual_seed(key(*parts))
