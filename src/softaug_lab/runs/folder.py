"""A run folder: one experiment's recipe, environment, metrics, checkpoint, model and report."""

import io
import json
import logging
import re
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from softaug_lab.basics.errors import SoftaugError, UsageError, listed
from softaug_lab.basics.storage import read_json, write_atomically, write_json
from softaug_lab.data import Data
from softaug_lab.recipes import Recipe
from softaug_lab.runs.checkpoint import CHECKPOINT_MARK, read_checkpoint
from softaug_lab.runs.environment import environment

log = logging.getLogger(__name__)
LONGEST = 120  # characters of an arm in the name of its folder


@dataclass(frozen=True)
class RunFolder:
    """Where things are in a run folder, and how they are kept whole."""

    folder: Path

    @property
    def model_file(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def backbone_file(self) -> Path:
        """Of a run without labels: what was pre-trained, its last layer as it was at the start."""
        return self.folder / "backbone.safetensors"

    @property
    def probe_file(self) -> Path:
        """Of a run without labels: what its features are worth beside the linear probe."""
        return self.folder / "probe.json"

    @property
    def model_files(self) -> list[Path]:
        """Of the run, and of its members where it is an ensemble."""
        return [self.model_file, *sorted(self.folder.glob(f"member-*/{self.model_file.name}"))]

    @property
    def evaluation_file(self) -> Path:
        return self.folder / "evaluation.json"

    @property
    def corruptions_file(self) -> Path:
        return self.folder / "corruptions.json"

    @property
    def ood_file(self) -> Path:
        return self.folder / "ood.json"

    @property
    def predictions_file(self) -> Path:
        return self.folder / "predictions.npz"

    @property
    def checkpoint_files(self) -> tuple[Path, Path]:
        """The last checkpoint, and the one before."""
        return self.folder / "checkpoint.pt", self.folder / "checkpoint-before.pt"

    @property
    def history_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def started(self) -> bool:
        """Whether there is work to go on with, not a recipe alone."""
        return (self.folder / "recipe.json").exists() and any(
            file.exists()
            for file in (
                self.history_file,
                *self.checkpoint_files,
                self.model_file,
                self.backbone_file,
            )
        )

    @property
    def finished(self) -> bool:
        """Trained and evaluated: the evaluation is written last."""
        return self.evaluation_file.exists()

    def recipe(self) -> Recipe:
        return Recipe(**read_json(self.folder / "recipe.json")["recipe"])

    def description(self) -> dict[str, Any]:
        """What recipe.json holds: the recipe, the data it is for, the environment it began in."""
        content: dict[str, Any] = read_json(self.folder / "recipe.json")
        return content

    def history(self) -> list[dict[str, Any]]:
        """One record for each finished epoch."""
        if not self.history_file.exists():
            return []
        return [json.loads(line) for line in self.history_file.read_text().splitlines()]

    def save_history(self, records: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomically(self.history_file, lines)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, and keep the one before."""
        content = io.BytesIO()
        torch.save(state, content)
        payload = content.getbuffer()
        last, before = self.checkpoint_files
        # Only once the new one is written and synced does the last become the one before.
        whole = b"".join((CHECKPOINT_MARK, sha256(payload).digest(), payload))
        write_atomically(last, whole, keep_old_as=before)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last whole checkpoint, None where there never was one.

        What is broken or foreign is passed over, with a word in the log; raises SoftaugError
        where nothing else is left.
        """
        faults = []
        for file in self.checkpoint_files:
            if not file.exists():
                continue
            try:
                state = read_checkpoint(file)
            except ValueError as error:
                faults.append(f"{file}: {error}")
                continue
            for fault in faults:
                log.warning("%s; going on from the one before, %s", fault, file.name)
            return state
        if faults:
            raise SoftaugError(f"{'; '.join(faults)}; remove {self.folder} to begin this run again")
        return None

    def remove_checkpoints(self) -> None:
        for file in self.checkpoint_files:
            file.unlink(missing_ok=True)


def folder_name(recipe: Recipe) -> str:
    """A name for the run that every file system takes: no separators, and not too long."""
    arm = re.sub(r"[^-+.,()=@_a-zA-Z0-9]", "_", recipe.arm)
    if len(arm) > LONGEST:
        # Arms that begin alike have folders of their own.
        arm = f"{arm[:LONGEST]}-{sha256(recipe.arm.encode()).hexdigest()[:12]}"
    return f"{arm}-seed-{recipe.seed}"


def open_run(
    folder: Path, recipe: Recipe, data: Data, source: dict[str, Any], resume: bool
) -> RunFolder:
    """Make a new run folder, or go on with one of the same recipe and data when `resume`.

    Raises UsageError where the folder exists (without `resume`) or was made for another recipe or
    other data (with it), naming what differs; SoftaugError where the folder cannot be made.
    """
    run = RunFolder(folder)
    wanted = {"recipe": asdict(recipe), "data": {**_fingerprint(data), "source": source}}
    try:
        started = run.started
    except OSError as error:  # a name too long, or a folder that may not be looked into
        raise SoftaugError(
            f"{folder}: cannot be a run folder ({error.strerror}); --run names another one"
        ) from error
    if started:
        if not resume:
            raise UsageError(
                f"{folder}: this run exists; --resume goes on with it, --run names another folder"
            )
        _refuse_changes(folder, run.description(), wanted)
        return run
    # What failed before its first checkpoint leaves a recipe alone, and stands in nobody's way.
    if folder.exists() and (
        not folder.is_dir() or any(path.name != "recipe.json" for path in folder.iterdir())
    ):
        raise UsageError(f"{folder}: exists and is no run folder; --run names another one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SoftaugError(f"{folder}: could not be made ({error.strerror})") from error
    write_json(folder / "recipe.json", {**wanted, "environment": environment()})
    return run


def _refuse_changes(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    # What an older version did not ask for was at its default.
    old = {**old, "recipe": asdict(Recipe(**old["recipe"]))}
    for part in ("recipe", "data"):
        changed = [
            f"{name} was {old[part].get(name)!r}, now {value!r}"
            for name, value in new[part].items()
            if name != "source" and old[part].get(name) != value
        ]
        if changed:
            raise UsageError(
                f"{folder}: made with another {part}: {listed(changed, 4, '; ')}; "
                "resume with the same, or name another folder with --run"
            )


def _fingerprint(data: Data) -> dict[str, Any]:
    """Enough to notice other data: counts, shape, classes, and a sum over images and labels.

    Of a stream, what decides its order too.
    """
    order = {} if data.stream is None else asdict(data.stream.options)
    return {
        **order,
        "name": data.name,
        "classes": list(data.classes),
        "train_images": data.train_images,
        "test_images": len(data.test),
        "image_shape": list(data.image_shape),
        "checksum": int(data.train.images.sum()) + int(data.train.labels.sum()),
    }
