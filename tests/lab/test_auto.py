"""The arm auto and the budget: what a rule chooses, what `--minutes` allows, what is held out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import folder
from test_cli import fails

import softaug
from softaug_lab.basics.errors import UsageError, plural
from softaug_lab.basics.processes import Processes
from softaug_lab.cli.app import main
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.held_out import share_to_hold_out
from softaug_lab.experiments import cost
from softaug_lab.experiments.cost import Cost, epochs_within
from softaug_lab.recipes.arms import rivals
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder
from softaug_lab.training.augmentation import build_arm, resolve, rule_of

CPU = Processes(torch.device("cpu"))


def small_data(n: int = 60) -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    part = ImageSet(images, torch.arange(n) % 3)
    return Data("small", ("a", "b", "c"), part, part)


@pytest.mark.parametrize("robust", [0, 1, 2])
@pytest.mark.parametrize("epochs", [1, 30, 300])
def test_the_arm_auto_is_what_the_library_recommends(epochs: int, robust: Any) -> None:
    recipe = resolve(Recipe(arm="auto", epochs=epochs, robust=robust), small_data())
    expected = softaug.recommended(3, epochs=epochs, images=60, side=32, robust=robust)
    built = build_arm(recipe, 3, 32, 32)
    drawn = built.transform.draw(20, 32, 32, torch.Generator().manual_seed(0))
    images, labels = small_data().train.images[:20], torch.arange(20) % 3
    seed = torch.Generator().manual_seed(0)
    expected_drawn = expected.transform.draw(20, 32, 32, seed)
    for got, wanted in zip(
        built(images, labels, drawn=drawn),
        expected(images, labels, drawn=expected_drawn),
        strict=True,
    ):
        assert torch.equal(got, wanted)


def test_what_a_recipe_states_wins_over_the_rule() -> None:
    rule = resolve(Recipe(arm="auto"), small_data())
    assert resolve(Recipe(arm="auto", sigma=0.2), small_data()).augment == (
        f"{rule.augment}".replace(f"crop({rule.sigma:g}", "crop(0.2")
    )
    assert resolve(Recipe(arm="auto", k=3), small_data()) == replace(rule, k=3)
    own = resolve(Recipe(arm="auto", augment="erase(0.2)"), small_data())
    assert (own.augment, own.k) == ("erase(0.2)", rule.k)
    # Once it is written, nothing is left open, and other arms have the paper's values.
    assert resolve(rule, small_data(90)) == rule
    assert resolve(Recipe(arm="soft"), small_data()) == Recipe(arm="soft", sigma=0.3, k=2)


def test_a_policy_comes_with_long_training_but_not_with_maps_of_objects() -> None:
    """It would move the object away from its map."""
    long, data = Recipe(arm="auto", epochs=60), small_data()
    assert str(resolve(long, data).augment).startswith("hard(randaugment)+crop(0.1,")
    assert str(resolve(replace(long, sigma=0.2), data).augment).startswith(
        "hard(randaugment)+crop(0.2,"
    )
    objects = torch.full((60, 1, 32, 32), 255, dtype=torch.uint8)
    known = replace(data, train=replace(data.train, objects=objects))
    assert str(resolve(long, known).augment).startswith("crop(0.141,")
    assert not rule_of(long, known).policy


def test_an_arm_without_its_data_says_so() -> None:
    with pytest.raises(UsageError, match="auto: its strength depends on the data"):
        build_arm(Recipe(arm="auto"), 3, 32, 32)


def test_controls_of_auto_share_its_augmentation() -> None:
    transforms = [
        build_arm(resolve(Recipe(arm=arm), small_data()), 3, 32, 32).transform
        for arm in ("auto", "auto-hard", "auto-constant")
    ]
    assert transforms[0] == transforms[1] == transforms[2]
    arms = ["standard", "harsh", "auto-hard", "auto-constant", "auto", "mixup"]
    assert rivals("auto", arms) == ["standard", "auto-hard", "auto-constant", "mixup"]


@pytest.mark.parametrize(("n", "share"), [(3999, 0.0), (4000, 0.05)])
def test_images_are_held_out_where_there_are_enough(n: int, share: float) -> None:
    part = ImageSet(torch.zeros(n, 1, 2, 2, dtype=torch.uint8), torch.arange(n) % 10)
    assert share_to_hold_out(Data("plain", tuple("abcdefghij"), part, part)) == share


def test_minutes_are_epochs_of_the_slowest_arm() -> None:
    recipe = Recipe(batch_size=20)
    fast = epochs_within(1, recipe, ["none"], small_data(), CPU)
    slow = epochs_within(1, recipe, ["none", "ensemble"], small_data(), CPU)
    assert 1 <= slow < fast  # five members
    with pytest.raises(UsageError, match=r"--minutes must be at least .* got 1e-06"):
        epochs_within(1e-6, recipe, ["none"], small_data(), CPU)


def test_minutes_that_are_too_few_say_how_many_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(arm="auto", epochs=30, end_epochs=3)
    monkeypatch.setattr(cost, "_costs", lambda *_: {"auto": Cost(30, 740.0, None)})
    monkeypatch.setattr(cost, "_evaluation_seconds", lambda *_: 4.0)
    with pytest.raises(UsageError, match="--minutes must be at least 13 here"):
        epochs_within(12, recipe, ["auto"], small_data(), CPU)
    assert epochs_within(13, recipe, ["auto"], small_data(), CPU) == 1


def test_minutes_allow_for_the_policy_that_they_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    """RandAugment takes time, and comes with 60 epochs."""

    def seconds(recipe: Recipe, *_: object) -> dict[str, Cost]:
        slow = rule_of(recipe, small_data()).policy
        return {"auto": Cost(recipe.epochs, 2.0 if slow else 1.0, None)}

    monkeypatch.setattr(cost, "_costs", seconds)
    monkeypatch.setattr(cost, "_evaluation_seconds", lambda *_: 0.0)

    def within(minutes: float, recipe: Recipe) -> int:
        return epochs_within(minutes, recipe, ["auto"], small_data(), CPU)

    assert within(0.9, Recipe(arm="auto", epochs=30)) == 54
    assert within(2.1, Recipe(arm="auto", epochs=30)) == 63
    assert within(1.5, Recipe(arm="auto", epochs=30)) == 45  # 90 without a policy take too long
    assert within(1.5, Recipe(arm="auto", epochs=90)) == 45


def test_minutes_and_epochs_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, 2, "train", "demo", "--epochs", "3", "--minutes", "5")
    assert "--minutes chooses the number of epochs; leave out --epochs" in said


def test_minutes_are_measured_once_and_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    folder(tmp_path / "data" / "train", range(40))
    folder(tmp_path / "data" / "test", range(40, 46))
    command = ["train", str(tmp_path / "data"), "--batch-size", "20", "--run", str(run)]
    main([*command, "--minutes", "0.1"])
    recipe = RunFolder(run).recipe()
    said = " ".join(capsys.readouterr().err.split())
    assert f"{plural(recipe.epochs, 'epoch')} for 0.1 minutes here" in said
    assert f"auto: {recipe.augment}, k = {recipe.k:g}" in said
    assert f"chosen for {plural(recipe.epochs, 'epoch')} of 40 images" in said
    assert "too few to hold some out" in said
    main([*command, "--minutes", "10", "--resume"])
    assert RunFolder(run).recipe() == recipe


def test_a_run_that_failed_at_once_decides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the share that is held out nor the epochs of the next run in its folder."""
    folder(tmp_path / "data" / "train", range(40))
    folder(tmp_path / "data" / "test", range(40, 46))
    command = ["train", str(tmp_path / "data"), "--run", str(tmp_path / "run")]
    failing = ["--held-out", "0.4", "--lr", "1e30", "--batch-size", "20", "--epochs", "7"]
    fails(capsys, 1, *command, *failing)
    assert (tmp_path / "run" / "recipe.json").exists()
    main([*command, "--minutes", "1000", "--dry-run"])
    said = " ".join(capsys.readouterr().err.split())
    assert " 7 epochs for 1000 minutes" not in said
    assert "too few to hold some out" in said


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        (["--arm", "standard", "--augment", "erase(0.2)"], ["--augment"]),
        (["--arm", "standard", "--sigma", "0.9", "--robust", "2"], ["--sigma", "--robust"]),
        (["--augment", "erase(0.2)", "--sigma", "0.4", "--robust", "0"], ["--sigma", "--robust"]),
        (["--arm", "auto@crop(0.1)", "--augment", "erase(0.2)"], ["--augment"]),
        (["--sigma", "0.4", "--robust", "2"], []),
        (["--arm", "soft", "--sigma", "0.4"], []),
        (["--arm", "soft", "--augment", "erase(0.2)"], []),
    ],
)
def test_options_that_an_arm_does_not_read_are_told(
    options: list[str], unused: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "data", range(12))
    main(["train", str(tmp_path / "data"), "--batch-size", "4", "--dry-run", *options])
    said = " ".join(capsys.readouterr().err.split())
    arm = options[1] if options[0] == "--arm" else "auto"
    for name in ("--augment", "--sigma", "--robust"):
        told = f"{name} changes nothing: the augmentation of {arm} does not use it"
        assert (told in said) == (name in unused)
    assert ("chosen for" in said) == (arm == "auto" and "--augment" not in options)


def test_a_run_that_goes_on_holds_out_what_it_did(tmp_path: Path) -> None:
    folder(tmp_path / "data" / "train", range(40))
    folder(tmp_path / "data" / "test", range(40, 46))
    run = tmp_path / "run"
    command = ["train", str(tmp_path / "data"), "--batch-size", "20", "--run", str(run)]
    main([*command, "--epochs", "1", "--held-out", "0.2"])
    evaluation = run / "evaluation.json"
    before = evaluation.read_text()
    evaluation.unlink()
    main([*command, "--epochs", "1", "--resume"])  # other data, if it held out nothing now
    assert evaluation.read_text() == before
