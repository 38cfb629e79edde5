"""Streams: each image once per epoch, on any number of processes, resumed anywhere."""

import http.server
import io
import json
import os
import re
import shutil
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import CLASSES, contents, encoded, ended, folder, fork, numbers, parquet, tar
from test_engine import by_fork

from softaug import Crop
from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import keyed
from softaug_lab.cli.app import main
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.held_out import hold_out, share_to_hold_out
from softaug_lab.data.load import load, open_stream
from softaug_lab.data.sample import Sample, Unreadable
from softaug_lab.data.shards import OneFile, Part, Row, count_labels
from softaug_lab.data.sources import Listing
from softaug_lab.data.sources.parquet import RowGroup, list_files
from softaug_lab.data.sources.tar import Tar, list_archives
from softaug_lab.data.stream import Stream, StreamOptions
from softaug_lab.models.classifier import load_model
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import open_run
from softaug_lab.training.batches import StreamBatches
from softaug_lab.training.loop import fit
from softaug_lab.training.pace import Pace
from softaug_lab.training.progress import Progress

CPU = Processes(torch.device("cpu"))
OPTIONS = StreamOptions(readers=4, buffer=24)
TRAIN, TEST = range(157), range(200, 212)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOFTAUG_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def streamed(source: Path | str, **options: Any) -> Data:
    return load(str(source), size=6, stream=OPTIONS, **options)


def fed(data: Data, epoch: int = 0, done: int = 0, batch_size: int = 16) -> list[list[int]]:
    """Return the numbers of the images in each batch of an epoch."""
    assert data.stream is not None
    feed = StreamBatches(data.stream, batch_size, 0, CPU)
    return [numbers(batch.images) for batch in feed.epoch(epoch, Crop(0.1), done)]


def in_parquet(root: Path, corrupt: tuple[int, ...] = ()) -> str:
    parquet(root / "train-0.parquet", TRAIN[:90], corrupt=corrupt)
    parquet(root / "train-1.parquet", TRAIN[90:], corrupt=corrupt)
    parquet(root / "test.parquet", TEST)
    return str(root)


def in_tars(root: Path, corrupt: tuple[int, ...] = ()) -> str:
    for shard in range(8):
        tar(root / f"train-{shard}.tar", TRAIN[shard * 20 : (shard + 1) * 20], corrupt)
    tar(root / "test-0.tar", TEST)
    return str(root)


def in_folders(root: Path, corrupt: tuple[int, ...] = ()) -> str:
    folder(root / "train", TRAIN, corrupt)
    folder(root / "test", TEST)
    return str(root)


def in_tables(root: Path, corrupt: tuple[int, ...] = ()) -> str:
    (root / "images").mkdir()
    for part, images in (("train", TRAIN), ("test", TEST)):
        rows = "".join(f"{i:05}.png,{'abc'[i % CLASSES]}\n" for i in images)
        (root / f"{part}.csv").write_text(f"file_name,label\n{rows}")
        for i, content in zip(images, contents(images, corrupt), strict=True):
            (root / "images" / f"{i:05}.png").write_bytes(content)
    return str(root)


def on_the_hub(root: Path, corrupt: tuple[int, ...] = ()) -> str:
    pytest.importorskip("datasets")
    return f"hf:{in_parquet(root, corrupt)}"


def as_imagenet(root: Path, corrupt: tuple[int, ...] = ()) -> str:
    """Write ImageNet's files: an archive of an archive per class, the test images, their labels."""

    def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))

    ids = ["n03", "n01", "n02"]  # of the classes 1, 2, 3 of the kit, not in the order of their ids
    content = {i: b"no JPEG" if i in corrupt else encoded(i) for i in (*TRAIN, *TEST)}
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as outer:
        for c, wnid in enumerate(["n01", "n02", "n03"]):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as archive:
                for i in TRAIN[c::3]:
                    add(archive, f"{wnid}_{i}.JPEG", content[i])
            add(outer, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as archive:
        for place, i in enumerate(TEST, 1):
            add(archive, f"ILSVRC2012_val_{place:08}.JPEG", content[i])
    synsets = np.array(
        [(i + 1, wnid, f"word {wnid}") for i, wnid in enumerate(ids)],
        dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")],
    )
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": synsets})
    truth = "".join(f"{ids.index(f'n0{i % 3 + 1}') + 1}\n" for i in TEST)
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as kit:
        add(kit, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        name = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
        add(kit, name, truth.encode())
    return str(root)


FORMS = [in_parquet, in_tars, in_folders, in_tables, on_the_hub, as_imagenet]
Form = Callable[..., str]


class Counted:
    """A shard of made-up images, named by their numbers."""

    def __init__(self, images: range) -> None:
        self.images, self.name = images, f"images from {images.start}"

    def labels(self) -> Iterator[tuple[str, int]]:
        return ((str(i), i % CLASSES) for i in self.images)

    def read(self, start: int) -> Iterator[Any]:
        return (Row(str(i), encoded(i % 200), i % CLASSES) for i in self.images[start:])


def stream_of(sizes: list[int], readers: int, buffer: int) -> Stream:
    ends = np.cumsum([0, *sizes]).tolist()
    shards = [Counted(range(a, b)) for a, b in pairwise(ends)]
    counts = torch.tensor(sizes)
    part = Part(shards, counts, torch.tensor([sum(sizes)]), dict(zip("abc", range(3), strict=True)))
    return Stream(part, 6, StreamOptions(readers, buffer), 0.0)


def streams_data(sizes: list[int], classes: int = CLASSES) -> Data:
    """Data whose stream has images of made-up shards; their classes take turns."""
    stream = stream_of(sizes, 4, 40)
    per_class = torch.arange(sum(sizes)).remainder(classes).bincount()
    part = replace(stream.part, per_class=per_class)
    few = ImageSet(torch.zeros(4, 3, 6, 6, dtype=torch.uint8), torch.arange(4))
    words = tuple(str(c) for c in range(classes))
    return Data("made-up", words, few, few, stream=replace(stream, part=part))


def names(samples: Iterator[Sample | Unreadable]) -> list[int]:
    return [int(sample.name) for sample in samples if isinstance(sample, Sample)]


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 0),
    readers=st.integers(1, 5),
    buffer=st.integers(1, 30),
    epoch=st.integers(0, 3),
    done=st.integers(0, 12),
)
def test_readers_read_each_image_once_and_can_begin_anywhere(
    sizes: list[int], readers: int, buffer: int, epoch: int, done: int
) -> None:
    stream = stream_of(sizes, readers, buffer)
    read = [names(stream.reader(reader, 0, epoch)) for reader in range(readers)]
    assert sorted(image for part in read for image in part) == list(range(sum(sizes)))
    assert max(map(len, read)) - min(map(len, read)) <= 1
    for reader, whole in enumerate(read):
        assert names(stream.reader(reader, 0, epoch, done)) == whole[done:]


def test_an_epoch_is_shuffled_by_seed_and_epoch() -> None:
    for sizes, buffer in (([10] * 20, 1), ([200], 50)):  # shuffled by shards alone, by blocks alone
        stream = stream_of(sizes, 1, buffer)
        orders = [names(stream.reader(0, seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
        assert len({tuple(order) for order in orders}) == 3
    stream = stream_of([10] * 20, 1, 50)
    orders = [names(stream.reader(0, seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    # Shards come in any order, and a block of 50 mixes five of them.
    assert all(len({image // 10 for image in order[:50]}) == 5 for order in orders)
    places = np.array([order.index(image) for order in orders for image in range(200)])
    assert abs(np.corrcoef(places, np.tile(np.arange(200), 3))[0, 1]) < 0.3
    neighbours = [abs(a - b) for order in orders for a, b in pairwise(order)]
    assert np.mean([distance == 1 for distance in neighbours]) < 0.1


def test_the_buffer_is_full_and_never_exceeded() -> None:
    stream = stream_of([10] * 20, 4, 40)
    taken = 0
    read: list[int] = []
    for shard in stream.part.shards:
        original = shard.read

        def noted(start: int, original: Any = original) -> Iterator[Any]:
            for row in original(start):
                read.append(1)
                yield row

        shard.read = noted  # type: ignore[method-assign]
    for _ in stream.reader(1, 0, 0):
        taken += 1
        assert len(read) == min(taken + 9, 50)
    assert taken == len(read) == 50


@pytest.mark.parametrize("form", FORMS)
def test_held_out_images_are_those_no_epoch_reads(form: Form, tmp_path: Path) -> None:
    source = form(tmp_path)
    data = streamed(source, held_out=0.1)
    assert data.held_out is not None
    assert data.stream is not None
    held = numbers(data.held_out.images)
    read = [i for batch in fed(data) for i in batch]
    assert len(held) in range(8, 30)
    assert sorted(held + read) == list(TRAIN)
    assert len(data.stream) == data.train_images == len(read)
    assert int(data.stream.part.per_class.sum()) == len(data.stream)
    again = streamed(source, held_out=0.1)
    assert again.held_out is not None
    assert torch.equal(again.held_out.images, data.held_out.images)
    assert fed(again, epoch=2, done=3) == fed(data, epoch=2, done=3) == fed(data, epoch=2)[3:]


def test_a_class_without_images_stops_no_holding_out() -> None:
    data = streams_data([500] * 20)
    assert data.stream is not None
    counts = torch.cat([data.stream.part.per_class, torch.zeros(1, dtype=torch.int64)])
    stream = replace(data.stream, part=replace(data.stream.part, per_class=counts))
    data = replace(data, classes=(*data.classes, "empty"), stream=stream)
    assert share_to_hold_out(data) == 0.05
    assert hold_out(data, 0.05, seed=0).held_out is not None


def test_no_shard_is_read_to_its_end_for_held_out_images() -> None:
    data = replace(streams_data([100] * 5), notes=("before",))
    assert data.stream is not None
    read: list[str] = []
    for shard in data.stream.part.shards:
        original = shard.read

        def noted(start: int, original: Any = original) -> Iterator[Any]:
            for row in original(start):
                read.append(row.name)
                yield row

        shard.read = noted  # type: ignore[method-assign]
    held = hold_out(data, 0.05, seed=0)
    assert held.held_out is not None
    assert len(held.held_out) == len(read) == 25
    assert [int(name) % 100 for name in read] == [*range(5)] * 5
    assert held.notes == ("before",)


@pytest.mark.parametrize(
    ("sizes", "classes", "share"),
    [
        ([399, 3600], 3, 0.0),
        ([400, 3600], 3, 0.05),
        ([1] * 4000, 3, 0.05),
        ([4000], 201, 0.0),  # 19 images of some classes
        ([100_000, 100_000], 3, 0.025),
    ],
)
def test_share_of_a_stream_to_hold_out(sizes: list[int], classes: int, share: float) -> None:
    data = streams_data(sizes, classes)
    assert share_to_hold_out(data) == share
    if share and len(sizes) > 1000:
        held = hold_out(data, share, seed=0).held_out
        assert held is not None
        assert abs(len(held) - share * sum(sizes)) < 5 * (sum(sizes) * share) ** 0.5


def test_counting_labels_stops_at_the_first_error() -> None:
    read: list[str] = []

    class Noted:
        name = ""

        def labels(self) -> list[tuple[str, int]]:
            read.append(self.name)
            if self.name == "broken":
                raise SoftaugError("broken")
            time.sleep(0.001)
            return []

        def read(self, _: int) -> Iterator[Any]:
            return iter([])

    broken = Noted()
    broken.name = "broken"
    shards = [*[Noted()] * 5, broken, *[Noted()] * 4000]
    with pytest.raises(SoftaugError, match="broken"):
        count_labels([shards], None)
    assert len(read) < 2000


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_streamed_whole(form: Form, tmp_path: Path) -> None:
    data = streamed(form(tmp_path))
    epochs = [fed(data, epoch) for epoch in range(2)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [16] * 9 + [13]
        assert sorted(image for batch in batches for image in batch) == list(TRAIN)
    assert epochs[0] != epochs[1]
    assert fed(data, 1, done=7) == epochs[1][7:]
    assert numbers(data.test.images) == list(TEST) or form is in_folders
    assert data.test.labels.tolist() == [i % CLASSES for i in numbers(data.test.images)]
    assert (data.train_images, data.num_classes) == (157, CLASSES)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_can_be_held_in_memory(form: Form, tmp_path: Path) -> None:
    data = load(form(tmp_path))
    assert data.stream is None
    assert sorted(numbers(data.train.images)) == list(TRAIN)
    assert data.train.labels.tolist() == [i % CLASSES for i in numbers(data.train.images)]


@pytest.mark.parametrize("form", FORMS)
def test_unreadable_images_are_named_and_left_out(form: Form, tmp_path: Path) -> None:
    with pytest.raises(SoftaugError, match="unreadable"):
        load(form(tmp_path, (3, 77)))
    data = streamed(str(tmp_path) if form is not on_the_hub else f"hf:{tmp_path}")
    assert data.stream is not None
    batches = list(StreamBatches(data.stream, 16, 0, CPU).epoch(0, Crop(0.1), 0))
    images = [image for batch in batches for image in numbers(batch.images)]
    assert sorted(images) == [i for i in TRAIN if i not in (3, 77)]
    faults = [fault for batch in batches for fault in batch.unreadable]
    assert len(faults) == 2
    assert all("no image, or of an unknown format" in fault for fault in faults)
    assert sum(batch.count for batch in batches) == 155
    for batch in batches:
        assert batch.labels.tolist() == [i % CLASSES for i in numbers(batch.images)]


def test_draws_stay_with_their_images(tmp_path: Path) -> None:
    """An unreadable image changes no other image's random draws."""
    both = []
    for place, corrupt in enumerate([(), (3, 77)]):
        (tmp_path / str(place)).mkdir()
        data = streamed(in_parquet(tmp_path / str(place), corrupt))
        assert data.stream is not None
        drawn = {}
        for batch in StreamBatches(data.stream, 16, 0, CPU).epoch(0, Crop(0.3), 0):
            for i, image in enumerate(numbers(batch.images)):
                drawn[image] = [values[i].tolist() for values in batch.drawn.values()]
        both.append(drawn)
    assert both[1] == {image: one for image, one in both[0].items() if image not in (3, 77)}


def test_fills_show_readable_images_of_the_same_reader(tmp_path: Path) -> None:
    unreadable = (3, 77, *range(20, 60))
    folders = [tmp_path / "whole", tmp_path / "faulty"]
    for made in folders:
        made.mkdir()
    planned = fed(streamed(in_parquet(folders[0])))
    data = streamed(in_parquet(folders[1], unreadable), max_unreadable=1)
    assert data.stream is not None
    crop, alone = Crop(0.3, fill="other"), 0
    batches = StreamBatches(data.stream, 16, 0, CPU).epoch(0, crop, 0)
    for position, (batch, whole) in enumerate(zip(batches, planned, strict=True)):
        drawn = crop.draw(len(whole), 6, 6, keyed(0, 0, position, "augment"))["donor"].tolist()
        found = dict(
            zip(
                numbers(batch.images),
                zip(batch.drawn["donor"], numbers(batch.drawn["others"]), strict=True),
                strict=True,
            )
        )
        first = 0
        for reader in range(4):
            left = len(data.stream.stretch(reader)) - 4 * position
            part = whole[first : first + min(4, left)]
            for i, image in enumerate(part):
                if image not in found:
                    assert image in unreadable
                    continue
                begin = i + 1 + drawn[first + i] % (len(part) - 1)
                donors = [part[(begin + k) % len(part)] for k in range(len(part))]
                usable = [d for d in donors if d not in (image, *unreadable)]
                if usable:
                    assert found[image] == (drawn[first + i], usable[0])
                else:
                    assert found[image][0] == -1
                    alone += 1
            first += len(part)
    assert alone


QUICK = Recipe(epochs=2, batch_size=16, precision="fp32", lr=0.02)


def test_above_the_rate_the_run_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = in_parquet(tmp_path, (3, 77, 120))
    data = streamed(source, max_unreadable=2 / 157)
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=False)
    with pytest.raises(SoftaugError, match=r"3 of 157 images are unreadable so far.*row \d+"):
        fit(QUICK, data, run, CPU, lambda _: None)
    assert caplog.text.count("left out: train-") == 3
    # Three are allowed: the same run goes on, and counts them in each epoch.
    data = streamed(source, max_unreadable=0.02)
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=True)
    fit(QUICK, data, run, CPU, lambda _: None)
    assert [epoch["unreadable_images"] for epoch in run.history()] == [3, 3]


def test_a_batch_without_images_ends_the_run(tmp_path: Path) -> None:
    data = streamed(in_parquet(tmp_path, tuple(TRAIN[:90])), max_unreadable=1)
    assert data.stream is not None
    feed = StreamBatches(replace(data.stream, options=StreamOptions(2, 200)), 2, 0, CPU)
    with pytest.raises(SoftaugError, match="of 2 images of a batch are unreadable, too many"):
        list(feed.epoch(0, Crop(0.1), 0))


class CutError(Exception):
    """Stands for a crash."""


@pytest.mark.parametrize(
    "form",
    [
        form if form in (in_parquet, in_tars) else pytest.param(form, marks=pytest.mark.slow)
        for form in FORMS
    ],
)
def test_an_interrupted_stream_resumes_with_the_same_weights(form: Form, tmp_path: Path) -> None:
    source = form(tmp_path)

    def cut(progress: Progress) -> None:
        if progress.step == 14:  # in the second epoch; the checkpoint is of its begin or after
            raise CutError

    def finish(name: str, resume: bool, watch: Callable[[Progress], None]) -> dict[str, Any]:
        data = streamed(source)  # read anew, as another process would
        run = open_run(tmp_path / name, QUICK, data, {}, resume)
        fit(QUICK, data, run, CPU, watch, pace=Pace(seconds=0))
        return load_model(run.model_file).state_dict()

    whole = finish("whole", False, lambda _: None)
    steps: list[int] = []
    with pytest.raises(CutError):
        finish("cut", False, cut)
    resumed = finish("cut", True, lambda progress: steps.append(progress.step))
    assert steps == list(range(14, 21))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_that_resumes_with_a_lower_rate(tmp_path: Path) -> None:
    """The resumed run stops although its first batch has no unreadable image."""

    def cut(progress: Progress) -> None:
        if progress.step == 10:
            raise CutError

    source = in_parquet(tmp_path, (3, 77, 120))
    data = streamed(source, max_unreadable=0.02)
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=False)
    with pytest.raises(CutError):
        fit(QUICK, data, run, CPU, cut, pace=Pace(seconds=0))
    data = streamed(source, max_unreadable=0.0)
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=True)
    with pytest.raises(SoftaugError, match=r"of 157 images are unreadable so far"):
        fit(QUICK, data, run, CPU, lambda _: None)


def test_another_order_is_another_run(tmp_path: Path) -> None:
    data = streamed(in_parquet(tmp_path))
    open_run(tmp_path / "run", QUICK, data, {}, resume=False).save_history([])
    other = load(str(tmp_path), size=6, stream=StreamOptions(readers=2, buffer=24))
    with pytest.raises(UsageError, match="readers was 4, now 2"):
        open_run(tmp_path / "run", QUICK, other, {}, resume=True)


def test_memory_is_bounded_while_the_data_are_larger(tmp_path: Path) -> None:
    """324 MB of images need less than half of that: row groups, the buffer, batches ahead."""
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)

    def bitmaps(images: range) -> Iterator[bytes]:
        for i in images:
            content = io.BytesIO()
            Image.fromarray(np.roll(noise, i, axis=0)).save(content, format="BMP")
            yield content.getvalue()

    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    for name, n in (("train", 1200), ("test", 20)):
        with pq.ParquetWriter(tmp_path / f"{name}.parquet", schema, compression="none") as file:
            for start in range(0, n, 20):
                images = range(start, start + 20)
                columns = {"image": list(bitmaps(images)), "label": [i % 2 for i in images]}
                file.write_table(pa.table(columns, schema=schema))
    assert (tmp_path / "train.parquet").stat().st_size > 300e6

    def memory(kind: str) -> float:
        found = re.search(kind + r":\s+(\d+)", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) / 1024

    def stream() -> None:
        data = load(str(tmp_path), size=16, stream=StreamOptions(readers=4, buffer=64))
        assert data.stream is not None
        before = memory("VmRSS")
        batches = StreamBatches(data.stream, 16, 0, CPU)
        images = sum(len(batch.labels) for batch in batches.epoch(0, Crop(0.1), 0))
        sys.stderr.write(f"{images} {memory('VmHWM') - before}")

    # In a process whose peak so far is what it begins with.
    said = tmp_path / "said"
    assert ended(fork(stream, said)) == 0, said.read_text()
    count, peak = said.read_text().split()
    assert int(count) == 1200
    assert float(peak) < 160


@pytest.mark.slow
def test_two_processes_share_a_stream(tmp_path: Path) -> None:
    """Two processes train on the batches of one, whichever process meets unreadable images."""
    source = in_tars(tmp_path, (3, 77, 121))
    [alone] = by_fork(tmp_path / "one", 1, "test_convnext", f"--stream={source}")
    halves = by_fork(tmp_path / "two", 2, "test_convnext", f"--stream={source}")
    seen: list[str] = []
    for whole, *parts in zip(*(run["batches"] for run in (alone, *halves)), strict=True):
        assert parts[0]["names"] + parts[1]["names"] == whole["names"]
        seen += whole["names"]
        assert all(part["unreadable"] == whole["unreadable"] for part in parts)
        for key in ("images", "targets"):
            joined = torch.cat([part[key] for part in parts])
            torch.testing.assert_close(joined, whole[key], rtol=1e-6, atol=1e-7)
    expected = [f"train-{i // 20}.tar {i:05}" for i in TRAIN if i not in (3, 77, 121)]
    assert sorted(seen) == expected
    assert halves[0]["losses"] == halves[1]["losses"]
    torch.testing.assert_close(halves[0]["losses"], alone["losses"], rtol=1e-5, atol=1e-6)
    for run in (alone, *halves):
        assert [epoch["unreadable_images"] for epoch in run["record"]["history"]] == [3, 3]


class Unsteady(http.server.SimpleHTTPRequestHandler):
    """A server that breaks off in the middle of each file when it is first requested."""

    given: set[str]

    def copyfile(self, source: Any, outputfile: Any) -> None:
        content = source.read()
        if self.path not in self.given:
            self.given.add(self.path)
            content = content[: len(content) // 2]
        outputfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, set[str]]]:
    given: set[str] = set()
    handler = type("Handler", (Unsteady,), {"given": given})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=tmp_path)
    ) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", given
        running.shutdown()
        thread.join()


def impatient(train: str, test: str) -> Data:
    """Open the stream of two patterns of archives, with short pauses between attempts."""
    shards = [
        [Tar(shard.name, None, pause=0.01) for shard in list_archives(pattern).train]
        for pattern in (train, test)
    ]
    return open_stream(train, Listing(shards[0], shards[1]), 6, 0.0, OPTIONS)


@pytest.mark.skipif(not shutil.which("curl"), reason="webdataset fetches with curl")
def test_archives_at_an_address_that_breaks_off(
    server: tuple[str, set[str]], tmp_path: Path, cache: Path
) -> None:
    in_tars(tmp_path)
    address, given = server
    data = impatient(f"{address}/train-{{0..7}}.tar", f"{address}/test-0.tar")
    assert len(given) == 9
    given.clear()
    assert sorted(image for batch in fed(data) for image in batch) == list(TRAIN)
    assert len(given) == 8
    # Labels were counted once; a missing archive is reported when it is read.
    assert len(list((cache / "labels").glob("*.json"))) == 9
    (tmp_path / "train-5.tar").unlink()
    data = impatient(f"{address}/train-{{0..7}}.tar", f"{address}/test-0.tar")
    assert data.stream is not None
    batches = StreamBatches(data.stream, 4, 0, CPU).epoch(0, Crop(0.1), 0)
    faults = [fault for batch in batches for fault in batch.unreadable]
    assert len(faults) == 20
    assert all("train-5.tar: image " in fault and "exit 22" in fault for fault in faults)


def test_archives_from_a_pipe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    in_tars(tmp_path)
    train, test = f"pipe:cat {tmp_path}/train-{{0..7}}.tar", f"{tmp_path}/test-0.tar"
    # Opened by name, as by a user: nothing fails, so that there is no pause.
    assert streamed(train, test=test).train_images == 157
    data = impatient(train, test)
    assert sorted(image for batch in fed(data) for image in batch) == list(TRAIN)
    assert not caplog.text
    tar(tmp_path / "train-7.tar", range(140, 160))  # the command is the same
    assert sorted(image for batch in fed(data) for image in batch) == list(TRAIN)
    assert "train-7.tar: has more than the 17 images that were counted" in caplog.text
    with pytest.raises(SoftaugError, match=r"false: not readable as a tar archive.*exit 1"):
        impatient("pipe:false", test)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:5000], "not readable as a tar archive"),
        (lambda content: content[:20480], "cut off after a file"),
        (lambda content: content[:20580], "cut off after a file"),
        (lambda content: content + content, "another archive was appended"),
        (lambda content: content[:2048] + b"\xff" * 512 + content[2560:], "broken in the middle"),
        (lambda _: b"no archive at all, but text" * 99, "not readable as a tar archive"),
    ],
)
def test_broken_archives_are_reported_before_training(
    spoil: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    in_tars(tmp_path)
    path = tmp_path / "train-3.tar"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SoftaugError, match=rf"train-3\.tar: not readable.*{message}|{message}"):
        streamed(tmp_path)


def test_an_archive_that_changed_is_counted_again(tmp_path: Path) -> None:
    in_tars(tmp_path)
    assert streamed(tmp_path).train_images == 157
    tar(tmp_path / "train-7.tar", range(140, 150))
    assert streamed(tmp_path).train_images == 150


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0.png": encoded(0), "1.cls": b"1"}, "0: label missing"),
        ({"0.png": encoded(0), "0.cls": b"cat"}, "0: label 'cat', and .*expected names or numbers"),
        ({"0.png": encoded(0), "0.cls": b""}, "0: label missing"),
        ({"0.png": encoded(0), "0.cls": b"5000"}, "0: label 5000, but only 4 different labels"),
        (
            {"0.png": encoded(0), "0.json": b'{"label": [1]}'},
            r"0: label \[1\], expected one number",
        ),
        ({"0.png": encoded(0), "0.json": b'{"label": 1.5}'}, r"0: label 1.5, expected 0 to 2"),
        ({"0.png": encoded(0), "0.json": b'{"label": -1}'}, "0: label -1, expected"),
    ],
)
def test_archives_with_wrong_labels(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    in_tars(tmp_path)
    with tarfile.open(tmp_path / "train-9.tar", "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(SoftaugError, match=message):
        streamed(tmp_path)


def test_labels_in_json_and_names_as_labels(tmp_path: Path) -> None:
    for part in ("train", "test"):
        with tarfile.open(tmp_path / f"{part}.tar", "w") as archive:
            for i, label in enumerate([b'"emu"', b'"fox"'] * 4):
                for ending, content in (("jpg", encoded(i)), ("json", b'{"label": %s}' % label)):
                    member = tarfile.TarInfo(f"{i}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    data = streamed(tmp_path)
    assert data.classes == ("emu", "fox")
    assert data.test.labels.tolist() == [0, 1] * 4


def test_labels_of_no_class(tmp_path: Path) -> None:
    for labels, message in (([0.0, 1.0], "a whole number from 0, or a name"), ([10**9, 0], "gaps")):
        images = [{"bytes": encoded(i)} for i in range(2)]
        pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "train.parquet")
        with pytest.raises(SoftaugError, match=message):
            load(str(tmp_path))
    shards = [OneFile("0", b"", "a"), OneFile("1", b"", "b")]
    with pytest.raises(SoftaugError, match="class name 'b' stands for two classes"):
        count_labels([shards], ["a", "b", "b"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": None}, "--stream needs --size"),
        ({"train_images": 50}, "a balanced subset needs all images in memory"),
        ({"held_out": 0.99}, r"holds out all images of class '0'; ask for less"),
        ({"held_out": 1e-6}, "a share of 1e-06 holds no image out; ask for more"),
        ({"stream": StreamOptions(readers=3)}, "readers must divide the batch size, 16"),
        ({"max_unreadable": 1.5}, r"max_unreadable must be a share in \[0, 1\], got 1.5"),
    ],
)
def test_requests_that_cannot_be_met(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    in_parquet(tmp_path)
    with pytest.raises(UsageError, match=message):
        fed(load(str(tmp_path), **{"size": 6, "stream": OPTIONS, **options}))


def test_no_test_part(tmp_path: Path) -> None:
    parquet(tmp_path / "all.parquet", TRAIN)
    with pytest.raises(UsageError, match="no test part; --test names what to test on"):
        streamed(tmp_path / "all.parquet")
    with pytest.raises(UsageError, match="leave out --stream and --test"):
        load("demo", test=str(tmp_path))
    parquet(tmp_path / "other.parquet", TEST)
    data = streamed(tmp_path / "all.parquet", test=str(tmp_path / "other.parquet"))
    assert numbers(data.test.images) == list(TEST)
    with pytest.raises(UsageError, match="readers must be at least 1, got 0"):
        StreamOptions(readers=0)


def test_a_request_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"broken")  # reading it would be another error
    for message, size, images in (("--size", None, None), ("--stream", 6, 50)):
        with pytest.raises(UsageError, match=message):
            load(str(tmp_path), size=size, train_images=images, stream=OPTIONS)


def test_two_images_for_each_process(tmp_path: Path) -> None:
    data = streamed(in_parquet(tmp_path))
    assert data.stream is not None
    with pytest.raises(UsageError, match="at least 8, two images for each of the processes, 4"):
        StreamBatches(data.stream, 4, 0, Processes(torch.device("cpu"), count=4))


def test_a_second_source_may_number_the_classes_in_another_order(tmp_path: Path) -> None:
    folder(tmp_path / "train", TRAIN)  # class i % 3 is called "abc"[i % 3]
    for names, labels in ((["c", "b", "a"], [2, 1, 0]), (["x", "y", "z"], [0, 1, 2])):
        images = [{"bytes": encoded(i)} for i in range(3)]
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        written = {"huggingface": json.dumps({"info": {"features": features}})}
        table = pa.table({"image": images, "label": labels}).replace_schema_metadata(written)
        pq.write_table(table, tmp_path / "other.parquet")
        data = streamed(tmp_path / "train", test=str(tmp_path / "other.parquet"))
        assert data.classes == ("a", "b", "c")
        assert numbers(data.test.images) == data.test.labels.tolist() == [0, 1, 2]


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_tars(tmp_path)
    monkeypatch.setenv("SOFTAUG_DATA", str(tmp_path / "test-0.tar"))
    with pytest.raises(SoftaugError, match=r"could not be written.*SOFTAUG_DATA names another"):
        streamed(tmp_path)


def test_one_process_reads_the_labels_and_others_wait(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With threads for processes, since locks are of open files."""
    in_tars(tmp_path)
    archive = Tar("train-0.tar", tmp_path / "train-0.tar")
    read, begun = archive.read, []

    def slowly(archive: Tar, start: int) -> list[Row]:
        del archive
        begun.append(start)
        time.sleep(0.3)
        return list(read(start))

    monkeypatch.setattr(Tar, "read", slowly)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: list(archive.labels()), range(4))
    assert begun == [0]
    assert first
    assert all(labels == first for labels in others)
    # A cache that is there may be on storage that is only read.
    (lock,) = (cache / "labels").glob("*.lock")
    lock.unlink()
    assert list(archive.labels()) == first
    assert not lock.exists()


def cut_labels(root: Path) -> None:
    kit = root / "ILSVRC2012_devkit_t12.tar.gz"
    content = kit.read_bytes()
    kit.write_bytes(content[:40] + b"\xff" * 40 + content[80:])


def fewer_images(root: Path) -> None:
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG"))


def more_images(root: Path) -> None:
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("ILSVRC2012_val_00000013.JPEG"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_labels, r"t12\.tar\.gz: not readable as"),
        (fewer_images, "1 images, expected 12"),
        (more_images, "13"),
    ],
)
def test_imagenet_that_is_broken(
    spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    as_imagenet(tmp_path)
    spoil(tmp_path)
    with pytest.raises(SoftaugError, match=message):
        streamed(tmp_path)


def test_row_groups_share_the_metadata_of_their_file(tmp_path: Path) -> None:
    """Reading them for each group would take time quadratic in the number of groups."""
    parquet(tmp_path / "train.parquet", TRAIN)
    listed = list_files([tmp_path / "train.parquet"], None).train
    groups = [group for group in listed if isinstance(group, RowGroup)]
    [shared] = {id(group._metadata()) for group in groups}
    assert len(groups) == 16
    parquet(tmp_path / "train.parquet", TRAIN)
    os.utime(tmp_path / "train.parquet", (0, 0))
    assert id(groups[0]._metadata()) != shared


def test_imagenet_without_its_labels(tmp_path: Path) -> None:
    as_imagenet(tmp_path)
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    with pytest.raises(SoftaugError, match=r"but no ILSVRC2012_devkit_t12\.tar\.gz"):
        streamed(tmp_path)


def test_the_hub_without_such_data(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(SoftaugError, match=re.escape(f"hf:{tmp_path}: could not be opened")):
        streamed(f"hf:{tmp_path}")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_tars(tmp_path, (3,))
    command = ["train", f"{tmp_path}/train-{{0..7}}.tar", "--test", f"{tmp_path}/test-0.tar"]
    command += ["--stream", "--size", "6", "--readers", "4", "--epochs", "1", "--batch-size", "16"]
    command += ["--run", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main(command)
    assert "1 of 157 images are unreadable so far" in capsys.readouterr().err
    main([*command, "--max-unreadable", "0.01"])
    assert "left out: train-0.tar 00003: no image" in capsys.readouterr().err
    main(["evaluate", str(tmp_path / "run")])
    assert "on 12 test images" in capsys.readouterr().out
