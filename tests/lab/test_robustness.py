"""Metrics under corruptions: means by hand, the same images for all models, benchmark files."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.cli.app import main
from softaug_lab.cli.tables import corruption_table
from softaug_lab.corruptions.apply import corrupt
from softaug_lab.corruptions.constants import COMMON, EXTRA, GROUPS, SEVERITIES
from softaug_lab.corruptions.files import open_corrupted
from softaug_lab.corruptions.source import CorruptedSet, Source, computed
from softaug_lab.data.dataset import ImageSet
from softaug_lab.evaluation.robustness import (
    evaluate_corruptions,
    evaluate_sets,
    summarise_corruptions,
)
from softaug_lab.metrics import proper
from softaug_lab.metrics.calibration import equal_width, error

Array = npt.NDArray[Any]
WORDS = ("cat", "ape", "bee", "dog")  # not in the order of the alphabet


class Bright(nn.Module):
    """A model whose logits of four classes follow the brightness; records its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.clone())
        return -((images.float().mean((1, 2, 3))[:, None] - torch.tensor([30, 90, 150, 210])) ** 2)


class Dark(Bright):
    """A model that takes the darkest class for the brightest."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flip(1)


@pytest.fixture
def test_set() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (24,), generator=generator)
    images = 60 * labels[:, None, None, None] + torch.randint(
        60, (24, 3, 16, 12), generator=generator
    )
    return ImageSet(images.to(torch.uint8), labels)


def levels(*errors: float) -> list[dict[str, float]]:
    pairs = zip(SEVERITIES, errors, strict=True)
    return [{"severity": s, "top1_error": e, "nll": 2 * e, "ece": e / 2} for s, e in pairs]


# Means


def test_means_are_those_by_hand() -> None:
    corruptions = {name: levels(0.1, 0.2, 0.3, 0.4, 0.5) for name in COMMON}
    corruptions["fog"] = levels(0.5, 0.6, 0.7, 0.8, 0.9)
    corruptions["saturate"] = levels(1, 1, 1, 1, 1)
    summary = summarise_corruptions(corruptions)
    assert list(summary["groups"]) == [*GROUPS, "extra"]
    assert summary["groups"]["noise"] == pytest.approx({"top1_error": 0.3, "nll": 0.6, "ece": 0.15})
    assert summary["groups"]["weather"]["top1_error"] == pytest.approx((3 * 0.3 + 0.7) / 4)
    assert summary["groups"]["extra"]["top1_error"] == 1
    # The extra ones are apart.
    assert summary["mean"]["top1_error"] == pytest.approx((14 * 0.3 + 0.7) / 15)
    assert summary["normalised"] is None


def test_normalised_is_the_mean_of_ratios_of_sums() -> None:
    ours = {name: levels(0.1, 0.1, 0.2, 0.3, 0.3) for name in COMMON}  # sum 1
    theirs = {name: levels(0.4, 0.4, 0.4, 0.4, 0.4) for name in COMMON}  # sum 2
    theirs["snow"] = levels(0, 0, 0, 0, 0.25)  # ratio 4
    baseline = {"corruptions": theirs}
    summary = summarise_corruptions(ours, baseline)
    assert summary["normalised"] == pytest.approx((14 * 0.5 + 4) / 15)
    assert summarise_corruptions(theirs, baseline)["normalised"] == pytest.approx(1)
    del theirs["fog"]
    with pytest.raises(UsageError, match="not measured under fog"):
        summarise_corruptions(ours, baseline)
    theirs["fog"] = levels(0, 0, 0, 0, 0)
    with pytest.raises(UsageError, match="no error under fog"):
        summarise_corruptions(ours, baseline)


def test_no_mean_where_a_common_corruption_lacks() -> None:
    summary = summarise_corruptions({"fog": levels(0, 0, 0, 0, 1), "saturate": levels(*[1] * 5)})
    assert summary["mean"] is None
    assert list(summary["groups"]) == ["weather", "extra"]


# Made here


def test_figures_are_of_the_corrupted_images(test_set: ImageSet) -> None:
    told: list[tuple[str, int]] = []
    (result,) = evaluate_corruptions(
        [Bright()], test_set, seed=3, bins=10, watch=lambda *done: told.append(done)
    )
    assert list(result["corruptions"]) == [*COMMON, *EXTRA]
    assert told == [(name, s) for name in (*COMMON, *EXTRA) for s in SEVERITIES]
    assert (result["images"], result["constants"], result["seed"]) == (24, "CIFAR-C", 3)
    for name, severity in (("fog", 2), ("impulse_noise", 5)):
        images = corrupt(test_set.images, name, severity, range(24), seed=3)
        logits = Bright()(images).float()
        confidence, correct = proper.top_confidence(logits, test_set.labels)
        assert result["corruptions"][name][severity - 1] == {
            "severity": severity,
            "top1_error": proper.top_k_error(logits, test_set.labels),
            "nll": proper.nll(logits, test_set.labels),
            "ece": error(equal_width(confidence, 10), confidence, correct),
        }
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_all_models_see_the_same_images(test_set: ImageSet) -> None:
    one, other = Bright(), Bright()
    evaluate_corruptions([one], test_set)
    torch.manual_seed(7)
    evaluate_corruptions([other], test_set, batch_size=7)
    assert torch.equal(torch.cat(one.shown), torch.cat(other.shown))
    assert len(torch.cat(one.shown)) == 24 * 95


def test_several_models_see_images_that_are_made_once(
    test_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def counted(test: ImageSet, seed: int, device: str) -> Source:
        source = computed(test, seed, device=device)

        def count(name: str, severity: int) -> CorruptedSet:
            nonlocal made
            made += 1
            return source(name, severity)

        return count

    monkeypatch.setattr("softaug_lab.evaluation.robustness.computed", counted)
    bright, other = Bright(), Dark()
    both = evaluate_corruptions([bright, other], test_set)
    assert made == 95
    assert both == [evaluate_corruptions([model], test_set)[0] for model in (Bright(), Dark())]
    assert both[0] != both[1]


def test_large_images_are_corrupted_a_few_at_a_time(test_set: ImageSet) -> None:
    whole, in_fives = computed(test_set, 3), computed(test_set, 3, values_at_once=5 * 3 * 16 * 12)
    one_by_one = computed(test_set, 3, values_at_once=1)
    for name in ("gaussian_noise", "elastic_transform"):
        expected = corrupt(test_set.images, name, 2, range(24), 3)
        for source in (whole, in_fives, one_by_one):
            corrupted = source(name, 2)
            assert torch.equal(corrupted.images(slice(0, 24)), expected)
            assert torch.equal(corrupted.images(slice(4, 17)), expected[4:17])
            assert torch.equal(corrupted.labels, test_set.labels)


def test_grey_images_have_all_but_saturate(test_set: ImageSet) -> None:
    grey = ImageSet(test_set.images[:, :1], test_set.labels)
    (result,) = evaluate_corruptions([Bright()], grey)
    assert set(EXTRA) - set(result["corruptions"]) == {"saturate"}
    assert result["mean"] is not None


def test_a_diverged_model_is_a_message(test_set: ImageSet) -> None:
    class Diverged(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 4), torch.nan)

    with pytest.raises(SoftaugError, match="not finite for 24 of 24 images under gaussian_noise"):
        evaluate_corruptions([Diverged()], test_set)


def test_the_table_has_all_figures(test_set: ImageSet) -> None:
    wrong = ImageSet(test_set.images, test_set.labels.roll(1))  # some error to normalise by
    (first,) = evaluate_corruptions([Bright()], wrong)
    (result,) = evaluate_corruptions([Bright()], wrong, baseline=first)
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(corruption_table(result))
    text = console.export_text()
    for word in (*COMMON, *EXTRA, *GROUPS, "mean corruption error", "CIFAR-C", "100.00"):
        assert word in text
    assert f"{100 * result['mean']['top1_error']:.2f}" in text


# CIFAR-C


def write_cifar(folder: Path, names: tuple[str, ...], size: int = 8) -> tuple[Array, Array]:
    """Write four images per severity, whose pixels are 20 x (severity - 1) + number."""
    labels = np.tile(np.array([2, 0, 1, 3], np.uint8), 5)
    pixels = (20 * np.arange(5)[:, None] + np.arange(4)).reshape(-1, 1, 1, 1)
    images = np.broadcast_to(pixels, (20, size, size, 3)).astype(np.uint8)
    np.save(folder / "labels.npy", labels)
    for name in names:
        np.save(folder / f"{name}.npy", images)
    return labels, images


def test_cifar_c_is_read_severity_by_severity(tmp_path: Path) -> None:
    write_cifar(tmp_path, ("fog", "saturate", "fake"))
    source, names = open_corrupted(tmp_path, WORDS, 3, 8, 8)
    assert names == ("fog", "saturate")
    found = source("fog", 4)
    images = found.images(slice(1, 3))
    assert images.shape == (2, 3, 8, 8)
    assert images[:, 0, 0, 0].tolist() == [61, 62]
    # 2, 0, 1, 3 of ape, bee, cat, dog.
    assert [WORDS[i] for i in found.labels.tolist()] == ["cat", "ape", "bee", "dog"]
    numbered = tuple(str(i) for i in (10, 2, 1, 3))
    labels = open_corrupted(tmp_path, numbered, 3, 8, 8)[0]("fog", 1).labels.tolist()
    assert [numbered[i] for i in labels] == ["3", "1", "2", "10"]
    (result,) = evaluate_sets([Bright()], source, names)
    assert (result["images"], result["mean"]) == (4, None)


def spoil(name: str, array: Array) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / f"{name}.npy", array)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (spoil("fog", np.zeros((20, 8, 9, 3), np.uint8)), r"expected uint8 \[20, 8, 8, 3\]"),
        (spoil("fog", np.zeros((19, 8, 8, 3), np.uint8)), r"got uint8 \[19, 8, 8, 3\]"),
        (spoil("fog", np.zeros((20, 8, 8, 3), np.float32)), "got float32"),
        (spoil("labels", np.zeros(19, np.uint8)), r"expected whole numbers \[5 N\]"),
        (spoil("labels", np.zeros(20)), "got float64"),
        (spoil("labels", np.arange(20) % 3), "the five severities have different labels"),
        (spoil("labels", np.tile([0, 1, 2, 4], 5)), "5 classes, the model knows 4"),
        (spoil("labels", np.tile([0, -1, 2, 3], 5)), "classes"),
        (spoil("fog", np.array([{}] * 20, dtype=object)), r"fog\.npy: not readable"),
        (lambda folder: (folder / "fog.npy").write_bytes(b""), r"fog\.npy: not readable"),
        (lambda folder: (folder / "fog.npy").unlink(), "no file of a corruption"),
    ],
)
def test_wrong_files_are_messages(
    tmp_path: Path, spoilt: Callable[[Path], object], message: str
) -> None:
    write_cifar(tmp_path, ("fog",))
    spoilt(tmp_path)
    with pytest.raises(SoftaugError, match=message):
        open_corrupted(tmp_path, WORDS, 3, 8, 8)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    write_cifar(tmp_path, ("fog",))
    mark = tmp_path / "mark"
    trap = np.array([Trap(mark)], dtype=object)
    np.save(tmp_path / "fog.npy", trap, allow_pickle=True)
    (tmp_path / "snow.npy").write_bytes(trap.dumps())
    with pytest.raises(SoftaugError, match="not readable as an array"):
        open_corrupted(tmp_path, WORDS, 3, 8, 8)
    (tmp_path / "fog.npy").unlink()
    with pytest.raises(SoftaugError, match=r"snow\.npy: not readable as an array"):
        open_corrupted(tmp_path, WORDS, 3, 8, 8)
    assert not mark.exists()


# ImageNet-C


def write_folders(root: Path, size: tuple[int, int] = (8, 8)) -> None:
    for severity in SEVERITIES:
        for i, word in enumerate(("cat", "dog")):
            own = root / str(severity) / word
            own.mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", size, (50 * severity, 100 * i, 0)).save(own / f"{number}.JPEG")


def test_imagenet_c_is_read_by_class(tmp_path: Path) -> None:
    write_folders(tmp_path / "fog", (16, 12))
    write_folders(tmp_path / "digital" / "contrast")
    source, names = open_corrupted(tmp_path, WORDS, 3, 8, 8)
    assert names == ("fog", "contrast")
    found = source("fog", 3)
    assert [WORDS[i] for i in found.labels.tolist()] == ["cat", "cat", "dog", "dog"]
    images = found.images(slice(1, 3))
    assert images.shape == (2, 3, 8, 8)
    assert (images[:, 0].float() - 150).abs().max() <= 3
    assert images[:, 1].float().mean((1, 2)).tolist() == pytest.approx([0, 100], abs=3)
    (result,) = evaluate_sets([Bright()], source, names, batch_size=3)
    assert result["images"] == 4


def test_wrong_folders_are_messages(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        open_corrupted(tmp_path / "gone", WORDS, 3, 8, 8)
    with pytest.raises(SoftaugError, match=r"neither labels\.npy"):
        open_corrupted(tmp_path, WORDS, 3, 8, 8)
    write_folders(tmp_path / "fog")
    source, _ = open_corrupted(tmp_path, ("cat",), 3, 8, 8)
    with pytest.raises(UsageError, match="dog: a class that the model does not know"):
        source("fog", 1)
    (tmp_path / "fog" / "1" / "cat" / "0.JPEG").write_bytes(b"no image")
    source, _ = open_corrupted(tmp_path, WORDS, 3, 8, 8)
    with pytest.raises(SoftaugError, match=r"0\.JPEG: no image"):
        source("fog", 1).images(slice(0, 2))
    for file in (tmp_path / "fog" / "2").glob("*/*"):
        file.unlink()
    with pytest.raises(SoftaugError, match="no image in folders of classes"):
        source("fog", 2)
    for folder in (tmp_path / "fog" / "2").iterdir():
        folder.rmdir()
    (tmp_path / "fog" / "2").rmdir()
    with pytest.raises(SoftaugError, match=r"fog/2: missing"):
        open_corrupted(tmp_path, WORDS, 3, 8, 8)


# The command line


def test_evaluate_under_corruptions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for name, low in (("bright", 150), ("dark", 0)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            pixels = generator.integers(low, low + 100, (12, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    run, made = str(tmp_path / "run"), str(tmp_path / "a.json")
    main(["train", str(tmp_path / "data"), "--epochs", "1", "--batch-size", "8", "--run", run])
    capsys.readouterr()
    main(["evaluate", run, "--corruptions", "--json", made])
    figures = json.loads(Path(made).read_text())
    assert figures["top1_error"] is not None
    assert "corrupted" not in figures
    assert figures["corruptions"]["source"] == "made"
    assert len(figures["corruptions"]["corruptions"]) == 19
    assert "elastic_transform" in capsys.readouterr().out

    folder = tmp_path / "c"
    folder.mkdir()
    labels = np.tile(np.array([1, 0, 1], np.uint8), 5)
    np.save(folder / "labels.npy", labels)
    for name in COMMON:
        np.save(folder / f"{name}.npy", generator.integers(256, size=(15, 12, 16, 3), dtype="u1"))
    read = str(tmp_path / "b.json")
    main(["evaluate", run, "--corrupted", str(folder), "--json", read])
    corrupted = json.loads(Path(read).read_text())["corrupted"]
    assert corrupted["images"] == 3
    assert len(corrupted["corruptions"]) == 15
    assert corrupted["normalised"] is None
    main(["evaluate", run, "--corrupted", str(folder), "--corruption-baseline", read])
    assert "relative to baseline" in capsys.readouterr().out

    for wrong, message in (
        (["--corruption-baseline", read], "goes with"),
        (["--corruptions", "--corruption-baseline", read], "no figures of evaluate --corruptions"),
        (["--corrupted", str(tmp_path / "gone")], "no such folder"),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(["evaluate", run, *wrong])
        assert exit_.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())
