"""Time of programs that are measured side by side, and the words for where that was."""

import ctypes
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

LEAST = 2e-3  # seconds in one measurement: a clock read costs nothing beside it


@dataclass(frozen=True)
class Timing:
    """Microseconds for each image: the least and the middle one of all rounds."""

    least: float
    median: float


@dataclass(frozen=True)
class Program:
    """What is measured; maker: the library; `like` is ours that does the same."""

    name: str
    maker: str
    like: str
    run: Callable[[], object]


def records_of(
    programs: Sequence[Program], images: Tensor, memory: str, rounds: int
) -> list[dict[str, Any]]:
    """One record for each program on a batch of images; `copy` is one of them."""
    took = per_image({p.name: p.run for p in programs}, len(images), rounds)
    return [
        {
            "name": program.name,
            "library": program.maker,
            "size": images.shape[-2],
            "dtype": str(images.dtype).removeprefix("torch."),
            "batch": len(images),
            "memory": memory,
            "us_per_image": took[program.name].least,
            "median_us": took[program.name].median,
            "times_copy": took[program.name].least / took["copy"].least,
            "ratio": took[program.name].least / took[program.like].least,
        }
        for program in programs
    ]


def per_image(
    programs: Mapping[str, Callable[[], object]], images: int, rounds: int = 15
) -> dict[str, Timing]:
    """Microseconds that each program takes for each of the images that one call of it makes.

    All programs run in every round, one after the other, so that a busy machine is busy for all of
    them. As in a training loop, what a call made lives until the next call has made its own.
    """
    calls = {name: _calls(program) for name, program in programs.items()}
    took: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            took[name].append(_seconds(program, calls[name]) / calls[name] / images * 1e6)
    return {name: Timing(min(times), median(times)) for name, times in took.items()}


def allocate(memory: str) -> None:
    """Let the C library of Linux give out "kept" memory, used before, or "fresh" from the system.

    Left alone it does either, by size and by what came before, and the same copy takes 5 or 60 us.
    Kept memory shows the work itself, and is what a long-running loop with a caching allocator has.
    "fresh" must come first in a process: what was kept stays. Nothing happens on other systems.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    trim, threshold, mappings = -1, -3, -4  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX
    if memory == "kept":
        mallopt(mappings, 0)
        mallopt(trim, 2**31 - 1)
    elif memory == "fresh":
        mallopt(mappings, 2**16)
        mallopt(threshold, 2**16)
    else:
        raise ValueError(f'memory must be "kept" or "fresh", got {memory!r}')


def where(*packages: str) -> dict[str, str]:
    """The machine and the versions that figures come from."""
    return {
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", *packages)},
    }


def print_table(records: list[dict[str, Any]]) -> None:
    """What `records_of` gives, below the machine and the versions."""
    print("  ".join(f"{k} {v}" for k, v in where("torchvision", "kornia").items()))
    print(f"{'program':34}{'library':25}{'px':>4} {'dtype':8}{'us/image':>9}{'median':>9}", end="")
    print(f"{'x copy':>8}{'x ours':>8}")
    for r in records:
        print(
            f"{r['name']:34}{r['library']:25}{r['size']:4} {r['dtype']:8}{r['us_per_image']:9.2f}"
            f"{r['median_us']:9.2f}{r['times_copy']:8.1f}{r['ratio']:8.1f}"
        )


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
