"""The folder of a run: its files by name, and how it is created and reopened."""

import io
import json
import re
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError, listed
from softaug_lab.basics.storage import held, read_json, write_atomically, write_json
from softaug_lab.data import Data, content_digest
from softaug_lab.recipes import Recipe
from softaug_lab.runs.checkpoint import is_whole, read_first_checkpoint, write_checkpoint
from softaug_lab.runs.environment import environment

CPU = torch.device("cpu")
PATIENCE = 20.0  # seconds until what a killed command began has written its checkpoint and ended
HISTORY = "metrics.jsonl"  # the log of finished epochs, a JSON object on each line
MAX_LENGTH = 120  # characters of an arm in the name of its folder
FILES = (  # of a run
    "recipe.json", "training-keys.npy", HISTORY, "checkpoint.pt", "backbone.safetensors",
    "model.safetensors", "predictions.npz", "probe.json", "evaluation.json", "corruptions.json",
    "ood.json", "report.html", "results.json",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files, and the reading and writing of recipe, history, checkpoints."""

    folder: Path

    @property
    def model_file(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def backbone_file(self) -> Path:
        """The pre-trained model of a run without labels, with its initial last layer."""
        return self.folder / "backbone.safetensors"

    @property
    def probe_file(self) -> Path:
        """Probe results of a run without labels that its evaluation does not hold."""
        return self.folder / "probe.json"

    @property
    def model_files(self) -> list[Path]:
        """The model file of the run, and those of an ensemble's members; some may not exist."""
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
    def training_keys_file(self) -> Path:
        """Keys by content of the training images, held-out ones too, 8 bytes each."""
        return self.folder / "training-keys.npy"

    @property
    def checkpoint_files(self) -> tuple[Path, Path]:
        """The newest checkpoint, and the previous one."""
        return self.folder / "checkpoint.pt", self.folder / "checkpoint-before.pt"

    @property
    def history_file(self) -> Path:
        return self.folder / HISTORY

    @property
    def started(self) -> bool:
        """Whether the folder holds more than a recipe, so that a run can be resumed."""
        return (self.folder / "recipe.json").exists() and any(
            file.exists()
            for file in (
                self.history_file,
                *self.checkpoint_files,
                self.model_file,
                self.backbone_file,
                self.folder / "member-0" / "recipe.json",  # of an ensemble
            )
        )

    @property
    def finished(self) -> bool:
        """Whether the run is trained and evaluated; the evaluation is written last."""
        return self.evaluation_file.exists()

    def require_no_search(self) -> None:
        """Raise UsageError for the folder of a search by `softaug tune`; it names the winner."""
        if not (self.folder / "tuning.json").exists():
            return
        record = read_json(self.folder / "tuning.json")
        winner = record.get("winner") if isinstance(record, dict) else None
        last = [RunFolder(file.parent) for file in self.folder.glob("last/runs/*/recipe.json")]
        names = [str(run.folder) for run in last if run.recipe().arm == winner]
        raise UsageError(
            f"{self.folder}: a search of softaug tune, and one run is used at a time; name "
            + (f"its winner, {names[0]}" if names else f"a run in {self.folder / 'last' / 'runs'}")
        )

    def recipe(self) -> Recipe:
        """Read the run's recipe; raises SoftaugError where it is none."""
        try:
            return Recipe(**self.description()["recipe"])
        except (KeyError, TypeError) as error:
            raise SoftaugError(f"{self.folder / 'recipe.json'}: no recipe ({error})") from error

    def description(self) -> dict[str, Any]:
        """Read recipe.json: the recipe, its data, and the environment that the run began in.

        Raises SoftaugError where it is another file.
        """
        file = self.folder / "recipe.json"
        content = read_json(file)
        parts = ("recipe", "data", "environment")
        if not isinstance(content, dict) or not all(
            isinstance(content.get(part), dict) for part in parts
        ):
            raise SoftaugError(f"{file}: expected objects called {', '.join(parts)}")
        return content

    def history(self) -> list[dict[str, Any]]:
        """Read the records of finished epochs; raises SoftaugError where they are broken."""
        if not self.history_file.exists():
            return []
        try:
            records = [json.loads(line) for line in self.history_file.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise SoftaugError(f"{self.history_file}: not readable ({error})") from error
        if not all(isinstance(record, dict) for record in records):
            raise SoftaugError(f"{self.history_file}: expected an object on each line")
        return records

    def save_history(self, records: list[dict[str, Any]]) -> None:
        """Write the records of finished epochs as JSON lines."""
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomically(self.history_file, lines)

    def save_training_keys(self, data: Data) -> None:
        """Record the training images by their content; of streamed ones there is no record."""
        if data.stream is None:
            content = io.BytesIO()
            np.save(content, data.training_keys.numpy())
            write_atomically(self.training_keys_file, content.getvalue())

    def training_keys(self) -> Tensor | None:
        """Read the keys of the training images, int64 [M]; None without a record."""
        if not self.training_keys_file.exists():
            return None
        try:
            return torch.from_numpy(
                np.load(self.training_keys_file, allow_pickle=False).astype(np.int64)
            )
        except (OSError, ValueError, TypeError) as error:
            raise SoftaugError(f"{self.training_keys_file}: not readable ({error})") from error

    def save_checkpoint(self, state: dict[str, Any], check_last: bool = False) -> None:
        """Write a checkpoint, whole or not at all, and keep the previous one.

        check_last: whether the last one may be broken, by a disk or a hand. A broken one does not
        replace the one before it, which may be the only whole one.
        """
        file, previous = self.checkpoint_files
        kept = not check_last or is_whole(file)
        write_checkpoint(file, state, previous if kept else None)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read the newest whole checkpoint, None if the run has none.

        Raises SoftaugError where checkpoints exist and all are broken.
        """
        try:
            return read_first_checkpoint(self.checkpoint_files)
        except ValueError as error:
            raise SoftaugError(f"{error}; remove {self.folder} to begin this run again") from error

    def remove_checkpoints(self) -> None:
        for file in self.checkpoint_files:
            file.unlink(missing_ok=True)

    def leftovers(self) -> list[Path]:
        """List the temporary files that a killed process left: half-written files of the run."""
        names = "|".join(re.escape(name) for name in FILES)
        return [p for p in self.folder.glob(".*") if re.fullmatch(rf"\.({names})\.\w+", p.name)]

    def remove_leftovers(self) -> None:
        for file in self.leftovers():
            file.unlink(missing_ok=True)


def folder_name(recipe: Recipe) -> str:
    """Return a folder name for a recipe's arm and seed that every file system accepts."""
    arm = re.sub(r"[^-+.,()=@_a-zA-Z0-9]", "_", recipe.arm)
    if len(arm) > MAX_LENGTH:
        # A digest keeps arms with the same beginning in different folders.
        arm = f"{arm[:MAX_LENGTH]}-{sha256(recipe.arm.encode()).hexdigest()[:12]}"
    return f"{arm}-seed-{recipe.seed}"


def open_run(
    folder: Path,
    recipe: Recipe,
    data: Data,
    source: dict[str, Any],
    resume: bool,
    device: torch.device = CPU,
) -> RunFolder:
    """Create a run folder, or with `resume` reopen one of the same recipe and data.

    source: the DATA argument and the options it was read with, for the record; so is device, which
    the run is to train on. Raises UsageError
    for a folder that exists (without `resume`), that has another recipe or other data (with it),
    naming the differences, or that another process holds; SoftaugError for a folder that cannot be
    created.
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
        with held(folder, PATIENCE):
            run.remove_leftovers()
            if not run.training_keys_file.exists():  # an earlier version kept no record
                run.save_training_keys(data)
        return run
    # A run that failed before its first checkpoint holds no work and may be overwritten.
    own = {folder / "recipe.json", run.training_keys_file, *run.leftovers()}
    if folder.exists() and (not folder.is_dir() or not own.issuperset(folder.iterdir())):
        raise UsageError(f"{folder}: exists and is no run folder; --run names another one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SoftaugError(f"{folder}: could not be made ({error.strerror})") from error
    with held(folder, PATIENCE if resume else 0.0):
        run.remove_leftovers()
        write_json(folder / "recipe.json", {**wanted, "environment": environment(device)})
        run.save_training_keys(data)
    return run


def _refuse_changes(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    # Fields that an older version did not have get their defaults.
    old = {**old, "recipe": asdict(Recipe(**old["recipe"]))}
    for part in ("recipe", "data"):
        changed = [
            f"{name} was {old[part][name]!r}, now {value!r}"
            for name, value in new[part].items()
            if name != "source" and old[part].get(name, value) != value
        ]
        if changed:
            raise UsageError(
                f"{folder}: made with another {part}: {listed(changed, 4, '; ')}; "
                "resume with the same, or name another folder with --run"
            )


def _fingerprint(data: Data) -> dict[str, Any]:
    """Describe the data well enough to notice others: counts, shape, classes, and the contents.

    For a stream, whose training images are not read yet, the options that decide its order.
    """
    order = {} if data.stream is None else asdict(data.stream.options)
    parts = {"train": data.train, "held_out": data.held_out, "test": data.test}
    return {
        **order,
        "name": data.name,
        "classes": list(data.classes),
        "train_images": data.train_images,
        "test_images": len(data.test),
        "image_shape": list(data.image_shape),
        **{
            f"{name}_content": content_digest(part.images, part.labels)
            for name, part in parts.items()
            if part is not None
        },
        "objects": None if data.train.objects is None else int(data.train.objects.sum()),
    }
