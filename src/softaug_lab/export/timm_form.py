"""timm's form of a model: config.json and weights, as timm reads them from a folder or the Hub.

n images, c channels, h w pixels, k classes.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.storage import write_atomically, write_json
from softaug_lab.models import CONFIG, DESCRIPTION, WEIGHTS, Classifier, describe, has_small_stem

# Settings that timm's files hold beside those that softaug decides.
KEPT = ("fixed_input_size", "first_conv", "classifier")


def write_timm_files(model: Classifier, folder: Path) -> None:
    """Write config.json and weights whose logits are calibrated.

    The temperature is divided into the weights of the last layer. timm cannot build a stem for
    small images: `model_args` then has the key small_stem, which timm refuses, as the weights of
    an EfficientNet would fit timm's own stem and give other logits.
    """
    from safetensors.torch import save

    card, network = model.card, _calibrated(model)
    about = describe(model, normalises=False)
    shape = [card.channels, card.height, card.width]
    cfg: Any = network.pretrained_cfg
    architecture = card.model.partition(".")[0]  # without the tag of pretrained weights
    config = {
        "architecture": architecture,
        "num_classes": len(card.classes),
        "num_features": network.num_features,
        "label_names": list(card.classes),
        **({"model_args": {"small_stem": True}} if has_small_stem(network) else {}),
        "pretrained_cfg": {
            **{key: cfg[key] for key in KEPT if cfg.get(key) is not None},
            "num_classes": len(card.classes),
            "input_size": shape,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": about["mean"],
            "std": about["std"],
        },
        DESCRIPTION: about,
    }
    write_json(folder / CONFIG, config)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(weights, metadata={"format": "pt"}))


def _calibrated(model: Classifier) -> Any:
    """Copy the network and divide the weights of its last layer, or layers, by the temperature.

    Raises SoftaugError where the network does not end in layers that scale with their weights.
    """
    network: Any = deepcopy(model.network).to(memory_format=torch.contiguous_format)
    temperature = model.card.temperature
    if temperature == 1:
        return network
    head = network.get_classifier()
    layers = head if isinstance(head, tuple | list) else (head,)  # some networks average two
    for layer in layers:
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            raise SoftaugError(
                f"model {model.card.model!r} ends in {type(layer).__name__}, which cannot take "
                "the temperature into its weights; export --to onnx or torch"
            )
        with torch.no_grad():
            for values in layer.parameters():
                values.div_(temperature)
    return network


def timm_logits(folder: Path) -> Callable[[Tensor], Tensor]:
    """Load a folder as users of timm do; the result maps uint8 images [N,C,H,W] to logits."""
    import timm

    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1) for key in ("mean", "std"))

    def run(images: Tensor) -> Tensor:
        logits: Tensor = network((images / 255 - mean) / std)
        return logits

    return run
