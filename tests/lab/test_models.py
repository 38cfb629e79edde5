"""Models: timm's own for any size of image, with the weights they come with, kept in one file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from softaug_lab.basics.errors import UsageError
from softaug_lab.models.card import ModelCard
from softaug_lab.models.classifier import build, load_model
from softaug_lab.models.model_file import save_model
from softaug_lab.models.small import small_resnet

CLASSES = ("a", "b", "c")
GREY, STD = (90.0,), (60.0,)


def pixels(channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (5, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator).to(torch.uint8)


@pytest.mark.parametrize(("size", "stem"), [(32, 3), (96, 7)])
def test_timm_resnets_get_the_stem_for_their_images(size: int, stem: int) -> None:
    card = ModelCard("resnet18", ("a", "b"), 3, size, size)
    network: Any = build(card, (0.0,), (1.0,)).network
    assert network.conv1.kernel_size == (stem, stem)


def test_the_stem_is_recorded(tmp_path: Path) -> None:
    """A file says which stem its weights belong to; one that does not is read by the rule."""
    path = tmp_path / "model.safetensors"
    model = build(ModelCard("resnet18", CLASSES, 3, 32, 32, small_stem=False), GREY, STD)
    assert model.card.small_stem is False
    save_model(model.card, model.state_dict(), path)
    network: Any = load_model(path).network
    assert network.conv1.kernel_size == (7, 7)
    model = build(ModelCard("resnet18", CLASSES, 3, 32, 32), GREY, STD)
    assert model.card.small_stem is True
    save_model(replace(model.card, small_stem=None), model.state_dict(), path)
    network = load_model(path).network
    assert network.conv1.kernel_size == (3, 3)
    assert build(ModelCard("small", CLASSES, 3, 32, 32), GREY, STD).card.small_stem is False


def test_efficientnets_leave_more_than_one_pixel_of_small_images() -> None:
    card = ModelCard("efficientnet_b0", CLASSES, 3, 32, 32)
    network: Any = build(card, (0.0,), (1.0,)).network
    assert network.forward_features(torch.zeros(1, 3, 32, 32)).shape[2:] == (2, 2)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("small", (1, 28, 28)),
        ("test_resnet", (1, 28, 20)),
        ("test_efficientnet", (3, 32, 32)),
        ("test_vit", (3, 32, 48)),
        ("test_vit", (1, 64, 64)),
    ],
)
def test_a_saved_model_says_the_same(
    name: str, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    model = build(ModelCard(name, CLASSES, *shape), GREY, STD).eval()
    save_model(model.card, model.state_dict(), tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    images = pixels(*shape)
    with torch.inference_mode():
        logits = model(images)
        assert logits.shape == (5, 3)
        assert torch.equal(again(images), logits)
    assert again.card == model.card


def test_images_that_a_model_cannot_take_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'test_vit' cannot take images of 28 x 30 px \(.*--size"):
        build(ModelCard("test_vit", CLASSES, 3, 30, 28), GREY, STD)


def test_building_leaves_no_trace_of_the_trial() -> None:
    model = build(ModelCard("test_resnet", CLASSES, 3, 32, 32), GREY, STD)
    assert model.training
    assert all(module.training for module in model.modules())
    batches = [v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")]
    assert batches
    assert not any(batches)


@pytest.mark.parametrize("channels", [1, 3])
def test_pretrained_weights_come_with_their_normalisation(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights from a file instead of the network, through timm's own loading."""
    theirs: Any = timm.create_model("test_resnet")
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    create: Any = timm.create_model

    def from_file(*args: Any, **options: Any) -> Any:
        options["pretrained_cfg_overlay"] = {"file": str(tmp_path / "weights.safetensors")}
        return create(*args, **options)

    monkeypatch.setattr(timm, "create_model", from_file)
    monkeypatch.setattr("softaug_lab.models.network.require_pretrained", lambda _: None)
    card = ModelCard("test_resnet", CLASSES, channels, 32, 32, pretrained=True)
    model = build(card, GREY, STD)
    name = "layer1.0.conv1.weight"
    assert torch.equal(model.network.state_dict()[name], theirs.state_dict()[name])
    expected = [255 * value for value in theirs.pretrained_cfg["mean"]]
    if channels == 1:
        expected = [sum(expected) / 3]
    assert model.mean.flatten().tolist() == pytest.approx(expected)
    save_model(model.card, model.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(timm, "create_model", create)
    # Loading needs no network: the weights are in the file.
    again = load_model(tmp_path / "model.safetensors")
    assert torch.equal(again.mean, model.mean)


def test_small_has_the_size_its_docstring_says() -> None:
    parameters = sum(p.numel() for p in small_resnet(3, 10).parameters())
    assert round(parameters, -3) == 309_000
