"""Whether decoded images fit in memory, checked before they are decoded."""

import os
from collections.abc import Callable
from pathlib import Path

from softaug_lab.basics.errors import SoftaugError


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping; None where the system has no count.

    This counts memory that only caches files, which after reading a data set is most of it.
    """
    return _memory("MemAvailable")


def total_memory() -> int | None:
    """Return the bytes of this machine's memory; None where the system has no count."""
    return _memory("MemTotal")


def _memory(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return next((1024 * int(number) for number in kilobytes), None)


def check_memory(
    source: str,
    n: int,
    shape: tuple[int, int, int],
    available: Callable[[], int | None] = available_memory,
    total: Callable[[], int | None] = total_memory,
) -> list[str]:
    """Compare the size of n decoded images [C,H,W] with the available memory.

    Each process that torchrun began on this machine holds all of them. Returns a note for the user
    where they take over half of it. Raises SoftaugError where they take more than all of it.
    """
    copies = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Some of several processes may have taken their part already.
    free = available() if copies == 1 else total()
    if free is None:
        return []
    channels, height, width = shape
    needed = n * channels * height * width * copies
    there = "free" if copies == 1 else "there"
    copied = f" in {copies} processes" if copies > 1 else ""
    text = (
        f"{source}: {n:,} images of {width} x {height} px take {needed / 2**30:.1f} GiB "
        f"decoded{copied}, {free / 2**30:.1f} GiB are {there}; a smaller --size would help, or "
        "--stream"
    )
    if needed > free:
        raise SoftaugError(text)
    return [text] if needed > free / 2 else []
