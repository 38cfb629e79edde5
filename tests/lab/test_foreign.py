"""Models of others: evaluated from a file or a name, they say what the same network says directly.

The network is random, and its logits are made large, so that any other image gives other figures.
"""

import argparse
import json
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from support import numbers, parquet
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.cli.app import main
from softaug_lab.data.dataset import ImageSet
from softaug_lab.data.load import load, read_images
from softaug_lab.data.resize import fit, with_channels
from softaug_lab.evaluation.evaluate import evaluate
from softaug_lab.experiments.run_one import fills_for
from softaug_lab.models.card import ModelCard
from softaug_lab.models.classifier import build
from softaug_lab.models.foreign.classes import class_columns, read_classes
from softaug_lab.models.foreign.load import load_foreign, model_kind
from softaug_lab.models.foreign.preprocessing import Preprocessing
from softaug_lab.models.logits import predict_logits
from softaug_lab.models.model_file import save_model

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
NORMALISED = ["--mean", *map(str, MEAN), "--std", *map(str, STD)]
WORDNET = ("n01440764", "n01443537", "n01484850")  # the first of ImageNet's ids
OF_IMAGENET = """
import torch

def make():
    def predict(images):  # a grey of 5 i is class i
        level = 51 * images.mean(dim=(1, 2, 3))
        return -(level[:, None] - torch.arange(1000)).abs()
    return predict
"""


def network(classes: int = 3, scale: float = 30.0) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    ).eval()
    with torch.no_grad():
        net.get_parameter("5.weight").mul_(scale)
    return net


class Direct(nn.Module):
    """The network on uint8 images, without any of what is tested here."""

    def __init__(self, net: nn.Module, mean: Any, std: Any) -> None:
        super().__init__()
        self.net = net
        self.mean, self.std = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net((images.float() / 255 - self.mean) / self.std)
        return logits


def draw(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of ten pictures, 16 x 12 pixels, each of a colour of its own."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for i in range(10):
            colour = generator.integers(0, 200, 3)
            draw(root / name / f"{i}.png", colour + generator.integers(0, 56, (12, 16, 3)))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network in every form, in files that are made once."""
    root, net = tmp_path_factory.mktemp("made"), network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises other formats
        torch.jit.script(net).save(str(root / "net.pt"))
    (root / "theirs").mkdir()
    torch.save(net.state_dict(), root / "net.pth")
    (root / "theirs" / "nets.py").write_text(
        "import sys, torch\n"
        f"sys.path.append({str(Path(__file__).parent)!r})\n"
        "from test_foreign import network\n\n"
        "def module():\n"
        "    net = network().train()\n"
        f"    net.load_state_dict(torch.load({str(root / 'net.pth')!r}))\n"
        "    return net\n\n"
        "def function():\n"
        "    net = module().eval()\n"
        "    return lambda images: net(images)\n\n"
        "def pair():\n"
        "    return lambda images: (images, images)\n\n"
        "def one():\n"
        "    return lambda images: images.new_zeros(1, 3)\n\n"
        "def images():\n"
        "    return lambda images: images\n\n"
        "def text():\n"
        "    return 'a text'\n\n"
        "def broken():\n"
        "    raise RuntimeError('no\\nluck')\n\n"
        "def greedy(path):\n"
        "    return path\n\n"
        "number = 3\n"
    )
    (root / "imagenet_by_grey.py").write_text(OF_IMAGENET)
    return root


@pytest.fixture(scope="module")
def onnx(made: Path) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    images = torch.zeros(7, 3, 12, 16)
    for name, shapes in {"any": ({0: torch.export.Dim("n")},), "seven": None}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own
            torch.onnx.export(
                network(), (images,), made / f"{name}.onnx", dynamic_shapes=shapes, verbose=False
            )
    return made


def fails(capsys: pytest.CaptureFixture[str], code: int, *command: object) -> str:
    """The one line that a failing command prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([str(part) for part in command])
    assert exit_.value.code == code
    *notes, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("softaug: ")
    assert all(note.startswith("softaug: ") for note in notes)
    assert len(last) < 800
    return last


def figures(tmp_path: Path, *command: object) -> Any:
    main(["evaluate", *map(str, command), "--json", str(tmp_path / "figures.json")])
    return json.loads((tmp_path / "figures.json").read_text())


def expected(model: nn.Module, source: Path, size: int | None = None) -> Any:
    data = load(str(source), size=size)
    test = data.all_images()
    return evaluate(model, test, fills=fills_for(data, test))[0].as_dict()


def plain_nll(model: nn.Module, source: Path, size: int | None = None) -> float:
    test = load(str(source), size=size).all_images()
    return nn.functional.cross_entropy(predict_logits(model, test.images), test.labels).item()


def assert_same(got: Any, wanted: Any) -> None:
    """All figures, those of views too."""
    for key in ("images", "top1_error", "nll", "ece", "brier"):
        assert got[key] == pytest.approx(wanted[key], rel=1e-4), key
    for kind in ("cut_off", "hidden"):
        for group, levels in wanted[kind].items():
            nlls = [level["nll"] for level in levels]
            assert [level["nll"] for level in got[kind][group]] == pytest.approx(nlls, rel=1e-4)
    if wanted["mix"] is not None:
        assert got["mix"] == pytest.approx(wanted["mix"], rel=1e-3)


# --- the same figures -----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["net.pt", "theirs.nets:module", "theirs.nets:function"])
def test_a_model_says_what_the_network_says(
    form: str, made: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)  # functions are found in the current directory
    got = figures(tmp_path, form, pictures, *NORMALISED)
    assert_same(got, expected(Direct(network(), MEAN, STD), pictures))
    got = figures(tmp_path, form, pictures)
    assert_same(got, expected(Direct(network(), 0.0, 1.0), pictures))


@pytest.mark.parametrize("batch", ["any", "seven"])
def test_onnx_says_what_the_network_says(
    batch: str, onnx: Path, pictures: Path, tmp_path: Path
) -> None:
    """Seven at once do not divide thirty; the sides that the file fixes are not square."""
    got = figures(tmp_path, onnx / f"{batch}.onnx", pictures, *NORMALISED)
    assert_same(got, expected(Direct(network(), MEAN, STD), pictures))
    # Grey images of 28 x 28 become what the file says of its input.
    model = load_foreign(onnx / f"{batch}.onnx", mean=MEAN, std=STD)
    grey = load("demo").test.images[:10]
    fitted = 255 * Preprocessing(channels=3, scaled=(12, 16), size=(12, 16)).pixels(grey)
    direct = Direct(network(), MEAN, STD)(fitted)
    assert torch.allclose(predict_logits(model, grey), direct, atol=1e-3)


def test_input_size_and_channels_are_adapted(made: Path, pictures: Path, tmp_path: Path) -> None:
    got = figures(tmp_path, made / "net.pt", pictures, "--input-size", "24", *NORMALISED)
    assert_same(got, expected(Direct(network(), MEAN, STD), pictures, size=24))
    # Grey images less a mean of three channels have three.
    model = load_foreign(made / "net.pt", mean=MEAN, std=STD, input_size=20)
    grey = load("demo").test.images[:9]
    larger = nn.functional.interpolate(
        grey.float().expand(-1, 3, -1, -1), (20, 20), mode="bilinear", antialias=True
    )
    assert torch.allclose(model(grey), Direct(network(), MEAN, STD)(larger), atol=1e-3)


@pytest.mark.parametrize("size", [(12, 16), (40, 40), (9, 30), (12, 8)])
def test_images_are_fitted_as_pillow_fits_them(size: tuple[int, int]) -> None:
    """Ramps, since Pillow crops first and by parts of a pixel."""
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(16), indexing="ij")
    ramps = torch.stack([10 * columns, 15 * rows, 100 + 5 * rows + 5 * columns])
    images = ramps.to(torch.uint8).expand(2, -1, -1, -1)
    got = fit(images.float(), *size)
    picture = Image.fromarray(images[1].permute(1, 2, 0).numpy())
    theirs = np.array(ImageOps.fit(picture, size[::-1], Image.Resampling.BILINEAR))
    assert got.shape == (2, 3, *size)
    assert (got[1].permute(1, 2, 0) - torch.from_numpy(theirs)).abs().max() < 5
    grey = np.array(picture.convert("L"))
    assert (with_channels(images.float(), 1)[1, 0] - torch.from_numpy(grey)).abs().max() < 1
    with pytest.raises(UsageError, match="images have 3 channels, 4 are needed"):
        with_channels(images.float(), 4)


# --- timm -----------------------------------------------------------------------------------


def timm_network(**options: Any) -> nn.Module:
    torch.manual_seed(1)
    net: nn.Module = timm.create_model("test_resnet", **options).eval()
    with torch.no_grad():
        net.get_parameter("fc.weight").mul_(100)
    return net


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda weights: weights,
    "parallel": lambda weights: {f"module.{key}": value for key, value in weights.items()},
    "timm": lambda weights: {"epoch": 3, "state_dict": weights, "args": argparse.Namespace(lr=1)},
    "averaged": lambda weights: {
        "state_dict": {key: 0 * value for key, value in weights.items()},
        "state_dict_ema": weights,
    },
    "lightning": lambda weights: {"state_dict": {f"model.{k}": v for k, v in weights.items()}},
    "nested": lambda weights: {"model": {f"module.model.{k}": v for k, v in weights.items()}},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_checkpoints_are_unwrapped(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = timm_network(num_classes=3, in_chans=1)
    torch.save(WRAPPED[form](net.state_dict()), tmp_path / "weights.pth")
    model = load_foreign(Path("timm:test_resnet"), weights=str(tmp_path / "weights.pth"))
    assert ("averaged weights, state_dict_ema, are" in caplog.text) == (form == "averaged")
    assert model.preprocessing == Preprocessing((0.5,), (0.5,), 1, (168, 168), (160, 160))
    images = torch.rand(2, 1, 160, 160)
    with torch.inference_mode():
        assert torch.equal(model.network(images), net(images))


def test_a_model_of_timm_sees_what_timm_shows_it(pictures: Path, tmp_path: Path) -> None:
    """Their own transform of the files: short side to 168, centre crop to 160, their mean."""
    net = timm_network(num_classes=3)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    few = tmp_path / "few"
    for name in "abc":
        for i in range(2):
            (few / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(pictures / name / f"{i}.png", few / name)
    command = ["timm:test_resnet", few, "--weights", tmp_path / "weights.safetensors"]
    got = figures(tmp_path, *command)
    theirs: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
    files = sorted(few.rglob("*.png"))
    with torch.inference_mode():
        logits = net(torch.stack([theirs(Image.open(file)) for file in files]))
    labels = torch.tensor(["abc".index(file.parent.name) for file in files])
    assert got["images"] == 6
    assert got["nll"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=0.01)
    # A size of the user's is that of the whole image, without timm's crop to 160.
    got = figures(tmp_path, *command, "--input-size", "176", "--mean", "0.3")
    assert got["nll"] == pytest.approx(plain_nll(Direct(net, 0.3, 0.5), few, 176), rel=1e-4)


def test_transformers_are_built_for_the_input_size(tmp_path: Path) -> None:
    net = timm.create_model("test_vit", num_classes=3, img_size=48)
    torch.save(net.state_dict(), tmp_path / "vit.pth")
    model = load_foreign(Path("timm:test_vit"), weights=str(tmp_path / "vit.pth"), input_size=48)
    assert model(torch.zeros(2, 3, 30, 30, dtype=torch.uint8)).shape == (2, 3)


def test_without_a_checkpoint_timm_fetches_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = timm.create_model("test_resnet")
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    create: Any = timm.create_model

    def from_file(*args: Any, **options: Any) -> Any:
        assert options["pretrained"]
        overlay = {"file": str(tmp_path / "weights.safetensors")}
        return create(*args, **options, pretrained_cfg_overlay=overlay)

    monkeypatch.setattr(timm, "create_model", from_file)
    monkeypatch.setattr("softaug_lab.models.foreign.from_timm.require_pretrained", lambda _: None)
    model = load_foreign(Path("timm:test_resnet"))
    assert torch.equal(model.get_parameter("network.fc.weight"), theirs.get_parameter("fc.weight"))


def test_a_checkpoint_of_another_model_is_named(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights.pth"
    command = ["evaluate", "timm:test_resnet", pictures, "--weights", file]
    assert "weights.pth: no such file" in fails(capsys, 1, *command)
    weights = timm_network(num_classes=3).state_dict()
    weights["odd.weight"] = weights.pop("fc.bias")
    weights["bn1.bias"] = torch.zeros(99)
    torch.save(weights, file)
    said = fails(capsys, 1, *command)
    assert "of their keys 1 missing (fc.bias)" in said
    assert "1 unknown (odd.weight)" in said
    assert "1 of another shape (bn1.bias [99] for [" in said
    for content, message in (
        ({"optimizer": 1}, "optimizer are no tensors"),
        ({}, "no weights in it"),
        (network(), "tensors alone"),
    ):
        torch.save(content, file)
        assert message in fails(capsys, 1, *command)
    assert "did you mean" in fails(capsys, 2, "evaluate", "timm:test_resnot", pictures)
    assert "timm:NAME alone" in fails(capsys, 2, "evaluate", "x.pt", *command[2:])


# --- what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        ("gone.pt", 1, "gone.pt: no such file"),
        ("gone.onnx", 1, "gone.onnx: no such file"),
        ("net.pth", 1, "not readable as TorchScript"),
        ("theirs.gone:module", 1, "cannot be imported: No module named 'theirs.gone'"),
        ("theirs.nets:gone", 2, "module 'theirs.nets' has no function 'gone'"),
        ("theirs.nets:number", 2, "has something that is no function, 'number'"),
        ("theirs.nets:text", 1, "a callable on images, got str"),
        ("theirs.nets:broken", 1, "failed: no luck"),
        ("theirs.nets:greedy", 1, "missing 1 required positional argument: 'path'"),
        ("theirs.nets:pair", 1, "expected logits [N,K] for 1 images, got tuple"),
        ("theirs.nets:images", 1, "expected logits [N,K] for 1 images, got [1, 3, 12, 16]"),
    ],
)
def test_what_is_no_model_is_one_line(
    model: str,
    code: int,
    message: str,
    made: Path,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(made)
    assert message in fails(capsys, code, "evaluate", model, pictures)


def test_logits_for_fewer_images_are_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    model = load_foreign(Path("theirs.nets:one"))
    with pytest.raises(SoftaugError, match=r"logits \[N,K\] for 2 images, got \[1, 3\]"):
        model(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_images_of_another_shape_and_options_out_of_range(
    made: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = made / "net.pt"
    said = fails(capsys, 1, "evaluate", net, "demo")
    assert "failed on images [1, 1, 28, 28] [N,C,H,W]" in said
    assert "to have 3 channels, but got 1 channels" in said
    assert "add DATA" in fails(capsys, 2, "evaluate", net)
    for options, message in (
        (["--mean", "0.5", "0.5", "--std", "1", "1", "1"], "--mean must be one number or 3"),
        (["--mean", "nan"], "--mean must be one number"),
        (["--std", "0"], "--std must be above 0"),
        (["--input-size", "0"], "--input-size must be at least 1"),
    ):
        assert message in fails(capsys, 2, "evaluate", net, pictures, *options)


def test_onnx_files_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "onnxruntime", None)
        said = fails(capsys, 1, "evaluate", tmp_path / "a.onnx", "demo")
        assert "pip install 'softaug[onnx]'" in said
    pytest.importorskip("onnxruntime")
    assert "not readable as ONNX" in fails(capsys, 1, "evaluate", tmp_path / "a.onnx", "demo")


def test_no_pickle_is_run(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    for file in ("a.pt", "b.npz"):
        (tmp_path / file).write_bytes(pickle.dumps(Trap()))
        fails(capsys, 1, "evaluate", tmp_path / file, pictures)
    torch.save({"fc.weight": Trap()}, tmp_path / "c.pth")
    fails(capsys, 1, "evaluate", tmp_path / "c.pth", pictures)
    fails(capsys, 1, "evaluate", "timm:test_resnet", pictures, "--weights", tmp_path / "c.pth")
    np.savez(tmp_path / "d.npz", logits=np.array([Trap()], dtype=object))
    said = fails(capsys, 1, "evaluate", tmp_path / "d.npz")
    assert "not readable as logits (Object arrays cannot be loaded when allow_pickle=False" in said
    assert not (tmp_path / "sprung").exists()


def test_modules_go_to_the_device_and_functions_stay(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    module = load_foreign(Path("theirs.nets:module"), device="meta")
    assert {value.device.type for value in module.state_dict().values()} == {"meta"}
    assert load_foreign(Path("theirs.nets:function"), device="meta").mean.device.type == "cpu"


def test_kinds_are_told_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.pt").mkdir()
    (tmp_path / "file:name").touch()
    kinds = {
        "timm:resnet18": "timm",
        "a/b.ts": "torchscript",
        "B.ONNX": "onnx",
        "c.npz": "logits",
        "package.module:function": "function",
        "file:name": None,
        "run.pt": None,
        "model.safetensors": None,
        "runs/a": None,
    }
    assert {name: model_kind(Path(name)) for name in kinds} == kinds


# --- classes --------------------------------------------------------------------------------


def test_classes_and_logits_are_matched() -> None:
    def match(classes: list[str], names: list[str] | None, k: int) -> list[int]:
        return class_columns(classes, names, k, "data")

    assert match(["cat", "dog"], None, 2) == [0, 1]
    assert match(["dog", "cat"], ["cat", "cow", "dog"], 3) == [2, 0]
    assert match(["1", "10", "2"], None, 11) == [1, 10, 2]  # not in the order of the names
    assert match(["1", "2"], None, 2) == [0, 1]  # 2 is no logit
    assert match(["1", "0"], ["0", "1"], 2) == [1, 0]
    assert match(["007", "7"], None, 2) == [0, 1]
    assert match([*WORDNET[::-1]], None, 1000) == [2, 1, 0]
    assert match([*WORDNET[::-1]], None, 3) == [0, 1, 2]
    readable = [f"name {i}" for i in range(1000)]
    assert match([WORDNET[2], WORDNET[0]], readable, 1000) == [2, 0]
    assert match(["999", "5"], readable, 1000) == [999, 5]
    with pytest.raises(UsageError, match="the model gives 5 logits, data has 2 classes"):
        match(["cat", "dog"], None, 5)
    with pytest.raises(UsageError, match="the model gives 1000 logits, data has 2 classes"):
        match(["n00000001", "n00000002"], None, 1000)
    with pytest.raises(UsageError, match=r"does not know \(cow\); it knows 2"):
        match(["cat", "cow"], ["cat", "dog"], 2)
    with pytest.raises(UsageError, match="does not know"):
        match(["0", "1"], ["cat", "dog"], 2)


def test_class_names_come_from_a_file(
    made: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("c\na\nb\n\n")
    assert read_classes(names, 3) == ("c", "a", "b")
    got = figures(tmp_path, made / "net.pt", pictures, "--classes", names)
    data = load(str(pictures))
    test = data.all_images()
    moved = ImageSet(test.images, (test.labels + 1) % 3)
    direct = Direct(network(), 0.0, 1.0)
    assert_same(got, evaluate(direct, moved, fills=fills_for(data, moved))[0].as_dict())
    for text, message in (
        ("a\nb\n", "2 classes, but the model gives 3 logits"),
        ("a\nb\nb\n", "classes named twice: b"),
        ("a\nb\nd\n", "does not know (c)"),
    ):
        names.write_text(text)
        assert message in fails(
            capsys, 2, "evaluate", made / "net.pt", pictures, "--classes", names
        )
    for name in ("a/0", "a/1", "b/0", "c/0", "d/0"):
        draw(tmp_path / "four" / f"{name}.png", np.zeros((12, 16, 3)))
    said = fails(capsys, 2, "evaluate", made / "net.pt", tmp_path / "four")
    assert "the model gives 3 logits, four has 4 classes" in said


@pytest.mark.parametrize("names", [("2", "10", "30"), WORDNET])
def test_test_sets_of_imagenet_restrict_the_logits(
    names: tuple[str, ...], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greys between two classes of the folder, nearer to one: other classes are nearer still."""
    numbers = [int(name) if name.isdecimal() else WORDNET.index(name) for name in names]
    data = tmp_path / "data"
    far = numbers[-1] + 3  # nearest to the last class of the folder
    for name, number in zip(names, numbers, strict=True):
        draw(data / name / "own.png", np.full((9, 9), 5 * number))
    draw(data / names[-1] / "far.png", np.full((9, 9), 5 * far))
    monkeypatch.chdir(made)
    command = ["imagenet_by_grey:make", data]
    assert figures(tmp_path, *command)["top1_error"] == 0
    assert figures(tmp_path, *command, "--no-restrict")["top1_error"] == 0.25


def test_our_own_models_are_restricted_on_request(pictures: Path, tmp_path: Path) -> None:
    card = ModelCard("small", ("d", "b", "a", "c", "e"), 3, 12, 16)
    torch.manual_seed(0)
    model = build(card, (100.0,), (9.0,)).eval()
    save_model(card, model.state_dict(), tmp_path / "m.safetensors")
    command = [tmp_path / "m.safetensors", pictures]
    data = load(str(pictures))
    test = data.all_images()
    logits = predict_logits(model, test.images)
    numbers = torch.tensor([2, 1, 3])
    nll = nn.functional.cross_entropy
    whole = nll(logits, numbers[test.labels]).item()
    assert figures(tmp_path, *command)["nll"] == pytest.approx(whole, rel=1e-4)
    part = nll(logits[:, numbers], test.labels).item()
    assert figures(tmp_path, *command, "--restrict")["nll"] == pytest.approx(part, rel=1e-4)


def test_options_of_foreign_models_are_refused_for_our_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = fails(capsys, 2, "evaluate", tmp_path / "m.safetensors", "demo", "--mean", "0")
    assert "are for models that softaug did not train" in said


# --- logits in a file -----------------------------------------------------------------------


def test_figures_straight_from_logits(pictures: Path, tmp_path: Path) -> None:
    test = load(str(pictures)).all_images()
    logits = predict_logits(Direct(network(), 0.0, 1.0), test.images)
    wanted = expected(Direct(network(), 0.0, 1.0), pictures)
    np.savez(tmp_path / "a.npz", logits=logits.double(), labels=test.labels.to(torch.int32))
    np.savez(tmp_path / "b.npz", logits=logits)
    for command in ([tmp_path / "a.npz"], [tmp_path / "b.npz", pictures]):
        got = figures(tmp_path, *command)
        without: dict[str, Any] = {"cut_off": {}, "hidden": {}, "mix": None}
        assert without.items() <= got.items()
        assert_same(got, {**wanted, **without})
        assert got["reliability"] == wanted["reliability"]
    (tmp_path / "names.txt").write_text("c\na\nb")
    got = figures(tmp_path, *command, "--classes", tmp_path / "names.txt")
    moved = nn.functional.cross_entropy(logits, (test.labels + 1) % 3)
    assert got["nll"] == pytest.approx(moved.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"probabilities": np.zeros((4, 3))}, "no array `logits`; it has probabilities"),
        ({"logits": np.zeros(4)}, "logits must be [N,K], got [4]"),
        ({"logits": np.zeros((0, 3))}, "logits must be [N,K], got [0, 3]"),
        ({"logits": np.full((4, 3), np.nan)}, "not finite for 4 of 4 samples"),
        ({"logits": np.full((4, 3), "x")}, "not readable as logits"),
        ({"logits": np.full((4, 4), 0.25)}, "the logits are probabilities, of sum 1; save"),
        ({"logits": np.zeros((4, 3)), "labels": np.zeros(5, int)}, "[N] = [4], got int64 [5]"),
        ({"logits": np.zeros((4, 3)), "labels": np.zeros(4)}, "whole numbers [N] = [4]"),
        (
            {"logits": np.zeros((4, 3)), "labels": np.full(4, 3)},
            "a.npz: labels must be in [0, 3), got 3 to 3",
        ),
    ],
)
def test_logits_of_another_form_are_one_line(
    arrays: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    assert message in fails(capsys, 1, "evaluate", tmp_path / "a.npz")


def test_logits_need_labels_from_one_side(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logits, labels = np.zeros((30, 3)), np.zeros(30, int)
    np.savez(tmp_path / "a.npz", logits=logits, labels=labels)
    np.savez(tmp_path / "b.npz", logits=logits)
    np.savez(tmp_path / "c.npz", logits=logits[:29])
    np.savez(tmp_path / "d.npz", logits=np.zeros((30, 4)))
    np.save(tmp_path / "e.npz.npy", logits)
    (tmp_path / "e.npz.npy").rename(tmp_path / "e.npz")
    assert "leave out DATA" in fails(capsys, 2, "evaluate", tmp_path / "a.npz", pictures)
    assert "add DATA" in fails(capsys, 2, "evaluate", tmp_path / "b.npz")
    said = fails(capsys, 2, "evaluate", tmp_path / "c.npz", pictures)
    assert "29 logits" in said
    assert "30 test images" in said
    said = fails(capsys, 2, "evaluate", tmp_path / "d.npz", pictures)
    assert "4 logits" in said
    assert "3 classes" in said
    assert "not readable as logits" in fails(capsys, 1, "evaluate", tmp_path / "e.npz")
    assert "no such file" in fails(capsys, 1, "evaluate", tmp_path / "f.npz")
    assert "takes only --classes" in fails(capsys, 2, "evaluate", tmp_path / "a.npz", "--mean", "0")


# --- out of distribution --------------------------------------------------------------------


def check_detection(found: Any, known: Tensor, other: Tensor) -> None:
    """Every pair counted, as tests/lab/test_ood.py proves it for the figures themselves."""
    scores: dict[str, Callable[[Tensor], Tensor]] = {
        "softmax": lambda logits: logits.double().softmax(dim=1).amax(dim=1),
        "energy": lambda logits: logits.double().exp().sum(dim=1).log(),
    }
    for key, score in scores.items():
        mine, theirs = score(known)[:, None], score(other)[None]
        wins = (mine > theirs).double() + (mine == theirs).double() / 2
        assert found[key]["auroc"] == pytest.approx(wins.mean().item(), abs=0.005)
        assert 0 <= found[key]["fpr95"] <= 1


def test_other_data_are_told_from_the_test_images(
    made: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Grey pictures of other sizes in a folder without classes; their middle is what is seen."""
    generator = np.random.default_rng(3)
    other = tmp_path / "other"
    for i, size in enumerate([(12, 16), (24, 32), (24, 60), (50, 32), (12, 16)] * 5):
        draw(other / f"{i:02}.png", np.full(size, generator.integers(0, 256)))
    got = figures(tmp_path, made / "net.pt", pictures, "--ood", other)
    said = capsys.readouterr()
    assert "25 images as 16 x 12 px, RGB" in said.err
    assert "AUROC %, maximum softmax" in said.out
    assert "AUROC %, energy" in said.out
    direct = Direct(network(), 0.0, 1.0)
    levels = [np.asarray(Image.open(file))[0, 0] for file in sorted(other.iterdir())]
    greys = torch.tensor(np.array(levels)).view(-1, 1, 1, 1).expand(-1, 3, 12, 16)
    known = predict_logits(direct, load(str(pictures)).all_images().images)
    assert (got["ood"]["data"], got["ood"]["images"]) == (str(other), 25)
    check_detection(got["ood"], known, predict_logits(direct, greys))
    gone = fails(capsys, 2, "evaluate", made / "net.pt", pictures, "--ood", tmp_path / "gone")
    assert "missing path" in gone
    plain = figures(tmp_path, made / "net.pt", pictures)
    assert plain == {key: value for key, value in got.items() if key != "ood"}


def test_other_data_for_our_own_models_and_for_logits(pictures: Path, tmp_path: Path) -> None:
    card = ModelCard("small", ("a", "b", "c"), 3, 12, 16)
    torch.manual_seed(0)
    model = build(card, (100.0,), (9.0,)).eval()
    save_model(card, model.state_dict(), tmp_path / "m.safetensors")
    got = figures(tmp_path, tmp_path / "m.safetensors", pictures, "--ood", "demo")
    test = load(str(pictures)).all_images()
    images, _ = read_images("demo", 3, 12, 16)
    assert images.shape == (2000, 3, 12, 16)
    known, other = (predict_logits(model, part) for part in (test.images, images))
    check_detection(got["ood"], known, other)
    np.savez(tmp_path / "known.npz", logits=known, labels=test.labels)
    np.savez(tmp_path / "other.npz", logits=other)
    again = figures(tmp_path, tmp_path / "known.npz", "--ood", tmp_path / "other.npz")
    for key in ("softmax", "energy"):
        assert again["ood"][key] == pytest.approx(got["ood"][key], abs=1e-3)


def test_images_of_any_source_are_read_in_a_given_shape(pictures: Path, tmp_path: Path) -> None:
    """The same pixels where the shape is their own; the test part where there is one."""
    every = load(str(pictures)).all_images().images
    images, notes = read_images(str(pictures), 3, 12, 16)
    assert torch.equal(images.flatten(1).sum(1).sort()[0], every.flatten(1).sum(1).sort()[0])
    assert notes == [f"{pictures}: 30 images as 16 x 12 px, RGB"]
    for part, n in (("train", 3), ("test", 2)):
        for i in range(n):
            draw(tmp_path / "parts" / part / "a" / f"{i}.png", np.full((8, 8), 100))
    images, _ = read_images(str(tmp_path / "parts"), 1, 8, 8)
    assert images.shape == (2, 1, 8, 8)
    assert (images == 100).all()
    (tmp_path / "parquet").mkdir()
    parquet(tmp_path / "parquet" / "train.parquet", range(12))
    parquet(tmp_path / "parquet" / "test.parquet", range(100, 105))
    images, _ = read_images(str(tmp_path / "parquet"), 3, 6, 6)
    assert numbers(images) == [*range(100, 105)]
    demo = load("demo").test.images
    assert torch.equal(read_images("demo", 1, 28, 28)[0], demo)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SoftaugError, match="empty: no image"):
        read_images(str(tmp_path / "empty"), 3, 8, 8)
    (tmp_path / "parts" / "test" / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(SoftaugError, match="1 unreadable test image"):
        read_images(str(tmp_path / "parts"), 1, 8, 8)
    images, notes = read_images(str(tmp_path / "parts"), 1, 8, 8, max_unreadable=0.5)
    assert len(images) == 1
    assert "1 unreadable test image was left out" in notes[0]


def test_a_view_is_as_the_data_where_it_says_nothing() -> None:
    images = torch.randint(256, (2, 3, 5, 7)).to(torch.uint8)
    assert torch.equal(Preprocessing().pixels(images), images / 255)


def test_a_list_of_classes_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("\ufeffcat\ndog\n".encode())
    assert read_classes(tmp_path / "names.txt", 2) == ("cat", "dog")
