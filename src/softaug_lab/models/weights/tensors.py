"""Read the tensors of a file of weights, without its wrappers and prefixes; no code in it runs."""

import argparse
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, listed, one_line

PREFIXES = ("module.", "model.", "_orig_mod.")  # of DataParallel, Lightning and torch.compile
AVERAGED = ("state_dict_ema", "model_ema")  # keys of the weights that timm averaged over steps
WRAPPERS = (*AVERAGED, "state_dict", "model")  # keys under which checkpoints keep the weights


def read_tensors(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read the tensors of a checkpoint by their keys, and notes for the user.

    Averaged weights are preferred: they are what timm keeps them for. Raises SoftaugError for a
    file that is absent, broken, or holds anything but tensors.
    """
    weights, notes = _read_checkpoint(path), []
    if isinstance(weights, dict) and (key := next((k for k in AVERAGED if k in weights), None)):
        notes.append(f"{path}: the averaged weights, {key}, are used")
    while isinstance(weights, dict) and (
        inner := next((weights[k] for k in WRAPPERS if isinstance(weights.get(k), dict)), None)
    ):
        weights = inner
    if not isinstance(weights, dict) or not weights:
        raise SoftaugError(f"{path}: no weights in it")
    if odd := [str(key) for key, value in weights.items() if not isinstance(value, Tensor)]:
        raise SoftaugError(f"{path}: not weights alone; {listed(odd, 3)} are no tensors")
    stripped = ""
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in weights)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
        stripped += prefix
    if stripped:
        notes.append(f"{path}: the prefix {stripped} of all its keys is left out")
    tensors: dict[str, Tensor] = weights
    return tensors, notes


def _read_checkpoint(path: Path) -> Any:
    """Read a safetensors file or a pickle of tensors."""
    from safetensors.torch import load_file

    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        # timm's checkpoints hold their options beside the weights; a namespace runs nothing.
        with (
            torch.serialization.safe_globals([argparse.Namespace]),
            warnings.catch_warnings(),
        ):
            # torch asks to report other pickles to it; what is wrong with them is said below.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SoftaugError(f"{path}: no such file") from error
    except Exception as error:
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise SoftaugError(
                f"{path}: it holds code ({code[1]}), not tensors alone; do not load it; of a model "
                "of your own, save the state_dict()"
            ) from error
        # torch's own words for these advise to load the file all the same.
        foreign = isinstance(error, (pickle.UnpicklingError, KeyError))
        reason = "not as torch.save writes one" if foreign else one_line(error)
        raise SoftaugError(
            f"{path}: not readable as a checkpoint of tensors alone ({reason}); "
            "save the model's state_dict()"
        ) from error
