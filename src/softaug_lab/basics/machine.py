"""How this process uses its machine: how its threads wait, and what it does with freed memory."""

import ctypes
import os
import sys
import time
from pathlib import Path

STAT = Path("/proc/stat")
# Whoever set one of them knows better.
THREAD_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
# Other work that matters: half a core, and an eighth of all.
LEAST_CORES, LEAST_SHARE = 0.5, 1 / 8
# From malloc.h, with their values: the largest that glibc documents, and one that is never reached.
TRIM_THRESHOLD, MMAP_THRESHOLD = (-1, 2**31 - 1), (-3, 2**25)


def cores() -> int:
    """Count the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        return os.cpu_count() or 1


def busy_cores(seconds: float) -> tuple[float, int] | None:
    """Measure how many of the cores that this process may use are busy, and how many there are.

    None off Linux.
    """
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    if before is None or after is None:
        return None
    shares = [
        (after[core][0] - busy) / max(1, after[core][1] - total)
        for core, (busy, total) in before.items()
        if core in after
    ]
    return sum(shares), len(shares)


def wait_without_spinning(seconds: float = 0.2) -> str | None:
    """Let OpenMP's threads sleep while they wait, if other processes keep cores busy.

    By default a waiting thread spins; where another process shares its core, it takes the core from
    the thread that it waits for. On a quiet machine spinning is faster, and nothing is changed. The
    results are the same to the bit. Variables of the user (THREAD_VARIABLES) stand. OpenMP reads
    them when torch is imported, so a call after that does nothing. Returns a line for the user, or
    None where nothing was changed.
    """
    if not _changeable():
        return None
    measured = busy_cores(seconds)
    if measured is None:
        return None
    busy, count = measured
    if count < 2 or busy < max(LEAST_CORES, LEAST_SHARE * count):
        return None
    sleep_while_waiting()
    return (
        f"other work keeps {busy:.1f} of {count} cores busy, so threads sleep while they wait "
        "(OMP_WAIT_POLICY=PASSIVE; set it to ACTIVE for the other way)"
    )


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep while they wait, unless variables of the user say otherwise.

    Does nothing once torch is imported.
    """
    if _changeable():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def keep_freed_memory() -> None:
    """Let glibc keep the memory that tensors free, for the next ones, instead of returning it.

    By default it returns what training and evaluation free after each layer, and the system hands
    out the next layer's memory page by page: 2,000 to 5,000 page faults in each step of the model
    `small`, a tenth of the time. Blocks of 32 MB and more are returned as before. Does nothing with
    other C libraries, and where the user sets a variable of glibc's malloc.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            mallopt(parameter, value)


def return_freed_memory() -> None:
    """Let glibc return to the system what is freed, so that memory in use can be measured."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _changeable() -> bool:
    """Whether OpenMP has yet to read its variables, and the user has set none of them."""
    return "torch" not in sys.modules and not any(name in os.environ for name in THREAD_VARIABLES)


def _ticks() -> dict[str, tuple[int, int]] | None:
    """Read busy and all ticks of each core since the start of the machine; None off Linux."""
    try:
        lines = STAT.read_text().splitlines()
        affinity = os.sched_getaffinity(0)
    except (OSError, AttributeError):
        return None
    found = {}
    for line in lines:
        name, *numbers = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in affinity:
            ticks = [int(number) for number in numbers[:8]]  # guests are counted among users
            found[name] = (sum(ticks) - ticks[3] - ticks[4], sum(ticks))  # not idle, not waiting
    return found
