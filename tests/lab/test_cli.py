"""The command line as a user has it: a folder of pictures in, figures and a model out."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from support import folder

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.cli.app import main
from softaug_lab.cli.commands import HELP, app
from softaug_lab.cli.evaluation_inputs import foreign_model, own_model
from softaug_lab.cli.options import FOREIGN, DataOptions
from softaug_lab.cli.terminal import advance
from softaug_lab.cli.training import command_line
from softaug_lab.experiments import run_one
from softaug_lab.recipes import ARMS, read_recipe

QUICK = ["--epochs", "1", "--batch-size", "20"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark pictures, 16 x 12 pixels."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for name, low in (("bright", 150), ("dark <b>", 0)):
        (root / name).mkdir()
        for i in range(30):
            pixels = generator.integers(low, low + 100, (12, 16, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    main(["train", str(pictures), "--epochs", "8", "--batch-size", "8", "--run", str(folder)])
    return folder


def fails(capsys: pytest.CaptureFixture[str], code: int, *command: object) -> str:
    """The one line that a failing command prints."""
    with pytest.raises(SystemExit) as exit_:
        main([str(part) for part in command])
    assert exit_.value.code == code
    message = capsys.readouterr().err.strip()
    assert "Traceback" not in message
    last = message.splitlines()[-1]
    assert last.startswith("softaug: ")
    return last


def test_train_leaves_a_whole_run_folder(run: Path, pictures: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        "recipe.json",
        "training-keys.npy",
        "metrics.jsonl",
        "model.safetensors",
        "evaluation.json",
        "predictions.npz",
        "report.html",
    }
    recipe = json.loads((run / "recipe.json").read_text())
    assert recipe["data"]["classes"] == ["bright", "dark <b>"]
    assert recipe["data"]["source"]["data"] == str(pictures)
    assert set(recipe["environment"]["versions"]) >= {"softaug", "torch", "timm"}
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 8
    page = (run / "report.html").read_text()
    assert "dark &lt;b&gt;" in page
    assert "dark <b>" not in page


def test_evaluate_gives_the_figures_of_the_run_again(
    run: Path, pictures: Path, tmp_path: Path
) -> None:
    first = json.loads((run / "evaluation.json").read_text())
    main(["evaluate", str(run), "--json", str(tmp_path / "a.json")])
    main(
        ["evaluate", str(run / "model.safetensors"), str(pictures), "--json", f"{tmp_path}/b.json"]
    )
    for name in ("a.json", "b.json"):
        again = json.loads((tmp_path / name).read_text())
        assert again["top1_error"] == first["top1_error"]
        assert again["nll"] == pytest.approx(first["nll"], rel=1e-4)


def test_predict_names_classes(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (50, 40), 240).save(tmp_path / "snow.png")
    capsys.readouterr()
    main(["predict", str(run), str(tmp_path / "snow.png"), str(pictures / "dark <b>" / "3.png")])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines] == ["bright", "dark <b>"]
    assert all(0.5 <= float(line[2]) <= 1 for line in lines)
    main(["predict", str(run), str(tmp_path / "snow.png"), "--top", "2"])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_preview_draws_a_picture(pictures: Path, tmp_path: Path) -> None:
    main(["preview", str(pictures), "--images", "10", "--out", str(tmp_path / "a.png")])
    with Image.open(tmp_path / "a.png") as image:
        assert min(image.size) > 200
        assert len(set(image.convert("L").tobytes())) > 50


def test_a_preview_goes_to_the_file_that_is_named(pictures: Path, tmp_path: Path) -> None:
    main(["preview", str(pictures), "--images", "2", "--out", str(tmp_path / "sheet")])
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_images_of_both_parts_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "data" / "train", range(30))
    folder(tmp_path / "data" / "test", range(24, 33))  # of which 6 are in both
    command = ["train", str(tmp_path / "data"), "--dry-run", "--batch-size", "8"]
    for share in ("0", "0.2"):  # held out or not
        main([*command, "--held-out", share])
        said = capsys.readouterr().err
        assert "6 of 9 test images are training images too, by their pixels" in said


def test_any_augmentation_can_be_previewed_trained_and_compared(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "augment.yaml").write_text("- crop(0.2)\n- erase: 0.3\n")
    main(["preview", str(pictures), "--augment", "blur+noise", "--images", "3"])
    assert (tmp_path / "preview.png").exists()
    main(["train", str(pictures), *QUICK, "--augment", "augment.yaml"])
    recipe = json.loads(
        (tmp_path / "runs" / f"{pictures.name}-auto-seed-0" / "recipe.json").read_text()
    )
    assert recipe["recipe"]["augment"] == "crop(0.2)+erase(0.3)"
    arms = [f"{name}@erase(0.3, fill=noise)" for name in ("harsh", "harsh-constant", "soft")]
    main(["compare", str(pictures), *QUICK, "--seeds", "1", "--run", "c", "--arms", *arms])
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert {(r["arm"], r["against"]) for r in results["comparisons"]} == {
        (arms[2], arms[0]),
        (arms[2], arms[1]),
    }
    softened = {arm["name"]: arm["mean_confidence"] for arm in results["arms"]}
    assert softened[arms[1]] == pytest.approx(softened[arms[2]], abs=0.01)


def test_compare_keeps_what_is_finished(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command twice does nothing twice; more seeds and arms only add."""
    command = ["compare", str(pictures), *QUICK, "--run", str(tmp_path / "c")]
    main([*command, "--seeds", "1", "--arms", "standard", "soft"])
    finished = sorted((tmp_path / "c" / "runs").glob("*/model.safetensors"))
    stamps = [path.stat().st_mtime_ns for path in finished]
    assert len(finished) == 2
    (tmp_path / "c" / ".results.json.abc123").write_text("half")  # of a killed process
    main([*command, "--seeds", "2", "--arms", "standard", "soft", "soft@0.1"])
    assert not (tmp_path / "c" / ".results.json.abc123").exists()
    assert [path.stat().st_mtime_ns for path in finished] == stamps
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert {(r["arm"], r["seed"]) for r in results["runs"]} == {
        (arm, seed) for arm in ("standard", "soft", "soft@0.1") for seed in (0, 1)
    }
    pairs = {(r["arm"], r["against"]) for r in results["comparisons"]}
    assert pairs == {("soft", "standard"), ("soft@0.1", "standard")}
    assert all(
        r["seed_interval"] is None or len(r["seed_interval"]) == 2 for r in results["comparisons"]
    )
    disagree = results["disagreements"]
    assert disagree is None or (disagree["arm"], disagree["against"]) == ("soft", "standard")
    assert "<svg" in (tmp_path / "c" / "report.html").read_text()
    left_out = "c also holds finished runs of"
    assert left_out not in capsys.readouterr().err
    main([*command, "--seeds", "2", "--arms", "standard"])
    assert f"{left_out} soft, soft@0.1; name them in --arms" in capsys.readouterr().err


def test_compare_refuses_another_recipe_before_any_work(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "compare",
        pictures,
        *QUICK,
        "--seeds",
        "1",
        "--arms",
        "none",
        "--run",
        tmp_path / "c",
    ]
    main([str(part) for part in command])
    message = fails(capsys, 2, *command, "--lr", "0.2")
    assert "lr was 0.1, now 0.2" in message


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    main([command, "--help"])
    return capsys.readouterr().out


def test_help_begins_with_examples_and_groups_options(capsys: pytest.CaptureFixture[str]) -> None:
    for command in HELP:
        shown = help_of(command, capsys)
        assert shown.startswith(f"Usage: softaug {command} ")
        first_panel = shown.index("\u256d")
        for example in HELP[command].examples:
            assert shown.index(example) < first_panel
            words = shlex.split(example[example.index("softaug ") :])[1:]
            app.parse_args(words, exit_on_error=False, print_error=False)
    titles = re.findall("\u256d\u2500 (.*?) \u2500", help_of("train", capsys))
    assert titles == [
        "Data", "Augmentation", "Arms", "Model", "Schedule", "Run", "Devices and machines"
    ]  # fmt: skip


def test_help_lists_what_the_command_takes(capsys: pytest.CaptureFixture[str]) -> None:
    train, pretrain, compare = (help_of(c, capsys) for c in ("train", "pretrain", "compare"))
    for option in ("--blur", "simsiam-soft  "):
        assert (option in train, option in pretrain, option in compare) == (False, True, True)
    for option in ("--standard", "--end-epochs", "mixup  "):
        assert (option in train, option in pretrain, option in compare) == (True, False, True)
    assert ARMS["soft"].about in train  # half a line of meaning for each arm
    defaults = read_recipe("simsiam")[0]
    assert re.search(rf"\[default:[\s│]+{defaults['epochs']}\]", pretrain)


WITHOUT = """
import sys
sys.modules["MISSING"] = None  # as find_spec sees a module that cannot be found
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "MISSING" else real(name, *rest)
from softaug_lab.cli import main
main(["train", "demo"])
"""


@pytest.mark.parametrize("missing", ["cyclopts", "rich", "torchvision"])
def test_missing_packages_are_told_in_one_line(missing: str) -> None:
    program = [sys.executable, "-c", WITHOUT.replace("MISSING", missing)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 2
    expected = "softaug: the command line needs more packages: pip install 'softaug[lab]'\n"
    assert done.stderr == expected


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["train", "DATA", "--arm", "sfot"], 2, "unknown arm 'sfot'; did you mean soft"),
        (
            ["train", "DATA", "--model", "resnet81"],
            2,
            "unknown model 'resnet81'; did you mean resnet",
        ),
        (
            ["train", "DATA", "--model", "vit_tiny_patch16_224"],
            2,
            "cannot take images of 16 x 12 px (",
        ),
        (["train", "DATA", "--sigma", "9.6"], 2, "got 9.6"),
        (["train", "DATA", "--k", "-1"], 2, "k must be above 0 and finite, got -1"),
        (["train", "DATA", "--epochs", "many"], 2, "many"),
        (["train", "DATA", "--epoch", "3"], 2, "--epoch"),
        (["train", "nowhere"], 2, "'nowhere'"),
        (["train", "DATA", "--device", "abacus"], 2, "cannot be used here: no such device; cpu,"),
        (["frobnicate"], 2, "Available commands: advise, train, evaluate"),
        (["train", "DATA", "--arms", "soft"], 2, "Did you mean --arm? See softaug --help"),
        (["train", "DATA", "--epochs", "x"], 2, "--epochs: expected a whole number, got 'x'"),
        (["train", "DATA", "--pretrained"], 2, "'small' has no pretrained weights"),
        (
            ["train", "DATA", "--model", "wrn-28"],
            2,
            "unknown model 'wrn-28'; did you mean wrn-28-10",
        ),
        (["compare", "DATA", "--arms", "soft", "hrash"], 2, "did you mean harsh"),
        (["compare", "nowhere", "--arms", "soft", "soft"], 2, "each arm can stand once"),
        (["compare", "DATA", "--arms", "--seeds", "1", "--dry-run"], 2, "--arms names no arm"),
        (["compare", "DATA", "--seeds", "0"], 2, "--seeds must be at least 1, got 0"),
        (["compare", "DATA", "--seeds", "2.5"], 2, "expected a whole number, got '2.5'"),
        (["train", "DATA", "--epochs", "1.5"], 2, "expected a whole number, got '1.5'"),
        (["train", "DATA", "--size", "1e1"], 2, "expected a whole number, got '1e1'"),
        (["train", "DATA", "--augment", ""], 2, "augment is empty; expected an augmentation"),
        (["train", "DATA", "--arm", "soft(k=)"], 2, "arm 'soft(k=)': expected k=VALUE"),
        (["train", "DATA", "--arm", "soft@"], 2, "unknown arm 'soft@'; did you mean soft"),
        (["train", "DATA", "--augment", "crop(0.3, **{'a': 1})"], 2, "expected NAME=VALUE"),
        (["evaluate", "DATA"], 1, "model.safetensors: no model here"),
        (["predict", "DATA", "x.png"], 1, "model.safetensors: no model here"),
        (["preview", "DATA", "--out", "."], 2, "--out . is a folder; name a file, such as preview"),
        (["preview", "DATA", "--images", "0"], 2, "--images must be at least 1, got 0"),
        (["bake", "DATA"], 2, "bake"),
    ],
)
def test_wrong_requests(
    command: list[str],
    code: int,
    message: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [str(pictures) if part == "DATA" else part for part in command]
    assert message in fails(capsys, code, *parts)


def test_an_unknown_model_leaves_no_folder(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["train"], ["compare", "--arms", "soft", "standard"], ["pretrain"]):
        run = tmp_path / command[0]
        fails(capsys, 2, command[0], pictures, *command[1:], "--model", "resnet81", "--run", run)
        assert not run.exists()


def test_a_model_for_other_data_is_refused(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(capsys, 2, "evaluate", run, "demo")
    assert "demo has classes that the model does not know (T-shirt/top, Trouser" in message
    for name in ("bright", "dark <b>"):
        (tmp_path / name).mkdir()
        for path in (pictures / name).glob("1*.png"):
            shutil.copy(path, tmp_path / name)
    assert "--size 12 may mend it" in fails(capsys, 2, "evaluate", run, tmp_path, "--size", "8")


def test_other_data_without_a_test_part_is_tested_whole(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its classes go by name: a folder of two of the model's three has labels of its own."""
    from softaug_lab.models.classifier import load_model
    from softaug_lab.models.model_file import save_model

    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    for file in list(other.rglob("*.png")):  # the same pixels under other names and endings
        Image.open(file).save(file.with_name(f"copy of {file.stem}.bmp"))
        file.unlink()
    capsys.readouterr()
    main(["evaluate", str(run), str(other), "--json", str(tmp_path / "a.json")])
    said = capsys.readouterr().err
    assert "all 60 images are tested" in said
    assert "48 of 60 test images trained the model; left out" in said
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["images"] == 12
    assert figures["top1_error"] < 0.2
    for file in np.array(sorted(other.rglob("*.bmp")))[_tested(run, other)]:
        file.unlink()
    assert "was trained on all of its 48 test images" in fails(capsys, 2, "evaluate", run, other)
    shutil.copytree(pictures, other, dirs_exist_ok=True)
    model = load_model(run / "model.safetensors")
    wider = replace(model.card, classes=("air", *model.card.classes))
    network: Any = model.network
    head = network[-1]
    head.weight = torch.nn.Parameter(torch.cat([torch.zeros(1, head.in_features), head.weight]))
    head.bias = torch.nn.Parameter(torch.cat([torch.tensor([-99.0]), head.bias]))
    model.card = wider
    save_model(model.card, model.state_dict(), tmp_path / "wider.safetensors")
    main(["evaluate", f"{tmp_path}/wider.safetensors", str(other), "--json", f"{tmp_path}/b.json"])
    assert json.loads((tmp_path / "b.json").read_text())["top1_error"] < 0.2


def test_an_export_or_a_copy_is_tested_without_the_training_images_of_its_run(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(run, there)
    shutil.copytree(pictures, other)
    main(["export", str(there), "--to", "torch"])
    exported = there / "export" / "torch"
    moved, copied = tmp_path / "moved", tmp_path / "copied.safetensors"
    shutil.copytree(exported, moved)
    shutil.copy(there / "model.safetensors", copied)
    shutil.copy(copied, exported)
    unknown = "no record of the images that trained the model, so all 60 test images are tested"
    for model, data, size, images, line in (
        (exported / "model.pt2", other, None, 12, "48 of 60 test images trained the model; left"),
        (exported / copied.name, other, None, 12, "48 of 60 test images trained the model; left"),
        (exported / "model.pt2", pictures, None, 12, ""),  # what the run was tested on
        (exported / "model.pt2", other, 8, 60, "known at [3, 12, 16] [C,H,W] alone"),
        (moved / "model.pt2", other, None, 60, f"{moved}: {unknown}"),
        (copied, other, None, 60, f"{tmp_path}: {unknown}"),
    ):
        prepare = foreign_model if model.suffix == ".pt2" else own_model
        subject = prepare(model, str(data), DataOptions(size=size), FOREIGN, None, "cpu")
        assert len(subject.test) == images, model
        assert line in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--size=12", "--test=DATA", "--train-images=9", "--stream"])
def test_how_images_are_read_goes_with_data(
    option: str, run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in (run, run / "predictions.npz"):
        said = fails(capsys, 2, "evaluate", model, option.replace("DATA", str(pictures)))
        assert f"{model}: how images are read goes with DATA" in said


def test_images_of_the_run_may_be_unreadable_where_that_is_asked(
    pictures: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, broken = tmp_path / "run", tmp_path / "pictures"
    shutil.copytree(run, there)
    shutil.copytree(pictures, broken)
    recipe = (there / "recipe.json").read_text().replace(str(pictures), str(broken))
    (there / "recipe.json").write_text(recipe)
    (broken / "bright" / "3.png").write_bytes(b"no image")
    said = fails(capsys, 1, "evaluate", there)
    assert "3.png" in said
    subject = own_model(there, None, DataOptions(max_unreadable=0.1), FOREIGN, None, "cpu")
    assert 0 < len(subject.test) <= 12


def test_figures_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    gone = tmp_path / "gone"  # the model, which would be missed after the place of the figures
    for command in ("evaluate", "probe"):
        for parent in (tmp_path / "nodir", tmp_path / "file"):
            said = fails(capsys, 2, command, gone, "--json", parent / "x.json")
            assert f"{parent} is no folder; make it, or name another" in said
        said = fails(capsys, 2, command, gone, "--json", tmp_path)
        assert f"--json {tmp_path} is a folder; name a file" in said


def test_figures_are_printed_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = SoftaugError("a.json: could not be written")
    monkeypatch.setattr("softaug_lab.basics.storage.write_json", Mock(side_effect=full))
    np.savez(tmp_path / "a.npz", logits=9 * np.eye(3), labels=np.arange(3))
    with pytest.raises(SystemExit):
        main(["evaluate", str(tmp_path / "a.npz"), "--json", str(tmp_path / "a.json")])
    streams = capsys.readouterr()
    assert "could not be written" in streams.err
    assert "NLL" in streams.out


def test_the_command_to_run_again_resumes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["softaug", "train", "my photos", "--resume", "--epochs", "3"])
    assert command_line() == "softaug train 'my photos' --epochs 3"


def test_an_ensemble_is_used_whole(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, image = tmp_path / "a run", str(pictures / "bright" / "3.png")
    options = ["--epochs", "2", "--batch-size", "8", "--held-out", "0.3", "--run", str(run)]
    main(["train", str(pictures), "--arm", "ensemble(members=2)", *options])
    made = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()[-3:]]
    assert [Path(*shlex.split(name)) for name in made] == [
        *(run / f"member-{i}" / "model.safetensors" for i in range(2)),
        run / "report.html",
    ]
    # What evaluate measures and predict prints is what the run recorded, temperature included.
    recorded = json.loads((run / "evaluation.json").read_text())
    ood = ["--ood", str(pictures / "dark <b>"), "--json", str(tmp_path / "e.json")]
    main(["evaluate", str(run), *ood])
    measured = json.loads((tmp_path / "e.json").read_text())
    for part in ("reliability", "mix", "cut_off"):
        assert json.dumps(measured[part]) == json.dumps(recorded[part])
    assert measured["ood"]["energy"]["auroc"] != 0.5
    recorded["temperature"] = 1e6
    (run / "evaluation.json").write_text(json.dumps(recorded))
    capsys.readouterr()
    main(["predict", str(run), image])
    assert capsys.readouterr().out.split()[-1] == "0.5000"
    (run / "evaluation.json").unlink()
    said = fails(capsys, 2, "predict", run, image)
    assert f"name a member, such as {shlex.quote(str(run / 'member-0'))}" in said


def _tested(run: Path, data: Path) -> Any:
    """Which files of a folder, in order, did not train the run's model."""
    from softaug_lab.data import content_keys, read_image
    from softaug_lab.runs import RunFolder

    images = torch.stack([read_image(f, 3, 12, 16) for f in sorted(data.rglob("*.bmp"))])
    known = RunFolder(run).training_keys()
    assert known is not None
    assert len(known) == 48
    return ~torch.isin(content_keys(images), known).numpy()


def test_what_failed_at_once_can_be_done_again(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(pictures), *QUICK, "--run", str(tmp_path / "run")]
    fails(capsys, 2, *command, "--model", "resnet81")
    main(command)
    assert "exists; --resume" in fails(capsys, 2, *command)


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("train", "--resume goes on with it"),
        pytest.param("compare", "the same command goes on with it", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_stops_cleanly(command: str, hint: str, tmp_path: Path) -> None:
    """A whole process, stopped in its first epochs, ends as one that was left alone."""
    words = [sys.executable, "-m", "softaug", command, "demo", "--train-images", "400"]
    words += ["--epochs", "40", "--batch-size", "20", "--run", str(tmp_path / "run")]
    words += ["--seeds", "1", "--arms", "soft"] if command == "compare" else []
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.rglob("metrics.jsonl")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate()
    assert process.returncode == 130
    last = messages.strip().splitlines()[-1]
    assert last.startswith("softaug: ")
    assert last.endswith(f"with a checkpoint; {hint}")
    assert list(tmp_path.rglob("checkpoint.pt"))


def test_resume_says_what_it_goes_on_with(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the training is over and SIGTERM stopped the evaluation."""
    run = tmp_path / "run"
    command = ["train", str(pictures), "--epochs", "2", *QUICK[2:], "--resume", "--run"]
    command.append(str(run))
    steps: list[int] = []

    def stop(bar: Any, task: Any, step: Any) -> None:
        advance(bar, task, step)
        steps.append(step.step)
        if len(steps) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def killed(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not stopped")

    monkeypatch.setattr("softaug_lab.cli.training.advance", stop)
    assert fails(capsys, 143, *command).endswith("with a checkpoint; --resume goes on with it")
    done = len(steps)
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules[run_one.__module__], "evaluate", killed)
        with pytest.raises(SystemExit) as exit_:
            main(command)
    assert exit_.value.code == 143
    said = capsys.readouterr().err
    assert f"softaug: {run}: goes on after step {done} of {steps[-1]}\n" in said
    assert said.endswith(
        f"softaug: {run}: trained, but stopped in its evaluation; --resume goes on with it\n"
    )
    main(command)
    said = capsys.readouterr().err
    assert "goes on after" not in said
    assert f"softaug: {run}: trained; evaluated on 12 test images now\n" in said
    main(command)
    assert f"softaug: {run}: this run is finished\n" in capsys.readouterr().err
    main([*command[:-1], str(tmp_path / "new")])
    assert f"nothing to go on with in {tmp_path / 'new'}: a new run" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_broken_model_file_is_named(
    content: bytes | None, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((run / "model.safetensors").read_bytes()[:-9] if content is None else content)
    assert "not a whole safetensors file" in fails(capsys, 1, "evaluate", path, "demo")


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(Exception, match="sfot"):
        main(["train", "demo", "--arm", "sfot", "--debug"])


def test_a_sweep_is_compared_and_drawn(tmp_path: Path) -> None:
    folder(tmp_path / "data" / "train", range(60))
    folder(tmp_path / "data" / "test", range(60, 72))
    command = ["sweep", str(tmp_path / "data"), "--sigmas", "0.1", "0.3", "--ks", "1"]
    command += ["--modes", "soft", "--alphas", "0.1", "0.2", "--seeds", "1"]
    (tmp_path / "short.yaml").write_text("epochs: 1\nbatch_size: 20\n")
    command += ["--recipe", str(tmp_path / "short.yaml")]
    main([*command, "--run", str(tmp_path / "run")])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["recipe"]["epochs"], results["recipe"]["batch_size"]) == (1, 20)
    assert [arm["name"] for arm in results["arms"]] == [
        "standard",
        "standard-smoothed(alpha=0.1)",
        "standard-smoothed(alpha=0.2)",
        "soft(k=1)@0.1",
        "soft(k=1)@0.3",
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The sweep" in page
    assert page.count("by strength of the crop") >= 2
    assert page.count("by label smoothing") >= 2


def test_a_comparison_tells_other_data_from_the_test_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "data" / "train", range(60))
    folder(tmp_path / "data" / "test", range(60, 72))
    arms = ["standard", "ensemble(members=2)"]
    command = ["compare", str(tmp_path / "data"), "--arms", *arms, "--seeds", "1", "--epochs", "1"]
    command += ["--batch-size", "20", "--run", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main([*command, "--ood", str(tmp_path / "gone")])
    assert "gone" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()  # told before any work
    folder(tmp_path / "other", range(5))
    main([*command, "--ood", str(tmp_path / "other")])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for run in results["runs"]:
        assert (run["ood"]["data"], run["ood"]["images"]) == (str(tmp_path / "other"), 5)
        for score in ("softmax", "energy"):
            assert run["evaluation"][f"{score}_auroc"] == run["ood"][score]["auroc"]
            assert run["ood"][score]["auroc"] != 0.5  # an ensemble's energy tells too
    page = (tmp_path / "run" / "report.html").read_text()
    assert "AUROC % of other data by softmax" in page
    measured = tmp_path / "run" / "runs" / "standard-seed-0" / "ood.json"
    before = measured.read_text()
    main([*command, "--ood", str(tmp_path / "data" / "test")])  # other data: measured again
    after = json.loads(measured.read_text())
    assert after["images"] == 12
    assert after["softmax"]["auroc"] == pytest.approx(0.5)  # the test images themselves
    assert json.loads(before)["checksum"] != after["checksum"]


@pytest.mark.slow
def test_a_comparison_under_corruptions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "data" / "train", range(60))
    folder(tmp_path / "data" / "test", range(60, 72))
    command = ["compare", str(tmp_path / "data"), "--arms", "standard", "soft", "--seeds", "1"]
    command += ["--epochs", "1", "--batch-size", "20", "--run", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main([*command, "--corruptions"])
    assert "8 pixels a side at least, got [6, 6]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()  # told before any work
    command += ["--size", "12"]
    main(command)
    assert "Under corruptions" not in (tmp_path / "run" / "report.html").read_text()
    # What is trained is kept, and only measured further.
    before = (tmp_path / "run" / "runs" / "soft-seed-0" / "model.safetensors").stat().st_mtime_ns
    main([*command, "--corruptions"])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert all(0 <= run["evaluation"]["corruption_error"] <= 1 for run in results["runs"])
    assert "Under corruptions" in (tmp_path / "run" / "report.html").read_text()
    after = (tmp_path / "run" / "runs" / "soft-seed-0" / "model.safetensors").stat().st_mtime_ns
    assert after == before


def test_completion_is_installed_for_a_shell(tmp_path: Path) -> None:
    """Bash itself completes a command and an option by what was installed."""
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    for name in ("XDG_DATA_HOME", "BASH_COMPLETION_USER_DIR", "ZDOTDIR", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    install = [sys.executable, "-m", "softaug", "--install-completion"]
    subprocess.run(install, env=environment, check=True, capture_output=True)
    program = f"""
    . {tmp_path}/.bashrc
    COMP_WORDS=(softaug eval) COMP_CWORD=1; _softaug; echo "$COMPREPLY"
    COMP_WORDS=(softaug train --sigm) COMP_CWORD=2; _softaug; echo "$COMPREPLY"
    """
    done = subprocess.run(
        ["bash", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["evaluate", "--sigma"]
