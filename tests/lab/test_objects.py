"""Visibility of the object: masks and boxes that come with the data begin the map `seen`.

Image i is 20 x 16 px and has the colour of `support.colour`; its object is the box OBJECT(i).
"""

import importlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support import CLASSES, colour, encoded, numbers
from torch import Tensor
from torchvision.transforms import v2

from softaug import CalibratedCurve, Chain, Crop, Flip, PowerCurve
from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.cli.app import main
from softaug_lab.data import Data, ImageSet, StreamOptions, hold_out, load
from softaug_lab.data.objects import object_map
from softaug_lab.data.sample import Boxes
from softaug_lab.recipes import Recipe
from softaug_lab.training.augmentation import build_arm, mean_confidence
from softaug_lab.training.batches import MemoryBatches, StreamBatches
from softaug_lab.training.pace import Pace
from softaug_lab.training.prepared import prepare
from softaug_lab.training.progress import State
from softaug_lab.training.simsiam import build_siamese
from softaug_lab.training.supervised import build_supervised

WIDTH, HEIGHT, SIDE = 20, 16, 8
CPU = Processes(torch.device("cpu"))
IMAGES = range(30)


def box(i: int) -> list[int]:
    """Left, top, width and height of the object in image i."""
    return [2 + i % 5, 1 + i % 7, 6, 5 + i % 4]


def mask(i: int) -> npt.NDArray[np.uint8]:
    left, top, width, height = box(i)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[top : top + height, left : left + width] = 1
    return pixels


def expected(i: int) -> Tensor:
    """The map of image i by torchvision's resize and crop."""
    pixels = 255.0 * torch.from_numpy(mask(i))[None].float()
    scaled: Tensor = v2.CenterCrop(SIDE)(v2.Resize(SIDE, antialias=True)(pixels))
    return scaled


def name(i: int) -> str:
    """The file of image i; each class has files of the same names."""
    return f"{'abc'[i % CLASSES]}/{i // CLASSES:02}.png"


def images(root: Path, part: str = "photos") -> Path:
    for i in IMAGES:
        path = root / part / name(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(i, (WIDTH, HEIGHT)))
    return root / part


def masks(root: Path) -> Path:
    """PNGs of the kinds that tools write: a number, black and white, a palette, colours, alpha."""
    for i in IMAGES:
        path = root / "masks" / name(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        marked = mask(i)
        grey = Image.fromarray(marked)
        palette = Image.fromarray(marked * 3, "P")
        palette.putpalette([255, 255, 255] * 4)
        clear = np.full((HEIGHT, WIDTH, 4), 77, np.uint8)
        clear[..., 3] = marked * 255
        kinds = [
            grey,
            Image.fromarray(marked * 255).convert("1"),
            palette,
            Image.fromarray(np.stack([marked * 0, marked * 9, marked * 0], axis=2)),
            Image.fromarray(clear),
        ]
        kinds[i % len(kinds)].save(path)
    return root / "masks"


def annotations() -> dict[str, list[dict[str, Any]]]:
    """Each box in two halves, as two annotations of the image."""
    found: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for i in reversed(IMAGES):
        size = {"width": WIDTH, "height": HEIGHT}
        found["images"].append({"id": 100 + i, "file_name": name(i)} | size)
        left, top, width, height = box(i)
        for x in (left, left + width // 2):
            half = [x, top, width / 2, height]
            found["annotations"].append({"image_id": 100 + i, "bbox": half})
    return found


def coco(root: Path) -> Path:
    (root / "boxes.json").write_text(json.dumps(annotations()))
    return root / "boxes.json"


def corners(i: int) -> list[int]:
    left, top, width, height = box(i)
    return [left, top, left + width, top + height]


def table_beside(root: Path) -> Path:
    """A table without labels, whose names have no ending, with two rows for each image."""
    rows = []
    for i in IMAGES:
        left, top, right, bottom = corners(i)
        halves = [left, top, left + 3, bottom], [left + 3, top, right, bottom]
        rows += [",".join(map(str, [name(i)[:-4], *half])) for half in halves]
    (root / "boxes.csv").write_text("\n".join(["image_id,xmin,ymin,xmax,ymax", *rows]))
    return root / "boxes.csv"


def tables_inside(root: Path) -> Path:
    """A table in the folder of each class, as GTSRB has them."""
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    for c in range(CLASSES):
        rows = [
            ";".join(map(str, [Path(name(i)).name, WIDTH, HEIGHT, *corners(i), c]))
            for i in IMAGES
            if i % CLASSES == c
        ]
        (root / "photos" / "abc"[c] / "GT.csv").write_text("\n".join([head, *rows]))
    return root / "photos"


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "masks": masks, "coco": coco, "table": table_beside, "tables": tables_inside,
}  # fmt: skip


def in_folder(kind: str) -> Callable[[Path], tuple[Path, Path]]:
    return lambda root: (images(root), FOLDERS[kind](root))


def metadata(root: Path) -> tuple[Path, Path]:
    """A folder with JSON lines, as `datasets` reads boxes."""
    lines = [
        {"file_name": name(i), "label": i % CLASSES, "objects": {"bbox": [box(i)]}} for i in IMAGES
    ]
    photos = images(root)
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return photos, photos


def labels_with_masks(root: Path) -> tuple[Path, Path]:
    """One table of files, labels and masks."""
    photos = images(root)
    masks(photos)
    rows = [f"{name(i)},{i % CLASSES},masks/{name(i)}" for i in IMAGES]
    (photos / "train.csv").write_text("\n".join(["file,label,mask", *rows]))
    return photos / "train.csv", photos / "train.csv"


def parquet(root: Path, column: str, cells: Sequence[Any]) -> tuple[Path, Path]:
    content = [{"bytes": encoded(i, (WIDTH, HEIGHT)), "path": None} for i in IMAGES]
    table = {"image": content, "label": [i % CLASSES for i in IMAGES], column: cells}
    pq.write_table(pa.table(table), root / "train.parquet", row_group_size=7)
    return root / "train.parquet", root / "train.parquet"


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


FORMS: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    **{kind: in_folder(kind) for kind in FOLDERS},
    "metadata": metadata,
    "mask column": labels_with_masks,
    "Parquet boxes": lambda root: parquet(root, "bbox", [box(i) for i in IMAGES]),
    "Parquet masks": lambda root: parquet(root, "mask", [{"bytes": png(mask(i))} for i in IMAGES]),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_image_gets_its_object(form: str, tmp_path: Path) -> None:
    source, objects = FORMS[form](tmp_path)
    data = load(str(source), size=SIDE, objects=str(objects), train_images=20)
    assert data.train.objects is not None
    assert data.train.objects.shape == (20, 1, SIDE, SIDE)
    of_image = torch.stack([expected(i) for i in numbers(data.train.images)])
    assert (data.train.objects - of_image).abs().max() <= 1.5  # uint8 is rounded
    held = hold_out(data, 0.2, seed=0).held_out
    assert held is not None
    assert held.objects is not None
    of_image = torch.stack([expected(i) for i in numbers(held.images)])
    assert (held.objects - of_image).abs().max() <= 1.5
    assert load(str(source), size=SIDE).train.objects is None


@pytest.mark.parametrize("form", ["masks", "Parquet boxes"])
def test_a_stream_carries_the_maps(form: str, tmp_path: Path) -> None:
    source, objects = FORMS[form](tmp_path)
    test = images(tmp_path, "others")
    options = StreamOptions(readers=2, buffer=8)
    data = load(str(source), size=SIDE, objects=str(objects), stream=options, test=str(test))
    assert data.stream is not None
    for batch in StreamBatches(data.stream, 6, 0, CPU).epoch(0, Flip(), 0):
        assert batch.objects is not None
        of_image = torch.stack([expected(i) for i in numbers(batch.images)])
        assert (batch.objects - of_image).abs().max() <= 1.5


def test_an_image_that_lies_on_its_side_goes_with_an_upright_mask(tmp_path: Path) -> None:
    photos, objects = FORMS["masks"](tmp_path)
    turned = Image.new("RGB", (HEIGHT, WIDTH), colour(0))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(photos / name(0), exif=exif)
    data = load(str(photos), size=SIDE, objects=str(objects))
    assert data.train.objects is not None
    at = numbers(data.train.images).index(0)
    assert (data.train.objects[at] - expected(0)).abs().max() <= 1.5


@pytest.fixture(scope="module")
def data() -> Data:
    """Noise of 12 x 12 px, each with an object of its own."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, 1, 12, 12), generator=generator).to(torch.uint8)
    objects = torch.zeros(24, 1, 12, 12, dtype=torch.uint8)
    for i in range(24):
        objects[i, 0, i % 6 : i % 6 + 3, i % 4 : i % 4 + 5] = 255
    objects[5] = 0
    labels = torch.arange(24) % CLASSES
    whole = ImageSet(pixels, labels)
    return Data("noise", ("a", "b", "c"), ImageSet(pixels, labels, objects), whole)


def epoch(
    recipe: Recipe, data: Data, processes: Processes = CPU, done: int = 0, block: int = 1
) -> tuple[Tensor, Tensor]:
    """All inputs and targets of an epoch after the first `done` batches."""
    objective = build_supervised(recipe, data, CPU)
    batches = MemoryBatches(data.train, recipe.batch_size, recipe.seed, processes)
    at = State(epoch=1, position=done)
    prepared = [*prepare(batches, objective, at, False, Pace(block=block), CPU)]
    return torch.cat([p.inputs for p in prepared]), torch.cat([p.targets for p in prepared])


def test_targets_follow_the_share_of_the_object_that_is_left(data: Data) -> None:
    """By moving the object's mask as if it were an image; without an object all of it counts."""
    recipe = Recipe(arm="soft@0.4", batch_size=8)
    inputs, targets = epoch(recipe, data)
    whole = replace(data, train=ImageSet(data.train.images, data.train.labels))
    pixels, by_area = epoch(recipe, whole)
    assert (inputs == pixels).all()
    shares = []
    assert data.train.objects is not None
    objective = build_supervised(recipe, data, CPU)
    moved = Chain([Flip(), Crop(0.4)])
    for batch in MemoryBatches(data.train, 8, 0, CPU).epoch(1, objective.transform(False), 0):
        assert batch.objects is not None
        empty = batch.objects.amax(dim=(1, 2, 3), keepdim=True) == 0
        whole_if_empty = torch.where(empty, 255, batch.objects)
        left, _ = moved.apply(whole_if_empty, None, batch.drawn)
        sums = [maps.flatten(1).float().sum(dim=1) for maps in (left, whole_if_empty)]
        shares.append(sums[0] / sums[1])
    share = torch.cat(shares)
    assert share.std() > 0.1
    torch.testing.assert_close(targets.max(dim=1).values, PowerCurve(2, chance=1 / 3)(share))
    assert not torch.allclose(targets, by_area, atol=0.05)


@pytest.mark.parametrize("arm", ["soft@0.4", "auto"])
def test_pixels_and_targets_are_keyed_to_the_sample(arm: str, data: Data) -> None:
    recipe = Recipe(
        arm=arm, batch_size=6, augment="crop(0.3, fill=other)" if arm == "auto" else None
    )
    inputs, targets = epoch(recipe, data)
    for others in (
        epoch(replace(recipe, batch_size=12), data),
        epoch(recipe, data, block=3),
        tuple(
            torch.cat([a, b])
            for a, b in zip(
                epoch(replace(recipe, batch_size=24), data, Processes(CPU.device, 0, 2)),
                epoch(replace(recipe, batch_size=24), data, Processes(CPU.device, 1, 2)),
                strict=True,
            )
        ),
    ):
        assert (others[0] == inputs).all()
        assert (others[1] == targets).all()
    later = epoch(recipe, data, done=2)
    assert (later[0] == inputs[12:]).all()
    assert (later[1] == targets[12:]).all()


def test_one_confidence_for_all_is_the_mean_over_the_objects(data: Data) -> None:
    assert data.train.objects is not None
    curve = PowerCurve(2, chance=1 / 3)
    whole = mean_confidence(Crop(0.3), curve, 12, 12)
    full = torch.full_like(data.train.objects, 255)
    assert mean_confidence(Crop(0.3), curve, 12, 12, full) == pytest.approx(whole, abs=0.005)
    # An object of one pixel in the corner is wholly in the frame or wholly out of it.
    point = torch.zeros_like(full)
    point[:, :, 0, 0] = 255
    drawn = Crop(0.3).draw(20_000, 12, 12, torch.Generator().manual_seed(1))
    inside = [drawn[axis] >= 0 for axis in ("tx", "ty")]
    kept = (inside[0] & inside[1]).float().mean().item()
    found = mean_confidence(Crop(0.3), curve, 12, 12, point)
    assert found == pytest.approx(kept + (1 - kept) / 3, abs=0.01)
    assert found < whole - 0.2
    arm = build_arm(Recipe(arm="harsh-constant@0.3"), 3, 12, 12, point)
    assert f"{found:.4f}"[:5] in repr(arm.curve)


def test_pairs_of_views_are_weighed_by_their_objects(data: Data) -> None:
    recipe = Recipe(arm="simsiam-soft", batch_size=8)

    def weights(train: ImageSet) -> Tensor:
        made = replace(data, train=train)
        objective = build_siamese(recipe, made, CPU)
        batches = MemoryBatches(train, 8, 0, CPU).epoch(0, objective.transform(False), 0)
        halves = (objective.inputs_and_targets(batch, False) for batch in batches)
        return torch.cat([objective.of_batch(*both, 0, False)[1] for both in halves])

    whole, of_object = weights(ImageSet(data.train.images, data.train.labels)), weights(data.train)
    assert (whole - of_object).abs().mean() > 0.05


def test_a_learned_curve_observes_the_visibility_of_objects(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed: list[Tensor] = []
    monkeypatch.setattr(CalibratedCurve, "observe", lambda *given: observed.append(given[3]))
    recipe = Recipe(arm="auto(targets=learned)", augment="crop(0.4)", epochs=2, batch_size=8)
    for held in (data.train, ImageSet(data.train.images, data.train.labels)):
        objective = build_supervised(recipe, replace(data, held_out=held), CPU)
        objective.next_epoch()
    of_object, whole = (visibility[12:] for visibility in observed)
    assert of_object.shape == (12,)
    assert (whole - of_object).abs().mean() > 0.05


# Rounded coordinates, all of the image, less than a pixel, and boxes over boxes.
BORDERLINE: dict[str, tuple[list[Any], list[tuple[int, ...]]]] = {
    "rounded": ([[-0.4, 2, 5.2, 6]], [(0, 2, 5, 8)]),
    "whole": ([[0, 0, WIDTH, HEIGHT + 0.6]], [(0, 0, WIDTH, HEIGHT)]),
    "tiny": ([[19.7, 5.1, 0.2, 0.2]], [(19, 5, 20, 6)]),
    "over": ([[1, 1, 5, 5], [3, 3, 6, 6]], [(1, 1, 6, 6), (3, 3, 9, 9)]),
}


@pytest.mark.parametrize("what", BORDERLINE)
def test_boxes_are_drawn_to_whole_pixels(what: str) -> None:
    boxes, corners = BORDERLINE[what]
    marked = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.uint8)
    for left, top, right, bottom in corners:
        marked[0, top:bottom, left:right] = 255
    found = object_map(Boxes(tuple(boxes), "it"), (WIDTH, HEIGHT), HEIGHT, WIDTH)
    assert torch.equal(found, marked)


def with_mask(pixels: npt.NDArray[np.uint8]) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        Image.fromarray(pixels).save(masks(root) / name(4))
        return root / "masks"

    return write


def all_masks(value: int) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        masks(root)
        for i in IMAGES:
            pixels = np.full((HEIGHT, WIDTH), value, np.uint8)
            Image.fromarray(pixels).save(root / "masks" / name(i))
        return root / "masks"

    return write


def with_box(values: Any) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        found = annotations()
        found["annotations"][-1]["bbox"] = values
        (root / "boxes.json").write_text(json.dumps(found))
        return root / "boxes.json"

    return write


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        found = annotations()
        change(found)
        (root / "boxes.json").write_text(json.dumps(found))
        return root / "boxes.json"

    return write


def without_mask(root: Path) -> Path:
    (masks(root) / name(4)).unlink()
    return root / "masks"


def broken_mask(root: Path) -> Path:
    (masks(root) / name(4)).write_bytes(b"no PNG")
    return root / "masks"


def text(content: str, file: str = "boxes.json") -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / file).write_text(content)
        return root / file

    return write


def same_names(found: dict[str, Any]) -> None:
    found["images"][3]["file_name"] = found["images"][4]["file_name"]


def one_without_folder(found: dict[str, Any]) -> None:
    """Give 00.png without a folder, and for one of the three classes alone."""
    found["images"][-1]["file_name"] = "00.png"
    del found["annotations"][-4:-2]
    del found["images"][-2]


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing path": (
        lambda root: root / "none", "none: no such file or folder; expected a folder of masks"
    ),
    "missing mask": (
        without_mask,
        r"masks: 1 unmarked image: b/01.png: no mask .*b/01.png; --max-unreadable 0.034 would",
    ),
    "broken mask": (broken_mask, "b/01.png: mask .*b/01.png no image"),
    "mask of another size": (
        with_mask(np.ones((8, 9), np.uint8)), "b/01.png is 9 x 8 px and the image 20 x 16"
    ),
    "all masks empty": (all_masks(0), "no image has an object; masks are nonzero on the object"),
    "all masks full": (all_masks(2), "all images are object; masks are 0 outside"),
    "box outside": (
        with_box([18, 2, 6, 5]),
        r"a/00.png: .*boxes.json has a box of 6 x 5 px at \(18, 2\), and the image has 20 x 16 px; "
        "expected left, top, width",
    ),
    "box in shares": (with_box([0.1, 0.2, 0.5, 0.5]), "a box of 0.5 x 0.5 px at"),
    "box of no width": (with_box([3, 2, 0, 5]), "a box of 0 x 5 px at"),
    "box of three numbers": (with_box([3, 2, 5]), r"has the box \[3, 2, 5\]; expected left, top"),
    "box of words": (with_box(["a", "b", "c", "d"]), r"has the box \['a'"),
    "box not finite": (with_box([float("nan"), 2, 5, 5]), "a box of 5 x 5 px at .nan, 2."),
    "image missing from the JSON": (
        changed(lambda found: found["images"][-1].update(file_name="zz.png")),
        r"boxes.json: 1 unmarked image: a/00.png: not in .*boxes.json; --max-unreadable",
    ),
    "another image size": (
        changed(lambda found: found["images"][-1].update(width=40, height=32)),
        "has boxes for 40 x 32 px, and the image has 20 x 16; scale the boxes",
    ),
    "one name for two images": (
        changed(same_names), "boxes.json: 1 fault: file_name 'b/08.png' of two images"
    ),
    "annotation of no image": (
        changed(lambda found: found["annotations"][0].update(image_id=7)),
        "no boxes as COCO has them .*an annotation of image_id 7, which no image has.; expected",
    ),
    "no JSON": (text("{"), "boxes.json: no boxes as COCO has them"),
    "JSON of another kind": (text('["a"]'), "boxes.json: no boxes as COCO has them"),
    "table without boxes": (
        text("file,x\na/00.png,3", "boxes.csv"), "boxes.csv: no columns of masks or boxes, such as"
    ),
    "a file of another kind": (text("x", "boxes.xml"), "boxes.xml: expected a folder of masks"),
    "data without columns": (lambda root: root / "photos", "photos: expected a folder of masks"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_in_one_line(what: str, tmp_path: Path) -> None:
    photos = images(tmp_path)
    write, words = WRONG[what]
    with pytest.raises(SoftaugError, match=words) as caught:
        load(str(photos), size=SIDE, objects=str(write(tmp_path)))
    assert "\n" not in str(caught.value)


def test_memory_is_checked_for_images_and_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[tuple[int, int, int]] = []

    def check(source: str, n: int, shape: tuple[int, int, int]) -> list[str]:
        del source, n
        checked.append(shape)
        return []

    monkeypatch.setattr(importlib.import_module("softaug_lab.data.load"), "check_memory", check)
    source, objects = FORMS["coco"](tmp_path)
    load(str(source), size=SIDE, objects=str(objects))
    load(str(source), size=SIDE)
    assert checked == [(4, SIDE, SIDE), (3, SIDE, SIDE)]


def test_masks_that_are_read_as_a_class_are_refused(tmp_path: Path) -> None:
    photos = images(tmp_path)
    with pytest.raises(UsageError, match=r"masks/a/00.png is a training image; move the masks"):
        load(str(photos), size=SIDE, objects=str(masks(photos)))


def test_a_table_names_masks_of_its_own_folder_only(tmp_path: Path) -> None:
    photos, table = labels_with_masks(tmp_path)
    written = table.read_text()
    other = written.replace("masks/b/01.png", "../masks/b/01.png")
    assert other != written
    table.write_text(other)
    with pytest.raises(SoftaugError, match=r"row 6: mask '../masks/b/01.png' is no file of"):
        load(str(photos), size=SIDE, objects=str(table))
    table.write_text(written.replace("masks/b/01.png", ""))
    notes = load(str(photos), size=SIDE, objects=str(table), seed=1).notes
    assert any("1 of 24 training images without an object" in note for note in notes)


def test_names_are_paths_or_their_ends(tmp_path: Path) -> None:
    """A longer path than the data have, or a shorter one that no two images share."""

    def rename(found: dict[str, Any]) -> None:
        for image in found["images"]:
            image["file_name"] = f"my/photos/{image['file_name']}".replace("/", "\\")
        found["images"][-1]["file_name"] = "00.png"

    photos, boxes = images(tmp_path), changed(rename)(tmp_path)
    data = load(str(photos), size=SIDE, objects=str(boxes))
    assert data.train.objects is not None
    of_image = torch.stack([expected(i) for i in numbers(data.train.images)])
    assert (data.train.objects - of_image).abs().max() <= 1.5
    boxes = changed(one_without_folder)(tmp_path)
    with pytest.raises(SoftaugError, match=r"00.png may be a/00.png or b/00.png; name it by its f"):
        load(str(photos), size=SIDE, objects=str(boxes))


@pytest.mark.parametrize("wrong", ["missing mask", "mask of another size", "box outside"])
def test_images_with_a_wrong_mask_can_be_left_out(wrong: str, tmp_path: Path) -> None:
    photos, objects = images(tmp_path), WRONG[wrong][0](tmp_path)
    data = load(str(photos), size=SIDE, objects=str(objects), max_unreadable=0.04)
    assert data.train_images + len(data.test) == 29
    assert any("1 unreadable image was left out, such as " in note for note in data.notes)
    assert data.train.objects is not None
    of_image = torch.stack([expected(i) for i in numbers(data.train.images)])
    assert (data.train.objects - of_image).abs().max() <= 1.5


def test_other_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="demo is without masks and boxes; leave out --objects"):
        load("demo", objects=str(tmp_path))
    source, _ = FORMS["Parquet boxes"](tmp_path)
    with pytest.raises(UsageError, match="from the columns of Parquet files"):
        load(str(source), objects=str(masks(tmp_path)))
    pq.write_table(pq.read_table(source).drop_columns("bbox"), source)
    with pytest.raises(
        SoftaugError, match="no column of masks or boxes, such as mask, bbox or xmin"
    ):
        load(str(source), objects=str(source))


def test_an_image_without_an_object_counts_whole_and_is_said(tmp_path: Path) -> None:
    photos = images(tmp_path)
    objects = with_mask(np.zeros((HEIGHT, WIDTH), np.uint8))(tmp_path)
    notes = load(str(photos), size=SIDE, objects=str(objects), seed=1).notes
    assert any("visibility is that of the object, which covers" in note for note in notes)
    assert any("1 of 24 training images without an object in the square" in note for note in notes)


def test_a_run_with_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, refused without its objects, and evaluated after the masks are gone."""
    photos, objects = FORMS["masks"](tmp_path)
    run = tmp_path / "run"
    command = ["train", str(photos), "--size", "16", "--epochs", "1", "--run", str(run)]
    command += ["--batch-size", "8"]
    main([*command, "--objects", str(objects)])
    report = (run / "report.html").read_text()
    assert "visibility is that of the object" in report
    assert "the share of the object that can still be" in report
    assert "the dotted line" not in report
    shares = json.loads((run / "recipe.json").read_text())["data"]["objects"]
    assert shares > 0
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--resume"])
    assert exit_.value.code == 2
    assert f"objects was {shares}, now None" in capsys.readouterr().err
    for path in sorted(objects.rglob("*.png")):
        path.unlink()
    main(["evaluate", str(run)])
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", str(run), "--objects", str(objects)])
    assert exit_.value.code == 2
    assert "--objects is for training" in capsys.readouterr().err


def test_preview_shows_the_visibility_of_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softaug_lab import report

    drawn: list[list[str]] = []
    original = report.sample_sheet

    def sheet(pixels: Tensor, captions: list[str]) -> Any:
        drawn.append(captions)
        return original(pixels, captions)

    monkeypatch.setattr(report, "sample_sheet", sheet)
    photos, objects = FORMS["masks"](tmp_path)
    command = ["preview", str(photos), "--augment", "crop(0.3)", "--out", str(tmp_path / "a.png")]
    command += ["--size", "16"]
    main(command)
    main([*command, "--objects", str(objects)])
    area, of_object = drawn
    assert len(area) == len(of_object) == 16
    assert [caption.split("\n")[0] for caption in area] == [
        caption.split("\n")[0] for caption in of_object
    ]
    assert area != of_object
