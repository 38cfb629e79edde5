"""Seconds until a package is imported, and until the command line has answered."""

import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

STARTS = {
    # With torch, which `import softaug` alone leaves to the first use.
    "from softaug import SoftAugment": ["-c", "from softaug import SoftAugment"],
    "softaug --help": ["-m", "softaug", "--help"],
    "softaug train --help": ["-m", "softaug", "train", "--help"],
    "import torch": ["-c", "import torch"],
    **{
        f"import {name}": ["-c", f"import {name}"]
        for name in ("torchvision", "timm", "kornia", "lightning")
    },
}


def measure(rounds: int = 3) -> list[dict[str, Any]]:
    """The least of some rounds, each of which starts every program once, in a process of its own.

    Each against `import torch`.
    """
    there = {
        name: arguments
        for name, arguments in STARTS.items()
        if not name.startswith("import ") or find_spec(name.removeprefix("import "))
    }
    took: dict[str, list[float]] = {name: [] for name in there}
    for _ in range(rounds + 1):
        for name, arguments in there.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            took[name].append(time.perf_counter() - begin)
    least = {name: min(times[1:]) for name, times in took.items()}  # the first reads the disk
    return [
        {"name": name, "seconds": seconds, "of_torch": seconds / least["import torch"]}
        for name, seconds in least.items()
    ]
