"""All benchmarks in one run: tables with machine and versions, a JSON file, and a chart.

python -m benchmarks [FOLDER]  (default: runs/bench; `make bench`)
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import (
    chart,
    compiled,
    decode,
    growth,
    photos,
    policies,
    start,
    targets,
    training,
    transforms,
)
from benchmarks.timing import where

Records = list[dict[str, Any]]
# One thread, so that figures are of one core, but for training, which takes all.
ONE_THREAD: dict[str, Callable[[], Records]] = {
    # What is fresh comes first: what was kept stays.
    "transforms, memory fresh": lambda: transforms.measure(rounds=7, memory="fresh"),
    "transforms": transforms.measure,
    "policies": lambda: policies.measure(rounds=7),
    "growth": growth.measure,
    "targets": targets.measure,
    "decode": decode.measure,
    "compiled crops": compiled.measure_crops,
}
ALL_THREADS: dict[str, Callable[[], Records]] = {
    "training": training.measure,
    "training, larger": lambda: training.measure("resnet18", steps=9, rounds=1),
    "photos": photos.measure,
    "training_parts": lambda: [training.measure_parts()],
    "compiled steps": compiled.measure_steps,
}
PACKAGES = ("softaug", "torchvision", "kornia", "timm", "lightning", "pillow", "simplejpeg")


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0] if arguments else "runs/bench")
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=150)  # of the widest table, also in a log
    threads = torch.get_num_threads()
    found: dict[str, Any] = {"where": where(*PACKAGES)}
    console.print(*(f"{name}: {what}" for name, what in found["where"].items()), sep="\n")
    begin = time.perf_counter()
    for part, count in ((ONE_THREAD, 1), (ALL_THREADS, threads)):
        torch.set_num_threads(count)
        for name, measure in part.items():
            found[name] = measure()
            console.print(table(f"{name}, threads: {count}", found[name]))
    found["start"] = start.measure()
    console.print(table("start", found["start"]))
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    chart.draw(found, folder / "chart.png")
    console.print(f"{time.perf_counter() - begin:.0f} s in all; {folder}/results.json, chart.png")


def table(title: str, records: Records) -> Table:
    """The records as they are, a column for each of their keys."""
    drawn = Table(title=title, title_justify="left")
    for i, key in enumerate(records[0]):
        numbers = not isinstance(records[0][key], str)
        drawn.add_column(key, justify="right" if numbers and i else "left")
    for record in records:
        drawn.add_row(*(text(value) for value in record.values()))
    return drawn


def text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main(sys.argv[1:])
