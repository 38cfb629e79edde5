"""Loading data from real files: folders, Parquet and CIFAR, each kind with its faults."""

import gzip
import importlib.util
import io
import json
import os
import struct
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from support import fake_cifar

import softaug_lab.data
from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.data.decode import decode_all, decoders, read_image
from softaug_lab.data.identity import content_keys
from softaug_lab.data.load import load
from softaug_lab.data.memory import available_memory, check_memory
from softaug_lab.data.sample import Sample, Unreadable
from softaug_lab.data.sources import list_any_images
from softaug_lab.data.summary import summary

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
    """Write class folders of images, each of another colour.

    parts: number of images per class by the name of the part's folder, "" for none.
    """
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
    assets = Path(softaug_lab.data.__file__).parent / "assets"
    assert (assets / "demo.npz").stat().st_size < 5_000_000
    licence = (assets / "FASHION-MNIST-LICENSE").read_text()
    for words in ("Zalando SE", "Permission is hereby granted", "WITHOUT WARRANTY OF ANY KIND"):
        assert words in licence


def test_demo_is_made_of_the_first_images_of_each_class(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "make_demo_data.py"
    spec = importlib.util.spec_from_file_location("make_demo_data", script)
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    labels = np.arange(50, dtype=np.uint8) % 10
    pixels = np.repeat(np.arange(50, dtype=np.uint8), 28 * 28)
    for name, header, values in (("images-idx3", 16, pixels), ("labels-idx1", 8, labels)):
        content = gzip.compress(bytes(header) + values.tobytes())
        (tmp_path / f"t10k-{name}-ubyte.gz").write_bytes(content)
    part = make.balanced(tmp_path, "t10k", 2)
    assert part["labels"].tolist() == [*range(10), *range(10)]
    assert part["images"][:, 0, 0].tolist() == list(range(20))
    assert part["images"].shape == (20, 28, 28)


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


def test_subset_takes_small_classes_whole(tmp_path: Path) -> None:
    for name, count in (("cat", 1), ("dog", 4), ("emu", 30)):
        make_folder(tmp_path, {"train": count, "val": 1}, (name,))
    data = load(str(tmp_path), train_images=15)
    assert data.train.labels.bincount().tolist() == [1, 4, 10]
    assert load(str(tmp_path), train_images=4).train.labels.bincount().min() == 1
    assert load(str(tmp_path), train_images=35).train.labels.bincount().tolist() == [1, 4, 30]


@pytest.mark.parametrize(
    ("train_name", "test_name"),
    [
        ("Training", "Testing"),
        ("train", "testing"),
        ("TRAIN", "Validation"),
        ("train", "valid"),
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("Train_images", "test_images"),
        ("train", "dev"),
        ("train", "fold-test"),
    ],
)
def test_parts_under_other_names(train_name: str, test_name: str, tmp_path: Path) -> None:
    data = load(str(make_folder(tmp_path, {train_name: 3, test_name: 2})))
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (6, 4)
    assert data.notes == ()


def test_train_may_be_the_name_of_a_class(tmp_path: Path) -> None:
    data = load(str(make_folder(tmp_path, {"": 5}, ("bus", "car", "train"))))
    assert data.classes == ("bus", "car", "train")
    assert data.test.labels.tolist() == [0, 1, 2]


def test_a_class_with_folders_may_be_called_like_a_part(tmp_path: Path) -> None:
    make_folder(tmp_path / "test_tubes", {"": 4}, ("blue", "red"))
    data = load(str(make_folder(tmp_path, {"": 5}, ("bus", "car"))))
    assert data.classes == ("bus", "car", "test_tubes")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("a", "b"), "a, b hold the same folders, cat, dog, so they seem to be parts"),
        (("x_train", "y_train"), "x_train/ and y_train/ may both be train/; rename one"),
    ],
)
def test_parts_that_cannot_be_told(parts: tuple[str, str], message: str, tmp_path: Path) -> None:
    make_folder(tmp_path, dict.fromkeys(parts, 3))
    with pytest.raises(SoftaugError, match=message):
        load(str(tmp_path))


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"train": 2, "val": 1})
    elsewhere = make_folder(tmp_path / "elsewhere", {"": 4}, ("more",)) / "more"
    (root / "train" / "dog" / "linked").symlink_to(elsewhere)
    (root / "train" / "dog" / "again").symlink_to(elsewhere)
    (root / "train" / "cat" / "loop").symlink_to(root / "train" / "cat")
    assert load(str(root)).train.labels.bincount().tolist() == [2, 6]


def test_what_is_left_out_is_counted_by_ending(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"train": 2, "val": 1})
    for name in ("cat/a.heic", "cat/b.HEIC", "dog/notes.txt", "cat/README", "cat/.hidden"):
        (root / "train" / name).touch()
    (root / "val" / "cat" / "c.heic").touch()
    picture(9).save(root / "train" / "in-no-class.png")
    [note] = load(str(root)).notes
    counts = "3 .heic, 1 .png, 1 .txt, 1 no ending"
    mend = "HEIC is not read, convert it to JPEG"
    assert note == f"{root}: left out, as no image of a class: {counts}; {mend}"
    (root / "train" / "emu").mkdir()
    (root / "train" / "emu" / "a.heic").touch()
    with pytest.raises(SoftaugError, match=rf"emu: a class with no image \({mend}\)"):
        load(str(root))


@pytest.mark.parametrize("ending", ["jfif", "jpe", "avif", "jp2", "pbm"])
def test_images_of_rarer_endings_are_read(ending: str, tmp_path: Path) -> None:
    for i, part in enumerate(("train/cat", "train/dog", "val/cat", "val/dog")):
        (tmp_path / part).mkdir(parents=True)
        image = picture(i).convert("1" if ending == "pbm" else "RGB")
        form = {"avif": "AVIF", "jp2": "JPEG2000", "pbm": "PPM"}.get(ending, "JPEG")
        image.save(tmp_path / part / f"x.{ending}", format=form)
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test), data.notes) == (2, 2, ())


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    """It would be waited for for ever."""
    root = make_folder(tmp_path, {"train": 2, "val": 1})
    os.mkfifo(root / "train" / "cat" / "x.png")
    with pytest.raises(
        SoftaugError, match=r"x\.png: unreadable \(neither a file nor a link to one"
    ):
        load(str(root))


def exif(kind: int, count: int, value: bytes) -> bytes:
    """EXIF with an orientation of a type of TIFF: 2 text, 3 short, 4 long, 7 bytes."""
    entry = struct.pack("<HHI", 0x0112, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize(
    "broken",
    [
        exif(2, 2, b"6"),
        exif(3, 1, b"\0"),
        exif(3, 1, b"\x09"),
        exif(3, 2, b"\x06\0\x06\0"),
        exif(4, 1, b"\xff\xff\xff\xff"),
        exif(7, 1, b"\x06"),
        exif(12, 9, b"\xff\xff\xff\xff"),
        exif(3, 1, b"\x06")[:20],
        b"Exif\0\0XX",
    ],
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of broken EXIF
def test_an_orientation_that_is_none_is_ignored(broken: bytes, tmp_path: Path) -> None:
    image = picture(3).resize((12, 20))
    image.save(tmp_path / "odd.jpg", exif=broken)
    turned = read_image(tmp_path / "odd.jpg", 3, 20, 12)
    image.save(tmp_path / "plain.jpg")
    assert torch.equal(turned, read_image(tmp_path / "plain.jpg", 3, 20, 12))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(orientation: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 12, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "x.png", exif=exif(3, 1, bytes([orientation])))
    with Image.open(tmp_path / "x.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    got = read_image(tmp_path / "x.png", 3, *expected.shape[:2])
    assert np.array_equal(got.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 28, 28), (3, 32, 32), (3, 224, 224), (3, 99, 301)]
)
def test_an_image_is_known_by_its_pixels(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, *shape), generator=generator).to(torch.uint8)
    keys = content_keys(images)
    assert len(keys.unique()) == len(images.flatten(1).unique(dim=0))
    order = torch.randperm(20, generator=generator)
    assert torch.equal(content_keys(images[order]), keys[order])
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(content_keys(channels_last), keys)
    if images[0].numel() > 1:
        # One pixel makes another image, the smallest change of it in any place.
        changed = images[:1].repeat(20, 1, 1, 1).flatten(1)
        places = torch.randint(changed.shape[1] // 8 * 8, (20,), generator=generator)
        changed[torch.arange(20), places] ^= 1
        other = content_keys(changed.view(20, *shape))
        assert not torch.isin(other, keys).any()
    if shape[1] != shape[2]:
        turned = images.view(20, shape[0], shape[2], shape[1])
        assert not torch.isin(content_keys(turned), keys).any()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_16_bits_become_8(dtype: Any, tmp_path: Path) -> None:
    values = np.arange(65536).reshape(256, 256).astype(dtype)
    if dtype == np.int32:
        values[0, :3] = (-5, 70_000, 2**31 - 1)
    Image.fromarray(values).save(tmp_path / "x.tif")
    expected = np.clip(values / 257, 0, 255).round().astype(np.uint8)
    assert np.array_equal(read_image(tmp_path / "x.tif", 1, 256, 256)[0].numpy(), expected)


def test_floating_point_is_refused_wherever_it_is_read(tmp_path: Path) -> None:
    Image.fromarray(np.ones((6, 6), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(SoftaugError, match=r"x\.tif: floating-point pixels; convert it to 8"):
        read_image(tmp_path / "x.tif", 1, 6, 6)


def array_file(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


LEVELS = np.random.default_rng(0).random((48, 64)).astype(np.float32)
COLOURS = np.random.default_rng(1).integers(0, 256, (3, 5, 7), np.uint8)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (LEVELS, (LEVELS[None] * 255).round()),
        (LEVELS[None].astype(np.float64), (LEVELS[None].astype(np.float64) * 255).round()),
        (np.asfortranarray(LEVELS), (LEVELS[None] * 255).round()),
        (COLOURS, COLOURS),
        (COLOURS[:1], COLOURS[:1]),
        (COLOURS[0], COLOURS[:1]),
    ],
)
def test_arrays_are_images(array: Any, expected: Any, tmp_path: Path) -> None:
    """From a folder, with sides that differ, and from bytes, as archives and Parquet hold them."""
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            path = tmp_path / part / name / "x.npy"
            path.parent.mkdir(parents=True)
            path.write_bytes(array_file(array))
    data = load(str(tmp_path))
    assert data.image_shape == expected.shape
    for image in (*data.train.images, *data.test.images):
        assert np.array_equal(image.numpy(), expected)
    decoded = decode_all([Sample("x", array_file(array), 0)], 1, expected.shape)
    assert np.array_equal(decoded.images[0].numpy(), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (array_file(LEVELS * 2), r"pixels must be in \[0, 1\], got .* to (2|1\.9+\d*)"),
        (array_file(np.full((2, 2), np.nan)), r"must be in \[0, 1\], got nan to nan"),
        (array_file(np.zeros((4, 5, 6), np.uint8)), r"\[3,H,W\], this one is \[4, 5, 6\]"),
        (array_file(np.zeros((0, 6), np.uint8)), "an array without pixels"),
        (array_file(np.zeros((4, 6), np.int64)), r"floats in \[0, 1\], this one is int64"),
        (array_file(np.array([[{}]])), "no array of numbers in NumPy's format"),
        (array_file(LEVELS)[:-9], "no array of numbers in NumPy's format"),
        (array_file(LEVELS)[:20], "x.npy: "),
    ],
)
def test_other_arrays_are_refused_by_name(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(SoftaugError, match=message) as error:
        read_image(tmp_path / "x.npy", 1, 6, 6)
    assert "x.npy" in str(error.value)


def test_an_array_is_as_small_as_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 64 - 1)
    (tmp_path / "x.npy").write_bytes(array_file(LEVELS))
    with pytest.raises(SoftaugError, match=r"x\.npy: more than 3,071 pixels, too large"):
        read_image(tmp_path / "x.npy", 1, 6, 6)


def test_parts_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    make_folder(tmp_path, {"": 5}, ("train", "val"))
    with pytest.raises(SoftaugError, match="train: no class folders"):
        load(str(tmp_path))


def test_a_test_part_is_preferred_to_validation(tmp_path: Path) -> None:
    data = load(str(make_folder(tmp_path, {"train": 3, "test": 2, "val": 4})))
    assert len(data.test) == 4
    assert data.notes == (f"{tmp_path / 'val'}: left out, test/ is tested on",)


def test_a_test_part_without_labels_is_left_out(tmp_path: Path) -> None:
    """As on Kaggle, where the test images lie in one folder."""
    root = make_folder(tmp_path, {"train": 3, "val": 2})
    (root / "test").mkdir()
    picture(1).save(root / "test" / "7.png")
    data = load(str(root))
    assert len(data.test) == 4
    assert data.notes == (
        f"{root / 'test'}: left out, without class folders its images have no labels",
    )
    assert len(list_any_images(root).train) == 1  # as other data, they need none


def test_a_test_part_may_lack_classes(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"train": 3, "val": 2})
    make_folder(root, {"train": 2}, ("emu", "fox"))
    (root / "val" / "fox").mkdir()
    data = load(str(root))
    assert data.classes == ("cat", "dog", "emu", "fox")
    assert data.notes == (f"{root}: classes without a test image: emu, fox",)


def test_hidden_folders_are_ignored_and_dead_links_are_not(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"train": 2, "val": 1})
    make_folder(root / "train" / "cat", {".ipynb_checkpoints": 3}, ("",))
    make_folder(root / "train", {".git": 1})
    (root / "train" / "dog" / "deep.png").mkdir()
    picture(9).save(root / "train" / "dog" / "deep.png" / "UPPER.PNG")
    assert load(str(root)).train.labels.tolist() == [0, 0, 1, 1, 1]
    (root / "val" / "dog" / "z.png").symlink_to(root / "gone.png")
    with pytest.raises(SoftaugError, match=r"z\.png: no such file"):
        load(str(root))


def test_a_class_without_a_test_image_is_noted(tmp_path: Path) -> None:
    make_folder(tmp_path, {"": 10})
    make_folder(tmp_path, {"": 1}, ("emu",))
    data = load(str(tmp_path))
    assert data.train.labels.bincount().tolist() == [8, 8, 1]
    assert data.test.labels.bincount().tolist() == [2, 2]
    assert data.notes[0].endswith("classes without a test image: emu")


def test_the_name_of_a_folder_may_have_dots(tmp_path: Path) -> None:
    assert load(str(make_folder(tmp_path / "pets.v2", {"": 2}))).name == "pets.v2"


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
    assert data.notes == (f"{root}: left out, as no image of a class: 1 .txt",)


def test_one_folder_is_split_by_the_seed(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"": 20})
    data = load(str(root))
    assert data.train.labels.bincount().tolist() == [16, 16]
    assert data.test.labels.bincount().tolist() == [4, 4]
    assert data.test.images.untyped_storage().nbytes() == data.test.images.numel()
    assert data.split is not None
    assert "8 of 40 images were set aside" in data.split
    colours = [part.images[:, 0, 0, 0].tolist() for part in (data.train, data.test)]
    assert sorted(colours[0] + colours[1]) == list(range(40))
    assert torch.equal(load(str(root)).test.images, data.test.images)
    assert not torch.equal(load(str(root), seed=1).test.images, data.test.images)


def two_images(root: Path, first: Image.Image, second: Image.Image, **options: Any) -> Any:
    """Load two images, one in each class of both parts."""
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


def test_transparent_pixels_become_white_and_palettes_show_their_colours(tmp_path: Path) -> None:
    clear = picture((200, 0, 0, 0), "RGBA")
    data = two_images(tmp_path / "alpha", clear, picture((200, 0, 0, 255), "RGBA"))
    assert data.train.images[:, :, 0, 0].tolist() == [[255, 255, 255], [200, 0, 0]]
    palette = picture((10, 20, 30)).quantize(4)
    data = two_images(tmp_path / "palette", palette, picture())
    assert data.train.images[0, :, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.T),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).T),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation_is_applied(
    orientation: int, upright: Callable[[Any], Any], tmp_path: Path
) -> None:
    stored = np.arange(24, dtype=np.uint8).reshape(4, 6)
    expected = upright(stored).tolist()
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = picture(77, "L", (len(expected[0]), len(expected)))
    data = two_images(tmp_path, Image.fromarray(stored), grey, exif=exif)
    assert data.train.images[0, 0].tolist() == expected


def test_size_scales_the_short_side_and_crops_the_middle(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"train": 1, "val": 1})
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    Image.fromarray(wide).save(root / "train" / "cat" / "wide.png")
    data = load(str(root), size=10)
    assert data.image_shape == (3, 10, 10)
    assert (data.train.images[1] > 200).all()
    with pytest.raises(UsageError, match="size must be at least 1 pixel, got 0"):
        load(str(root), size=0)
    with pytest.raises(UsageError, match="demo has images of 28 px; leave out --size"):
        load("demo", size=32)


def smooth_photo(height: int, width: int) -> Image.Image:
    """Make an image of waves from 8 pixels of length, which a JPEG preserves as in a photograph."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / n + k) * np.cos(y / (n + k)) for k, n in enumerate((1.3, 7.0, 40.0))]
    levels = 127 + 40 * (waves[0] / 4 + waves[1] + waves[2])
    return Image.fromarray(np.stack([levels, 255 - levels, levels // 2], axis=2).astype(np.uint8))


@pytest.mark.parametrize("size", [(150, 200), (200, 150), (101, 67), (64, 65), (64, 67), (40, 90)])
def test_images_are_scaled_and_cropped_as_by_torchvision(
    size: tuple[int, int], tmp_path: Path
) -> None:
    from torchvision.transforms import v2

    photo = smooth_photo(*size)
    photo.save(tmp_path / "a.png")
    whole = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
    standard = v2.Compose([v2.Resize(64, antialias=True), v2.CenterCrop(64)])
    torch.testing.assert_close(read_image(tmp_path / "a.png", 3, 64, 64), standard(whole))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_smaller_with_nearly_the_same_pixels(
    orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "a.jpg"
    smooth_photo(600, 1000).save(file, quality=90, exif=exif)
    drafted: list[tuple[int, int]] = []
    draft = JpegImageFile.draft

    def spy(image: JpegImageFile, mode: None, size: tuple[int, int]) -> object:
        found = draft(image, mode, size)
        drafted.append(image.size)
        return found

    monkeypatch.setattr(JpegImageFile, "draft", spy)
    got = read_image(file, 3, 64, 64).float()
    assert drafted == [(250, 150)]  # an eighth would be less than twice 64
    monkeypatch.setattr(JpegImageFile, "draft", lambda *_: None)
    whole = read_image(file, 3, 64, 64).float()
    assert (got - whole).abs().mean() < 1
    assert (got - whole).abs().max() < 8


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_as_wide_as_needed_is_decoded_whole_however_tall(
    orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    sides = (1000, 100) if orientation == 1 else (100, 1000)
    smooth_photo(*sides).save(tmp_path / "a.jpg", exif=exif)
    got = read_image(tmp_path / "a.jpg", 3, height=20, width=100)
    monkeypatch.setattr(JpegImageFile, "draft", lambda *_: None)
    assert torch.equal(got, read_image(tmp_path / "a.jpg", 3, height=20, width=100))


@pytest.mark.parametrize("upright", [False, True])
def test_only_the_middle_of_a_ribbon_is_scaled(upright: bool, tmp_path: Path) -> None:
    ribbon = np.zeros((1, 1_000_000), np.uint8)  # 640 GB, if it were scaled whole
    ribbon[:, 499_990:500_010] = 255
    Image.fromarray(ribbon.T if upright else ribbon).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", 1, 800, 800)
    assert pixels.shape == (1, 800, 800)
    assert (pixels == 255).all()


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
    assert "--max-unreadable" in message
    for path in ("cat/001.png", "dog/002.png", "dog/extra.jpg"):
        assert path in message
    data = load(str(root), max_unreadable=3 / 11)
    with pytest.raises(SoftaugError, match=r"--max-unreadable 0\.273 would leave them out"):
        load(str(root), max_unreadable=0.27)
    assert data.train.labels.bincount().tolist() == [3, 3]
    assert data.test.labels.bincount().tolist() == [1, 1]
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 2, 3, 4, 5, 7]
    assert "3 unreadable images were left out" in data.notes[0]


def test_decoded_images_stay_with_their_names_labels_and_places() -> None:
    samples: list[Sample | Unreadable] = [
        Sample(f"image {i}", encoded(i % 256), i) for i in range(600)
    ]
    samples[5] = Unreadable("image 5", "lost")
    samples[300] = Sample("image 300", b"no image", 300)
    samples[599] = Unreadable("image 599", "lost")
    decoded = decode_all(iter(samples), 600, (3, 4, 6))
    places = [i for i in range(600) if i not in (5, 300, 599)]
    assert decoded.places == decoded.labels.tolist() == places
    assert decoded.names == [f"image {i}" for i in places]
    assert decoded.images[:, 0, 0, 0].tolist() == [i % 256 for i in places]
    assert list(map(str, decoded.unreadable)) == [
        "image 5: lost",
        "image 300: no image, or of an unknown format",
        "image 599: lost",
    ]


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"train/cat"}, "class 'cat' has no readable image to train on"),
        ({"test/cat", "test/dog"}, "no image to test on"),
    ],
)
def test_a_class_or_part_cannot_be_left_out(spoilt: set[str], message: str, tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": 1, "test": 1})
    for folder in spoilt:
        (tmp_path / folder / "000.png").write_bytes(b"")
    with pytest.raises(SoftaugError, match=message):
        load(str(tmp_path), max_unreadable=1.0)


def test_at_most_ten_faults_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": 1, "val": 1})
    for i in range(12):
        (tmp_path / "val" / f"class{i:02}").mkdir()
    with pytest.raises(SoftaugError, match=r"12 faults: .*class09: no.*; and 2 more$") as error:
        load(str(tmp_path))
    assert "class12" not in str(error.value)


def test_images_that_do_not_fit_memory_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"train": 3, "val": 2})
    assert load(str(root)).notes == ()
    if available_memory() is None:
        pytest.skip("the system does not report its memory")
    with pytest.raises(SoftaugError, match=r"10 images of 1000000 x 1000000 px take 27939\.7 GiB"):
        load(str(root), size=10**6)


def test_half_of_the_memory_is_noted_and_more_than_all_is_an_error() -> None:
    def check(free: int | None) -> list[str]:
        return check_memory("pets", 10, (3, 4, 6), available=lambda: free)  # 10 x 72 bytes

    for free in (None, 1440, 10**9):
        assert check(free) == []
    for free in (720, 1439):
        [note] = check(free)
        assert note.startswith("pets: 10 images of 6 x 4 px take 0.0 GiB decoded")
    with pytest.raises(SoftaugError, match="GiB are free; a smaller --size would help"):
        check(719)


def test_processes_of_a_machine_hold_a_copy_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared with all memory, of which some of them may have taken their part."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")

    def check(total: int) -> list[str]:
        return check_memory("pets", 10, (3, 4, 6), lambda: 1, lambda: total)

    assert check(8 * 720) == []
    assert "in 4 processes" in check(4 * 720)[0]
    with pytest.raises(SoftaugError, match=r"in 4 processes, 0\.0 GiB are there"):
        check(4 * 720 - 1)


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path, {"train": 1, "val": 1})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(SoftaugError, match="more than 20 pixels, too large"):
        load(str(root))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_photos_of_108_megapixels_are_decoded_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (480, 360), "red").save(tmp_path / "a.jpg")
    Image.new("RGB", (480, 360), "red").save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 480 * 360 * 2 // 3)
    assert read_image(tmp_path / "a.jpg", 3, 24, 24).shape == (3, 24, 24)
    # Phones write a second, smaller picture into the file, which Pillow calls MPO.
    first, second = (Image.new("RGB", size, "red") for size in ((480, 360), (48, 36)))
    first.save(tmp_path / "two.jpg", format="MPO", save_all=True, append_images=[second])
    assert read_image(tmp_path / "two.jpg", 3, 24, 24).shape == (3, 24, 24)
    with pytest.raises(SoftaugError, match="too large to be decoded"):
        read_image(tmp_path / "a.jpg", 3, 480, 480)
    with pytest.raises(SoftaugError, match="too large to be decoded"):
        read_image(tmp_path / "a.png", 3, 24, 24)


@pytest.mark.parametrize(
    ("sides", "chosen"),
    [
        ([90, *[300] * 30], 224),
        ([40] * 9, 32),
        ([20] * 9, 32),
        ([63, 63, 64, 64], 64),
        ([63, 63, 63, 64], 32),
        ([100] * 9, 64),
    ],
)
def test_images_of_many_sizes_get_a_side_that_half_of_them_reach(
    sides: list[int], chosen: int, tmp_path: Path
) -> None:
    for i, side in enumerate(sides):
        folder = tmp_path / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        Image.new("L", (side, 600 + i)).save(folder / f"{i}.png")
    data = load(str(tmp_path))
    assert data.image_shape == (1, chosen, chosen)
    assert data.chosen_side == chosen
    assert any(f"the images are scaled to {chosen} px" in note for note in data.notes)
    assert load(str(tmp_path), size=16).chosen_side is None


def test_images_of_one_size_keep_it_unless_they_are_large(tmp_path: Path) -> None:
    for width, height, shape in ((40, 30, (1, 30, 40)), (300, 280, (1, 224, 224))):
        for i in range(4):
            folder = tmp_path / str(width) / "ab"[i % 2]
            folder.mkdir(exist_ok=True, parents=True)
            Image.new("L", (width, height)).save(folder / f"{i}.png")
        assert load(str(tmp_path / str(width))).image_shape == shape


def test_a_summary_says_what_there_is_by_class(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": 20, "test": 2})
    assert summary(load(str(tmp_path), held_out=0.1)) == [
        f"{tmp_path.name}: 2 classes, 6 x 4 px RGB; 36 train, 4 held out, 4 test",
        "  cat: 18 train, 2 held out, 2 test",
        "  dog: 18 train, 2 held out, 2 test",
    ]
    make_folder(tmp_path, {"train": 30, "test": 2}, tuple(f"c{i}" for i in range(11)))
    lines = summary(load(str(tmp_path)))
    assert len(lines) == 12
    assert lines[1:3] == ["  cat: 20 train, 2 test", "  dog: 20 train, 2 test"]
    assert lines[-1] == "  3 more classes with at least 30 train"


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
        (empty_class, ["1 fault", "emu: a class with no image"]),
        (other_classes, ["1 fault", "val/fox: no class of"]),
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


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean cifar10"):
        load("cifar1O")
    with pytest.raises(UsageError, match="missing path ''; known are"):
        load("")
    with pytest.raises(SoftaugError, match="x: not readable"):
        load("x" * 5000)


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
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path)


def test_files_may_number_the_classes_in_different_orders(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [1, 0, 0], names=["cat", "dog"])
    write_parquet(tmp_path / "train-1.parquet", [0, 2, 1], names=["dog", "cat", "emu"])
    write_parquet(tmp_path / "test.parquet", [0, 1, 2], names=["emu", "dog", "cat"])
    data = load(str(tmp_path))
    assert data.classes == ("cat", "dog", "emu")
    assert data.train.labels.tolist() == [1, 0, 0, 1, 2, 0]
    assert data.test.labels.tolist() == [2, 1, 0]


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
    ("train", "test", "others"),
    [
        ("plain_text/train/0000", "plain_text/test/0000", []),
        ("retrieval-train", "retrieval-validation", []),
        ("cifar10_train", "cifar10_test", []),
        ("mytrain", "mytest", []),
        (
            "data/train-00000-of-00001",
            "data/test-00000-of-00001",
            ["data/validation-00000-of-00001"],
        ),
        ("train", "test", ["unsupervised"]),
        ("of-validation/train/0", "of-validation/test/0", []),
        ("train/test_of_a_name/train", "train/valid", []),
        ("all", "test", []),
    ],
)
def test_parts_of_parquet_by_name(train: str, test: str, others: list[str], tmp_path: Path) -> None:
    for name, labels in ((train, [0, 1, 0]), (test, [1, 0]), *((o, [0] * 9) for o in others)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(tmp_path / f"{name}.parquet", labels)
    (tmp_path / "._train.parquet").write_bytes(b"of another system")
    data = load(str(tmp_path))
    assert data.train.labels.tolist() == [0, 1, 0]
    assert data.test.labels.tolist() == [1, 0]
    assert len(data.notes) == len(others)
    assert all(f"left out {name}.parquet" in data.notes[0] for name in others)


@pytest.mark.parametrize("labels", [[-1] * 9, [None] * 9, "absent"])
def test_a_parquet_test_part_without_labels_is_left_out(labels: Any, tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1, 1])
    write_parquet(tmp_path / "val.parquet", [1, 0])
    wrong = [0] * 9 if labels == "absent" else labels
    name = "other" if labels == "absent" else "label"
    write_parquet(tmp_path / "test.parquet", wrong, label=name)
    data = load(str(tmp_path))
    assert data.test.labels.tolist() == [1, 0]
    assert data.notes == (f"{tmp_path}: left out test.parquet, where no image has a label",)
    (tmp_path / "val.parquet").unlink()
    write_parquet(tmp_path / "train.parquet", [0, 1] * 5)
    assert len(load(str(tmp_path)).test) == 2  # of the training images


def test_classes_without_images_are_kept_and_noted(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 2, 2], names=["cat", "dog", "emu"])
    write_parquet(tmp_path / "test.parquet", [0, 1])
    data = load(str(tmp_path))
    assert data.classes == ("cat", "dog", "emu")
    assert data.notes == (
        f"{tmp_path}: classes without a training image: dog",
        f"{tmp_path}: classes without a test image: emu",
    )


def test_parquet_may_name_files_of_its_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for i, place in enumerate((root / "a.png", root / "b.png", tmp_path / "outside.png")):
        picture(i).save(place)
    cells = [{"bytes": None, "path": "a.png"}, {"bytes": None, "path": str(root / "b.png")}]
    for part in ("train", "test"):
        pq.write_table(pa.table({"image": cells, "label": [0, 1]}), root / f"{part}.parquet")
    assert load(str(root)).train.images[:, 0, 0, 0].tolist() == [0, 1]
    cells += [{"bytes": None, "path": "../outside.png"}]
    pq.write_table(pa.table({"image": cells, "label": [0, 1, 0]}), root / "train.parquet")
    with pytest.raises(SoftaugError, match=r"train.parquet row 2: no image"):
        load(str(root))


def test_a_folder_of_files_is_read_as_the_hub_reads_it(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    make_folder(tmp_path, {"train": 3, "test": 2})
    hub, folder = load(f"hf:{tmp_path}"), load(str(tmp_path))
    assert hub.classes == folder.classes
    for ours, theirs in ((hub.train, folder.train), (hub.test, folder.test)):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)


def write_images(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(root / name)


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("labels.csv", "file_name,label\na/0.png,dog\n1.png,cat\n2.png,dog\na/3.png,cat\n"),
        (
            "metadata.csv",
            "\ufeffLabel;Path\r\ndog;a/0.png\r\ncat;1.png\r\ndog;2.png\r\ncat;a/3.png",
        ),
        ("x.tsv", "id\tbreed\na/0.png\tdog\n1.png\tcat\n2.png\tdog\na/3.png\tcat\n"),
        (
            "metadata.jsonl",
            "".join(
                json.dumps({"file_name": name, "label": label}) + "\n"
                for name, label in zip(
                    ("a/0.png", "1.png", "2.png", "a/3.png"), ("dog", "cat") * 2, strict=True
                )
            ),
        ),
    ],
)
def test_a_table_names_files_and_labels(table: str, content: str, tmp_path: Path) -> None:
    write_images(tmp_path, "a/0.png", "1.png", "2.png", "a/3.png")
    (tmp_path / table).write_text(content)
    for source in (tmp_path, tmp_path / table):
        data = load(str(source))
        assert data.classes == ("cat", "dog")
        images = data.all_images()
        assert sorted(zip(images.images[:, 0, 0, 0].tolist(), images.labels.tolist())) == [  # noqa: B905
            (0, 1), (1, 0), (2, 1), (3, 0),
        ]  # fmt: skip


def test_tables_of_parts(tmp_path: Path) -> None:
    """Files beside a table, or in a folder that is called like it, without their ending."""
    write_images(tmp_path, "train/a.png", "train/b.png", "test_images/c.png", "test_images/d.png")
    (tmp_path / "train.csv").write_text("id,label\na,7\nb,10\n")
    (tmp_path / "test.csv").write_text("id,label\nc,10\nd,7\n")
    (tmp_path / "sample_submission.csv").write_text("id,label\nc,0\nd,0\n")
    (tmp_path / "prices.csv").write_text("id,price\n1,2\n")
    data = load(str(tmp_path))
    assert data.classes == tuple(map(str, range(11)))
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([7, 10], [10, 7])


def test_a_table_may_tell_the_parts(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{i}.png" for i in range(5)))
    rows = "0,cat,train\n1,dog,Train\n2,cat,val\n3,,test\n4,,test\n"
    (tmp_path / "all.csv").write_text("image,class,split\n" + rows)
    data = load(str(tmp_path / "all.csv"))
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1]
    assert data.test.images[:, 0, 0, 0].tolist() == [2]  # no image of test has a label


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\n0.png,cat\n../x.png,dog\n", r"row 3: '../x.png' is no file of "),
        ("file,label\n0.png,cat\n/etc/passwd,dog\n", r"row 3: '/etc/passwd' is no file of "),
        ("file,label\n0.png,cat\n0.png,dog\n", r"row 3: 0.png is 'dog', and before 'cat'"),
        ("file,label\n0.png,cat\n1.png\n", r"row 3 has not as many cells as the header"),
        ("file,label\n0.png,cat\n1.png,\n", r"1.png: label missing"),
        ("file,weight\n0.png,3\n", r"no column label, labels, class or the like; it has file, w"),
        ("", r"no column file_name, filename, file or the like; it has no rows"),
        ("file,label\n0.png,cat\n9.png,dog\n8.png,dog\n", r"8.png: no such file"),
    ],
)
def test_faults_of_a_table(content: str, message: str, tmp_path: Path) -> None:
    write_images(tmp_path, "0.png", "1.png")
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(SoftaugError, match=message):
        load(str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("labels", "joined"),
    [
        (["cat dog", "cat", "dog", "bird"], "cat dog"),
        (["cat,dog", "cat, bird", "dog,bird", "bird,cat"], "bird,cat, cat, bird, cat,dog, and 1"),
        (["cat|dog", "cat|dog|bird", "bird", "bird"], "cat|dog, cat|dog|bird"),
        (["sea lion", "lion", "african elephant", "asian elephant"], ""),
        (["black dress", "red dress", "black shirt", "red shirt"], ""),
        (["tench, tinca", "tabby, tabby cat", "lion, king of beasts", "tiger"], ""),
    ],
)
def test_joined_labels_are_told(labels: list[str], joined: str, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{i}.png" for i in range(8)))
    rows = [f"{i};{label}" for i, label in enumerate(labels * 2)]
    (tmp_path / "t.csv").write_text("\n".join(["id;label", *rows]))
    told = [note for note in load(str(tmp_path)).notes if "several labels" in note]
    assert [joined in note for note in told] == [True] * bool(joined)


def test_a_lone_parquet_file_is_split_whatever_its_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", [0, 1] * 5)
    data = load(str(tmp_path / "test.parquet"))
    assert (data.name, len(data.train), len(data.test)) == ("test", 8, 2)
    with pytest.raises(SoftaugError, match=r"no training file among test\.parquet"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1, 7], ["a", "b"], r"row 2: label 7, expected 0 to 1"),
        ([0, -1, 1], None, r"row 1: label -1"),
        ([0, None, 1], None, r"row 1: label missing"),
        ([0.0, float("nan"), 1.0], None, r"label missing"),
        ([1, 1, 1], None, r"images to train on of 1 class; at least 2 are needed"),
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


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_comes_from_its_archive(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cifar(name, tmp_path, monkeypatch)
    data = load(name)
    assert (data.name, data.classes) == (name, ("cat", "dog"))
    batches = 5 if name == "cifar10" else 1
    assert data.train.images.shape == (2 * batches, 3, 32, 32)
    assert data.train.images[:, 0, 0, 0].tolist() == [i // 2 for i in range(2 * batches)]
    assert data.train.images[0].nonzero().tolist() == [[0, 1, 2]]
    assert data.train.labels.tolist() == [0, 1] * batches
    assert data.test.labels.tolist() == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == [f"cifar-{name[5:]}-python.tar.gz"]


def test_cifar_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with another checksum is not used as the archive either."""

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setenv("SOFTAUG_DATA", str(tmp_path))
    for content in (None, b"half an archive"):
        if content is not None:
            (tmp_path / "cifar-10-python.tar.gz").write_bytes(content)
        with pytest.raises(
            SoftaugError, match=r"could not be fetched.*put cifar-10-python\.tar\.gz"
        ):
            load("cifar10")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SOFTAUG_DATA": "", "XDG_CACHE_HOME": ""}, "home/.cache/softaug"),
        ({"SOFTAUG_DATA": "", "XDG_CACHE_HOME": "{tmp}/xdg"}, "xdg/softaug"),
        ({"SOFTAUG_DATA": "~/sets", "XDG_CACHE_HOME": "{tmp}/xdg"}, "home/sets"),
    ],
)
def test_where_cifar_is_cached(
    variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cifar("cifar100", tmp_path / expected, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert len(load("cifar100").train) == 2


def test_read_image_fits_a_models_input(tmp_path: Path) -> None:
    picture(size=(30, 10)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 1, 8, 8).shape == (1, 8, 8)
    with pytest.raises(SoftaugError, match=r"b\.png: no such file"):
        read_image(tmp_path / "b.png", 3, 8, 8)


def test_a_share_of_each_class_is_held_out(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0] * 20 + [1] * 7 + [2] + [3] * 2)
    write_parquet(tmp_path / "test.parquet", [0, 1, 2, 3])
    data = load(str(tmp_path), held_out=0.2)
    assert data.held_out is not None
    assert data.held_out.labels.bincount().tolist() == [4, 1, 0, 1]
    assert data.train.labels.bincount().tolist() == [16, 6, 1, 1]
    both = torch.cat([data.train.images, data.held_out.images])
    assert sorted(both[:, 0, 0, 0].tolist()) == list(range(30))
    again = load(str(tmp_path), held_out=0.2, seed=1)
    assert again.held_out is not None
    assert not torch.equal(again.held_out.images, data.held_out.images)
    with pytest.raises(UsageError, match=r"held_out must be a share in \[0, 1\), got 1"):
        load(str(tmp_path), held_out=1)


@pytest.mark.parametrize(
    ("cores", "beside", "threads"), [(2, "1", 2), (64, "1", 16), (64, "8", 8), (2, "4", 1)]
)
def test_processes_of_a_machine_divide_its_cores_to_decode(
    cores: int, beside: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softaug_lab.data.decode.cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", beside)
    with decoders() as pool:
        assert pool._max_workers == threads
