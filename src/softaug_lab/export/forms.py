"""The forms of an exported model: each is written into a folder, read again and compared."""

import io
import json
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line
from softaug_lab.basics.storage import write_atomically
from softaug_lab.export.served import Served, require_same
from softaug_lab.export.timm_form import timm_logits, write_timm_files
from softaug_lab.models import (
    CONFIG,
    DESCRIPTION,
    ONNX,
    OWN_MODELS,
    PROGRAM,
    PROGRAM_DESCRIPTION,
    WEIGHTS,
    Classifier,
    describe,
    has_small_stem,
    load_foreign,
    save_model,
)

# From a model and an empty folder to the largest difference of logits on noise.
Write = Callable[[Classifier, Path], float]


def write_onnx(model: Classifier, folder: Path) -> float:
    """Write an ONNX file with its description in the metadata, and compare it by onnxruntime."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise SoftaugError(f"ONNX needs {', '.join(missing)}: pip install 'softaug[export]'")
    program = _traced(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own
            exported: Any = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: "batch"},),
            )
        exported.model.metadata_props[DESCRIPTION] = json.dumps(describe(model, normalises=True))
        content = exported.model_proto.SerializeToString()
    except Exception as error:
        raise _not_exported(model, "ONNX", error) from error
    write_atomically(folder / ONNX, content)
    return require_same(load_foreign(folder / ONNX), model, ONNX)


def write_program(model: Classifier, folder: Path) -> float:
    """Write a torch.export program with its description as an extra file, and compare it."""
    program = _traced(model)
    description = json.dumps(describe(model, normalises=True))
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={PROGRAM_DESCRIPTION: description})
    write_atomically(folder / PROGRAM, content.getvalue())
    return require_same(load_foreign(folder / PROGRAM), model, PROGRAM)


def write_timm(model: Classifier, folder: Path) -> float:
    """Write a folder that timm loads, and compare it by timm itself where its stem is timm's."""
    if model.card.model in OWN_MODELS:
        raise UsageError(
            f"model {model.card.model!r} is softaug's own and timm has none of this name; export "
            "--to onnx, torch or hub"
        )
    if model.card.head is not None or model.card.bound is not None:
        raise UsageError(
            f"model {model.card.model!r} has a last layer or bounds that timm has not "
            "(docs/other-heads.md); export --to onnx or torch"
        )
    write_timm_files(model, folder)
    difference = require_same(load_foreign(folder / CONFIG), model, WEIGHTS)
    if has_small_stem(model.network):  # timm refuses it; the serving example changes the stem
        return difference
    return max(difference, require_same(timm_logits(folder), model, f"timm's {WEIGHTS}"))


def write_hub(model: Classifier, folder: Path) -> float:
    """Write timm's form, or of a network that timm lacks the ONNX file and softaug's own file."""
    if model.card.model not in OWN_MODELS:
        return write_timm(model, folder)
    save_model(model.card, model.state_dict(), folder / WEIGHTS)
    return write_onnx(model, folder)


FORMS: Mapping[str, Write] = {
    "onnx": write_onnx,
    "torch": write_program,
    "timm": write_timm,
    "hub": write_hub,
}


def _traced(model: Classifier) -> torch.export.ExportedProgram:
    """Trace the served model by torch.export, for any number of images at once."""
    card = model.card
    images = torch.zeros(2, card.channels, card.height, card.width)
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own
            program = torch.export.export(
                Served(model).eval(), (images,), dynamic_shapes=({0: batch},)
            )
    except Exception as error:
        raise _not_exported(model, "torch.export", error) from error
    for node in program.graph.nodes:  # the paths of this machine are private
        node.meta.pop("stack_trace", None)
    return program


def _not_exported(model: Classifier, how: str, error: Exception) -> SoftaugError:
    return SoftaugError(f"model {model.card.model!r}: {how} fails on it: {one_line(error)}")
