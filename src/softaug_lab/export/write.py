"""Export the model of a run: a folder with the model, a serving example and a model card."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.storage import write_atomically
from softaug_lab.evaluation import Evaluation
from softaug_lab.export.forms import FORMS
from softaug_lab.export.hub import hub_metadata
from softaug_lab.export.model_card import model_card
from softaug_lab.models import CONFIG, ONNX, PROGRAM, has_small_stem, load_model
from softaug_lab.runs import RunFolder

READER = "read_image.py"  # what all serving examples call
EXAMPLES = Path(__file__).parent / "serving"
# The serving example of a folder, by the file that it loads.
EXAMPLE_OF = {CONFIG: "timm", ONNX: "onnx", PROGRAM: "torch"}
LIBRARIES = {"timm": "timm", "onnx": "onnx"}  # the Hub's names, by the example


@dataclass(frozen=True)
class Exported:
    """A folder that was written, and the largest difference of its logits from the model's."""

    folder: Path
    difference: float


def export_run(run: RunFolder, form: str, out: Path | None = None) -> Exported:
    """Write the model of a finished run in one of FORMS, whole or not at all.

    out: the folder to write, RUN/export/FORM where None. Raises UsageError for a run without one
    exportable model, and where the folder exists; SoftaugError where the model cannot be exported
    or its logits change.
    """
    _require_one_classifier(run)
    out = out or run.folder / "export" / form
    if os.path.lexists(out):
        raise UsageError(f"{out}: exists; --out names another folder")
    model = load_model(run.model_file)
    evaluation, description = Evaluation.load(run.evaluation_file), run.description()
    with _whole_folder(out) as folder:
        difference = FORMS[form](model, folder)
        (file,) = (name for name in EXAMPLE_OF if (folder / name).exists())
        example = EXAMPLE_OF[file]
        if example == "timm" and has_small_stem(model.network):
            example = "timm_small_stem"
        code = (EXAMPLES / f"{example}.py").read_text()
        text = model_card(model.card, evaluation, description, run.recipe(), file != CONFIG, code)
        if form == "hub":
            name = description["data"]["name"]
            text = hub_metadata(model.card, evaluation, name, LIBRARIES.get(example)) + text
        write_atomically(folder / "serve.py", code)
        write_atomically(folder / READER, (EXAMPLES / READER).read_text())
        write_atomically(folder / "README.md", text)
    return Exported(out, difference)


def _require_one_classifier(run: RunFolder) -> None:
    """Raise UsageError where a folder is not that of one finished classifier."""
    folder = run.folder
    if not folder.is_dir():
        raise UsageError(f"{folder}: no run folder; expected one that softaug train wrote")
    run.require_no_search()
    arm = run.recipe().parsed_arm
    if arm.members > 1:
        raise UsageError(
            f"{folder}: an ensemble of {arm.members} models, and one is exported at a time; "
            f"export {folder / 'member-0'}"
        )
    if arm.self_supervised:
        raise UsageError(
            f"{folder}: a run of pretrain learns features, and only a classifier is exported; "
            "expected a run of train"
        )
    if not run.finished:
        raise UsageError(f"{folder}: the run is not finished; softaug train --resume goes on")


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out`, which is renamed to it at the end, or removed."""
    temporary, is_new = "", not out.parent.exists()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent)
        yield Path(temporary)
        Path(temporary).chmod(0o755)
        Path(temporary).rename(out)
    except OSError as error:
        raise SoftaugError(
            f"{out}: could not be written ({error.strerror or error}); free some space or check "
            "the permissions"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_new and not out.exists():
            with suppress(OSError):
                out.parent.rmdir()
