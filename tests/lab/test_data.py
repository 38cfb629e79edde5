"""Data as a user has it: real files, of every kind and with every fault."""

import io
import os
import types
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from softaug.lab.data import load
from softaug.lab.errors import SoftaugError, UsageError
from softaug.lab.images import read_image

CIFAR10 = Path(
    os.environ.get(
        "SOFTAUG_TEST_CIFAR10", Path(__file__).parents[3] / "shared" / "data" / "cifar10"
    )
)


def picture(
    colour: int | tuple[int, ...] = 90, mode: str = "RGB", size: Any = (6, 4)
) -> Image.Image:
    if mode == "RGB" and isinstance(colour, int):
        colour = (colour, 10, 200)
    return Image.new(mode, size, colour)


def make_folder(
    root: Path, parts: dict[str, int], classes: tuple[str, ...] = ("cat", "dog")
) -> Path:
    """parts: folder name ("" for none) to images per class; every image has its own colour."""
    colour = 0
    for part, count in parts.items():
        for name in classes:
            folder = root / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                picture(colour % 256).save(folder / f"{i:03}.png")
                colour += 1
    return root


def test_demo_is_balanced() -> None:
    data = load("demo")
    assert data.image_shape == (1, 28, 28)
    assert data.train.labels.bincount().tolist() == [800] * 10
    assert data.test.labels.bincount().tolist() == [200] * 10
    assert data.train.images.dtype == torch.uint8
    assert data.classes[7] == "Sneaker"
    pixels = {image.numpy().tobytes() for image in data.train.images}
    assert not pixels & {image.numpy().tobytes() for image in data.test.images}


def test_demo_is_under_5_mb_and_carries_its_licence() -> None:
    import softaug.lab

    assets = Path(softaug.lab.__file__).parent / "assets"
    assert (assets / "demo.npz").stat().st_size < 5_000_000
    assert "Zalando SE" in (assets / "FASHION-MNIST-LICENSE").read_text()


def test_subset_is_balanced_and_by_seed() -> None:
    first = load("demo", train_images=205)
    counts = first.train.labels.bincount()
    assert counts.sum() == 205
    assert counts.max() - counts.min() == 1
    assert torch.equal(first.train.images, load("demo", train_images=205).train.images)
    assert not torch.equal(first.train.images, load("demo", train_images=205, seed=1).train.images)
    for wrong in (9, 8001):
        with pytest.raises(UsageError, match=f"between 10 .* and 8,000 .* got {wrong}"):
            load("demo", train_images=wrong)


@pytest.mark.parametrize("test_name", ["val", "test"])
def test_folder_with_its_own_test_part(test_name: str, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "pets", {"train": 3, test_name: 2})
    (root / "train" / "cat" / ".hidden.png").write_bytes(b"no image")
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    data = load(str(root))
    assert (data.name, data.classes) == ("pets", ("cat", "dog"))
    assert data.image_shape == (3, 4, 6)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.train.images[4, :, 0, 0].tolist() == [4, 10, 200]
    assert data.notes == ()


def test_one_folder_is_split_by_the_seed(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"": 20})
    data = load(str(root))
    assert data.train.labels.bincount().tolist() == [16, 16]
    assert data.test.labels.bincount().tolist() == [4, 4]
    assert "8 of 40 images were set aside" in data.notes[0]
    colours = [part.images[:, 0, 0, 0].tolist() for part in (data.train, data.test)]
    assert sorted(colours[0] + colours[1]) == list(range(40))
    assert torch.equal(load(str(root)).test.images, data.test.images)
    assert not torch.equal(load(str(root), seed=1).test.images, data.test.images)


def two_images(root: Path, first: Image.Image, second: Image.Image, **options: Any) -> Any:
    """Both images in both classes, so that a split leaves one of each to look at."""
    for part in ("train", "val"):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
        first.save(root / part / "a" / "0.png", **options)
        second.save(root / part / "b" / "0.png")
    return load(str(root))


def test_grey_stays_grey_only_if_all_are(tmp_path: Path) -> None:
    grey = picture(77, "L")
    assert two_images(tmp_path / "grey", grey, grey).image_shape == (1, 4, 6)
    mixed = two_images(tmp_path / "mixed", grey, picture())
    assert mixed.image_shape == (3, 4, 6)
    assert mixed.train.images[0, :, 0, 0].tolist() == [77, 77, 77]


def test_16_bit_grey_is_scaled(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((4, 6), 30_000, np.uint16))
    data = two_images(tmp_path, deep, picture(77, "L"))
    assert data.train.images[0].unique().tolist() == [round(30_000 / 257)]


def test_alpha_shows_white_and_palettes_show_their_colours(tmp_path: Path) -> None:
    clear = picture((200, 0, 0, 0), "RGBA")
    data = two_images(tmp_path / "alpha", clear, picture((200, 0, 0, 255), "RGBA"))
    assert data.train.images[:, :, 0, 0].tolist() == [[255, 255, 255], [200, 0, 0]]
    palette = picture((10, 20, 30)).quantize(4)
    data = two_images(tmp_path / "palette", palette, picture())
    assert data.train.images[0, :, 0, 0].tolist() == [10, 20, 30]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    sideways = picture(size=(4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = two_images(tmp_path, sideways, picture(size=(6, 4)), exif=exif)
    assert data.image_shape == (3, 4, 6)


def test_size_scales_the_short_side_and_crops_the_middle(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"train": 1, "val": 1})
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    Image.fromarray(wide).save(root / "train" / "cat" / "wide.png")
    with pytest.raises(UsageError, match=r"images of 2 sizes .*60 x 20.*--size 4"):
        load(str(root))
    data = load(str(root), size=10)
    assert data.image_shape == (3, 10, 10)
    assert (data.train.images[1] > 200).all()
    with pytest.raises(UsageError, match="size must be at least 1 pixel, got 0"):
        load(str(root), size=0)


def test_all_unreadable_images_are_named_at_once(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"train": 4, "val": 1})
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)).save(
        whole, format="PNG"
    )
    (root / "train" / "cat" / "001.png").write_bytes(whole.getvalue()[:-30])
    (root / "train" / "dog" / "002.png").write_bytes(b"")
    (root / "val" / "dog" / "extra.jpg").write_text("a letter")
    with pytest.raises(SoftaugError) as error:
        load(str(root))
    message = str(error.value)
    assert "3 unreadable images" in message
    assert "--skip-unreadable" in message
    for path in ("cat/001.png", "dog/002.png", "dog/extra.jpg"):
        assert path in message
    data = load(str(root), skip_unreadable=True)
    assert data.train.labels.bincount().tolist() == [3, 3]
    assert data.test.labels.bincount().tolist() == [1, 1]
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 2, 3, 4, 5, 7]
    assert "3 unreadable images were left out" in data.notes[0]


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path, {"train": 1, "val": 1})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(SoftaugError, match="more than 20 pixels, too large"):
        load(str(root))


def empty_class(root: Path) -> None:
    make_folder(root, {"train": 2, "val": 2})
    (root / "train" / "emu").mkdir()


def one_class(root: Path) -> None:
    make_folder(root, {"": 2}, ("cat",))


def other_classes(root: Path) -> None:
    make_folder(root, {"train": 2}, ("cat", "dog"))
    make_folder(root, {"val": 2}, ("cat", "fox"))


def floats(root: Path) -> None:
    make_folder(root, {"train": 1, "val": 1})
    Image.fromarray(np.full((4, 6), np.nan, np.float32)).save(root / "train" / "cat" / "f.tif")


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (lambda root: root.mkdir(exist_ok=True), ["no class folders"]),
        (one_class, ["one class only (cat); at least 2"]),
        (empty_class, ["2 faults", "emu: a class with no image", "val/emu: missing"]),
        (other_classes, ["2 faults", "val/dog: missing", "val/fox: no class of"]),
        (lambda root: make_folder(root, {"val": 2}), ["has val/ but no train/"]),
        (floats, ["f.tif: floating-point pixels"]),
    ],
)
def test_faults_of_a_folder(
    spoil: Callable[[Path], None], messages: list[str], tmp_path: Path
) -> None:
    spoil(tmp_path)
    with pytest.raises(SoftaugError) as error:
        load(str(tmp_path))
    assert "\n" not in str(error.value)
    for message in messages:
        assert message in str(error.value)


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean cifar10"):
        load("cifar1O")


def encoded(colour: int) -> bytes:
    content = io.BytesIO()
    picture(colour).save(content, format="PNG")
    return content.getvalue()


def write_parquet(
    path: Path, labels: list[Any], column: str = "img", label: str = "label", names: Any = None
) -> None:
    images = [{"bytes": encoded(i), "path": None} for i in range(len(labels))]
    table = pa.table({column: images, label: labels})
    if names:
        features = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        import json

        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path)


def test_parquet_as_on_the_hub(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [1, 0], names=["cat", "dog"])
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [0], names=["cat", "dog"])
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [1, 0], names=["cat", "dog"])
    data = load(str(tmp_path))
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [1, 0, 0]
    assert data.test.labels.tolist() == [1, 0]
    assert data.train.images[1, :, 0, 0].tolist() == [1, 10, 200]


def test_one_parquet_file_is_split_and_strings_name_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", ["fox", "emu"] * 10, column="image")
    data = load(str(tmp_path / "all.parquet"))
    assert data.classes == ("emu", "fox")
    assert data.train.labels.bincount().tolist() == [8, 8]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1, 7], ["a", "b"], r"row 2: label 7, expected 0 to 1"),
        ([0, -1, 1], None, r"row 1: label -1"),
        ([0, None, 1], None, r"row 1: label missing"),
        ([0.0, float("nan"), 1.0], None, r"label missing"),
        ([0, 2, 2], None, r"class '1' has no training image"),
    ],
)
def test_wrong_labels_are_named(
    labels: list[Any], names: list[str] | None, message: str, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "train.parquet", labels, names=names)
    with pytest.raises(SoftaugError, match=message):
        load(str(tmp_path))


def test_parquet_without_the_columns_names_those_it_has(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1], column="photo")
    with pytest.raises(SoftaugError, match="no column img or image; it has photo, label"):
        load(str(tmp_path))
    (tmp_path / "train.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(SoftaugError, match=r"train\.parquet: not readable as Parquet"):
        load(str(tmp_path))


@pytest.mark.skipif(not CIFAR10.exists(), reason="no CIFAR-10 subset here")
def test_real_cifar10() -> None:
    data = load(str(CIFAR10), train_images=1000)
    assert data.image_shape == (3, 32, 32)
    assert data.train.labels.bincount().tolist() == [100] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10


class FakeCifar:
    filename = "cifar-10-python.tar.gz"
    classes = ("cat", "dog")

    def __init__(self, _: str, train: bool, download: bool) -> None:
        assert download
        self.data = np.full((4 if train else 2, 32, 32, 3), 5, np.uint8)
        self.targets = [0, 1] * (2 if train else 1)


class NoNetwork(FakeCifar):
    def __init__(self, *_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Name or service not known")


def patched(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    fake = types.SimpleNamespace(CIFAR10=kind, CIFAR100=kind)
    monkeypatch.setattr(torchvision, "datasets", fake)
    monkeypatch.setenv("SOFTAUG_DATA", str(tmp_path / "cache"))


def test_cifar_comes_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patched(FakeCifar, tmp_path, monkeypatch)
    data = load("cifar10")
    assert data.train.images.shape == (4, 3, 32, 32)
    assert data.test.labels.tolist() == [0, 1]


def test_cifar_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patched(NoNetwork, tmp_path, monkeypatch)
    with pytest.raises(SoftaugError, match=r"could not be fetched.*put cifar-10-python\.tar\.gz"):
        load("cifar10")


def test_read_image_fits_a_models_input(tmp_path: Path) -> None:
    picture(size=(30, 10)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 1, 8, 8).shape == (1, 8, 8)
    with pytest.raises(SoftaugError, match=r"b\.png: no such file"):
        read_image(tmp_path / "b.png", 3, 8, 8)
