"""Models: a network between uint8 images and logits, saved as one file that can be shipped."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softaug.lab.cifar_models import pyramid_net, wide_resnet
from softaug.lab.errors import SoftaugError, UsageError, unknown_name
from softaug.lab.files import write_atomically

MOST_PIXELS = 89_478_485  # of the images a model file may ask for: Pillow's limit for a file
SMALL_IMAGE = 64  # pixels; up to here a network begins with a 3x3 stem and does not pool


@dataclass(frozen=True)
class ModelCard:
    """All that is needed to build a model again and to name what it says.

    temperature: what its logits are divided by before they are read as probabilities.
    """

    model: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    pretrained: bool = False
    temperature: float = 1.0


class Classifier(nn.Module):
    """uint8 images [N,C,H,W] to logits [N,K]: normalisation, then the network.

    mean, std: one number for each channel, in units of the pixels (0 to 255).
    """

    mean: Tensor
    std: Tensor

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


def build(card: ModelCard, mean: tuple[float, ...], std: tuple[float, ...]) -> Classifier:
    """Build one of OWN_MODELS, or a model of timm by its name, for the card's classes and images.

    For images up to 64 px ResNets get a 3x3 stem without max-pool, and EfficientNets a stem that
    keeps the size, as the field does for CIFAR; pretrained ones keep the stem that their weights
    were made for, and timm's normalisation.
    Raises UsageError for an unknown model and for images it cannot take, SoftaugError where
    pretrained weights can't be had.
    """
    network = _network(card, fetch=card.pretrained)
    _check_images(network, card)
    if card.pretrained:
        config = network.pretrained_cfg
        mean, std = (tuple(255 * value for value in config[key]) for key in ("mean", "std"))
        if card.channels != len(mean):
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return Classifier(network, card, mean, std)


def _network(card: ModelCard, fetch: bool) -> Any:
    """The network of a card: a torch module, with timm's attributes where timm has built it."""
    if card.model in OWN_MODELS:
        if card.pretrained:
            raise UsageError(
                f"model {card.model!r} has no pretrained weights; choose one of timm's"
            )
        return OWN_MODELS[card.model](card.channels, len(card.classes))
    import timm

    if not timm.is_model(card.model):
        raise unknown_name("model", card.model, [*OWN_MODELS, *timm.list_models()])
    # Transformers are built for one size of image.
    fixed = getattr(timm.get_pretrained_cfg(card.model), "fixed_input_size", False)
    options: dict[str, Any] = {"img_size": (card.height, card.width)} if fixed else {}
    try:
        network = timm.create_model(
            card.model,
            pretrained=fetch,
            num_classes=len(card.classes),
            in_chans=card.channels,
            **options,
        )
    except Exception as error:
        what = "built with pretrained weights" if fetch else "built"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SoftaugError(
            f"model {card.model!r} could not be {what} for {card.channels} channels: {reason}"
        ) from error
    if max(card.height, card.width) <= SMALL_IMAGE and not card.pretrained:
        _small_stem(network)
    return network


def _check_images(network: nn.Module, card: ModelCard) -> None:
    """Refuse, before any work, images that the network cannot take."""
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


def _small_stem(network: nn.Module) -> None:
    """Replace timm's stem for large images by the one of CIFAR networks."""
    stem, pool = getattr(network, "conv1", None), getattr(network, "maxpool", None)
    if isinstance(stem, nn.Conv2d) and pool is not None:
        network.conv1 = nn.Conv2d(stem.in_channels, stem.out_channels, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
    stem = getattr(network, "conv_stem", None)
    if isinstance(stem, nn.Conv2d):
        # EfficientNet divides the side by 32: of 32 px one would be left, now it is 2.
        stem.stride = (1, 1)


class _Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(inputs, outputs, stride),
            nn.ReLU(inplace=True),
            *_conv(outputs, outputs, 1),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv(inputs, outputs, stride, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def _conv(inputs: int, outputs: int, stride: int, size: int = 3) -> tuple[nn.Module, nn.Module]:
    return (
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def small_resnet(channels: int, num_classes: int, width: int = 32) -> nn.Module:
    """A ResNet of three blocks for CPUs: about 309,000 parameters at 3 channels and 10 classes.

    Its stem halves the image: at equal speed, wide layers on half the side err less than narrow
    ones on the whole.
    """
    return nn.Sequential(
        *_conv(channels, width, 2),
        nn.ReLU(inplace=True),
        _Block(width, width, 1),
        _Block(width, 2 * width, 2),
        _Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )


# Ours by channels and classes; all other names are timm's.
OWN_MODELS: dict[str, Callable[[int, int], nn.Module]] = {
    "small": small_resnet,
    "wrn-28-10": wide_resnet,
    "pyramidnet-272-shakedrop": pyramid_net,
}


def take_head(model: Classifier) -> tuple[str, nn.Linear]:
    """Put the identity in place of the last layer, so that the model gives features [N,D].

    Returns the name of that layer within the model, and the layer. Raises UsageError where a
    network does not end in one linear layer for its classes.
    """
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    name, head = layers[-1] if layers else ("", None)
    if head is None or head.out_features != len(model.card.classes):
        raise UsageError(_no_features(model.card))
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, nn.Identity())
    if not _gives(model, head.in_features):
        raise UsageError(_no_features(model.card))
    return name, head


def _no_features(card: ModelCard) -> str:
    return (
        f"model {card.model!r} does not end in one linear layer for its {len(card.classes)} "
        "classes, so it has no features to pre-train or to probe; choose another --model"
    )


def _gives(model: Classifier, features: int) -> bool:
    """Whether an image gives so many numbers; a mean of two last layers fails without one."""
    card, was_training = model.card, model.training
    blank = torch.zeros(1, card.channels, card.height, card.width, device=model.mean.device)
    try:
        with torch.inference_mode():
            given: Tensor = model.eval()(blank)
        return given.shape == (1, features)
    except RuntimeError:
        return False
    finally:
        model.train(was_training)


def save_model(card: ModelCard, weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a Classifier's state dict, class names and configuration as one safetensors file."""
    from safetensors.torch import save

    tensors = {name: value.cpu().contiguous() for name, value in weights.items()}
    content = save(tensors, metadata={"softaug": json.dumps(asdict(card))})
    write_atomically(path, content)


def load_model(path: Path) -> Classifier:
    """Read a model that `save_model` wrote, in evaluation mode.

    Raises SoftaugError where the file is absent, broken or not ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
        fields = json.loads(metadata["softaug"])
    except FileNotFoundError as error:
        raise SoftaugError(f"{path}: no model here; train one with `softaug train`") from error
    except KeyError as error:
        raise SoftaugError(f"{path}: a safetensors file, but not one softaug wrote") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise SoftaugError(f"{path}: not a whole safetensors file ({error})") from error
    fields["classes"] = tuple(fields["classes"])
    card = ModelCard(**fields)
    # A convolutional network takes any size, and `predict` makes images of it.
    if card.height * card.width > MOST_PIXELS:
        raise SoftaugError(f"{path}: images of {card.width} x {card.height} px are too large")
    model = Classifier(_network(card, fetch=False), card)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise SoftaugError(f"{path}: its weights do not fit its model {card.model!r}") from error
    return model.eval()
