"""A long run with all against it: kills, a full disk, broken files, steps without a finite loss.

    python scripts/soak.py FOLDER --epochs 300

trains the same recipe twice on the same streamed shards, some of whose images are corrupt and some
of whose steps give no finite loss. One run is left alone. The other is killed at random moments,
again and again, refused its disk, and finds its last checkpoint cut short. Both must end with the
same weights, bit for bit, and the same history and evaluation. Prints what was done, and fails if
they differ.
"""

import argparse
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file

from softaug_lab.cli import app as cli
from softaug_lab.data import load
from softaug_lab.training import loop as training

SHARDS, CORRUPT = 16, range(100, 8000, 1700)  # of the 8,000 training images of `demo`
NOT_FINITE = (50, 777, 2500)  # steps
LEAST, MOST = 4.0, 40.0  # seconds until the next fault
TOO_LITTLE = 300_000  # bytes of a file that the disk still takes: less than a checkpoint
CHECKPOINT_SECONDS = 2


def write_shards(folder: Path) -> None:
    folder.mkdir(parents=True)
    demo = load("demo")
    parts = {"train": (demo.train, SHARDS), "test": (demo.test, 1)}
    for name, (part, shards) in parts.items():
        for shard in range(shards):
            with tarfile.open(folder / f"{name}-{shard:03}.tar", "w") as archive:
                for i in range(shard, len(part), shards):
                    content = io.BytesIO()
                    Image.fromarray(part.images[i, 0].numpy()).save(content, format="PNG")
                    pixels = content.getvalue()
                    if name == "train" and i in CORRUPT:
                        pixels = pixels[: len(pixels) // 2]
                    for ending, text in (("png", pixels), ("cls", b"%d" % part.labels[i])):
                        member = tarfile.TarInfo(f"{i:05}.{ending}")
                        member.size = len(text)
                        archive.addfile(member, io.BytesIO(text))


def train(folder: Path, run: str, epochs: int) -> None:
    """In a process of its own: the command line, with checkpoints often and steps that fail."""
    training.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS
    learning_rate, backward, at = training.learning_rate, training.backward, [0]  # type: ignore[attr-defined]

    def noted(recipe: Any, step: int, *rest: Any) -> float:
        at[0] = step
        return learning_rate(recipe, step, *rest)

    def spoilt(wrapped: Any, processes: Any, loss: Any, *rest: Any, **how: Any) -> Any:
        spoil = float("nan") if at[0] in NOT_FINITE else 1.0
        return backward(wrapped, processes, lambda *args: loss(*args) * spoil, *rest, **how)

    vars(training).update(learning_rate=noted, backward=spoilt)
    resume = ["--resume"] if (folder / run / "recipe.json").exists() else []
    cli.main(
        ["train", str(folder / "data"), "--stream", "--size", "28", "--max-unreadable", "0.001",
         "--skip-nonfinite", str(len(NOT_FINITE)), "--epochs", str(epochs), "--precision", "fp32",
         "--run", str(folder / run), *resume]
    )  # fmt: skip


def start(folder: Path, run: str, epochs: int, limit: int | None = None) -> subprocess.Popen[bytes]:
    """The run in a process of its own, whose messages go to a file beside its folder."""

    def refuse_disk() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, __file__, str(folder), "--epochs", str(epochs), "--run", run]
    with (folder / f"{run}.log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=refuse_disk)


def disturb(folder: Path, epochs: int, chance: random.Random) -> Counter[str]:
    """Run to the end, with one fault after another; returns how often each came."""
    faults: Counter[str] = Counter()
    last = folder / "disturbed" / "checkpoint.pt"
    while True:
        fault = chance.choice(["SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "full disk", "cut short"])
        if fault == "cut short" and last.exists():
            last.write_bytes(last.read_bytes()[: chance.randint(0, 200_000)])
        limit = TOO_LITTLE if fault == "full disk" else None
        running = start(folder, "disturbed", epochs, limit)
        try:
            running.wait(timeout=chance.uniform(LEAST, MOST))
        except subprocess.TimeoutExpired:
            number = signal.Signals[fault] if fault.startswith("SIG") else signal.SIGKILL
            running.send_signal(number)
            running.wait()
        said = (folder / "disturbed.log").read_text()
        if running.returncode == 0:
            return faults
        expected = {
            "SIGTERM": (143, "with a checkpoint"),
            "SIGINT": (130, "with a checkpoint"),
            "full disk": (1, "could not be written"),
        }
        code, text = expected.get(fault, (-signal.SIGKILL, ""))
        # One that comes while Python or torch still starts ends it as any program.
        early = running.returncode in (-signal.SIGTERM, -signal.SIGINT, 130, -signal.SIGKILL)
        if not (running.returncode == code and text in said) and not early:
            raise SystemExit(f"{fault}: ended with {running.returncode}: {said[-2000:]}")
        faults[fault if running.returncode == code else f"{fault} at the start"] += 1
        faults["went on from the checkpoint before"] += said.count("going on from the one before")


def figures(run: Path) -> dict[str, Any]:
    """What must be the same, without times."""
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "images_per_second")
    evaluation = json.loads((run / "evaluation.json").read_text())
    return {
        "history": [{k: v for k, v in one.items() if k not in timed} for one in history],
        "evaluation": evaluation,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--epochs", type=int, default=300)
    options.add_argument("--run", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.run:
        train(given.folder, given.run, given.epochs)
        return
    began = time.time()
    write_shards(given.folder / "data")
    alone = start(given.folder, "alone", given.epochs)
    faults = disturb(given.folder, given.epochs, random.Random(0))
    if alone.wait():
        raise SystemExit((given.folder / "alone.log").read_text())
    first, second = given.folder / "alone", given.folder / "disturbed"
    weights, others = (load_file(run / "model.safetensors") for run in (first, second))
    same = all(torch.equal(weights[name], others[name]) for name in weights | others)
    history = figures(first)["history"]
    print(f"{(time.time() - began) / 60:.0f} minutes, {len(history)} epochs")
    print(", ".join(f"{name}: {n}" for name, n in sorted(faults.items())))
    print(f"unreadable images in each epoch: {history[-1]['unreadable_images']}, "
          f"steps left out: {history[-1]['skipped_steps']}")  # fmt: skip
    print(f"top-1 error {figures(first)['evaluation']['top1_error']:.4f}")
    print(f"same weights: {same}; same figures: {figures(first) == figures(second)}")
    if not same or figures(first) != figures(second):
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
