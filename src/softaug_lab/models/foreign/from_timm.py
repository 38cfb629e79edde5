"""Models of timm by their name, with weights from a file of whoever trained them."""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, listed, one_line, unknown_name
from softaug_lab.models.foreign.preprocessing import Preprocessing

PREFIXES = ("module.", "model.", "_orig_mod.")  # of DataParallel, Lightning and torch.compile
WRAPPERS = ("state_dict", "model")  # keys under which checkpoints keep the weights


def timm_model(
    name: str, checkpoint: Path | None, input_size: int | None
) -> tuple[nn.Module, Preprocessing]:
    """A model of timm, its classes and channels those of the checkpoint, its view timm's own."""
    import timm
    from timm.data import resolve_model_data_config

    if not timm.is_model(name):
        raise unknown_name("model of timm", name, timm.list_models())
    config: Any = timm.get_pretrained_cfg(name)
    weights = None if checkpoint is None else _weights(checkpoint)
    options: dict[str, Any] = {"pretrained": weights is None}
    if weights is not None:
        for option, layer, axis in (
            ("num_classes", config.classifier, 0),
            ("in_chans", config.first_conv, 1),
        ):
            # Some models have two heads, or two first layers, of one shape.
            first = layer[0] if isinstance(layer, tuple | list) else layer
            weight = weights.get(f"{first}.weight")
            if weight is not None and weight.ndim > axis:
                options[option] = weight.shape[axis]
    # Transformers are built for one size of image.
    if config.fixed_input_size and input_size is not None:
        options["img_size"] = input_size
    try:
        network = timm.create_model(name, **options)
    except Exception as error:
        hint = "" if checkpoint else "; --checkpoint names a file of weights"
        raise SoftaugError(f"timm:{name} could not be built: {one_line(error)}{hint}") from error
    if weights is not None:
        _fill(network, weights, f"{checkpoint}: not the weights of timm:{name}")
    said = resolve_model_data_config(network)
    channels, height, width = said["input_size"]
    channels = options.get("in_chans", channels)
    mean, std = said["mean"], said["std"]
    if channels != len(mean):
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    crop = min(said["crop_pct"], 1.0)
    scaled = math.floor(height / crop), math.floor(width / crop)
    return network, Preprocessing(tuple(mean), tuple(std), channels, scaled, (height, width))


def _weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of its wrappers and without the prefixes of its makers."""
    from safetensors.torch import load_file

    try:
        if path.suffix.lower() == ".safetensors":
            found: Any = load_file(path)
        else:
            # timm's checkpoints hold their options beside the weights; a namespace runs nothing.
            with torch.serialization.safe_globals([argparse.Namespace]):
                found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SoftaugError(f"{path}: no such file") from error
    except Exception as error:
        raise SoftaugError(
            f"{path}: not readable as a checkpoint of tensors alone ({one_line(error)}); "
            "save the model's state_dict()"
        ) from error
    while isinstance(found, dict) and (
        inner := next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), None)
    ):
        found = inner
    if not isinstance(found, dict) or not found:
        raise SoftaugError(f"{path}: no weights in it")
    if odd := [str(key) for key, value in found.items() if not isinstance(value, Tensor)]:
        raise SoftaugError(f"{path}: not weights alone; {listed(odd, 3)} are no tensors")
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in found)), None):
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    weights: dict[str, Tensor] = found
    return weights


def _fill(network: nn.Module, weights: dict[str, Tensor], fault: str) -> None:
    """Give a network all its weights; raise SoftaugError naming the keys that do not fit."""
    own = network.state_dict()
    wrong = {
        "missing": [key for key in own if key not in weights],
        "unknown": [key for key in weights if key not in own],
        "of another shape": [
            f"{key} {list(weights[key].shape)} for {list(own[key].shape)}"
            for key in own
            if key in weights and weights[key].shape != own[key].shape
        ],
    }
    if any(wrong.values()):
        named = [f"{len(keys)} {how} ({listed(keys, 3)})" for how, keys in wrong.items() if keys]
        raise SoftaugError(f"{fault}; of their keys {', '.join(named)}")
    network.load_state_dict(weights)
