"""The software and hardware of a run, for its record."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import softaug


def environment(device: torch.device) -> dict[str, Any]:
    """Return the versions of packages, the machine and the commit of softaug's sources.

    device: the device that the run trains on.
    """
    packages = ("torch", "torchvision", "timm", "numpy")
    versions = {"softaug": softaug.__version__, "python": platform.python_version()}
    return {
        "versions": versions | {name: metadata.version(name) for name in packages},
        "machine": {
            "processor": _processor(),
            "cores": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        },
        "commit": _commit(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the softaug sources in use, None for an installed package."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
