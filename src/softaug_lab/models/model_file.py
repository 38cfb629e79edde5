"""The model file: a Classifier's tensors and its card, as one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.storage import write_atomically
from softaug_lab.models.card import ModelCard, read_card


def save_model(card: ModelCard, weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a Classifier's state dict, class names and configuration as one safetensors file."""
    from safetensors.torch import save

    tensors = {name: value.cpu().contiguous() for name, value in weights.items()}
    fields = {name: value for name, value in asdict(card).items() if value is not None}
    content = save(tensors, metadata={"softaug": json.dumps(fields)})
    write_atomically(path, content)


def read_model_file(path: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """Read the card and the tensors that `save_model` wrote.

    Raises SoftaugError where the file is absent, broken or not written by softaug.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
        fields = json.loads(metadata["softaug"])
    except FileNotFoundError as error:
        raise _absent(path) from error
    except KeyError as error:
        raise SoftaugError(f"{path}: a safetensors file, but not one softaug wrote") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise SoftaugError(f"{path}: not a whole safetensors file ({error})") from error
    return read_card(fields, path), tensors


def _absent(path: Path) -> SoftaugError:
    """Make the error for a model file that is not there, or not yet."""
    folder = path.parent
    if (folder / "recipe.json").exists() and not (folder / "evaluation.json").exists():
        return UsageError(f"{folder}: the run is not finished; softaug train --resume goes on")
    return SoftaugError(f"{path}: no model here; train one with `softaug train`")
