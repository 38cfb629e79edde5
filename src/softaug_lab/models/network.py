"""Build the network that a model card names: one of ours, or one of timm's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from softaug_lab.basics.errors import SoftaugError, UsageError, unknown_name
from softaug_lab.models.card import ModelCard
from softaug_lab.models.cifar import pyramid_net, wide_resnet
from softaug_lab.models.small import small_resnet
from softaug_lab.models.weights import require_pretrained


def build_network(card: ModelCard, fetch_weights: bool) -> Any:
    """Build the network of a card: a torch module, with timm's attributes where timm built it.

    fetch_weights: load timm's pretrained weights. Raises UsageError for an unknown name,
    SoftaugError where timm fails.
    """
    if card.model in OWN_MODELS:
        if fetch_weights:
            raise UsageError(
                f"model {card.model!r} has no pretrained weights; choose one of timm's"
            )
        return OWN_MODELS[card.model](card.channels, len(card.classes))
    import timm

    require_known(card.model)
    if fetch_weights:
        require_pretrained(timm.get_pretrained_cfg(card.model))
    # Transformers are built for one image size.
    fixed = getattr(timm.get_pretrained_cfg(card.model), "fixed_input_size", False)
    options: dict[str, Any] = {"img_size": (card.height, card.width)} if fixed else {}
    try:
        network = timm.create_model(
            card.model,
            pretrained=fetch_weights,
            num_classes=len(card.classes),
            in_chans=card.channels,
            **options,
        )
    except Exception as error:
        what = "built with pretrained weights" if fetch_weights else "built"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SoftaugError(
            f"model {card.model!r} could not be {what} for {card.channels} channels: {reason}"
        ) from error
    if card.takes_small_stem:
        _small_stem(network)
    return network


def require_known(model: str) -> None:
    """Raise UsageError for the name of a model that is neither ours nor timm's."""
    if model in OWN_MODELS:
        return
    import timm

    if not timm.is_model(model):
        raise unknown_name("model", model, [*OWN_MODELS, *timm.list_models()])


def check_images(network: nn.Module, card: ModelCard) -> None:
    """Raise UsageError, before any work, where the network fails on images of the card's size."""
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, card.channels, card.height, card.width))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UsageError(
            f"model {card.model!r} cannot take images of {card.width} x {card.height} px "
            f"({reason}); choose another --model, or another --size for a folder or Parquet files"
        ) from error
    network.train()


def head_layers(network: nn.Module, classes: int) -> frozenset[str]:
    """Name the layers that give the logits: those of timm's configuration, else the last linear.

    Empty where the last linear layer has another number of outputs than there are classes.
    """
    named = getattr(network, "pretrained_cfg", {}).get("classifier")
    if named:
        return frozenset([named] if isinstance(named, str) else named)
    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    return frozenset(name for name, layer in layers[-1:] if layer.out_features == classes)


def begin_heads_small(network: nn.Module, classes: int) -> None:
    """Draw the layers that give the logits anew, by torch's own rule for their kind.

    timm draws the last layer of some networks by its number of outputs: in EfficientNets for two
    classes with a standard deviation of 0.41, so that on pretrained features the first logits are
    far apart, and the model ends surer than it is often right.
    """
    for name in head_layers(network, classes):
        layer = network.get_submodule(name)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.reset_parameters()


def _small_stem(network: nn.Module) -> None:
    """Replace timm's stem for large images by the 3x3 stem of CIFAR networks."""
    stem, pool = getattr(network, "conv1", None), getattr(network, "maxpool", None)
    if isinstance(stem, nn.Conv2d) and pool is not None:
        network.conv1 = nn.Conv2d(stem.in_channels, stem.out_channels, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
    stem = getattr(network, "conv_stem", None)
    if isinstance(stem, nn.Conv2d):
        # EfficientNet divides the side by 32: 32 px would shrink to 1, now they shrink to 2.
        stem.stride = (1, 1)


def has_small_stem(network: nn.Module) -> bool:
    """Whether a network of timm has a stem for small images, which timm itself does not build."""
    stem = getattr(network, "conv_stem", None)
    strides = stem.stride if isinstance(stem, nn.Conv2d) else None
    return isinstance(getattr(network, "maxpool", None), nn.Identity) or strides == (1, 1)


# From channels and number of classes to a network; all other names are timm's.
OWN_MODELS: dict[str, Callable[[int, int], nn.Module]] = {
    "small": small_resnet,
    "wrn-28-10": wide_resnet,
    "pyramidnet-272-shakedrop": pyramid_net,
}
