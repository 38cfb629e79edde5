"""A long run under faults: kills, a full disk, truncated checkpoints, losses that are not finite.

    python scripts/soak.py FOLDER --epochs 300

trains the same recipe twice on the same streamed shards; some images are corrupt, and some steps
have a loss that is not finite. One run is undisturbed. The other is killed at random moments, again
and again, cannot write to its disk, and finds its last checkpoint truncated. Both must end with the
same weights, bit for bit, and the same history and evaluation. Prints the faults, and fails if the
runs differ.
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
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.processes import Processes
from softaug_lab.data import StreamOptions, load
from softaug_lab.experiments import run_one
from softaug_lab.recipes import Recipe
from softaug_lab.runs import open_run
from softaug_lab.training.loop import fit
from softaug_lab.training.pace import Pace
from softaug_lab.training.prepared import Prepared
from softaug_lab.training.step import Step

SHARDS, CORRUPT = 16, range(100, 8000, 1700)  # of the 8,000 training images of `demo`
NOT_FINITE = (50, 777, 2500)  # steps
SHORTEST, LONGEST = 4.0, 40.0  # seconds until the next fault
TOO_LITTLE = 300_000  # bytes that a full disk still takes: less than a checkpoint
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


class Spoilt(Step):
    """A step whose loss is not finite at the steps NOT_FINITE."""

    def gradients(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        outputs, loss = super().gradients(prepared)
        return outputs, loss * float("nan") if prepared.index in NOT_FINITE else loss


def train(folder: Path, run: str, epochs: int) -> None:
    """Train in this process, with frequent checkpoints; exit as the command line does."""
    recipe = Recipe(epochs=epochs, precision="fp32", skip_nonfinite=len(NOT_FINITE))
    processes = Processes(torch.device("cpu"))
    try:
        data = load(str(folder / "data"), size=28, max_unreadable=0.001, stream=StreamOptions())
        opened = open_run(folder / run, recipe, data, {}, resume=True)
        spoilt = partial(fit, pace=Pace(seconds=CHECKPOINT_SECONDS), make_step=Spoilt)
        run_one(recipe, data, opened, processes, lambda _: None, spoilt)
    except SoftaugError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


def start(folder: Path, run: str, epochs: int, limit: int | None = None) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, with its messages in a file beside its folder."""

    def prepare() -> None:
        # Where this program is itself in the background of a shell, SIGINT is ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, __file__, str(folder), "--epochs", str(epochs), "--run", run]
    with (folder / f"{run}.log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=prepare)


def disturb(folder: Path, epochs: int, chance: random.Random) -> Counter[str]:
    """Run to the end, with one fault after another; returns how often each occurred."""
    faults: Counter[str] = Counter()
    last = folder / "disturbed" / "checkpoint.pt"
    while True:
        fault = chance.choice(["SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "full disk", "cut short"])
        if fault == "cut short" and last.exists():
            last.write_bytes(last.read_bytes()[: chance.randint(0, 200_000)])
        limit = TOO_LITTLE if fault == "full disk" else None
        running = start(folder, "disturbed", epochs, limit)
        try:
            running.wait(timeout=chance.uniform(SHORTEST, LONGEST))
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
        # A signal while Python or torch still starts ends the process without a checkpoint.
        early = running.returncode in (-signal.SIGTERM, -signal.SIGINT, 130, -signal.SIGKILL)
        if not (running.returncode == code and text in said) and not early:
            raise SystemExit(f"{fault}: ended with {running.returncode}: {said[-2000:]}")
        faults[fault if running.returncode == code else f"{fault} at the start"] += 1
        faults["went on from the checkpoint before"] += said.count("going on from the one before")


def results(run: Path) -> dict[str, Any]:
    """Read the history and evaluation of a run, without times."""
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
    history = results(first)["history"]
    print(f"{(time.time() - began) / 60:.0f} minutes, {len(history)} epochs")
    print(", ".join(f"{name}: {n}" for name, n in sorted(faults.items())))
    print(f"unreadable images in each epoch: {history[-1]['unreadable_images']}, "
          f"steps left out: {history[-1]['skipped_steps']}")  # fmt: skip
    print(f"top-1 error {results(first)['evaluation']['top1_error']:.4f}")
    print(f"same weights: {same}; same results: {results(first) == results(second)}")
    if not same or results(first) != results(second):
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
