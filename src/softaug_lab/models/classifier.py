"""Classifier: a network with its normalisation, saved as one safetensors file.

n images, c channels, h w pixels, k classes, d features.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.models.card import ModelCard
from softaug_lab.models.heads import HEADS, OwnHead, bound_weights
from softaug_lab.models.model_file import read_model_file
from softaug_lab.models.network import (
    OWN_MODELS,
    begin_heads_small,
    build_network,
    check_images,
    head_layers,
)
from softaug_lab.models.weights import Weights, fitted


class Classifier(nn.Module):
    """Map uint8 images [N,C,H,W] to logits [N,K]: normalise, then apply the network.

    mean, std: one number, or one for each channel, in units of the pixels (0 to 255). head_name: of
    the module that replaces the network's last layer, where the card names one.
    """

    mean: Tensor
    std: Tensor
    head_name: str | None = None

    def __init__(
        self,
        network: nn.Module,
        card: ModelCard,
        mean: tuple[float, ...] = (127.5,),
        std: tuple[float, ...] = (127.5,),
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.card = card
        shape = (1, card.channels, 1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1).expand(shape).clone())
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1).expand(shape).clone())

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.contiguous(memory_format=torch.channels_last).float()
        return cast(Tensor, self.network((pixels - self.mean).div_(self.std)))

    @property
    def own_head(self) -> OwnHead | None:
        """The last layer with a score of its own, where the card names one."""
        return cast(OwnHead, self.get_submodule(self.head_name)) if self.head_name else None


def build(card: ModelCard, mean: tuple[float, ...], std: tuple[float, ...]) -> Classifier:
    """Build one of OWN_MODELS, or a model of timm by its name, for the card's classes and images.

    For images up to 64 px ResNets get a 3x3 stem without max-pool, and EfficientNets a stem of
    stride 1, as is usual for CIFAR. Pretrained models keep the stem that their weights were trained
    with, and timm's normalisation. mean, std: as in `Classifier`.
    Raises UsageError for an unknown model and for images that it cannot process, SoftaugError where
    pretrained weights cannot be fetched.
    """
    card = replace(card, small_stem=card.takes_small_stem and card.model not in OWN_MODELS)
    network = build_network(card, fetch_weights=card.pretrained)
    check_images(network, card)
    if card.pretrained:
        mean, std = _for_channels(*_normalisation(network), card.channels)
        if network.pretrained_cfg["num_classes"] != len(card.classes):
            begin_heads_small(network, len(card.classes))
    return _with_head(Classifier(network, card, mean, std))


def build_from(
    weights: Weights,
    card: ModelCard,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[Classifier, list[str]]:
    """Build the network of a card with weights of others, and a new head where theirs is another.

    The normalisation is the one that the weights were trained with, by their source, else timm's
    for the network; mean, std: those of networks of which neither is known.
    Returns the model and notes for the user. Raises UsageError as `build`, SoftaugError where the
    weights do not fit the network.
    """
    own = card.model in OWN_MODELS
    card = replace(card, pretrained=True, small_stem=weights.small_stem)
    card = replace(card, small_stem=card.takes_small_stem and not own)
    network = build_network(card, fetch_weights=False)
    check_images(network, card)
    begin_heads_small(network, len(card.classes))  # those whose weights fit are replaced below
    layers = head_layers(network, len(card.classes))
    head = frozenset(key for key in network.state_dict() if key.rpartition(".")[0] in layers)
    fault = f"{weights.name}: not the weights of {card.model!r} (--model)"
    state, notes = fitted(network.state_dict(), weights.tensors, head, fault)
    network.load_state_dict(state)
    if weights.mean is not None and weights.std is not None:
        mean, std = weights.mean, weights.std
    elif not own:
        mean, std = _normalisation(network)
    mean, std = _for_channels(mean, std, card.channels)
    return _with_head(Classifier(network, card, mean, std)), [*weights.notes, *notes]


def _normalisation(network: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read timm's mean and standard deviation for a network, in units of the pixels."""
    config = network.pretrained_cfg
    mean, std = (tuple(255 * value for value in config[key]) for key in ("mean", "std"))
    return mean, std


def _for_channels(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Average over the channels where images have another number of them."""
    if channels in (len(mean), len(std)):
        return mean, std
    return (sum(mean) / len(mean),), (sum(std) / len(std),)


def head_keys(model: Classifier) -> frozenset[str]:
    """Name the parameters of the layers that give the logits; none where they are not known."""
    layers = {f"network.{name}" for name in head_layers(model.network, len(model.card.classes))}
    return frozenset(key for key, _ in model.named_parameters() if key.rpartition(".")[0] in layers)


def take_head(model: Classifier) -> tuple[str, nn.Linear]:
    """Replace the last layer by the identity, so that the model returns features [N,D].

    Returns the layer's name within the model, and the layer. Raises UsageError where a network does
    not end in one linear layer for its classes.
    """
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    name, head = layers[-1] if layers else ("", None)
    if head is None or head.out_features != len(model.card.classes):
        raise UsageError(_no_features(model))
    _put(model, name, nn.Identity())
    if not _returns(model, head.in_features):
        raise UsageError(_no_features(model))
    return name, head


@contextmanager
def headless(model: Classifier) -> Iterator[OwnHead]:
    """Make a model return features [N,D] for the block; yields the head that it lacks there."""
    name, head = model.head_name, model.own_head
    assert name is not None
    assert head is not None
    _put(model, name, nn.Identity())
    try:
        yield head
    finally:
        _put(model, name, cast(nn.Module, head))


def _with_head(model: Classifier) -> Classifier:
    """Put the card's head in place of the last layer, and bound the weights before it."""
    card = model.card
    if card.head is not None:
        name, linear = take_head(model)
        _put(model, name, HEADS[card.head](linear))
        model.head_name = name
    if card.bound is not None:
        bound_weights(model, card.bound)
    return model


def _put(model: Classifier, name: str, module: nn.Module) -> None:
    """Put a module into a model by its name."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def _no_features(model: Classifier) -> str:
    card = model.card
    if model.head_name is not None:
        return (
            f"the head of the run's arm ({card.head}) is no linear layer, so the model has no "
            "features to pre-train or to probe; choose a run of another arm"
        )
    return (
        f"model {card.model!r} does not end in one linear layer for its {len(card.classes)} "
        "classes, so it has no features to pre-train, to probe or to put a head on; choose another "
        "--model"
    )


def _returns(model: Classifier, features: int) -> bool:
    """Whether the model maps an image to so many numbers.

    A network that averages two last layers fails once one of them is removed.
    """
    card, was_training = model.card, model.training
    blank = torch.zeros(1, card.channels, card.height, card.width, device=model.mean.device)
    try:
        with torch.inference_mode():
            output: Tensor = model.eval()(blank)
        return output.shape == (1, features)
    except RuntimeError:
        return False
    finally:
        model.train(was_training)


def load_model(path: Path) -> Classifier:
    """Read a model that `save_model` wrote, in eval mode.

    Raises SoftaugError where the file is absent, broken or not written by softaug.
    """
    card, tensors = read_model_file(path)
    model = _with_head(Classifier(build_network(card, fetch_weights=False), card))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise SoftaugError(f"{path}: its weights do not fit its model {card.model!r}") from error
    return model.eval()
