"""Folders as people have them, made by code, and what becomes of each.

A row is what the folder holds, and either the error or the classes, the images to train and to test
on, and what the notes say.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.data.image_paths import find_images
from softaug_lab.data.load import load
from softaug_lab.data.summary import summary
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import open_run

Build = Callable[[Path], object]  # writes into a folder


def png(shade: int, size: tuple[int, int] = (6, 4), kind: str = "PNG", mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, shade).save(content, format=kind)
    return content.getvalue()


def tree(*places: str, **contents: bytes | str) -> Build:
    """Write files: `train/cat*3` are three images; contents are those of other files."""

    def build(root: Path) -> None:
        shade = 0
        for place in places:
            folder, _, count = place.partition("*")
            (root / folder).mkdir(parents=True, exist_ok=True)
            for i in range(int(count or 0)):
                shade += 1
                (root / folder / f"{i}.png").write_bytes(png(shade))
        for name, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)

    return build


def also(first: Build, *others: Build) -> Build:
    def build(root: Path) -> None:
        for one in (first, *others):
            one(root)

    return build


def files(contents: dict[str, bytes | str]) -> Build:
    return tree(**contents)


def link(name: str, target: str) -> Build:
    return lambda root: (root / name).symlink_to(target)


def parquet(name: str, labels: list[Any], column: str = "image", **more: Any) -> Build:
    def build(root: Path) -> None:
        images = [{"bytes": png(i), "path": None} for i in range(len(labels))]
        table = pa.table({column: images, "label": labels})
        if "names" in more:
            info = {"info": {"features": {"label": {"names": more["names"]}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, root / name)

    return build


def tar(name: str, members: dict[str, bytes]) -> Build:
    def build(root: Path) -> None:
        with tarfile.open(root / name, "w") as archive:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    return build


def cut(name: str, length: int) -> Build:
    return lambda root: os.truncate(root / name, length)


def samples(labels: list[int]) -> dict[str, bytes]:
    parts = [(f"{i}.png", png(i)) for i in range(len(labels))]
    parts += [(f"{i}.cls", b"%d" % label) for i, label in enumerate(labels)]
    return dict(sorted(parts))


BOTH = tree("train/cat*3", "train/dog*3", "test/cat*2", "test/dog*2")
FLAT = tree("cat*5", "dog*5")
CAT_DOG = ("cat", "dog")
EXIF = b"\xff\xd8\xff\xe1\x00\x10Exif\x00\x00garbage!" + png(9, kind="JPEG")[2:]

# What the folder holds, then classes, images to train on, to test on, and words of a note.
READ: dict[str, tuple[Build, tuple[str, ...], int, int, str]] = {
    "parts": (BOTH, CAT_DOG, 6, 4, ""),
    "one folder": (FLAT, CAT_DOG, 8, 2, ""),
    "parts in capitals": (
        tree("Train/cat*2", "Train/dog*2", "TEST/cat*1", "TEST/dog*1"),
        CAT_DOG,
        4,
        2,
        "",
    ),
    "training and validation": (
        tree("training/cat*2", "training/dog*2", "validation/cat*1", "validation/dog*1"),
        CAT_DOG,
        4,
        2,
        "",
    ),
    "valid and dev": (
        tree("train/cat*2", "train/dog*2", "dev/cat*1", "dev/dog*1"),
        CAT_DOG,
        4,
        2,
        "",
    ),
    "seg_train": (
        tree("seg_train/cat*2", "seg_train/dog*2", "seg_test/cat*1", "seg_test/dog*1"),
        CAT_DOG,
        4,
        2,
        "",
    ),
    "three parts": (
        also(BOTH, tree("val/cat*3", "val/dog*3")),
        CAT_DOG,
        6,
        4,
        "val: left out, test/ is",
    ),
    "a flat test part": (
        also(tree("train/cat*3", "train/dog*3", "val/cat*1", "val/dog*1"), tree("test*9")),
        CAT_DOG,
        6,
        2,
        "test: left out, without class folders",
    ),
    "only a flat test part": (
        also(tree("train/cat*5", "train/dog*5"), tree("test*9")),
        CAT_DOG,
        8,
        2,
        "test: left",
    ),
    "an empty test class": (
        also(BOTH, tree("train/emu*3", "test/emu")),
        ("cat", "dog", "emu"),
        9,
        4,
        "without a test image: emu",
    ),
    "a missing test class": (
        also(BOTH, tree("train/emu*3")),
        ("cat", "dog", "emu"),
        9,
        4,
        "without a test image: emu",
    ),
    "images at any depth": (tree("cat/2019/may*5", "dog/a/b/c*5"), CAT_DOG, 8, 2, ""),
    "a class called train": (tree("bus*5", "train*5"), ("bus", "train"), 8, 2, ""),
    "a class called train station": (
        tree("train station/cam1*5", "train station/cam2*5", "bus stop/cam1*5", "airport*5"),
        ("airport", "bus stop", "train station"),
        16,
        4,
        "train station: one class with the images of cam1/, cam2/; move them to ",
    ),
    "classes of two trains": (
        tree("train depot/x*5", "train_station/y*5", "airport/z*5"),
        ("airport", "train depot", "train_station"),
        12,
        3,
        "",
    ),
    "train among other folders": (
        tree("train/red*5", "train/blue*5", "bus/red*5", "bus/blue*5", "old*2"),
        ("blue", "red"),
        8,
        2,
        "data: left out bus/, old/, since train/ is trained on",
    ),
    "parts among other folders": (
        tree("a_train/cat*3", "a_train/dog*3", "a_test/cat*2", "a_test/dog*2", "a_pred*9"),
        CAT_DOG,
        6,
        4,
        "data: left out a_pred/, since a_train/ is trained on",
    ),
    "a flat test part by a word": (
        tree("a_train/cat*5", "a_train/dog*5", "a_test*9"),
        CAT_DOG,
        8,
        2,
        "data: left out a_test/, since a_train/ is trained on",
    ),
    "a second training part": (
        tree("train/cat*5", "train/dog*5", "training/cat*5", "training/dog*5"),
        CAT_DOG,
        8,
        2,
        "data: left out training/, since train/ is trained on",
    ),
    "classes with spaces and dots": (tree("a b*5", "c.d*5"), ("a b", "c.d"), 8, 2, ""),
    "classes in other scripts": (tree("кот*5", "犬*5"), ("кот", "犬"), 8, 2, ""),
    "numbered classes": (tree("10*5", "9*5"), ("10", "9"), 8, 2, ""),
    "other files": (
        also(FLAT, files({"cat/Thumbs.db": "x", "notes.txt": "y", "dog/m.mp4": "z"})),
        CAT_DOG,
        8,
        2,
        "1 .db, 1 .mp4, 1 .txt",
    ),
    "hidden files": (
        also(FLAT, files({"cat/._0.png": "x", ".DS_Store": "y", ".git/a.png": "z"})),
        CAT_DOG,
        8,
        2,
        "",
    ),
    "endings in capitals": (
        also(FLAT, files({"cat/A.PNG": png(1), "dog/B.JPG": png(2, kind="JPEG")})),
        CAT_DOG,
        10,
        2,
        "",
    ),
    "jfif and webp": (
        also(FLAT, files({"cat/a.jfif": png(1, kind="JPEG"), "dog/b.webp": png(2, kind="WEBP")})),
        CAT_DOG,
        10,
        2,
        "",
    ),
    "a PNG called .jpg": (also(FLAT, files({"cat/a.jpg": png(1)})), CAT_DOG, 9, 2, ""),
    "broken EXIF": (also(FLAT, files({"cat/a.jpg": EXIF})), CAT_DOG, 9, 2, ""),
    "a picture of a palette": (
        also(FLAT, files({"cat/a.png": png(3, mode="P")})),
        CAT_DOG,
        9,
        2,
        "",
    ),
    "16 bits": (also(FLAT, files({"cat/a.png": png(300, mode="I;16")})), CAT_DOG, 9, 2, ""),
    "CMYK": (also(FLAT, files({"cat/a.jpg": png(3, kind="JPEG", mode="CMYK")})), CAT_DOG, 9, 2, ""),
    "a linked class": (
        also(tree("real/x*5", "in/dog*5"), link("in/cat", "../real/x"), tree("in")),
        ("in", "real"),
        12,
        3,
        "",
    ),
    "a link in a class": (
        also(FLAT, tree("more*4"), lambda root: (root / "more").rename(root / "cat" / "more")),
        CAT_DOG,
        11,
        3,
        "",
    ),
    "a loop of links": (also(FLAT, link("cat/again", "..")), CAT_DOG, 12, 3, ""),
    "images of two parts alike": (
        also(BOTH, files({"test/cat/same.png": png(1)})),
        CAT_DOG,
        6,
        5,
        "",
    ),
    "a folder called y.png": (also(FLAT, tree("cat/y.png/z*1")), CAT_DOG, 9, 2, ""),
    "a table": (
        also(
            tree("images*4"),
            files({"labels.csv": "file_name,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n"}),
        ),
        ("a", "b"),
        2,
        2,
        "files and labels are those of labels.csv",
    ),
    "a table with a split": (
        also(
            tree("*4"),
            files({"t.csv": "id,label,split\n0,a,train\n1,b,train\n2,a,test\n3,b,test\n"}),
        ),
        ("a", "b"),
        2,
        2,
        "files and labels are those of t.csv",
    ),
    "a table with spaces around labels": (
        also(tree("*4"), files({"t.csv": "id,label\n0.png,a\n1.png, b\n2.png, a\n3.png,b \n"})),
        ("a", "b"),
        2,
        2,
        "files and labels are those of t.csv",
    ),
    "tables of something else": (
        also(
            FLAT,
            files(
                {
                    "prices.csv": "file,price\n1.png,3\n",
                    "labels.csv": "file,label\nnowhere.png,cat\n",
                    "broken.csv": b"file,label\n\xff\xfe",
                    "odd.jsonl": "[1, 2]\n",
                }
            ),
        ),
        CAT_DOG,
        8,
        2,
        "left out, as no image of a class: 3 .csv, 1 .jsonl",
    ),
    "a table with a split of other words": (
        also(
            tree("*7"),
            files(
                {
                    "t.csv": "id,label,split\n0,a,train\n1,b,train\n2,a,train\n3,b,train\n"
                    "4,a,holdout\n5,b,\n6,a,Holdout\n"
                }
            ),
        ),
        ("a", "b"),
        2,
        2,
        "t.csv: left out, by its column split: 2 holdout, 1 empty",
    ),
    "a class of classes": (
        tree("train/animals/cats*2", "train/animals/dogs*2", "train/cars*2", "test/cars*1"),
        ("animals", "cars"),
        6,
        1,
        "animals: one class with the images of cats/, dogs/; move them to ",
    ),
    "a table beside parts of class folders": (
        also(BOTH, files({"t.csv": "id,label\n8,0.5\n9,0.5\n"})),
        CAT_DOG,
        6,
        4,
        "",
    ),
    "a table with three parts": (
        also(
            tree("*5"),
            files({"t.csv": "id,label,split\n0,a,train\n1,b,train\n2,a,val\n3,a,test\n4,b,test\n"}),
        ),
        ("a", "b"),
        2,
        2,
        "t.csv: left out, by its column split: 1 val",
    ),
    "a table with sets of its own": (
        also(tree("*4"), files({"t.csv": "id,label,set\n0,a,7\n1,b,8\n2,a,7\n3,b,9\n"})),
        ("a", "b"),
        2,
        2,
        "files and labels are those of t.csv",
    ),
    "Parquet": (
        also(parquet("train.parquet", [0, 1, 1]), parquet("test.parquet", [1])),
        ("0", "1"),
        3,
        1,
        "without a test image: 0",
    ),
    "Parquet with other orders of names": (
        also(
            parquet("train-0.parquet", [0, 1], names=["a", "b"]),
            parquet("train-1.parquet", [0, 1], names=["b", "a"]),
            parquet("test.parquet", [0, 1], names=["a", "b"]),
        ),
        ("a", "b"),
        4,
        2,
        "",
    ),
    "Parquet, a test part of -1": (
        also(
            parquet("train.parquet", [0, 1, 1]),
            parquet("test.parquet", [-1] * 4),
            parquet("validation.parquet", [0, 1]),
        ),
        ("0", "1"),
        3,
        2,
        "left out test.parquet, where no image has a label",
    ),
    "numbers from 1": (
        also(parquet("train.parquet", [1, 2, 2]), parquet("test.parquet", [1, 2])),
        ("0", "1", "2"),
        3,
        2,
        "without a training image: 0",
    ),
    "archives": (
        also(tar("train.tar", samples([0, 1, 1])), tar("test.tar", samples([0, 1]))),
        ("0", "1"),
        3,
        2,
        "",
    ),
}

# What the folder holds, then words of the error.
REFUSED: dict[str, tuple[Build, str]] = {
    "nothing": (tree(), "no class folders"),
    "images alone": (tree("*5"), "no class folders"),
    "one class": (tree("cat*5"), "one class only"),
    "classes deeper down": (
        tree("data/images/cat*2", "data/images/dog*2"),
        "data/images may be meant",
    ),
    "an empty class": (
        tree("cat*5", "dog"),
        "dog: a class with no image; add some, or remove the folder",
    ),
    "only a test part": (tree("test/cat*2", "test/dog*2"), "has test/ but no train/"),
    "a test class of its own": (also(BOTH, tree("test/emu*1")), "emu: no class of"),
    "parts inside the classes": (
        tree("cat/train*3", "cat/val*3", "dog/train*3", "dog/val*3"),
        "hold the same folders, train, val",
    ),
    "a train station, and the same folders in all classes": (
        tree(*(f"{a}/{b}*3" for a in ("train station", "bus stop") for b in ("cam1", "cam2"))),
        "bus stop, train station hold the same folders, cam1, cam2",
    ),
    "two training parts": (
        tree("a_train/cat*1", "a_train/dog*1", "b_train/cat*1", "b_train/dog*1"),
        "may both be train/",
    ),
    "an empty file": (also(FLAT, files({"cat/x.png": b""})), "x.png: no image, or of an unknown"),
    "a cut file": (also(FLAT, files({"cat/x.png": png(3)[:-30]})), "x.png: unreadable"),
    "text called .png": (also(FLAT, files({"cat/x.png": "<html>"})), "x.png: no image, or of an"),
    "a dead link": (also(FLAT, link("cat/x.png", "nowhere.png")), "x.png: no such file"),
    "a FIFO": (also(FLAT, lambda root: os.mkfifo(root / "cat" / "x.png")), "neither a file nor"),
    "floating point": (
        also(FLAT, files({"cat/x.tif": png(1, kind="TIFF", mode="F")})),
        "floating-point pixels",
    ),
    "PostScript called .jpg": (
        also(FLAT, files({"cat/x.jpg": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"})),
        "x.jpg: no image, or of an unknown",
    ),
    "a table that leads out": (
        also(tree("*2"), files({"t.csv": "file,label\n0.png,a\n../../x.png,b\n"})),
        "is no file of",
    ),
    "a table whose first file is lost": (
        also(
            tree("images*2", "images_small*2"),
            files({"t.csv": "id,label\n../9,a\n9,a\n0,a\n1,b\n"}),
        ),
        "row 2: '../9' is no file of",
    ),
    "a table whose files are all lost": (
        also(tree("images*2", "images_small*2"), files({"t.csv": "id,label\n8,a\n9,b\n"})),
        "t.csv: no file of its first rows is there, as row 2: '8'; looked in",
    ),
    "a table with a column for each class": (
        also(tree("images*2"), files({"t.csv": "id,cat,dog\n0,1,1\n1,0,1\n"})),
        "t.csv: no column label but 2 of 0 and 1 (cat, dog)",
    ),
    "Parquet with lists of labels": (
        parquet("train.parquet", [[0], [0, 1]]),
        "label [0], expected one number or name; one label is trained for an image",
    ),
    "a row without a file": (
        also(tree("*2"), files({"m.jsonl": '{"file":"0","label":"a"}\n{"label":"b"}\n'})),
        "row 3: None is no file of",
    ),
    "a table of two minds": (
        also(tree("*2"), files({"t.csv": "file,label\n0.png,a\n0.png,b\n"})),
        "0.png is 'b', and before 'a'",
    ),
    "Parquet without labels": (
        lambda root: pq.write_table(pa.table({"image": [png(1)]}), root / "train.parquet"),
        "no column label",
    ),
    "Parquet that is none": (files({"train.parquet": "PAR1"}), "not readable as Parquet"),
    "Parquet with names and numbers": (
        also(parquet("train-0.parquet", [0, 1]), parquet("train-1.parquet", ["a", "b"])),
        "expected names or numbers",
    ),
    "only test files": (parquet("test.parquet", [0, 1]), "no training file among"),
    "an archive cut off": (
        also(tar("train.tar", samples([0, 1] * 9)), cut("train.tar", 5000)),
        "not readable as a tar archive",
    ),
    "an archive with two images of a name": (
        also(tar("train.tar", {"0.cls": b"0", "0.jpg": png(1, kind="JPEG"), "0.png": png(2)})),
        "at least 2 are needed",
    ),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOFTAUG_DATA", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_there_are_forty() -> None:
    assert len(READ) + len(REFUSED) >= 40


@pytest.mark.parametrize("name", READ)
def test_read(name: str, root: Path) -> None:
    build, classes, train, test, note = READ[name]
    build(root)
    data = load(str(root))
    assert (data.classes, len(data.train), len(data.test)) == (classes, train, test)
    assert note in "\n".join(data.notes)
    assert bool(data.notes) == bool(note)
    assert len(summary(data)) <= 20


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, root: Path) -> None:
    build, message = REFUSED[name]
    build(root)
    with pytest.raises(SoftaugError) as error:
        load(str(root))
    assert message in str(error.value)
    assert str(root) in str(error.value) or str(error.value)[:1].isalpha()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("build", [FLAT, BOTH], ids=["flat", "parts"])
def test_runs_inside_of_the_data_are_no_images(build: Build, root: Path) -> None:
    build(root)
    before = load(str(root))
    named = [str(one) for one in find_images([str(root)])]
    first = next(root.rglob("cat"))
    for folder in ("runs/first", "runs/compare/runs/second", first / "third", "fourth"):
        run = open_run(root / folder, Recipe(), before, {}, resume=False)
        tree("export/examples*2")(run.folder)
    files({"runs/compare/report.html": "x"})(root)
    streamed = root / "streams" / "first"
    files({"recipe.json": "{}", "metrics.jsonl": "", "a.png": "x"})(streamed)
    after = load(str(root))
    assert (after.classes, after.notes) == (before.classes, ())
    assert torch.equal(after.train.images, before.train.images)
    assert torch.equal(after.test.images, before.test.images)
    assert [str(one) for one in find_images([str(root)])] == named


def test_a_class_folder_with_a_recipe_is_none_of_a_run(root: Path) -> None:
    also(FLAT, files({"cat/recipe.json": "{}", "emu/recipe.json": "{}"}))(root)
    with pytest.raises(SoftaugError, match="emu: a class with no image"):
        load(str(root))
    (root / "emu" / "recipe.json").rename(root / "emu.json")
    (root / "emu").rmdir()
    assert load(str(root)).classes == CAT_DOG
