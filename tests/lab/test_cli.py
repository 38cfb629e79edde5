"""The command line as a user has it: a folder of pictures in, figures and a model out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from softaug.lab.cli import main

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
    message = fails(capsys, 1, "predict", run, tmp_path / "gone.png")
    assert "gone.png: no such file" in message


def test_preview_draws_a_picture(pictures: Path, tmp_path: Path) -> None:
    main(["preview", str(pictures), "--images", "10", "--out", str(tmp_path / "a.png")])
    with Image.open(tmp_path / "a.png") as image:
        assert min(image.size) > 200
        assert len(set(image.convert("L").tobytes())) > 50


def test_compare_keeps_what_is_finished(pictures: Path, tmp_path: Path) -> None:
    """The same command twice does nothing twice; more seeds and arms only add."""
    command = ["compare", str(pictures), *QUICK, "--run", str(tmp_path / "c")]
    main([*command, "--seeds", "1", "--arms", "standard", "soft"])
    finished = sorted((tmp_path / "c" / "runs").glob("*/model.safetensors"))
    stamps = [path.stat().st_mtime_ns for path in finished]
    assert len(finished) == 2
    main([*command, "--seeds", "2", "--arms", "standard", "soft", "soft@0.1"])
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
    assert "<svg" in (tmp_path / "c" / "report.html").read_text()


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


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["train", "DATA", "--arm", "sfot"], 2, "unknown arm 'sfot'; did you mean soft"),
        (
            ["train", "DATA", "--model", "resnet81"],
            2,
            "unknown model 'resnet81'; did you mean resnet",
        ),
        (["train", "DATA", "--sigma", "9.6"], 2, "got 9.6"),
        (["train", "DATA", "--k", "-1"], 2, "k must be above 0 and finite, got -1"),
        (["train", "DATA", "--epochs", "many"], 2, "many"),
        (["train", "DATA", "--epoch", "3"], 2, "--epoch"),
        (["train", "nowhere"], 2, "'nowhere'"),
        (["train", "DATA", "--device", "abacus"], 1, "device 'abacus' cannot be used here"),
        (["train", "DATA", "--pretrained"], 2, "'small' has no pretrained weights"),
        (["compare", "DATA", "--arms", "soft", "hrash"], 2, "did you mean harsh"),
        (["compare", "DATA", "--arms", "soft", "soft"], 2, "each arm can stand once"),
        (["compare", "DATA", "--seeds", "0"], 2, "--seeds must be at least 1, got 0"),
        (["evaluate", "DATA"], 1, "model.safetensors: no model here"),
        (["predict", "DATA", "x.png"], 1, "model.safetensors: no model here"),
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


def test_a_model_for_other_data_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the model knows 2 classes" in fails(capsys, 2, "evaluate", run, "demo")


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


@pytest.mark.parametrize(("size", "stem"), [(32, 3), (96, 7)])
def test_timm_resnets_get_the_stem_for_their_images(size: int, stem: int) -> None:
    from softaug.lab.models import ModelCard, build

    card = ModelCard("resnet18", ("a", "b"), 3, size, size)
    network: Any = build(card, (0.0,), (1.0,)).network
    assert network.conv1.kernel_size == (stem, stem)
