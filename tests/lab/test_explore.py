"""softaug explore without a browser: controls, answers, the server's refusals, the command."""

import base64
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import folder, stripes
from torch import Tensor, nn

from softaug_lab.basics.errors import UsageError
from softaug_lab.cli.app import main
from softaug_lab.data import Data
from softaug_lab.experiments import augmented_samples
from softaug_lab.explore import Explorer, Server, controls
from softaug_lab.models import ModelCard, build, save_model
from softaug_lab.recipes import Recipe, as_auto, transform_of
from softaug_lab.training import build_arm

SIDE = 12  # of the images, three classes of them
START = Recipe(arm="auto", augment="crop(0.3)", k=2.0)


class Brightness(nn.Module):
    """A model that is the surer of class 0, the brighter an image is."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.float().mean(dim=(1, 2, 3)) / 64
        return torch.stack([bright, torch.zeros_like(bright), torch.zeros_like(bright)], dim=1)


def explorer(model: nn.Module | None = None, **changes: Any) -> Explorer:
    fields: dict[str, Any] = {
        "name": "stripes",
        "classes": ["rows", "columns", "board"],
        "part": "test",
    }
    fields |= {"images": stripes(40, seed=0), "recipe": START, "command": ["softaug", "train", "x"]}
    return Explorer(**{**fields, "model": model, "temperature": 2.0, **changes})


def augmented(page: Explorer, text: str, k: float = 2.0, draw: int = 0) -> dict[str, Any]:
    return page.augment(k=k, flip=True, images=0, draw=draw, text=text)


def pixels(png: str) -> Tensor:
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        return torch.from_numpy(np.array(image))


# --- controls -------------------------------------------------------------------------------


@st.composite
def settings(draw: Any) -> dict[str, Any]:
    chosen = draw(st.sets(st.sampled_from(controls.CONTROLS)))
    steps = {
        (one.word, s.option): draw(st.integers(0, round((s.high - s.low) / s.step)))
        for one in chosen
        for s in one.sliders
    }
    on = {
        one.word: {
            s.option: round(s.low + s.step * steps[one.word, s.option], 4) for s in one.sliders
        }
        for one in chosen
    }
    return {"fill": draw(st.sampled_from(list(controls.FILLS))), "on": on}


@hypothesis.settings(max_examples=40)
@given(settings())
def test_all_settings_make_an_expression_and_are_read_back(chosen: dict[str, Any]) -> None:
    page = explorer(images=stripes(2, seed=0))
    answer = page.augment(k=2, flip=False, images=0, draw=0, settings=chosen)
    found = answer["settings"]
    assert found["on"] == chosen["on"]
    takes_fill = any(one.fill and one.word in chosen["on"] for one in controls.CONTROLS)
    assert found["fill"] == (chosen["fill"] if takes_fill else None)


@pytest.mark.parametrize(
    "text",
    [
        "uniform_crop(4)",
        "erase+crop",
        "crop(0.3)+crop(0.3)",
        "crop(fill=noise)+erase",
        "crop((0.1, 0.3))",
        "crop(fill=7)",
        "erase(0.2)",
        "erase((0.1, 0.2))",
        "randaugment(num_ops=3)",
        "hard(crop)",
        "noise",
    ],
)
def test_what_sliders_cannot_show_is_not_read_back(text: str) -> None:
    answer = augmented(explorer(), text)
    assert answer["settings"] is None
    assert answer["text"] == text


@pytest.mark.parametrize(
    "wrong", [{}, {"fill": "0"}, {"fill": "red", "on": {}}, {"fill": "0", "on": {"crop": {}}},
              {"fill": "0", "on": {"crop": {"sigma": "x"}}}, {"fill": [], "on": 3}],
)  # fmt: skip
def test_wrong_settings_are_a_usage_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        controls.write(wrong)


# --- answers --------------------------------------------------------------------------------


def test_the_images_are_those_of_preview() -> None:
    images = stripes(40, seed=0)
    recipe = Recipe(arm="auto", augment="crop(0.3, fill=other)+erase", k=3.0)
    data = Data("stripes", ("rows", "columns", "board"), images, images)
    expected, _, share, confidence = augmented_samples(
        build_arm(recipe, 3, SIDE, SIDE), data, 24, seed=5
    )
    answer = explorer().augment(k=3, flip=True, images=5, draw=0, text=recipe.augment)
    assert len(answer["images"]) == 24
    for i, shown in enumerate(answer["images"]):
        assert torch.equal(pixels(shown["png"]), expected[i, 0])
        assert (shown["visibility"], shown["confidence"]) == (share[i], confidence[i])
    again = explorer().augment(k=3, flip=True, images=5, draw=1, text=recipe.augment)
    assert [one["index"] for one in again["images"]] == [one["index"] for one in answer["images"]]
    assert [one["png"] for one in again["images"]] != [one["png"] for one in answer["images"]]


def test_the_command_trains_with_what_is_shown() -> None:
    page = explorer()
    answer = page.augment(k=1.5, flip=False, images=0, draw=0, text="crop(0.2)+erase")
    assert answer["command"] == "softaug train x --augment 'crop(0.2)+erase' --k 1.5 --no-flip"
    # Without flips, columns that are dark on the left stay so.
    whole = page.augment(k=1.5, flip=False, images=0, draw=0, text="still")["images"]
    assert all(
        torch.equal(pixels(one["png"]), page.images.images[one["index"], 0]) for one in whole
    )


def test_the_curve_is_the_papers() -> None:
    for v, p in explorer().curve(3.0):
        assert p == pytest.approx(1 - (1 - 1 / 3) * (1 - v) ** 3)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, -2), (-12, 0), (5, 12), (-(10**30), 10**30)])
def test_a_moved_image_loses_what_leaves_the_frame(x: int, y: int) -> None:
    page = explorer(Brightness())
    answer = page.cut(image=4, x=x, y=y, fill="0", k=2)
    kept = max(0, SIDE - abs(x)) * max(0, SIDE - abs(y)) / SIDE**2
    assert answer["visibility"] == pytest.approx(kept)
    assert answer["confidence"] == pytest.approx(1 - (1 - 1 / 3) * (1 - kept) ** 2)
    expected = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    for row in range(SIDE):
        for column in range(SIDE):
            if 0 <= row - y < SIDE and 0 <= column - x < SIDE:
                expected[row, column] = page.images.images[4, 0, row - y, column - x]
    assert torch.equal(pixels(answer["png"]), expected)


@pytest.mark.parametrize(("x", "y", "side"), [(0, 0, 1), (2, 5, 4), (-2, 10, 5), (0, 0, 12)])
def test_a_square_hides_what_it_covers(x: int, y: int, side: int) -> None:
    page = explorer(Brightness())
    answer = page.hide(image=4, x=x, y=y, side=side, fill="0", k=2)
    expected = page.images.images[4, 0].clone()
    expected[max(0, y) : y + side, max(0, x) : x + side] = 0
    covered = (min(SIDE, x + side) - max(0, x)) * (min(SIDE, y + side) - max(0, y))
    assert answer["visibility"] == pytest.approx(1 - covered / SIDE**2)
    assert torch.equal(pixels(answer["png"]), expected)


def test_the_prediction_is_the_models_after_the_temperature() -> None:
    page = explorer(Brightness())
    answer = page.hide(image=3, x=0, y=0, side=6, fill="0", k=2)
    view = pixels(answer["png"])[None, None]
    expected = (Brightness()(view)[0] / 2.0).softmax(dim=0)
    top = answer["prediction"]["top"]
    assert [one["class"] for one in top] == ["rows", "columns", "board"]
    assert [one["confidence"] for one in top] == pytest.approx(expected.tolist())
    assert [one["true"] for one in top] == [True, False, False]
    assert answer["prediction"]["right"]
    assert not page.cut(image=4, x=0, y=0, fill="0", k=2)["prediction"]["right"]
    assert explorer().cut(image=4, x=0, y=0, fill="0", k=2)["prediction"] is None


@pytest.mark.parametrize("fill", controls.FILLS)
def test_a_fill_is_still_while_the_place_changes(fill: str) -> None:
    page = explorer()
    if fill == "mixed":
        with pytest.raises(UsageError, match="unknown fill 'mixed'"):
            page.cut(image=4, x=6, y=0, fill=fill, k=2)
        return
    far, near = (
        pixels(page.hide(image=4, x=0, y=0, side=s, fill=fill, k=2)["png"]) for s in (9, 6)
    )
    assert torch.equal(far[:6, :6], near[:6, :6])
    if fill == "other":
        assert torch.equal(near[:6, :6], page.images.images[5, 0, :6, :6])


def test_a_recipe_of_any_arm_is_written_out() -> None:
    recipe = Recipe(arm="trivialaugment(k=3)", standard="uniform_crop(2)", flip=False)
    found = as_auto(recipe, SIDE, SIDE)
    assert (found.augment, found.k, found.flip) == ("uniform_crop(2)+trivialaugment", 3.0, False)
    for arm in ("soft@0.2", "harsh", "auto", "mixup", "simsiam-soft"):
        recipe = Recipe(arm=arm, augment="crop(0.1)+erase", k=2.0)
        written = transform_of(as_auto(recipe, SIDE, SIDE), SIDE, SIDE)
        assert written == transform_of(recipe, SIDE, SIDE)


# --- the server -----------------------------------------------------------------------------


@contextmanager
def serving(page: Explorer) -> Iterator[Server]:
    with Server(page) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(explorer(Brightness())) as running:
        yield running


def ask(
    server: Server, method: str, name: str, body: object = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=20)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    try:
        path = name if name.startswith("/") else f"{address.path}{name}"
        connection.request(method, path, None if body is None else content, headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    for name in ("", "explore.css", "explore.js"):
        answer, content = ask(server, "GET", name)
        assert (answer.status, len(content) > 1000) == (200, True)
        policy = str(answer.headers["Content-Security-Policy"])
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert b"http://" not in content.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in content


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_other_hosts_are_refused(server: Server, host: str) -> None:
    for method, name, body in (("GET", "", None), ("POST", "about", {})):
        answer, content = ask(server, method, name, body, Host=host)
        assert answer.status == 403
        assert b"stripes" not in content


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1", "[::1]:80"])
def test_a_tunnel_may_end_at_another_port(server: Server, host: str) -> None:
    assert ask(server, "GET", "", Host=host)[0].status == 200


@pytest.mark.parametrize("path", ["/", "/about", "//about", "/x/about"])
def test_without_the_secret_nothing_is_served(server: Server, path: str) -> None:
    assert ask(server, "POST", path, {})[0].status == 403
    assert ask(server, "GET", path)[0].status == 403
    assert len(server.secret) >= 16


WRONG: dict[str, tuple[str, object, dict[str, str], str]] = {
    "another file": ("../server.py", {}, {}, "unknown question"),
    "a method that is no question": ("_look", {}, {}, "unknown question '_look'"),
    "no such argument": ("cut", {"image": 0}, {}, "missing a required argument"),
    "no JSON": ("about", b"{", {}, "Expecting property name"),
    "no object": ("about", [1], {}, "expected a JSON object"),
    "a form": ("about", {}, {"Content-Type": "text/plain"}, "expected JSON"),
    "too long": ("about", b" " * 70_000, {}, "expected a body of up to 65,536 bytes"),
    "a number that is none": (
        "augment",
        {"k": "x", "flip": True, "images": 0, "draw": 0, "text": "crop"},
        {},
        "could not convert string to float",
    ),
    "an unknown transform": (
        "augment",
        {"k": 2, "flip": True, "images": 0, "draw": 0, "text": "crop+sqush"},
        {},
        "unknown transform 'sqush'",
    ),
    "text and settings": (
        "augment",
        {"k": 2, "flip": True, "images": 0, "draw": 0, "text": "crop", "settings": {}},
        {},
        "expected a text or settings",
    ),
    "no such image": (
        "cut",
        {"image": 40, "x": 0, "y": 0, "fill": "0", "k": 2},
        {},
        "image must be 0 to 39, got 40",
    ),
    "a chain of the wrong type": (
        "cut",
        {"image": [], "x": 0, "y": 0, "fill": "0", "k": 2},
        {},
        "TypeError: ",
    ),
}


@pytest.mark.parametrize(("name", "body", "headers", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_question_gets_one_line(
    server: Server, name: str, body: object, headers: dict[str, str], message: str
) -> None:
    answer, content = ask(server, "POST", name, body, **headers)
    assert answer.status in (400, 500)
    error = json.loads(content)["error"]
    assert message in error
    assert "\n" not in error
    assert ask(server, "POST", "about", {})[0].status == 200  # and it goes on


# --- the command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    folder(root, range(30))  # 6 x 6 px, three classes
    return root


def model(path: Path, classes: str, side: int) -> Path:
    card = ModelCard("small", tuple(classes), 3, side, side)
    save_model(card, build(card, (127.5,), (127.5,)).state_dict(), path)
    return path


@pytest.fixture
def page_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Explorer]:
    """Run the command, but give back what it would serve."""

    def of(*command: object) -> Explorer:
        served: list[Explorer] = []
        monkeypatch.setattr(Server, "serve_forever", lambda self: served.append(self.explorer))
        main(["explore", *map(str, command)])
        return served[0]

    return of


def fails(capsys: pytest.CaptureFixture[str], *command: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["explore", *map(str, command)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in lines)
    return int(exit_.value.code or 0), lines[-1]


def test_it_begins_with_what_auto_would_do(page_of: Callable[..., Explorer], photos: Path) -> None:
    page = page_of(photos, "--max-unreadable", "0.5")
    assert page.part == "training"
    assert str(page.recipe.augment).startswith("crop(")
    answer = augmented(page, str(page.recipe.augment))
    assert set(answer["settings"]["on"]) == {"crop", "erase"}
    assert answer["command"].startswith(f"softaug train {photos} --max-unreadable 0.5 --augment '")


def test_with_a_run_it_begins_with_the_runs_augmentation(
    page_of: Callable[..., Explorer], photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    main(["train", str(photos), "--arm", "soft@0.2", "--k", "3", "--epochs", "1", "--no-flip",
          "--batch-size", "16", "--run", str(run)])  # fmt: skip
    page = page_of(photos, run)
    assert (page.part, len(page.images)) == ("test", 6)
    assert (page.recipe.augment, page.recipe.k, page.recipe.flip) == ("crop(0.2)", 3.0, False)
    answer = page.cut(image=0, x=0, y=0, fill="0", k=3)
    assert sum(one["confidence"] for one in answer["prediction"]["top"]) == pytest.approx(1)


def test_images_get_the_models_size(
    page_of: Callable[..., Explorer], photos: Path, tmp_path: Path
) -> None:
    page = page_of(photos, model(tmp_path / "m.safetensors", "abc", 8))
    assert page.images.images.shape[-2:] == (8, 8)
    assert "--size 8" in augmented(page, "crop")["command"]


def test_a_model_that_does_not_fit_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = model(tmp_path / "fewer.safetensors", "ab", 6)
    code, line = fails(capsys, photos, fewer)
    assert (code, "has classes that the model does not know (c)" in line) == (2, True)
    other = model(tmp_path / "size.safetensors", "abc", 8)
    code, line = fails(capsys, photos, other, "--size", "6")
    assert (code, "the model takes images [3, 8, 8]" in line) == (2, True)
    code, line = fails(capsys, photos, tmp_path / "none")
    assert (code, "no model here" in line) == (1, True)


def test_a_folder_without_images_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cats").mkdir()
    code, line = fails(capsys, tmp_path)
    assert code in (1, 2)
    assert str(tmp_path) in line


def test_a_port_that_cannot_be_used_is_one_line(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = fails(capsys, photos, "--port", port)
    assert code == 2
    assert f"--port {port} cannot be used (Address already in use); leave it out" in line
    code, line = fails(capsys, photos, "--port", 70_000)
    assert (code, "--port must be 0 to 65535, got 70000" in line) == (2, True)


def test_the_command_serves_until_ctrl_c(photos: Path) -> None:
    command = [sys.executable, "-m", "softaug", "explore", str(photos)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background ignores SIGINT, and so would its processes.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        url = next(line for line in process.stdout if line.startswith("page")).split()[1]
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert b"<title>softaug explore</title>" in answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
