"""softaug predict: many images in, a line for each out, as soon as its batch is done."""

import csv
import io
import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from softaug_lab.cli.app import main
from softaug_lab.data import Sample, Unreadable, find_images, read_image
from softaug_lab.data.image_paths import OF_RUNS
from softaug_lab.evaluation import predict_files
from softaug_lab.evaluation.image_files import BATCH
from softaug_lab.models import Classifier, ModelCard, build, load_model, predict_logits, save_model
from softaug_lab.runs.folder import FILES

CLASSES = ("cat", "dog, the", "bird")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    card = ModelCard("small", CLASSES, 3, 8, 8, temperature=0.25)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(card, build(card, (127.5,), (60.0,)).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def model(model_file: Path) -> Classifier:
    return load_model(model_file)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """More than two batches in folders, in the order in which they are to be predicted."""
    paths = [tmp_path / "in" / f"{i % 3}" / f"{i:03}.png" for i in range(2 * BATCH + 5)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (i, 255 - i, 40 * (i % 5))).save(path)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / ".hidden.png").write_bytes(b"")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    return sorted(paths)


def said(capsys: pytest.CaptureFixture[str], code: int, *command: object) -> tuple[str, str]:
    """What the command prints on both streams, where it ends with this code."""
    capsys.readouterr()
    try:
        main(["predict", *map(str, command)])
        ended = 0
    except SystemExit as stopped:
        ended = int(stopped.code or 0)
    streams = capsys.readouterr()
    assert ended == code, streams.err
    return streams.out, streams.err


def expected(model: Classifier, path: Path) -> torch.Tensor:
    """The probabilities of one image alone, after the temperature of the card."""
    logits = predict_logits(model, read_image(path, 3, 8, 8)[None])
    probabilities: torch.Tensor = (4 * logits).softmax(dim=1)[0]
    return probabilities


def test_a_folder_is_predicted_in_sorted_order_as_each_image_alone(
    model_file: Path, model: Classifier, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images[0].parent.parent
    out, err = said(capsys, 0, model_file, folder)
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows] == [str(path) for path in images]
    assert err == "softaug: left out, as no image: 1 .txt\n"
    for path, name, confidence in rows[::20]:
        p = expected(model, Path(path))
        assert name == CLASSES[int(p.argmax())]
        assert float(confidence) == pytest.approx(p.max().item(), abs=1e-3)
    pattern, _ = said(capsys, 0, model_file, f"{folder}/[0-9]/*.png")
    assert pattern == out


def test_json_and_csv_have_the_same_rows_as_text(
    model_file: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    odd = images[0].rename(images[0].with_name('a\t\x1b[2J"\n\udcff.png'))
    text, _ = said(capsys, 0, model_file, odd, images[1], "--top", "2")
    as_json, _ = said(capsys, 0, model_file, odd, images[1], "--top", "2", "--json")
    as_csv, _ = said(capsys, 0, model_file, odd, images[1], "--top", "2", "--csv")
    objects = [json.loads(line) for line in as_json.splitlines()]
    rows = list(csv.DictReader(io.StringIO(as_csv)))
    assert "\x1b" not in as_json + as_csv
    assert objects[0]["path"] == str(odd)
    for line, one, row in zip(text.splitlines(), objects, rows, strict=True):
        path, name, confidence = line.split("\t")
        assert (path, name) == (row["path"], row["class"])
        assert (name, False) == (one["class"], one["unsure"])
        assert row["unsure"] == "false"
        for number in (one["confidence"], row["confidence"]):
            assert float(number) == pytest.approx(float(confidence), abs=1e-4)


def test_it_abstains_below_a_confidence(
    model_file: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images[0].parent.parent
    every = [json.loads(s) for s in said(capsys, 0, model_file, folder, "--json")[0].splitlines()]
    least = sorted(one["confidence"] for one in every)[len(every) // 2] + 1e-5
    below = ["--unsure-below", str(least)]
    out, err = said(capsys, 0, model_file, folder, *below, "--json", "--top", "2")
    objects = [json.loads(line) for line in out.splitlines()]
    unsure = [one for one in objects if one["unsure"]]
    assert {one["path"] for one in unsure} == {
        one["path"] for one in every if one["confidence"] < least
    }
    assert all(one["class"] is None for one in unsure)
    assert len(objects) == len(unsure) + 2 * (len(every) - len(unsure))
    assert f"unsure of {len(unsure)} of {len(every)} images" in err
    text, _ = said(capsys, 0, model_file, folder, *below)
    assert sum(line.split("\t")[1] == "" for line in text.splitlines()) == len(unsure)


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    model_file: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images[3].write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    named = [*images, tmp_path / "gone.png", f"{tmp_path}/*.gif", tmp_path / "empty"]
    out, err = said(capsys, 1, model_file, *named)
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        str(path) for path in images if path != images[3]
    ]
    for text in (
        f"{images[3]}: no image, or of an unknown format",
        f"{tmp_path}/gone.png: no such file",
        f"{tmp_path}/*.gif: no file matches",
        f"{tmp_path}/empty: no image in this folder",
    ):
        assert f"softaug: {text}\n" in err
    assert err.endswith(f"softaug: 4 of {len(images) + 3} images unreadable\n")
    (tmp_path / "empty" / "photo.HEIC").touch()
    _, err = said(capsys, 1, model_file, tmp_path / "empty")
    assert "left out, as no image: 1 .heic; HEIC is not read, convert it to JPEG\n" in err
    nothing, _ = said(capsys, 1, model_file, tmp_path / "gone.png")
    assert nothing == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unsure-below", "1.5"], "--unsure-below must be in [0, 1], got 1.5"),
        (["--json", "--csv"], "choose one"),
        (["--top", "0"], "--top must be at least 1, got 0"),
    ],
)
def test_wrong_requests(
    options: list[str], message: str, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = said(capsys, 2, model_file, "x.png", *options)
    assert message in err


def test_paths_on_standard_input(
    model_file: Path,
    images: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    odd = images[0].rename(images[0].with_name("[\udcff] *.png"))
    listed = b"\n\r\n".join(map(os.fsencode, [odd, *images[1:3]]))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed), "ascii"))
    out, _ = said(capsys, 0, model_file, images[5], "-", "--json")
    paths = [json.loads(line)["path"] for line in out.splitlines()]
    assert paths == [str(path) for path in (images[5], odd, *images[1:3])]


def test_lines_are_out_when_their_batch_is_done(
    model_file: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reader at the other end of the pipe has, each time a path is asked for."""
    pipe = io.BytesIO()
    seen: list[int] = []

    class Paths:
        @property
        def buffer(self) -> Iterator[bytes]:
            for path in images:
                seen.append(pipe.getvalue().count(b"\n"))
                yield os.fsencode(path) + b"\n"

    monkeypatch.setattr("sys.stdin", Paths())
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(pipe, "utf-8", write_through=False))
    main(["predict", str(model_file), "-"])
    assert seen[0] == 0
    assert seen[-1] == BATCH  # of two and a part
    assert pipe.getvalue().count(b"\n") == len(images)


def test_no_more_is_read_than_two_batches_ahead(model: Classifier, images: list[Path]) -> None:
    """A million paths are never held: endless ones are predicted as far as anybody asks."""
    read = 0

    def endless() -> Any:
        nonlocal read
        for path in itertools.cycle(images):
            read += 1
            yield Sample(str(path), path, 0)

    batches = predict_files(model, endless(), batch=4)
    for i in range(1, 4):
        assert next(batches).names == [str(path) for path in images[4 * i - 4 : 4 * i]]
        assert read == 4 * i + 4
    batches.close()  # type: ignore[attr-defined]
    time.sleep(0.05)
    assert read == 16


def test_the_files_of_a_run_are_no_images(tmp_path: Path) -> None:
    assert set(FILES) >= OF_RUNS  # the same names as where runs are written
    run = tmp_path / "run"
    run.mkdir()
    for file in (run / "recipe.json", run / "training-keys.npy", run / "a.png", tmp_path / "b.npy"):
        file.touch()
    found = [one.name for one in find_images([str(tmp_path)])]
    assert found == [str(tmp_path / "b.npy")]
    (named,) = find_images([str(run / "training-keys.npy")])  # what is named is taken
    assert named.name == str(run / "training-keys.npy")


def test_a_folder_that_may_not_be_looked_into_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("softaug_lab.data.image_paths.os.scandir", refuse)
    (outcome,) = find_images([str(tmp_path)])
    assert outcome == Unreadable(str(tmp_path), "unreadable (Permission denied)")
