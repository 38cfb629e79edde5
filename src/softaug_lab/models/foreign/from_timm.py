"""Models of timm by their name, with weights from any training's checkpoint."""

import argparse
import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, listed, one_line, unknown_name
from softaug_lab.models.foreign.preprocessing import Preprocessing

PREFIXES = ("module.", "model.", "_orig_mod.")  # of DataParallel, Lightning and torch.compile
AVERAGED = ("state_dict_ema", "model_ema")  # keys of the weights that timm averaged over steps
WRAPPERS = (*AVERAGED, "state_dict", "model")  # keys under which checkpoints keep the weights
log = logging.getLogger(__name__)


def timm_model(
    name: str, checkpoint: Path | None, input_size: int | None
) -> tuple[nn.Module, Preprocessing]:
    """Build a model of timm, with the checkpoint's classes and channels and timm's preprocessing.

    checkpoint: timm's own weights where None. input_size: side of the images in pixels, for models
    that are built for one image size. Raises UsageError for an unknown name, SoftaugError for what
    cannot be built or loaded.
    """
    import timm

    if not timm.is_model(name):
        raise unknown_name("model of timm", name, timm.list_models())
    config: Any = timm.get_pretrained_cfg(name)
    weights = None if checkpoint is None else _read_weights(checkpoint)
    options: dict[str, Any] = {"pretrained": True}
    if weights is not None:
        options = {"pretrained": False, **_shape_options(config, weights)}
    # Transformers are built for one image size.
    if config.fixed_input_size and input_size is not None:
        options["img_size"] = input_size
    try:
        network = timm.create_model(name, **options)
    except Exception as error:
        hint = "" if checkpoint else "; --checkpoint names a file of weights"
        raise SoftaugError(f"timm:{name} could not be built: {one_line(error)}{hint}") from error
    if weights is not None:
        _load_weights(network, weights, f"{checkpoint}: not the weights of timm:{name}")
    return network, _preprocessing(network, options.get("in_chans"))


def _shape_options(config: Any, weights: dict[str, Tensor]) -> dict[str, int]:
    """Read the number of classes and of channels from the shapes of a checkpoint's weights."""
    options = {}
    for option, layer, axis in (
        ("num_classes", config.classifier, 0),
        ("in_chans", config.first_conv, 1),
    ):
        # Some models have two heads, or two first layers, of one shape.
        first = layer[0] if isinstance(layer, tuple | list) else layer
        weight = weights.get(f"{first}.weight")
        if weight is not None and weight.ndim > axis:
            options[option] = weight.shape[axis]
    return options


def _preprocessing(network: nn.Module, channels: int | None) -> Preprocessing:
    """Read timm's preprocessing of a network; channels: of a checkpoint, where known."""
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(network)
    default_channels, height, width = config["input_size"]
    channels = channels or default_channels
    mean, std = config["mean"], config["std"]
    if channels != len(mean):
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    crop = min(config["crop_pct"], 1.0)
    scaled = math.floor(height / crop), math.floor(width / crop)
    return Preprocessing(tuple(mean), tuple(std), channels, scaled, (height, width))


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, without its wrappers and the prefixes of their keys.

    Averaged weights are preferred: they are what timm keeps them for.
    """
    weights = _read_checkpoint(path)
    if isinstance(weights, dict) and (key := next((k for k in AVERAGED if k in weights), None)):
        log.warning("%s: the averaged weights, %s, are evaluated", path, key)
    while isinstance(weights, dict) and (
        inner := next((weights[k] for k in WRAPPERS if isinstance(weights.get(k), dict)), None)
    ):
        weights = inner
    if not isinstance(weights, dict) or not weights:
        raise SoftaugError(f"{path}: no weights in it")
    if odd := [str(key) for key, value in weights.items() if not isinstance(value, Tensor)]:
        raise SoftaugError(f"{path}: not weights alone; {listed(odd, 3)} are no tensors")
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in weights)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    tensors: dict[str, Tensor] = weights
    return tensors


def _read_checkpoint(path: Path) -> Any:
    """Read a safetensors file or a pickle of tensors; no code in it is run."""
    from safetensors.torch import load_file

    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        # timm's checkpoints hold their options beside the weights; a namespace runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SoftaugError(f"{path}: no such file") from error
    except Exception as error:
        raise SoftaugError(
            f"{path}: not readable as a checkpoint of tensors alone ({one_line(error)}); "
            "save the model's state_dict()"
        ) from error


def _load_weights(network: nn.Module, weights: dict[str, Tensor], fault: str) -> None:
    """Load all weights of a network; raise SoftaugError naming the keys that do not fit."""
    expected = network.state_dict()
    wrong = {
        "missing": [key for key in expected if key not in weights],
        "unknown": [key for key in weights if key not in expected],
        "of another shape": [
            f"{key} {list(weights[key].shape)} for {list(expected[key].shape)}"
            for key in expected
            if key in weights and weights[key].shape != expected[key].shape
        ],
    }
    if any(wrong.values()):
        named = [f"{len(keys)} {how} ({listed(keys, 3)})" for how, keys in wrong.items() if keys]
        raise SoftaugError(f"{fault}; of their keys {', '.join(named)}")
    network.load_state_dict(weights)
