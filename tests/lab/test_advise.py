"""The advice on made-up folders: what is wrong with each, how to train on it, and the command.

A row is what a folder holds, how the advice begins, words of a fault, and options of the command.
"""

import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from softaug_lab.advice import choose
from softaug_lab.advice.advise import Advice, advise
from softaug_lab.advice.choose import choose_epochs
from softaug_lab.advice.figures import least_difference, uncertainty
from softaug_lab.cli.app import main
from softaug_lab.cli.commands import app
from softaug_lab.data import choose_side, inspect
from softaug_lab.data.load import load
from softaug_lab.models.weights.at_hand import WeightsAtHand
from softaug_lab.recipes import Recipe

Size = tuple[int, int]
Build = Callable[[Path], object]


def picture(seed: int, size: Size = (32, 32), grey: bool = False) -> Image.Image:
    """Blobs of one's own, as a photo has: they survive scaling and JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    return image.convert("L") if grey else image


def save(path: Path, image: Image.Image, quality: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if quality is None:
        image.save(path)
    else:
        image.save(path, "JPEG", quality=quality)


def pictures(size: Size = (32, 32), grey: bool = False, **counts: int) -> Build:
    """Write so many pictures into each folder; `train__cat` is train/cat."""

    def build(root: Path) -> None:
        for part, (name, n) in enumerate(counts.items()):
            for i in range(n):
                place = root / name.replace("__", "/") / f"{i}.png"
                save(place, picture(1000 * part + i, size, grey))

    return build


def parts(train: int, test: int, size: Size = (32, 32)) -> Build:
    return pictures(size, train__cat=train, train__dog=train, test__cat=test, test__dog=test)


def then(first: Build, change: Build) -> Build:
    def build(root: Path) -> None:
        first(root)
        change(root)

    return build


def copy_exactly(root: Path) -> None:
    for i in range(3):
        content = (root / f"train/cat/{i}.png").read_bytes()
        (root / f"test/cat/copy{i}.png").write_bytes(content)


def copy_saved_again(root: Path) -> None:
    for i in range(3):
        image = Image.open(root / f"train/cat/{i}.png")
        save(root / f"test/cat/copy{i}.jpg", image.resize((40, 40)), quality=50)


def copy_into_other_class(root: Path) -> None:
    (root / "train/dog/wrong.png").write_bytes((root / "train/cat/0.png").read_bytes())


def break_two(root: Path) -> None:
    (root / "train/cat/broken.png").write_bytes(b"no image")
    content = (root / "train/cat/0.png").read_bytes()
    (root / "test/dog/cut.png").write_bytes(content[: len(content) // 2])


def enlarge_half(root: Path) -> None:
    for path in sorted(root.rglob("*.png"))[::2]:
        save(path, Image.open(path).resize((300, 150)))


def name_by_hand(root: Path) -> None:
    for part in ("train", "test"):
        (root / part / "cat").rename(root / part / "left hand")
        (root / part / "dog").rename(root / part / "right hand")


def break_a_class(root: Path) -> None:
    for path in (root / "train/cat").iterdir():
        path.write_bytes(b"no image")


READY, WEAK, MEND, STOP = "Ready to train", "Trainable, but", "Mend the data first", "Not trainable"
ROWS: dict[str, tuple[Build, str, str, str]] = {
    "all is well": (parts(100, 50), READY, "", "--epochs 30"),
    "too few": (parts(5, 2), WEAK, "fewer than 10 training images in cat (5), dog (5)", ""),
    "few small ones": (
        parts(20, 50),
        WEAK,
        "20 training images in a class are few for a network from scratch; add images",
        "",
    ),
    "few to test on": (parts(100, 5), WEAK, "10 test images can rank hardly any", ""),
    "imbalanced": (
        pictures(train__cat=120, train__dog=12, test__cat=60, test__dog=60),
        WEAK,
        "cat has 10.0 times as many training images as dog",
        "",
    ),
    "exact copies": (
        then(parts(100, 50), copy_exactly),
        MEND,
        "3 of 103 test images are exact copies of training images",
        "",
    ),
    "copies saved again": (
        then(parts(100, 50), copy_saved_again),
        WEAK,
        "3 of 103 test images are much like training images",
        "",
    ),
    "copies with two labels": (
        then(parts(100, 50), copy_into_other_class),
        MEND,
        "1 image has a copy in another class",
        "",
    ),
    "tiny": (parts(100, 50, (9, 8)), WEAK, "most images are smaller than 16 px", ""),
    "very large": (parts(20, 5, (500, 400)), WEAK, "20 training images in a class", "--size 224"),
    "mixed sizes": (
        then(parts(100, 50), enlarge_half),
        READY,
        "the centre crop removes over a third of 50% of the images",
        "--size 128",
    ),
    "grey": (
        pictures((30, 28), True, train__a=100, train__b=100, test__a=50, test__b=50),
        READY,
        "digits, letters or the like, add --no-flip",
        "",
    ),
    "left and right": (
        then(parts(100, 50), name_by_hand),
        READY,
        "images are not mirrored",
        "--no-flip",
    ),
    "no test part": (pictures(cat=150, dog=150), WEAK, "60 test images can rank hardly any", ""),
    "unreadable": (
        then(parts(100, 50), break_two),
        WEAK,
        "2 images of 302 are unreadable",
        "--max-unreadable 0.007",
    ),
    "one image a class": (pictures(cat=1, dog=1), STOP, "no image to test on", ""),
    "a class lost": (
        then(parts(20, 50), break_a_class),
        STOP,
        "no readable training image in cat",
        "",
    ),
}


def advice_on(root: Path) -> Advice:
    found = inspect(str(root))
    return advise(str(root), None, found, choose(found, None), 60.0)


@pytest.mark.parametrize("name", ROWS)
def test_a_folder_gets_its_advice(name: str, tmp_path: Path) -> None:
    build, verdict, fault, options = ROWS[name]
    root = tmp_path / "my data"
    build(root)
    advice = advice_on(root)
    assert advice.verdict.startswith(verdict), advice
    texts = [one.text for one in advice.faults]
    assert any(fault in text for text in texts) if fault else not texts, texts
    assert options in advice.command
    if verdict != STOP:
        check_command(advice.command, root)


def check_command(command: str, root: Path) -> None:
    """The command is understood as it is meant, and the data are read as the advice says."""
    words = shlex.split(command)
    assert words[:3] == ["softaug", "train", str(root)]
    _, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
    read = bound.kwargs.get("read")
    found = inspect(str(root))
    choice = choose(found, None)
    loaded = load(
        str(root), size=getattr(read, "size", None),
        max_unreadable=getattr(read, "max_unreadable", 0.0),
    )  # fmt: skip
    assert bound.kwargs["recipe"].epochs == choice.epochs
    assert loaded.image_shape == (choice.channels, choice.height, choice.width)
    assert len(loaded.train) == len(found.seen_train)
    assert len(loaded.test) == len(found.seen_test)


def test_the_gravest_fault_comes_first(tmp_path: Path) -> None:
    build = then(parts(5, 2), copy_exactly)
    then(build, break_two)(tmp_path)
    effects = [fault.effect for fault in advice_on(tmp_path).faults]
    assert effects[0] == "misleads"
    assert effects == sorted(effects, key=["stops", "misleads", "weakens", "is to know"].index)


def test_copies_of_a_random_split_are_those_that_train_sees(tmp_path: Path) -> None:
    """Pictures in pairs: some of them end up in both parts."""
    for i in range(40):
        for name in ("cat", "dog"):
            for twin in "ab":
                save(tmp_path / name / f"{i}{twin}.png", picture(i + 100 * (name == "dog")))
    data = load(str(tmp_path))
    train = {image.numpy().tobytes() for image in data.train.images}
    twice = sum(image.numpy().tobytes() in train for image in data.test.images)
    advice = advice_on(tmp_path)
    assert twice > 0
    assert f"{twice} of {len(data.test)} test images" in advice.faults[0].text
    assert "make train/ and test/ yourself" in advice.faults[0].text


def test_copies_in_data_of_the_library_are_only_told() -> None:
    found = inspect("demo")
    [copied] = advise("demo", None, found, choose(found, None), None).faults
    assert copied.effect == "is to know"
    assert re.fullmatch(
        r"\d of 2,000 test images are much like training images, such as demo \d+ and demo \d+",
        copied.text,
    )


def test_words_of_class_names_tell_left_from_right(tmp_path: Path) -> None:
    parts(3, 1)(tmp_path)
    found = inspect(str(tmp_path))
    for name, mirrored in {
        "left hand": False, "turn_left": False, "turn-RIGHT": False, "right2": False,
        "leftover": True, "bright": True, "rising": False, "counter-clockwise": False,
    }.items():  # fmt: skip
        assert choose(replace(found, classes=("up", name)), None).flip == mirrored, name


def test_sounds_are_advised_and_trained_without_mirroring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RandAugment, which the rule adds at so many epochs, is not measured for them."""
    monkeypatch.setattr(sys.modules[choose.__module__], "FEW", 0)
    monkeypatch.setattr("softaug_lab.cli.training.print_plan", lambda *_: None)
    for i, array in enumerate(np.random.default_rng(0).random((24, 12, 16), np.float32)):
        place = tmp_path / ("train", "test")[i % 2] / "ab"[i // 2 % 2] / f"{i}.npy"
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, array)
    advice = advice_on(tmp_path)
    command = advice.command
    assert command.endswith(" --no-flip")
    assert "--augment 'crop(0.2, fill=mixed)+erase(" in command
    assert "randaugment" not in (command + advice.sections["recipe"]).lower()
    assert "a sound played backwards" in advice.faults[-1].text
    assert "RandAugment is left out" in advice.faults[-1].text
    for options, said in (([], True), (["--no-flip"], False)):
        main(["train", str(tmp_path), "--dry-run", *options])
        assert ("arrays (.npy) are mirrored left to right" in capsys.readouterr().err) == said
    picture(0).save(tmp_path / "test/a/0.png")
    assert choose(inspect(str(tmp_path)), None).flip


def test_data_larger_than_memory_are_read_while_training(tmp_path: Path) -> None:
    parts(20, 10)(tmp_path)
    needed = 60 * 3 * 32 * 32
    found = inspect(str(tmp_path))
    assert not choose(found, 2 * needed).stream
    choice = choose(found, 2 * needed - 1)
    assert choice.command("data", None).endswith("--size 32 --epochs 30 --stream")


def test_a_large_part_is_opened_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softaug_lab.data.inspection.MOST", 10)
    parts(30, 4)(tmp_path)
    found = inspect(str(tmp_path))
    assert (len(found.seen_train), len(found.seen_test)) == (10, 8)
    assert {one.label for one in found.seen_train} == {0, 1}
    assert found.train.tolist() == [30, 30]
    text = advise("d", None, found, choose(found, None), None).sections["checked"]
    assert "18 of 68 were opened" in text


def test_the_figures_are_those_of_the_binomial_distribution() -> None:
    """By simulation: 19 of 20 errors are within the interval, 19 of 20 pairs less apart."""
    n, generator = 153, torch.Generator().manual_seed(0)
    errors = (torch.rand(20_000, 2, n, generator=generator) < 0.25).float().mean(dim=2)
    within = ((errors - 0.25).abs() < uncertainty(n)).float().mean()
    less = ((errors[:, 0] - errors[:, 1]).abs() < least_difference(n)).float().mean()
    assert float(within) == pytest.approx(0.95, abs=0.015)
    assert float(less) == pytest.approx(0.95, abs=0.015)


def test_sides_and_epochs_follow_their_rules() -> None:
    assert [choose_side([10, side, 500]) for side in (20, 32, 63, 100, 224)] == [
        32,
        32,
        32,
        64,
        224,
    ]
    assert [choose_epochs(n) for n in (100, 2250, 5000, 9500, 50_000)] == [30, 120, 60, 30, 30]


def test_the_command_line_prints_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "a\x1b b"
    parts(12, 3, (10, 10))(root)
    main(["advise", str(root)])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    lines = printed.strip().splitlines()
    assert lines[0].startswith("verdict")
    assert lines[-1].startswith("softaug train '")
    headings = [line.split("  ")[0] for line in lines if re.match(r"[a-z]", line)]
    assert headings[-8:-1] == [
        "images",
        "sides",
        "recipe",
        "budget",
        "expect",
        "how sure",
        "checked",
    ]
    assert re.search(r"about \d+ (seconds|minutes)", " ".join(printed.split()))


@pytest.mark.parametrize(("side", "fine_tuned"), [(150, True), (100, False)])
def test_few_photos_are_advised_as_train_reads_the_command(
    side: int,
    fine_tuned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts(12, 3, (side, side))(tmp_path)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    at_hand = WeightsAtHand("test_resnet", str(tmp_path / "w.pth"))
    monkeypatch.setattr("softaug_lab.models.weights_at_hand", lambda: at_hand)
    timed: list[Recipe] = []

    def guess(recipe: Recipe, *_: object) -> float:
        timed.append(recipe)
        return 60.0

    monkeypatch.setattr("softaug_lab.experiments.guess_seconds", guess)
    monkeypatch.setattr("softaug_lab.cli.training.print_plan", lambda *_: None)
    main(["advise", str(tmp_path)])
    printed = capsys.readouterr().out.strip()
    text, command = " ".join(printed.split()), printed.splitlines()[-1]
    assert ("fine-tunes test_resnet" in text) == fine_tuned
    assert ("few for a network from scratch" in text) != fine_tuned
    assert ("auto errs on 6.2 %" in text) == fine_tuned
    assert "8 epochs: those of" in text if fine_tuned else "30 epochs: auto" in text
    assert ("--epochs" in command) != fine_tuned
    assert [recipe.model for recipe in timed] == ["test_resnet" if fine_tuned else "small"]
    main([*shlex.split(command)[1:], "--run", str(tmp_path / "run"), "--dry-run"])
    said = " ".join(capsys.readouterr().err.split())
    assert ("test_resnet is fine-tuned from weights" in said) == fine_tuned
    sigma, epochs = (re.search(p, text) for p in (r"sigma ([\d.]+)", r"the rule for (\d+) epochs"))
    assert sigma is not None
    assert epochs is not None
    assert f"crop({sigma[1]}" in said
    assert f"chosen for {epochs[1]} epochs" in said


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        ("missing", 2, "unknown data set or missing path"),
        ("empty", 1, "no class folders"),
        ("one class", 1, "one class only (cat); at least 2 are needed"),
        ("all broken", 1, "4 unreadable images"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    make: str, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    if make != "missing":
        root.mkdir()
    if make == "one class":
        pictures(cat=3)(root)
    if make == "all broken":
        for name in ("cat/0", "cat/1", "dog/0", "dog/1"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as exit_:
        main(["advise", str(root)])
    assert exit_.value.code == code
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("softaug: ")
    assert words in line
