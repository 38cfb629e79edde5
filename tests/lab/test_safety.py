"""What a hostile data set, checkpoint or name tries; each attack is tried here, and fails."""

import io
import json
import os
import pickle
import re
import resource
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from support import encoded, fake_cifar, tar

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.cli import tables, terminal
from softaug_lab.cli.app import main
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.decode import read_image
from softaug_lab.data.load import load, read_images
from softaug_lab.data.sources.tar import _files
from softaug_lab.evaluation.predictions import Predictions
from softaug_lab.metrics import METRICS
from softaug_lab.models.card import ModelCard
from softaug_lab.models.classifier import build, load_model
from softaug_lab.models.model_file import save_model
from softaug_lab.recipes.expression import from_file, parse
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import folder_name, open_run

QUICK = ["--epochs", "1", "--batch-size", "4"]
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
CLEAR = "\x1b[2J\x1b]0;owned\x07"  # clears a terminal's screen and names its window


class Trap:
    """A pickle of this makes a folder when it is read by one who trusts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.folder),))


def fails(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    """What a failing command prints on the error stream."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([str(part) for part in command])
    return capsys.readouterr().err


# --- pickles --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("member", ["data_batch_1", "test_batch", "batches.meta"])
def test_no_pickle_of_a_data_set_is_run(
    member: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even in an archive with the right MD5."""
    trap = pickle.dumps({"data": Trap(tmp_path / "sprung")}, protocol)
    archive = fake_cifar("cifar10", tmp_path / "cache", monkeypatch, {member: trap})
    with pytest.raises(SoftaugError, match=r"a pickle that asks for \w+\.mkdir") as error:
        load("cifar10")
    assert str(archive) in str(error.value)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "payload",
    [
        # Names beside those that are known: of the same modules, by a dotted path, of builtins.
        b"cnumpy\nload\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"c_codecs\ndecode\n.",
        # An array that says it has more bytes than it brings, and one of none at all.
        b"(dS'data'\ncnumpy\nndarray\n)R(I1\n(I9\nI3072\ntN\x89S'abc'\ntbsS'labels'\n(lI0\nas.",
        b"(dS'data'\ncnumpy\nndarray\n)RsS'labels'\n(lI0\nas.",
        b"\x80",
        b"",
    ],
)
def test_a_data_set_is_nothing_but_arrays_and_labels(
    payload: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cifar("cifar10", tmp_path, monkeypatch, {"data_batch_3": payload})
    with pytest.raises(SoftaugError, match="not an archive of cifar10"):
        load("cifar10")


def test_the_archive_of_a_data_set_writes_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that climb stay in the archive; what was unpacked is not read."""
    climbing = {"../../../climbed": b"x", "../data_batch_1": b"not the batch"}
    archive = fake_cifar("cifar10", tmp_path / "a" / "cache", monkeypatch, climbing)
    unpacked = archive.parent / "cifar-10-batches-py"
    unpacked.mkdir()
    (unpacked / "data_batch_1").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    before = sorted(tmp_path.rglob("*"))
    assert len(load("cifar10").train) == 10
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_no_pickle_of_a_model_is_run(write: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        write(Trap(tmp_path / "sprung"), file)
    with pytest.raises(SoftaugError, match="not a whole safetensors file"):
        load_model(path)
    assert not (tmp_path / "sprung").exists()


def test_no_pickle_of_predictions_is_run(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.savez(tmp_path / "predictions.npz", labels=trap, logits=trap)
    with pytest.raises(SoftaugError, match="not readable as predictions"):
        Predictions.load(tmp_path / "predictions.npz")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(SoftaugError, match="not readable as predictions"):
        Predictions.load(tmp_path / "bare.npz")
    assert not (tmp_path / "sprung").exists()


# --- text that could be run, and names ------------------------------------------------------


def test_no_yaml_makes_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = f"!!python/object/apply:os.mkdir ['{tmp_path / 'sprung'}']"
    (tmp_path / "a.yaml").write_text(f"epochs: {call}\n")
    (tmp_path / "b.yaml").write_text(f"- crop(0.3)\n- {call}\n")
    assert "a.yaml: no YAML" in fails(capsys, "train", "demo", "--recipe", tmp_path / "a.yaml")
    with pytest.raises(UsageError, match=r"b\.yaml: no YAML"):
        from_file(str(tmp_path / "b.yaml"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').mkdir({!r})",
        "crop(__import__('os').mkdir({!r}))",
        "crop(fill=__import__('os').mkdir({!r}))",
        "[__import__('os').mkdir({!r}) for _ in (1,)]",
        "(lambda: __import__('os').mkdir({!r}))()",
        "crop(0.3)+crop.__init__.__globals__['os'].mkdir({!r})",
        "crop(f\"{{__import__('os').mkdir({!r})}}\")",
        "hard(crop(0.3) if __import__('os').mkdir({!r}) else flip)",
    ],
)
def test_no_augmentation_is_run(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = text.format(str(tmp_path / "sprung"))
    with pytest.raises(UsageError):
        parse(text, 20, 24)
    for option in (["--augment", text], ["--arm", f"soft@{text}"]):
        assert "augmentation" in fails(capsys, "preview", "demo", *option)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "own", ["crop#/../../x", "crop#\\..\\x", "crop#\x1b[2J\n#x", "crop#" + "é" * 400]
)
def test_an_arm_names_a_folder_in_its_place(own: str, tmp_path: Path) -> None:
    name = folder_name(Recipe(arm=f"soft@{own}"))
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert name.isascii()
    assert name.isprintable()
    assert name != folder_name(Recipe(arm=f"soft@{own}x"))


def picture(folder: Path, name: str, colour: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("L", (12, 12), colour).save(folder / name)


def test_a_data_set_names_a_run_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that climbs is that of the folder it leads to; one that is too long is told."""
    for name in ("a", "b"):
        for i in range(4):
            picture(tmp_path / "pets" / name, f"{i}.png", i)
            picture(tmp_path / ("x" * 250) / name, f"{i}.png", i)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    main(["train", "../here/../pets", *QUICK])
    assert [str(p) for p in Path("runs").iterdir()] == ["runs/pets-auto-seed-0"]
    assert "name too long); --run names" in fails(capsys, "train", f"../{'x' * 250}", *QUICK)
    assert {path.name for path in tmp_path.iterdir()} == {"pets", "x" * 250, "here"}


def test_a_name_that_is_no_path_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["train", "de\0mo"], ["train", "demo", "--recipe", "\0.yaml"]):
        assert "\\x00" in fails(capsys, *command)
    assert "not readable" in fails(capsys, "preview", "demo", "--augment", "\0.yaml")


# --- images ---------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """A whole PNG of black pixels, a bit each: a thousandth of what it takes decoded."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compressobj()
    row = bytes(1 + -(-width // 8))
    data = b"".join(rows.compress(row * 100) for _ in range(height // 100)) + rows.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def as_folder(root: Path, content: bytes) -> Path:
    for part in ("train", "test"):
        for name in ("a", "b"):
            picture(root / part / name, "0.png", 9)
    (root / "train" / "b" / "bomb.png").write_bytes(content)
    return root


def as_parquet(root: Path, content: bytes) -> Path:
    small = io.BytesIO()
    Image.new("L", (12, 12)).save(small, format="PNG")
    images = [{"bytes": one, "path": None} for one in (*[small.getvalue()] * 4, content)]
    pq.write_table(pa.table({"image": images, "label": [0, 0, 1, 1, 1]}), root / "bomb.parquet")
    return root / "bomb.parquet"


@pytest.fixture
def no_blow_up() -> Any:
    """The most memory ever held grows by less than any bomb here takes."""
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    assert grown < 90_000_000


# Pillow only warns of the smaller one.
SIZES = [(10_000, 10_000), (50_000, 40_000)]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("store", [as_folder, as_parquet])
@pytest.mark.usefixtures("no_blow_up")
def test_a_bomb_in_a_data_set_is_named(
    store: Callable[[Path, bytes], Path], size: tuple[int, int], tmp_path: Path
) -> None:
    path = store(tmp_path, bomb(*size))
    for side in (None, 12):
        with pytest.raises(SoftaugError, match=r"bomb\.p(ng|arquet row 4): .*pixels"):
            load(str(path), size=side)
    data = load(str(path), max_unreadable=0.5)
    assert "1 unreadable image was left out" in data.notes[-1]


@pytest.mark.usefixtures("no_blow_up")
def test_a_bomb_in_an_archive_is_named(tmp_path: Path) -> None:
    """A compressed archive of a few kilobytes with a file of 200 MB."""
    with tarfile.open(tmp_path / "train.tar", "w:gz", compresslevel=1) as archive:
        for i in range(5):
            small = io.BytesIO()
            Image.new("L", (12, 12)).save(small, format="PNG")
            image: IO[bytes] = small if i < 4 else Zeros()
            for ending, content, size in (
                ("png", image, len(small.getvalue()) if i < 4 else 200_000_000),
                ("cls", io.BytesIO(b"%d" % (i % 2)), 1),
            ):
                content.seek(0)
                member = tarfile.TarInfo(f"{i}.{ending}")
                member.size = size
                archive.addfile(member, content)
    assert (tmp_path / "train.tar").stat().st_size < 2_000_000
    with pytest.raises(SoftaugError, match=r"train\.tar 4: no image"):
        load(str(tmp_path))


class Zeros(io.BytesIO):
    """As many as are asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return bytes(size or 0)


def test_no_file_is_given_to_another_program(tmp_path: Path) -> None:
    """Pillow would hand PostScript to Ghostscript, whatever its file is called."""
    path = as_folder(tmp_path, POSTSCRIPT)
    with pytest.raises(SoftaugError, match=r"bomb\.png: no image, or of an unknown format"):
        load(str(path))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("no_blow_up")
def test_a_bomb_to_predict_is_named(
    size: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_small(tmp_path / "m.safetensors", ("a", "b"))
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    picture(tmp_path, "small.png", 9)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["predict", *(f"{tmp_path}/{f}" for f in ("m.safetensors", "bomb.png", "small.png"))])
    said = capsys.readouterr()
    assert "bomb.png: " in said.err
    assert "pixels" in said.err
    assert said.out.startswith(f"{tmp_path}/small.png\t")
    with pytest.raises(SoftaugError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png", 3, 12, 12)


def test_a_model_file_cannot_ask_for_images_without_limit(tmp_path: Path) -> None:
    save_small(tmp_path / "m.safetensors", ("a", "b"), side=40_000)
    with pytest.raises(SoftaugError, match="40000 x 40000 px are too large"):
        load_model(tmp_path / "m.safetensors")


def save_small(path: Path, classes: tuple[str, ...], side: int = 12) -> None:
    model = build(ModelCard("small", classes, 1, 12, 12), (0.0,), (1.0,))
    save_model(replace(model.card, height=side, width=side), model.state_dict(), path)


# --- reports --------------------------------------------------------------------------------

HOSTILE = (
    "</title><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)',
    "' autofocus onfocus='alert(4)",
    "javascript:alert(5)",
    "</svg></style><iframe srcdoc=x>",
    "{{ 7 * 7 }}{% raw %}",
    r"$\frac{",
    "&lt;b&gt;",
    f"{CLEAR}\t\n\u2028\u202e\ud800",
)


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_data(path: Path, names: tuple[str, ...]) -> None:
    """A Parquet file as on the Hub, which can name its classes as it likes."""
    images = []
    for i in range(5 * len(names)):
        content = io.BytesIO()
        Image.new("L", (12, 12), i).save(content, format="PNG")
        images.append({"bytes": content.getvalue(), "path": None})
    features = {"info": {"features": {"label": {"names": names}}}}
    table = pa.table({"image": images, "label": [i % len(names) for i in range(len(images))]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), path)


def test_names_of_a_data_set_are_only_text_in_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file to the page: the names of the data, of its classes and the command."""
    data = tmp_path / f"{HOSTILE[1]}{HOSTILE[2]}.parquet"
    hostile_data(data, HOSTILE)
    command = ["train", str(data), *QUICK, "--arm", "soft@crop#<script>alert(6)</script>"]
    monkeypatch.setattr("sys.argv", ["softaug", *command])
    main([*command, "--run", str(tmp_path / "run")])
    page = Page((tmp_path / "run" / "report.html").read_text())
    names = [value for name, value in page.attributes if name in ("alt", "title")]
    inert = {name.replace("\ud800", "\\ud800") for name in HOSTILE}
    own = r"(cut off|hidden), filled with \w+|Test image \d+"
    strips = [name for name in names if re.fullmatch(own, name or "")]
    whole = [name for name in names if (name or "").startswith("the whole image: ")]
    assert {name.removeprefix("the whole image: ") for name in whole if name} <= inert
    shown = set(names) - {metric.meaning for metric in METRICS} - {*strips, *whole}
    assert shown <= inert
    assert len(shown) > 4
    for word in (HOSTILE[1], HOSTILE[2], "soft@crop#<script>alert(6)</script>"):
        assert word in page.text
    assert page.tags.count("script") == 1
    assert page.tags.count("img") == 8 + len(strips) + len(whole)
    assert "iframe" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [value or "" for name, value in page.attributes if name in ("href", "src")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in links)


def test_names_of_a_data_set_are_only_text_in_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither mathematics nor lines of their own."""
    import matplotlib.text

    seen: dict[str, bool] = {}
    draw = matplotlib.text.Text.draw

    def spy(text: Any, *arguments: Any) -> None:
        seen[text.get_text()] = text.get_parse_math()
        draw(text, *arguments)

    monkeypatch.setattr(matplotlib.text.Text, "draw", spy)
    hostile_data(tmp_path / "data.parquet", HOSTILE)
    out = tmp_path / "a.png"
    main(["preview", str(tmp_path / "data.parquet"), "--images", "40", "--out", str(out)])
    captions = {text: maths for text, maths in seen.items() if "p " in text}
    assert not any(captions.values())
    assert all(text.count("\n") == 1 for text in captions)
    assert {r"$\frac{", "javascript:alert(5)"} <= {text.split("\n")[0] for text in captions}


# --- terminals ------------------------------------------------------------------------------


def steers(text: str) -> bool:
    """Whether there is anything but printed lines."""
    return not all(line.isprintable() for line in text.split("\n"))


def test_names_do_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In messages: escapes, lines that look like ours, markup, and bytes that are no text."""
    for name in (CLEAR, "\x9b2J", "a\nsoftaug: all is well", "\u202ecod.exe", "\udcff", "\r"):
        said = fails(capsys, "train", name)
        assert not steers(said)
        assert said.count("\n") == 1
        folder = tmp_path / ascii(name)
        (folder / name).mkdir(parents=True)
        said = fails(capsys, "train", folder)
        assert "one class only" in said
        assert not steers(said)
        assert said.count("\n") == 1
    for name in ("[red]x[/]", "[/]", ":bug:"):
        assert name in fails(capsys, "train", name)


def test_names_do_not_steer_the_terminal_in_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile_data(tmp_path / "data.parquet", HOSTILE)
    arm = f"soft@[crop(0.1), flip]#{CLEAR}"
    folder = tmp_path / f"[red]:bug:[/blue]{CLEAR}"
    capsys.readouterr()
    options = ["--seeds", "1", "--arms", arm, "standard", "--run", str(folder)]
    main(["compare", f"{tmp_path}/data.parquet", *QUICK, *options])
    said = capsys.readouterr()
    assert not steers(said.out)
    assert not steers(said.err)
    assert "[red]:bug:[/blue]\\x1b[2J\\x1b]0;owned\\x07/report.html" in said.out
    assert "[crop(0.1), flip]" in said.err.replace("\n", "")
    main(["train", f"{tmp_path}/data.parquet", *QUICK, "--arm", arm, "--run", f"{folder}/t"])
    main(["train", f"{tmp_path}/data.parquet", *QUICK, "--arm", arm, "--dry-run"])
    main(["preview", f"{tmp_path}/data.parquet", "--arm", arm, "--out", f"{folder}/[red].png"])
    said = capsys.readouterr()
    assert not steers(said.out)
    assert "/[red].png'\n" in said.out
    assert not steers(said.err)


def test_log_and_tables_are_inert(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.console.print(tables.plan_table({CLEAR: f"[red]{CLEAR}"}))
    said = capsys.readouterr().out
    assert not steers(said)
    assert "[red]" in said


def test_predictions_are_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the names of files and classes hold: three fields, in UTF-8."""
    save_small(tmp_path / "m.safetensors", ("cat\nfake.png\tdog\t1.0000", "\ud800\x1b[2J\u2028"))
    names = ["a.png\tcat\t1.0000\nb.png", "\udcff.png", "\x85.png", "plain :bug: [red] é.png"]
    for name in names:
        picture(tmp_path, name, 9)
    capsys.readouterr()
    main(["predict", f"{tmp_path}/m.safetensors", *(f"{tmp_path}/{n}" for n in names), "--top=2"])
    said = capsys.readouterr().out
    lines = [line.split("\t") for line in said.splitlines()]
    assert len(lines) == 8
    assert all(len(line) == 3 for line in lines)
    assert not any(steers("".join(line)) for line in lines)
    assert lines[0][0] == f"{tmp_path}/a.png\\tcat\\t1.0000\\nb.png"
    assert lines[-1][0] == f"{tmp_path}/{names[-1]}"
    assert {line[1] for line in lines} == {
        r"cat\nfake.png\tdog\t1.0000",
        r"\ud800\x1b[2J\u2028",
    }
    said.encode()


def test_a_folder_with_bytes_that_are_no_text_gives_a_run(tmp_path: Path) -> None:
    for name in (b"\xff", b"cat"):
        for i in range(4):
            picture(tmp_path / "data" / os.fsdecode(name), f"{i}.png", i)
    main(["train", str(tmp_path / "data"), *QUICK, "--run", str(tmp_path / "run")])
    assert "\\udcff" in (tmp_path / "run" / "report.html").read_text()
    made = open_run(tmp_path / "new", Recipe(), load(str(tmp_path / "data")), {}, resume=False)
    assert made.description()["data"]["classes"] == ["cat", "\udcff"]


def small_data() -> Data:
    images = ImageSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4) % 2)
    return Data("small", ("a", "b"), images, images)


STRANGE = (
    "pipe:touch {}",
    "http://127.0.0.1:9/{}.tar",
    "hf:{}",
    "{{pi,}}pe:touch {}",
    "x.tar::pipe:touch {}",
)


@pytest.mark.parametrize("command", ["evaluate", "probe"])
@pytest.mark.parametrize("place", ["data", "test"])
@pytest.mark.parametrize("address", STRANGE)
def test_a_run_folder_runs_and_fetches_nothing(
    address: str, place: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touched, data = tmp_path / "touched", small_data()
    named = {"data": "demo", "test": None} | {place: address.format(touched)}
    source = {"data": named["data"], "read": {"test": named["test"], "size": 8}}
    run = open_run(tmp_path / "run", Recipe(), data, source, resume=False)
    card = ModelCard("small", data.classes, 3, 8, 8)
    weights = build(card, (127.5,), (127.5,)).state_dict()
    save_model(card, weights, run.model_file)
    save_model(card, weights, run.backbone_file)
    with pytest.raises(SystemExit) as stopped:
        main([command, str(run.folder)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert re.search("anybody's, can name only files; name DATA after it", " ".join(said.split()))
    assert not touched.exists()


@pytest.mark.parametrize(
    "name", ["pipe:touch x; cat y #.tar", "http:x.tar", "{pi,}pe:touch x;.tar"]
)
def test_a_file_that_is_called_like_a_command_is_opened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTAUG_DATA", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    tar(tmp_path / "data" / name, range(12))
    monkeypatch.chdir(tmp_path / "data")
    assert len(load(".").train) + len(load(".").test) == 12
    assert len(load(name).train) + len(load(name).test) == 12
    assert len(read_images(".", 3, 6, 6)[0]) == 12
    assert [path.name for path in Path().iterdir()] == [name]


def own_model(path: Path, **card: Any) -> Path:
    """Write a model for images of 8 px, its card changed as a forger would."""
    honest = ModelCard("small", ("caf\xe9", "b"), 3, 8, 8)
    weights = build(honest, (127.5,), (127.5,)).state_dict()
    save_model(honest, weights, path)
    if card:
        forged = {"softaug": json.dumps(asdict(honest) | card)}
        path.write_bytes(save_tensors(load_file(path), metadata=forged))
    return path


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        ({"temperature": 0}, "temperature must be above 0 and finite, got 0"),
        ({"temperature": float("nan")}, "temperature must be above 0 and finite, got nan"),
        ({"temperature": "1"}, "temperature must be above 0 and finite, got '1'"),
        ({"classes": ["a"]}, "classes must be 2 or more, all different"),
        ({"classes": [["a"], ["b"]]}, "model and classes must be text"),
        ({"classes": 3}, "classes are no list"),
        ({"height": -8}, "height must be a whole number from 1, got -8"),
        ({"channels": 3.0}, "channels must be a whole number from 1, got 3.0"),
        ({"pretrained": 1}, "pretrained must be true or false, got 1"),
        ({"model": ["small"]}, "model and classes must be text"),
        ({"command": "rm"}, "unexpected keyword argument 'command'"),
    ],
)
def test_a_forged_card_is_told(forged: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = own_model(tmp_path / "model.safetensors", **forged)
    with pytest.raises(SoftaugError, match=rf"its card is broken \(.*{re.escape(message)}"):
        load_model(path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"recipe": [], "data": {}, "environment": {}}'])
def test_a_recipe_that_is_none_is_told(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_model(tmp_path / "model.safetensors")
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(SystemExit):
        main(["evaluate", str(tmp_path)])
    said = capsys.readouterr().err
    assert "recipe.json: expected objects called recipe, data, environment" in said


def test_a_model_of_no_numbers_predicts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(own_model(tmp_path / "model.safetensors"))
    broken = {name: value * float("nan") for name, value in model.state_dict().items()}
    save_model(model.card, broken, tmp_path / "model.safetensors")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(SystemExit) as stopped:
        main(["predict", f"{tmp_path}/model.safetensors", f"{tmp_path}/x.png"])
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert not said.out
    assert "x.png: the model's logits are not finite" in said.err


def test_output_that_is_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_model(tmp_path / "model.safetensors")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding="ascii"))
    main(["predict", f"{tmp_path}/model.safetensors", f"{tmp_path}/x.png", "--top", "2"])
    assert b"x.png\tcaf\\xe9\t0." in said.getvalue()


def test_output_that_nobody_reads(tmp_path: Path) -> None:
    own_model(tmp_path / "model.safetensors")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    command = [sys.executable, "-m", "softaug", "predict", "model.safetensors", "x.png"]
    options: dict[str, Any] = {"cwd": tmp_path, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        assert running.stderr.read() == b""
    assert running.returncode == 141


def test_a_sample_of_many_files_takes_no_more_memory_than_two(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz", compresslevel=1) as archive:
        for name in ("a.0", "a.1", "a.2", "b.0"):
            member = tarfile.TarInfo(name)
            member.size = 1 << 26
            archive.addfile(member, Zeros())
    with (tmp_path / "bomb.tar.gz").open("rb") as stream:
        read = [len(file["data"]) for file in _files("bomb", stream)]
    assert read == [1 << 26, 1 << 26, 0, 1 << 26]


def test_two_images_of_one_name_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTAUG_DATA", str(tmp_path / "cache"))
    tar(tmp_path / "train.tar", range(30))
    with tarfile.open(tmp_path / "train.tar", "a") as archive:
        for ending, content in (("png", encoded(0)), ("jpg", encoded(1)), ("cls", b"0")):
            member = tarfile.TarInfo(f"twice.{ending}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(SoftaugError, match=r"train\.tar twice \(png and jpg\): no image"):
        load(str(tmp_path / "train.tar"))
