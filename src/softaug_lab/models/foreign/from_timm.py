"""Models of timm by their name, with weights from any training's checkpoint."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, one_line, unknown_name
from softaug_lab.models.foreign.preprocessing import Preprocessing
from softaug_lab.models.weights import Weights, fitted, read_weights, require_pretrained

log = logging.getLogger(__name__)


def timm_model(
    name: str, weights_name: str | None, input_size: int | None
) -> tuple[nn.Module, Preprocessing]:
    """Build a model of timm, with the classes and channels of its weights, and its preprocessing.

    weights_name: as for `read_weights`; timm's own where None. input_size: side of the images in
    pixels, for models that are built for one image size. Raises UsageError for an unknown name,
    SoftaugError for what cannot be built or loaded.
    """
    import timm

    if not timm.is_model(name):
        raise unknown_name("model of timm", name, timm.list_models())
    config: Any = timm.get_pretrained_cfg(name)
    weights = None if weights_name is None else read_weights(weights_name, download=True)
    options: dict[str, Any] = {"pretrained": True}
    if weights is None:
        require_pretrained(config)
    else:
        options = {"pretrained": False, **_shape_options(config, weights.tensors)}
    # Transformers are built for one image size.
    if config.fixed_input_size and input_size is not None:
        options["img_size"] = input_size
    try:
        network = timm.create_model(name, **options)
    except Exception as error:
        hint = "" if weights else "; --weights names a file of them"
        raise SoftaugError(f"timm:{name} could not be built: {one_line(error)}{hint}") from error
    if weights is not None:
        load_weights(network, weights, f"{weights_name}: not the weights of timm:{name}")
    return network, _preprocessing(network, options.get("in_chans"))


def load_weights(network: nn.Module, weights: Weights, fault: str) -> None:
    """Load all weights of a network, and say what was changed on the way."""
    state, notes = fitted(network.state_dict(), weights.tensors, frozenset(), fault)
    network.load_state_dict(state)
    for note in (*weights.notes, *notes):
        log.warning(note)


def _shape_options(config: Any, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Read the number of classes and of channels from the shapes of the weights.

    Where the keys have another spelling, the last matrix is the head, and the first one the stem.
    """
    options = {}
    matrices = [weight for weight in weights.values() if weight.ndim > 1]
    for option, layer, axis in (
        ("num_classes", config.classifier, 0),
        ("in_chans", config.first_conv, 1),
    ):
        # Some models have two heads, or two first layers, of one shape.
        first = layer[0] if isinstance(layer, tuple | list) else layer
        weight = weights.get(f"{first}.weight", matrices[axis - 1] if matrices else None)
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
