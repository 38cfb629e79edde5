"""Time of programs that are measured side by side, and the words for where that was."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch

LEAST = 2e-3  # seconds in one measurement: a clock read costs nothing beside it


@dataclass(frozen=True)
class Timing:
    """Microseconds for each image: the least and the middle one of all rounds."""

    least: float
    median: float


def per_image(
    programs: Mapping[str, Callable[[], object]], images: int, rounds: int = 15
) -> dict[str, Timing]:
    """Microseconds that each program takes for each of the images that one call of it makes.

    All programs run in every round, one after the other, so that a busy machine is busy for all of
    them. As in a training loop, what a call made lives until the next call has made its own; on
    Linux, `MALLOC_MMAP_THRESHOLD_=100000` in the environment makes all of it fresh memory.
    """
    calls = {name: _calls(program) for name, program in programs.items()}
    took: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            took[name].append(_seconds(program, calls[name]) / calls[name] / images * 1e6)
    return {name: Timing(min(times), median(times)) for name, times in took.items()}


def where(*packages: str) -> dict[str, str]:
    """The machine and the versions that figures come from."""
    return {
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", *packages)},
    }


def _calls(program: Callable[[], object]) -> int:
    """How many calls make one measurement, after calls that warm up."""
    calls = 1
    while _seconds(program, calls) < LEAST:
        calls *= 2
    return calls


def _seconds(program: Callable[[], object], calls: int) -> float:
    made = program()
    begin = time.perf_counter()
    for _ in range(calls):
        made = program()
    took = time.perf_counter() - begin
    del made
    return took


def _processor() -> str:
    """The processor's name and number of cores; Linux says more than Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.processor()
