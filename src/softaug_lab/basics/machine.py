"""What else the machine is doing, and how the threads of this process wait because of it."""

import os
import sys
import time
from pathlib import Path

STAT = Path("/proc/stat")
# Whoever set one of them knows better.
THREAD_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
# Other work that matters: half a core, and an eighth of all.
LEAST_CORES, LEAST_SHARE = 0.5, 1 / 8


def busy_cores(seconds: float) -> tuple[float, int] | None:
    """Measure how many of the cores that this process may use are busy, and how many there are.

    None off Linux.
    """
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    if before is None or after is None:
        return None
    shares = []
    for core, (busy, total) in after.items():
        earlier_busy, earlier_total = before.get(core, (busy, total))
        shares.append((busy - earlier_busy) / max(1, total - earlier_total))
    return sum(shares), len(shares)


def wait_without_spinning(seconds: float = 0.2) -> str | None:
    """Let threads sleep while they wait, if other work keeps cores busy; return what to say.

    Before torch is imported: OpenMP reads its variables once. By default its threads spin for
    others, which takes the core from the very thread that they wait for where another process
    shares it. On a quiet machine spinning is the faster way, and nothing is changed. The results
    are the same to the bit. A user's OMP_WAIT_POLICY, GOMP_SPINCOUNT or OMP_NUM_THREADS stands.
    """
    if "torch" in sys.modules or any(name in os.environ for name in THREAD_VARIABLES):
        return None
    measured = busy_cores(seconds)
    if measured is None:
        return None
    busy, cores = measured
    if cores < 2 or busy < max(LEAST_CORES, LEAST_SHARE * cores):
        return None
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return (
        f"other work keeps {busy:.1f} of {cores} cores busy, so threads sleep while they wait "
        "(OMP_WAIT_POLICY=PASSIVE; set it to ACTIVE for the other way)"
    )


def _ticks() -> dict[str, tuple[int, int]] | None:
    """Busy and all ticks of each core since the start of the machine."""
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
