"""Training that begins with weights of others: any file, any spelling of keys, any head."""

import io
import json
import os
import pickle
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from support import folder
from test_cli import fails
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.cli.app import main
from softaug_lab.cli.commands import app
from softaug_lab.models.card import ModelCard
from softaug_lab.models.classifier import (
    Classifier,
    build,
    build_from,
    head_keys,
    load_model,
)
from softaug_lab.models.network import has_small_stem
from softaug_lab.models.weights import hub, read_weights
from softaug_lab.models.weights.at_hand import WeightsAtHand
from softaug_lab.models.weights.match import fitted
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.recipes.yaml_files import FINE_TUNING, read_recipe
from softaug_lab.runs.folder import RunFolder
from softaug_lab.training.schedule import Schedule
from softaug_lab.training.supervised import build_optimizer

QUICK = ["--epochs", "1", "--batch-size", "20", "--lr", "1e-9", "--weight-decay", "0"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    folder(root / "train", range(30))
    folder(root / "test", range(30, 36))
    return root


def network(**options: Any) -> Any:
    torch.manual_seed(3)
    return timm.create_model("test_resnet", **options)


def respelled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in the same order under other names, none of which sorts like the order."""
    return {
        f"{'zyx'[i % 3]}{i}.{key.rpartition('.')[2]}": v for i, (key, v) in enumerate(state.items())
    }


FORMS: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Any]], str]] = {
    "plain": (lambda state: state, ""),
    "prefixed": (lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}, "prefix module."),
    "respelled": (respelled, "keys of another spelling (z0.weight, ...) matched by order"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_run_begins_with_the_weights_and_a_head_of_its_own(
    form: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = network().state_dict()
    change, said = FORMS[form]
    torch.save(change(theirs), tmp_path / "w.pth")
    run = tmp_path / "run"
    command = ["train", str(pictures), "--model", "test_resnet", "--run", str(run), *QUICK]
    main([*command, "--weights", str(tmp_path / "w.pth")])
    output = " ".join(capsys.readouterr().err.split())
    assert said in output
    assert "its head of 1,000 classes is replaced by a new one of 3" in output
    model = load_model(run / "model.safetensors")
    assert torch.allclose(
        model.get_parameter("network.layer1.0.conv1.weight"), theirs["layer1.0.conv1.weight"]
    )
    assert model.get_parameter("network.fc.weight").shape[0] == 3
    assert model.mean.flatten().tolist() == [127.5] * 3  # timm's for this network
    recipe = RunFolder(run).recipe()
    assert recipe.weights == str(tmp_path / "w.pth")
    assert recipe.optimizer == read_recipe(FINE_TUNING)[0]["optimizer"]
    assert (recipe.epochs, recipe.lr) == (1, 1e-9)  # what the user says is kept
    torch.save(network(num_classes=7).state_dict(), tmp_path / "w.pth")
    changed = fails(capsys, 2, *command, "--weights", tmp_path / "w.pth", "--resume")
    assert "weights_sha256 was" in changed


@pytest.mark.parametrize("options", [["--minutes", "0.2"], ["--dry-run"]])
def test_the_evaluation_is_timed_on_the_network_of_the_weights(
    options: list[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the stem that its weights are of, which the rule for small images would replace."""
    timed = []

    def predict(model: Classifier, images: Tensor) -> Tensor:
        timed.append(model)
        return torch.zeros(len(images), 3)

    monkeypatch.setattr("softaug_lab.experiments.cost.predict_logits", predict)
    torch.save(network().state_dict(), tmp_path / "w.pth")
    command = ["train", str(pictures), "--model", "test_resnet", *QUICK, *options]
    for remove in ("--epochs", "1") if "--minutes" in options else ():
        command.remove(remove)
    main([*command, "--weights", str(tmp_path / "w.pth"), "--run", str(tmp_path / "run")])
    for model in timed:
        assert not has_small_stem(model.network)
        assert model.mean.flatten().tolist() == [127.5] * 3
    assert timed


def test_a_folder_of_timm_and_a_model_of_softaug_name_their_network(
    pictures: Path, tmp_path: Path
) -> None:
    theirs = network()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    config = {
        "architecture": "test_resnet",
        "pretrained_cfg": {"mean": [0.2] * 3, "std": [0.1] * 3},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = ["train", str(pictures), *QUICK]
    main([*command, "--weights", f"local-dir:{tmp_path}", "--run", str(tmp_path / "a")])
    first = load_model(tmp_path / "a" / "model.safetensors")
    assert first.card.model == "test_resnet"
    assert first.mean.flatten().tolist() == pytest.approx([51] * 3)
    again = ["--weights", str(tmp_path / "a" / "model.safetensors"), "--run", str(tmp_path / "b")]
    main([*command, *again])
    second = load_model(tmp_path / "b" / "model.safetensors")
    assert second.card.model == "test_resnet"
    assert torch.equal(second.mean, first.mean)
    weight = "network.fc.weight"  # the head of the same classes is kept
    assert torch.allclose(second.get_parameter(weight), first.get_parameter(weight), atol=1e-6)


class Code:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("false",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "other.pth",
            r"not the weights of 'test_resnet' \(--model\); of their keys \d+ missing",
        ),
        ("text.pth", "text.pth: not readable as a checkpoint of tensors alone"),
        ("code.pth", r"code.pth: it holds code \(posix.system\), not tensors alone; do not load"),
        ("raw.pth", r"tensors alone \(not as torch.save writes one\); save the model's"),
        ("gone.pth", "gone.pth: no such file"),
        ("local-dir:empty", "empty: no weights; expected model.safetensors or"),
        ("hf-hub:a b", "hf-hub:a b: no name of a repository"),
    ],
)
def test_what_are_no_weights_is_one_line(
    name: str,
    message: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a.weight": torch.zeros(3), "b.weight": torch.zeros(2)}, "other.pth")
    torch.save({"a": Code()}, "code.pth")
    Path("raw.pth").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    Path("text.pth").write_text("no weights")
    command = ["train", pictures, "--model", "test_resnet", "--weights", name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # those of torch would stand above the line
        line = fails(capsys, 1, *command)
    assert re.search(message, line)
    assert not Path("runs").exists()


def test_weights_without_a_network_ask_for_one(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pth")
    said = fails(capsys, 2, "train", pictures, "--weights", tmp_path / "w.pth")
    assert "does not say which network it belongs to; --model names it" in said


def test_the_order_of_sorted_keys_is_not_trusted() -> None:
    """As in a safetensors file: the tensors fit at each place, and may be other layers."""
    ours = {"b.weight": torch.zeros(2), "a.weight": torch.zeros(2)}
    theirs = {"x.weight": torch.ones(2), "y.weight": torch.ones(2)}
    with pytest.raises(SoftaugError, match="2 missing"):
        fitted(ours, theirs, frozenset(), "w")
    state, _ = fitted(ours, dict(reversed(theirs.items())), frozenset(), "w")
    assert list(state) == list(ours)
    with pytest.raises(SoftaugError, match="2 missing"):  # a bias where a weight belongs
        fitted(ours, {"y.bias": torch.ones(2), "x.weight": torch.ones(2)}, frozenset(), "w")


def test_without_network_one_line_comes_soon(
    monkeypatch: pytest.MonkeyPatch, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for options in (["--weights", "hf-hub:no/such"], ["--model", "test_resnet", "--pretrained"]):
        said = fails(capsys, 1, "train", pictures, *options)
        assert "not in the cache, and http://127.0.0.1:9 cannot be reached" in said


def test_an_address_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.1)

    def sleep(*_: object, **__: object) -> io.BytesIO:
        time.sleep(2)
        return io.BytesIO()

    monkeypatch.setattr("urllib.request.urlopen", sleep)
    began = time.perf_counter()
    with pytest.raises(SoftaugError, match="no answer"):
        hub.require_reachable("http://example.org", "x")
    assert time.perf_counter() - began < 1


def test_few_photos_are_fine_tuned_where_weights_are_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(12):
        place = tmp_path / "data" / ("train" if i < 8 else "test") / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (150 + i, 140), (20 * i, 0, 0)).save(place / f"{i}.png")
    torch.save(network().state_dict(), tmp_path / "w.pth")
    command = ["train", str(tmp_path / "data"), "--epochs", "1", "--run", str(tmp_path / "run")]
    find = "softaug_lab.models.weights_at_hand"
    monkeypatch.setattr(find, lambda: None)
    main([*command, "--dry-run"])
    said = " ".join(capsys.readouterr().err.split())
    assert "--model resnet18 --pretrained" in said
    monkeypatch.setattr(find, lambda: WeightsAtHand("test_resnet", str(tmp_path / "w.pth")))
    main(command)
    recipe = RunFolder(tmp_path / "run").recipe()
    settings = read_recipe(FINE_TUNING)[0] | {"epochs": 1}
    assert (recipe.model, recipe.weights) == ("test_resnet", str(tmp_path / "w.pth"))
    assert {key: getattr(recipe, key) for key in settings} == settings
    source = RunFolder(tmp_path / "run").description()["data"]["source"]
    assert source["read"]["size"] == 128
    # A comparison chooses likewise. Both keep their choice when such weights are gone.
    compared = ["compare", *command[1:-1], str(tmp_path / "compared"), "--arms", "auto", "--seeds"]
    main([*compared, "1"])
    monkeypatch.setattr(find, lambda: None)
    main([*command, "--resume"])
    main([*compared, "2"])
    for seed in range(2):
        run = RunFolder(tmp_path / "compared" / "runs" / f"auto-seed-{seed}")
        assert replace(run.recipe(), seed=0) == recipe


@pytest.mark.parametrize(
    ("command", "open_"),
    [
        ("train photos", True),
        ("compare photos", True),
        ("tune photos --minutes 60", True),
        ("compare photos --on ray", False),  # other machines lack what is found here
        ("compare photos --model small", False),
        ("compare photos --arms simsiam", False),
    ],
)
def test_commands_that_may_find_weights(command: str, open_: bool) -> None:
    _, bound, _ = app.parse_args(command.split())
    assert bool(bound.arguments.get("_left_open")) == open_


def test_the_last_layer_learns_fastest() -> None:
    model = build(ModelCard("test_resnet", ("a", "b"), 3, 32, 32), (0.0,), (1.0,))
    assert head_keys(model) == {"network.fc.weight", "network.fc.bias"}
    recipe = Recipe(optimizer="adamw", body_lr=0.1, epochs=5, head_epochs=2, warmup_epochs=0)
    optimizer = build_optimizer(recipe, model, head_keys(model))
    schedule = Schedule(recipe, 0.5, steps_per_epoch=3)
    for step, share in ((5, 0.0), (6, 0.1)):
        schedule.set_rates(optimizer, step)
        lr = schedule.learning_rate(step)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert len(rates) == len(list(model.parameters()))
        for name, parameter in model.named_parameters():
            assert rates[id(parameter)] == pytest.approx(lr * (1 if ".fc." in name else share))
    with pytest.raises(UsageError, match=r"last layer of small is not known.*--head-epochs 0"):
        build_optimizer(replace(recipe, model="small"), model)


def test_a_body_at_rest_keeps_its_weights_and_the_statistics_of_its_norms(
    pictures: Path, tmp_path: Path
) -> None:
    theirs = network().state_dict()
    torch.save(theirs, tmp_path / "w.pth")
    command = ["train", str(pictures), "--model", "test_resnet", "--weights"]
    command += [str(tmp_path / "w.pth"), "--epochs", "2", "--batch-size", "20"]
    main([*command, "--body-lr", "0", "--run", str(tmp_path / "rest")])
    main([*command, "--body-lr", "0.5", "--head-epochs", "1", "--run", str(tmp_path / "run")])
    rested, learned = (
        load_model(tmp_path / name / "model.safetensors").network.state_dict()
        for name in ("rest", "run")
    )
    for key, value in theirs.items():
        if not key.startswith("fc."):
            assert torch.equal(rested[key], value), key
        if key.endswith(("running_mean", "running_var")):
            assert torch.equal(learned[key], value), key
    assert not torch.equal(learned["layer1.0.conv1.weight"], theirs["layer1.0.conv1.weight"])


def test_a_new_head_begins_small(tmp_path: Path) -> None:
    """timm draws that of an EfficientNet for two classes wide, and the model ends overconfident."""
    theirs = timm.create_model("test_efficientnet")
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    card = ModelCard("test_efficientnet", ("a", "b"), 3, 96, 96)
    model, _ = build_from(read_weights(str(tmp_path / "w.pth"), download=False), card, (0,), (1,))
    weight = model.get_parameter("network.classifier.weight")
    assert weight.abs().max() <= weight.shape[1] ** -0.5
    plain = timm.create_model("test_efficientnet", num_classes=2)
    assert plain.get_parameter("classifier.weight").abs().max() > 2 * weight.abs().max()
    assert torch.equal(
        model.get_parameter("network.conv_stem.weight"), theirs.get_parameter("conv_stem.weight")
    )
