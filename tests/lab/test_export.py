"""Exported models give the run's calibrated logits wherever they are loaded, and nothing else."""

import json
import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from support import stripes
from torch import Tensor, nn

from softaug_lab.cli.app import main
from softaug_lab.data import read_image
from softaug_lab.data.dataset import ImageSet
from softaug_lab.evaluation.evaluate import evaluate
from softaug_lab.evaluation.fills import Fills
from softaug_lab.export import served, timm_form
from softaug_lab.models.card import ModelCard
from softaug_lab.models.classifier import Classifier, build, load_model
from softaug_lab.models.model_file import save_model

OLD = Path(__file__).parent / "old_run" / "finished"
DOC = Path(__file__).parents[2] / "docs" / "serving.md"
CLASSES = ("cats <b>", "d`gs", "été\n")
TEMPERATURE = 2.5
SIDE = 24


def random_model(model: str, small_stem: bool, side: int) -> Classifier:
    """A network whose logits depend much on the image."""
    torch.manual_seed(0)
    channels = 1 if model == "small" else 3
    card = ModelCard(model, CLASSES, channels, side, side, small_stem=small_stem)
    network = build(card, (90.0,), (60.0,)).eval()
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        linear[-1].weight.mul_(60)
    return network


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs of random networks; they share the evaluation of the first."""
    root = tmp_path_factory.mktemp("runs")
    test = ImageSet(nn.functional.interpolate(stripes(30, 1).images, SIDE), stripes(30, 1).labels)
    fills = Fills(test.images, (90.0,), None)
    small = random_model("small", True, SIDE)
    evaluation, _ = evaluate(small, test, fills=fills, temperature=TEMPERATURE)
    recipe = json.loads((OLD / "recipe.json").read_text())
    for name, model in {
        "small": small,
        "resnet": random_model("resnet18", True, SIDE),
        "efficientnet": random_model("test_efficientnet", True, SIDE),
        "plain": random_model("test_efficientnet", False, 32),
        "vit": random_model("test_vit", False, 32),
    }.items():
        folder = root / name
        folder.mkdir()
        evaluation.save(folder / "evaluation.json")
        card = replace(model.card, temperature=TEMPERATURE)
        save_model(card, model.state_dict(), folder / "model.safetensors")
        recipe["recipe"]["model"] = model.card.model
        (folder / "recipe.json").write_text(json.dumps(recipe))
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Smooth pictures that are neither square nor of the model's size."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    files = []
    for i, size in enumerate(((70, 41), (33, 60), (24, 24))):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8))
        files.append(root / f"{i}.png")
        coarse.resize(size, Image.Resampling.BICUBIC).save(files[-1])
    return files


def exported(run: Path, form: str) -> Path:
    """Export a run where that was not done before."""
    folder = run / "export" / form
    if not folder.exists():
        main(["export", str(run), "--to", form])
    return folder


def images_and_logits(run: Path, n: int) -> tuple[Tensor, Tensor]:
    """Random uint8 images, and the calibrated logits of the run's own model."""
    model = load_model(run / "model.safetensors")
    shape = (n, model.card.channels, model.card.height, model.card.width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    with torch.inference_mode():
        logits = model(images) / TEMPERATURE
    assert logits.abs().max() > 0.1  # a tolerance of 1e-4 tells them from others
    return images, logits


def said(text: str) -> list[tuple[str, str, float]]:
    """File, class and confidence of each line."""
    rows = [line.split("\t") for line in text.splitlines()]
    return [(Path(file).name, name, float(p)) for file, name, p in rows]


def run_serve(out: Path) -> None:
    """Run serve.py as `python` does: with its folder first among those of modules."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(out)
        patched.delitem(sys.modules, "read_image", raising=False)
        runpy.run_path(str(out / "serve.py"), run_name="__main__")


def require_served(
    run: Path, out: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """serve.py says what `predict` says of the run."""
    capsys.readouterr()
    main(["predict", str(run), *map(str, pictures)])
    expected = said(capsys.readouterr().out)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["serve.py", *map(str, pictures)])
        run_serve(out)
    got = said(capsys.readouterr().out)
    assert len(got) == 3
    for (file, name, p), (file2, name2, p2) in zip(got, expected, strict=True):
        assert (file, name) == (file2, name2)
        assert p == pytest.approx(p2, abs=0.01)  # Pillow's resize rounds otherwise than torch's


def fails(capsys: pytest.CaptureFixture[str], code: int, *command: object) -> str:
    """The one line that a failing command prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([str(part) for part in command])
    assert exit_.value.code == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    return str(line)


def test_onnxruntime_gives_the_calibrated_logits(
    runs: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run = runs / "small"
    out = exported(run, "onnx")
    session = onnxruntime.InferenceSession(out / "model.onnx")
    (entry,) = session.get_inputs()
    assert (entry.shape[1:], entry.type) == ([1, SIDE, SIDE], "tensor(float)")
    for n in (1, 4, 30):
        images, logits = images_and_logits(run, n)
        (got,) = session.run(None, {"images": (images / 255).numpy()})
        torch.testing.assert_close(torch.from_numpy(got), logits, atol=1e-4, rtol=1e-4)
    about = json.loads(session.get_modelmeta().custom_metadata_map["softaug"])
    assert about["classes"] == list(CLASSES)
    assert (about["height"], about["width"], about["channels"]) == (SIDE, SIDE, 1)
    assert about["mean"] == pytest.approx([90 / 255])
    assert about["temperature"] == TEMPERATURE
    require_served(run, out, pictures, capsys)


def test_a_torch_program_gives_the_calibrated_logits(
    runs: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs / "efficientnet"
    out = exported(run, "torch")
    program = torch.export.load(out / "model.pt2").module()
    for n in (1, 7):
        images, logits = images_and_logits(run, n)
        torch.testing.assert_close(program(images / 255), logits, atol=1e-4, rtol=1e-4)
    require_served(run, out, pictures, capsys)


@pytest.mark.parametrize("name", ["plain", "vit"])
def test_timm_loads_its_form_to_the_same_logits(
    name: str,
    runs: Path,
    pictures: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = runs / name
    out = exported(run, "timm")
    network: Any = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    config: Any = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    images, logits = images_and_logits(run, 6)
    with torch.inference_mode():
        got = network((images / 255 - mean) / std)
    torch.testing.assert_close(got, logits, atol=1e-4, rtol=1e-4)
    assert network.pretrained_cfg["label_names"] == list(CLASSES)
    require_served(run, out, pictures, capsys)


@pytest.mark.parametrize("name", ["resnet", "efficientnet"])
def test_timm_refuses_a_stem_for_small_images_and_the_example_builds_it(
    name: str,
    runs: Path,
    pictures: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The weights of an EfficientNet would fit timm's stem, and give other logits."""
    out = exported(runs / name, "timm")
    with pytest.raises(TypeError, match="small_stem"):
        timm.create_model(f"local-dir:{out}", pretrained=True)
    require_served(runs / name, out, pictures, capsys)


@pytest.mark.parametrize(
    ("name", "form"), [("efficientnet", "timm"), ("plain", "torch"), ("small", "onnx")]
)
def test_evaluate_reads_what_export_wrote(
    name: str, form: str, runs: Path, tmp_path: Path, pictures: list[Path]
) -> None:
    """Folders in another order than the model's classes: the export knows their names."""
    folders = ("d`gs", "cats <b>")
    for i, folder in enumerate(folders):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for j, file in enumerate(pictures):
            image = Image.open(file).convert("L" if name == "small" else "RGB")
            image.rotate(40 * i + j).save(tmp_path / "data" / folder / f"{j}.png")
    out = exported(runs / name, form)
    side = load_model(runs / name / "model.safetensors").card.height

    def figures(model: Path, *options: str) -> Any:
        file = tmp_path / "figures.json"
        main(["evaluate", str(model), str(tmp_path / "data"), *options, "--json", str(file)])
        return json.loads(file.read_text())

    got = figures(out, "--no-restrict")
    wanted = figures(runs / name, "--size", str(side))
    assert got["images"] == 6
    assert got["top1_error"] == wanted["top1_error"]
    for key in ("nll", "ece", "brier"):
        assert got[key] == pytest.approx(wanted["scaled"][key], rel=1e-3), key
    assert got["mix"]["nll"] == pytest.approx(wanted["mix"]["nll"], rel=1e-3)


@pytest.fixture
def odd() -> dict[str, Image.Image]:
    """Images that are transparent in every way, or of 16 bits."""
    generator = np.random.default_rng(0)
    rgba = Image.fromarray(generator.integers(0, 256, (32, 32, 4), np.uint8))
    deep = Image.fromarray(generator.integers(0, 1 << 16, (32, 32), np.uint16))
    return {
        "rgba.png": rgba,
        "la.png": rgba.convert("LA"),
        "palette.png": rgba.convert("P"),
        "grey.png": rgba.convert("L"),
        "deep.png": deep,
        "deep-transparent.png": deep,
        "32-bit.tif": Image.fromarray(generator.integers(-99, 1 << 17, (32, 32), np.int32)),
    }


TRANSPARENT = {"palette.png": 7, "grey.png": 9, "deep-transparent.png": 40000}


@contextmanager
def inputs(form: str) -> Iterator[list[Tensor]]:
    """Collect what programs give to the model, [1,C,H,W] each."""
    given: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patched:
        if form == "onnx":
            session = pytest.importorskip("onnxruntime").InferenceSession
            run = session.run

            def spy(self: Any, names: Any, images: Any) -> Any:
                given.append(torch.from_numpy(images["images"]))
                return run(self, names, images)

            patched.setattr(session, "run", spy)
            yield given
            return

        def keep(module: nn.Module, images: tuple[Any, ...]) -> None:
            if isinstance(module, torch.fx.GraphModule | timm.models.EfficientNet):
                given.append(images[0])

        hook = nn.modules.module.register_module_forward_pre_hook(keep)
        yield given
        hook.remove()


@pytest.mark.parametrize(
    ("name", "form"),
    [("small", "onnx"), ("plain", "torch"), ("plain", "timm"), ("efficientnet", "timm")],
)
def test_served_pixels_are_those_of_training(
    name: str,
    form: str,
    runs: Path,
    odd: dict[str, Image.Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Unreadable files are a line each, and the others go on."""
    out = exported(runs / name, form)
    card = load_model(runs / name / "model.safetensors").card
    files = [tmp_path / file for file in ("gone.png", *odd, "text.png")]
    for file, image in odd.items():
        options: dict[str, Any] = {"transparency": TRANSPARENT[file]} if file in TRANSPARENT else {}
        image.crop((0, 0, card.width, card.height)).save(tmp_path / file, **options)
    files[-1].write_text("no image")
    monkeypatch.setattr(sys, "argv", ["serve.py", *map(str, files)])
    capsys.readouterr()
    with inputs(form) as given, pytest.raises(SystemExit) as left:
        run_serve(out)
    assert left.value.code == f"2 of {len(files)} images unreadable"  # Python prints it, code 1
    streams = capsys.readouterr()
    assert [row[0] for row in said(streams.out)] == list(odd)
    lines = [line.partition(": unreadable (")[0] for line in streams.err.splitlines()]
    assert lines == [str(files[0]), str(files[-1])]
    mean, std = torch.tensor(0.0), torch.tensor(1.0)
    if form == "timm":
        config = json.loads((out / "config.json").read_text())["pretrained_cfg"]
        mean, std = (torch.tensor(config[key]).view(-1, 1, 1) for key in ("mean", "std"))
    for file, pixels in zip(odd, given, strict=True):
        expected = read_image(tmp_path / file, card.channels, card.height, card.width)
        levels = (pixels[0] * std + mean) * 255
        assert (levels - expected).abs().max() < 0.01, file


@pytest.mark.parametrize(
    ("name", "form"),
    [("small", "onnx"), ("plain", "torch"), ("plain", "timm"), ("efficientnet", "timm")],
)
def test_long_images_and_arrays_are_served_and_what_predict_refuses_is_not(
    name: str,
    form: str,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What fails in scaling, too, is a line, and the others go on."""
    out = exported(runs / name, form)
    card = load_model(runs / name / "model.safetensors").card
    generator = np.random.default_rng(0)
    for file, array in {
        "grey.npy": generator.integers(0, 256, (card.height, card.width), np.uint8),
        "one.npy": generator.random((1, card.height, card.width), np.float32),
        "three.npy": generator.random((3, card.height, card.width)),
        "bright.npy": np.full((8, 8), 1.5),
        "deep.npy": np.zeros((8, 8), np.int64),
    }.items():
        np.save(tmp_path / file, array)
    stripe = generator.integers(0, 256, (60_000, 1), np.uint8)
    Image.fromarray(np.repeat(stripe, 9, axis=0)[:60_000]).save(tmp_path / "long.png")
    Image.fromarray(generator.random((8, 8), np.float32)).save(tmp_path / "float.tif")
    Image.new("L", (5, 9)).save(tmp_path / "large.png")
    Image.new("L", (8, 8)).save(tmp_path / "steers\x1b[2J.png")
    files = [tmp_path / file for file in (
        "long.png", "float.tif", "large.png", "bright.npy", "deep.npy", "grey.npy", "one.npy",
        "three.npy", "steers\x1b[2J.png", "gone\x1b[2J.png",
    )]  # fmt: skip
    resize = Image.Image.resize

    def scarce(image: Image.Image, size: tuple[int, int], *options: Any, **more: Any) -> Any:
        if image.size == (5, 9) or size[0] * size[1] > 101 * card.height * card.width:
            raise MemoryError
        return resize(image, size, *options, **more)

    monkeypatch.setattr(Image.Image, "resize", scarce)
    monkeypatch.setattr(sys, "argv", ["serve.py", *map(str, files)])
    capsys.readouterr()
    with inputs(form) as given, pytest.raises(SystemExit, match="5 of 10 images unreadable"):
        run_serve(out)
    streams = capsys.readouterr()
    served = ["long.png", "grey.npy", "one.npy", "three.npy", r"steers\x1b[2J.png"]
    assert [row[0] for row in said(streams.out)] == served
    reasons = [
        "floating-point pixels; convert",
        "MemoryError",
        "must be",
        "must be",
        "No such file",
    ]
    lines = streams.err.splitlines()
    assert all(why in line for why, line in zip(reasons, lines, strict=True))
    assert r"gone\x1b[2J.png" in lines[-1]
    assert "\x1b" not in streams.out + streams.err
    mean, std = torch.tensor(0.0), torch.tensor(1.0)
    if form == "timm":
        config = json.loads((out / "config.json").read_text())["pretrained_cfg"]
        mean, std = (torch.tensor(config[key]).view(-1, 1, 1) for key in ("mean", "std"))
    for file, pixels in zip(served[:4], given, strict=False):
        expected = read_image(tmp_path / file, card.channels, card.height, card.width)
        levels = (pixels[0] * std + mean) * 255
        assert (levels - expected).abs().max() < 1.01, file  # rounded otherwise than torch's


def test_the_hub_reads_the_model_card(runs: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    run = runs / "plain"
    text = (exported(run, "hub") / "README.md").read_text()
    card = hub.ModelCard(text)
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert card.data.to_dict()["library_name"] == "timm"
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found["accuracy"] == pytest.approx(1 - evaluation["top1_error"])
    assert found["ece"] == pytest.approx(evaluation["scaled"]["ece"])
    # Names from the data are no markup, and end no code.
    assert "`cats <b>`, `d'gs`, `été\\n`" in text
    assert "sigma: 0.2" in text
    cells = [
        f"{100 * level['top1_error']:.2f} | {level['nll']:.3f} | {100 * level['ece']:.2f}"
        for level in (evaluation["hidden"][group][1] for group in ("usual", "unseen"))
    ]
    assert f"% hidden | {' | '.join(cells)} |" in text
    assert f"T = {TEMPERATURE}" in text
    stem = (exported(runs / "resnet", "hub") / "README.md").read_text()
    assert "library_name" not in stem  # no library loads it by its name alone


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "resnet", "efficientnet", "plain", "vit"])
def test_every_network_in_every_form(name: str, runs: Path, tmp_path: Path) -> None:
    for form in ("onnx", "torch", "hub", *(["timm"] if name != "small" else [])):
        main(["export", str(runs / name), "--to", form, "--out", str(tmp_path / form)])
        assert (tmp_path / form / "serve.py").exists()
    if name == "small":  # softaug's own file lies beside the ONNX file
        assert (tmp_path / "hub" / "model.onnx").exists()
        assert load_model(tmp_path / "hub" / "model.safetensors").card.temperature == TEMPERATURE


def test_a_run_of_an_earlier_version_is_exported(tmp_path: Path) -> None:
    """It has no figures of views, and its card does not record the stem."""
    shutil.copytree(OLD, tmp_path / "old")
    main(["export", str(tmp_path / "old"), "--to", "timm"])
    folder = tmp_path / "old" / "export" / "timm"
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "model.safetensors", "serve.py", "read_image.py", "README.md",
    }  # fmt: skip
    assert "part of the image" not in (folder / "README.md").read_text()


def test_what_is_not_exported_is_one_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "small", run, ignore=shutil.ignore_patterns("export"))
    assert "gone: no run folder" in fails(capsys, 2, "export", tmp_path / "gone", "--to", "torch")
    file = run / "model.safetensors"
    assert "no run folder" in fails(capsys, 2, "export", file, "--to", "torch")
    assert "timm has none" in fails(capsys, 2, "export", run, "--to", "timm")
    assert "--to" in fails(capsys, 2, "export", run)
    assert "tflite" in fails(capsys, 2, "export", run, "--to", "tflite")
    command = ("export", run, "--to", "torch", "--out")
    for out in (file, run):
        before = sorted(run.iterdir())
        assert f"{out}: exists; --out" in fails(capsys, 2, *command, out)
        assert sorted(run.iterdir()) == before
    assert "could not be written" in fails(capsys, 1, *command, file / "below")
    recipe = json.loads((run / "recipe.json").read_text())
    for arm, message in (("ensemble", "export " + str(run / "member-0")), ("simsiam", "pretrain")):
        recipe["recipe"]["arm"] = arm
        (run / "recipe.json").write_text(json.dumps(recipe))
        assert message in fails(capsys, 2, "export", run, "--to", "torch")
    recipe["recipe"]["arm"] = "soft"
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "evaluation.json").unlink()
    assert not (run / "export").exists()
    (run / "model.safetensors").unlink()
    require_same_answer(run, f"{run}: the run is not finished; softaug train --resume", capsys)


def require_same_answer(run: Path, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """export, predict and evaluate say the same of a folder without one model."""
    for command in (("export", run, "--to", "torch"), ("predict", run, "x.png"), ("evaluate", run)):
        assert message in fails(capsys, 2, *command)


def test_of_a_search_the_winner_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = json.loads((OLD / "recipe.json").read_text())
    for arm in ("auto", "soft(k=1)"):
        recipe["recipe"]["arm"] = arm
        (tmp_path / "last" / "runs" / arm).mkdir(parents=True)
        (tmp_path / "last" / "runs" / arm / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "tuning.json").write_text(json.dumps({"winner": "soft(k=1)"}))
    require_same_answer(tmp_path, f"name its winner, {tmp_path}/last/runs/soft(k=1)", capsys)
    (tmp_path / "tuning.json").write_text("{}")
    require_same_answer(tmp_path, f"name a run in {tmp_path}/last/runs", capsys)


def test_no_file_tells_a_path_of_this_machine(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "plain", run, ignore=shutil.ignore_patterns("export"))
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["recipe"] |= {"weights": f"{tmp_path}/mine.pth", "weights_sha256": "abc123"}
    (run / "recipe.json").write_text(json.dumps(recipe))
    for form in ("onnx", "torch", "timm"):
        out = exported(run, form)
        assert "weights: mine.pth\nweights_sha256: abc123" in (out / "README.md").read_text()
        for file in out.iterdir():
            content = file.read_bytes()
            for code in (torch.__file__, timm.__file__, served.__file__, str(tmp_path / "x")):
                assert str(Path(code).parent).encode() not in content, file


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_a_full_disk_is_named(
    form: str,
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    resource = pytest.importorskip("resource")
    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9999, most))
    try:
        command = ("export", runs / "plain", "--to", form, "--out", tmp_path / "out")
        line = fails(capsys, 1, *command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))
    assert re.search(r"model\.\w+: could not be written \(File too large\).*free some space", line)
    assert not list(tmp_path.iterdir())


def test_a_model_whose_logits_change_is_not_written(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(served, "TOLERANCE", -1.0)
        command = ("export", runs / "plain", "--to", "timm", "--out", tmp_path / "out")
        assert "differ from the model's by" in fails(capsys, 1, *command)
    with monkeypatch.context() as changed:
        changed.setattr(timm_form, "_calibrated", lambda model: model.network)
        assert "nothing was written" in fails(capsys, 1, *command)
    assert not list(tmp_path.iterdir())
    diverged = tmp_path / "diverged"
    shutil.copytree(runs / "plain", diverged, ignore=shutil.ignore_patterns("export"))
    model = load_model(diverged / "model.safetensors")
    weights = model.state_dict()
    weights["network.conv_stem.weight"] *= float("nan")
    save_model(model.card, weights, diverged / "model.safetensors")
    assert "not finite" in fails(capsys, 1, "export", diverged, "--to", "timm")


def test_broken_exports_are_one_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "timm"
    shutil.copytree(exported(runs / "plain", "timm"), out)
    config = json.loads((out / "config.json").read_text())
    for change, message in (
        ({"mean": "x"}, "description by softaug is broken"),
        ({"classes": "x"}, "card is broken"),
        ({"classes": ["a", "b"]}, "not the weights of test_efficientnet"),
        ({"height": 10**6, "width": 10**6}, "too large"),
        (None, "no model that softaug exported"),
    ):
        changed = {**config, "softaug": {**config["softaug"], **(change or {})}}
        if change is None:
            del changed["softaug"]
        (out / "config.json").write_text(json.dumps(changed))
        assert message in fails(capsys, 1, "evaluate", out, "demo")
    (tmp_path / "a.pt2").write_bytes(b"no program")
    said = fails(capsys, 1, "evaluate", tmp_path / "a.pt2", "demo")
    assert "not readable as a torch.export program" in said


def test_the_code_in_the_documentation_runs(
    runs: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "runs").mkdir()
    for name, run, forms in (("small", "small", ["onnx"]), ("photos", "plain", ["torch", "timm"])):
        for form in forms:
            exported(runs / run, form)
        (tmp_path / "runs" / name).symlink_to(runs / run)
    shutil.copy(pictures[0], tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        names: dict[str, Any] = {}
        exec(block, names)
        assert names["logits"].shape == (1, 3)
