"""The shipped recipes: each parses, builds its network and arms, and takes real steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator
from torchvision.transforms import v2

from softaug import (
    Chain,
    Crop,
    Flip,
    Hard,
    RandAugment,
    RandomResizedCrop,
    ResizedCrop,
    TrivialAugment,
    UniformCrop,
    per_sample,
)
from softaug_lab.basics.processes import Processes
from softaug_lab.cli.app import main
from softaug_lab.cli.commands import app
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.decode import read_image
from softaug_lab.models.classifier import load_model
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.recipes.yaml_files import SHIPPED
from softaug_lab.runs.folder import open_run
from softaug_lab.training.augmentation import build_arm
from softaug_lab.training.loop import fit
from softaug_lab.training.progress import Progress

CPU = Processes(torch.device("cpu"))
NETWORKS = {name: name.partition("-")[0] for name in SHIPPED if "-" in name}  # and their data
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}


def options(*command: str) -> dict[str, Any]:
    """What a command would be called with."""
    _, bound, _ = app.parse_args(list(command), exit_on_error=False, print_error=False)
    return bound.arguments


def noise(data: str) -> Data:
    """Eight images as large as a data set's, of some of its classes."""
    side = 224 if data == "imagenet" else 32
    images = torch.randint(0, 256, (8, 3, side, side), generator=Generator().manual_seed(0))
    part = ImageSet(images.to(torch.uint8), torch.arange(8))
    return Data(data, tuple(f"class {i}" for i in range(CLASSES[data])), part, part)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if "resnet18" in name else pytest.mark.slow) for name in NETWORKS],
)
def test_a_recipe_takes_real_steps(name: str, tmp_path: Path) -> None:
    recipe, data = options("train", "x", "--recipe", name)["recipe"], noise(NETWORKS[name])
    recipe = replace(recipe, arm="soft-both", epochs=1, end_epochs=0, batch_size=4)
    steps: list[Progress] = []
    run = open_run(tmp_path / "run", recipe, data, {}, False)
    fit(recipe, data, run, CPU, steps.append)
    model = load_model(run.model_file)
    assert [step.step for step in steps] == [1, 2]
    assert model.card.model == recipe.model
    parameters = sum(p.numel() for p in model.parameters())
    # The head of the file names the count.
    assert f"{parameters:,} parameters" in SHIPPED[name].read_text()


def test_recipes_are_the_papers() -> None:
    cifar = options("train", "cifar100", "--recipe", "cifar100-resnet18")
    assert cifar["arm"] == "soft-both"
    assert cifar["recipe"] == Recipe(
        model="resnet18",
        epochs=500,
        warmup_epochs=0,
        end_epochs=20,
        weight_decay=5e-4,
        sigma=0.3,
        k=2,
    )
    imagenet = options("train", "x", "--recipe", "imagenet-resnet101")
    assert imagenet["read"].size == 224
    assert imagenet["recipe"] == Recipe(
        model="resnet101",
        epochs=275,
        warmup_epochs=5,
        batch_size=256,
        weight_decay=1e-4,
        standard="random_resized_crop",
        augment="resized_crop(0.3)",
        k=2,
    )


def six_arms(name: str, side: int) -> list[Any]:
    arguments = options("compare", "x", "--recipe", name)
    recipe = arguments["recipe"]
    return [build_arm(replace(recipe, arm=arm), 100, side, side) for arm in arguments["arms"]]


def test_the_six_arms_are_the_papers() -> None:
    policies = (RandAugment(), TrivialAugment())
    standard, soft = UniformCrop(4), Crop(0.3)
    expected = [
        Chain([Flip(), standard]),
        *(Chain([Flip(), Chain([standard, policy])]) for policy in policies),
        Chain([Flip(), soft]),
        *(Chain([Flip(), Chain([Hard(policy), soft])]) for policy in policies),
    ]
    arms = six_arms("cifar", 32)
    assert [arm.transform for arm in arms] == expected
    assert [arm.weight for arm in arms] == [None] * 3 + [per_sample] * 3
    labels = torch.arange(50)
    images = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)
    for arm in arms[:3]:
        _, targets = arm(images, labels)
        assert torch.equal(targets, torch.nn.functional.one_hot(labels, 100).float())


def test_the_six_arms_of_imagenet_are_of_resized_crops() -> None:
    standard, soft = RandomResizedCrop((224, 224)), ResizedCrop((224, 224), sigma=0.3)
    arms = six_arms("imagenet", 224)
    assert arms[0].transform == Chain([Flip(), standard])
    assert arms[1].transform == Chain([Flip(), Chain([standard, RandAugment()])])
    assert arms[3].transform == Chain([Flip(), soft])
    assert arms[5].transform == Chain([Flip(), Chain([Hard(TrivialAugment()), soft])])


def test_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "recipe: cifar100-resnet18\nepochs: 30\nlr: 2e-1\nflip: false\naugment: null\narm: none\n"
    )
    mine = options("train", "demo", "--recipe", str(path), "--epochs", "21", "--arm", "harsh")
    assert mine["arm"] == "harsh"
    recipe = mine["recipe"]
    assert (recipe.epochs, recipe.lr, recipe.flip, recipe.augment) == (21, 0.2, False, None)
    assert (recipe.model, recipe.end_epochs) == ("resnet18", 20)
    compared = options("compare", "demo", "--recipe", str(path), "--arms", "none", "soft")
    assert compared["arms"] == ("none", "soft")
    assert options("compare", "demo", "--recipe", str(path))["arms"][0] == "standard"


def test_defaults_follow_what_a_file_says_as_what_is_typed(tmp_path: Path) -> None:
    """Weights of others are fine-tuned, arms without labels have their schedule."""

    def recipe(content: str, *command: str) -> Recipe:
        path = tmp_path / "mine.yaml"
        path.write_text(content)
        found = options(*command, "--recipe", str(path))["recipe"]
        assert isinstance(found, Recipe)
        return found

    typed = options("train", "demo", "--weights", "w.pth", "--model", "resnet18")["recipe"]
    assert (typed.optimizer, typed.lr) == ("adamw", 0.003)
    assert recipe("weights: w.pth\nmodel: resnet18\n", "train", "demo") == typed
    own = recipe("weights: w.pth\nepochs: 3\n", "train", "demo", "--lr", "0.5")
    assert (own.epochs, own.lr, own.optimizer) == (3, 0.5, "adamw")
    assert recipe("pretrained: true", "train", "demo").optimizer == "adamw"
    assert recipe("pretrained: true", "train", "demo", "--no-pretrained").optimizer == "sgd"
    without = recipe("arms: [simsiam, simsiam-soft]", "compare", "demo")
    assert (without.lr, without.epochs, without.batch_size) == (0.03, 100, 512)
    arguments = options("train", "demo", "--no-pretrained")
    assert arguments.get("recipe", Recipe()).optimizer == "sgd"


def test_a_file_downloads_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe may come from a stranger."""
    path = tmp_path / "mine.yaml"
    path.write_text("weights: hf-hub:some/body")
    with pytest.raises(SystemExit):
        main(["train", "demo", "--recipe", str(path)])
    said = capsys.readouterr().err
    assert "mine.yaml: weights: hf-hub:some/body would be downloaded; name them on the" in said
    mine = options("train", "demo", "--recipe", str(path), "--weights", "w.pth")
    assert mine["recipe"].weights == "w.pth"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch: 3", "mine.yaml: unknown field 'epoch'; did you mean epochs"),
        ("epochs: many", "mine.yaml: epochs: expected a whole number, got 'many'"),
        ("a: &a [1]\nlr: *a", "mine.yaml: no YAML (aliases, such as *name, are not read)"),
        ("epochs: 1.5", "mine.yaml: epochs: expected a whole number, got '1.5'"),
        ("flip: perhaps", 'mine.yaml: unable to convert "perhaps" into bool'),
        ("lr: [1, 2]", "mine.yaml: lr: expected one value, got [1, 2]"),
        ("lr: {a: 1}", "mine.yaml: lr: expected one value, got {'a': 1}"),
        ("recipe: cifar11", "mine.yaml: unknown recipe 'cifar11'; did you mean cifar"),
        ("- epochs", "mine.yaml: expected fields of a recipe, such as epochs: 20"),
        ("", "mine.yaml: expected fields of a recipe"),
        ("{", "mine.yaml: no YAML"),
        (
            "epochs: 2\nend_epochs: 2",
            "end_epochs must be 0 or more and below the recipe's 2 epochs",
        ),
        ("standard: crap", "unknown transform 'crap'; did you mean crop?"),
        (None, "mine.yaml: not readable"),
    ],
)
def test_bad_files_are_named(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as exit_:
        main(["train", "demo", "--recipe", str(path)])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_an_unknown_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "compare"):
        with pytest.raises(SystemExit):
            main([command, "demo", "--recipe", "cifar100-resnet81"])
        said = capsys.readouterr().err
        assert "unknown recipe 'cifar100-resnet81'; did you mean cifar100-resnet18" in said


def test_size_is_the_evaluation_of_the_paper(tmp_path: Path) -> None:
    """Short side to 224, then centre crop, as torchvision's, whose crops begin at whole pixels."""
    y, x = np.mgrid[0:400, 0:300]
    pixels = np.stack([y * 255 / 399, x * 255 / 299, (x + y) * 255 / 698], axis=2)
    Image.fromarray(pixels.round().astype(np.uint8)).save(tmp_path / "a.png")
    ours = read_image(tmp_path / "a.png", 3, 224, 224)
    with Image.open(tmp_path / "a.png") as image:
        theirs = v2.functional.pil_to_tensor(v2.CenterCrop(224)(v2.Resize(224)(image)))
    assert ours.shape == theirs.shape
    assert (ours.int() - theirs.int()).abs().max() <= 1
    # The whole short side, and the middle three quarters of the long one.
    assert ours[1, 0, [0, -1]].tolist() == [0, 255]
    assert ours[0, [0, -1], 0].float().tolist() == pytest.approx([32, 223], abs=1)
