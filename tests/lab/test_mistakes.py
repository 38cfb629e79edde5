"""What a run gets wrong, in its record and on its page."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import random_samples
from test_report import page_of, single_run

from softaug_lab.data import Data, ImageSet
from softaug_lab.evaluation import Predictions
from softaug_lab.experiments.mistakes import MOST_IMAGES, THUMBNAIL, mistakes, thumbnail
from softaug_lab.runs import RunFolder

NAMES = ("a", "<b>", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def data() -> Data:
    _, labels = random_samples(n=200, k=6)
    labels[labels == 5] = 4  # a class without test images
    images = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(200, 1, 4, 4)
    test = ImageSet(images.contiguous(), labels)
    return Data("made up", NAMES, test, test)


@pytest.fixture(scope="module")
def found(data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    logits, _ = random_samples(n=200, k=6)
    run = RunFolder(tmp_path_factory.mktemp("run"))
    Predictions(data.test.labels, logits).save(run.predictions_file)
    return mistakes(run, data, temperature=2.0)


def test_counts_are_those_of_a_loop(found: dict[str, Any], data: Data) -> None:
    logits, _ = random_samples(n=200, k=6)
    labels, predicted = data.test.labels.tolist(), logits.argmax(dim=1).tolist()
    confidence = (logits.double() / 2).softmax(dim=1).amax(dim=1).tolist()
    cells = [[0] * 6 for _ in NAMES]
    for true, guess in zip(labels, predicted, strict=True):
        cells[true][guess] += 1
    assert found["confusion"] == cells
    assert found["wrong"] == sum(a != b for a, b in zip(labels, predicted, strict=True))
    for i, one in enumerate(found["by_class"]):
        of = [j for j in range(200) if labels[j] == i]
        assert (one["class"], one["images"]) == (NAMES[i], len(of))
        if of:
            assert one["accuracy"] == pytest.approx(cells[i][i] / len(of))
            mean = sum(confidence[j] for j in of) / len(of)
            assert one["confidence"] == pytest.approx(mean, abs=1e-6)
    assert (found["by_class"][5]["accuracy"], found["by_class"][5]["confidence"]) == (None, None)
    first = found["pairs"][0]
    off = [cells[i][j] for i in range(6) for j in range(6) if i != j]
    assert first["images"] == max(off)
    assert cells[NAMES.index(first["class"])][NAMES.index(first["predicted"])] == max(off)


def test_the_most_confident_mistakes_come_first(found: dict[str, Any], data: Data) -> None:
    logits, _ = random_samples(n=200, k=6)
    confidence = (logits / 2).softmax(dim=1).amax(dim=1)
    wrong = [i for i in range(200) if int(logits[i].argmax()) != int(data.test.labels[i])]
    worst = sorted(wrong, key=lambda i: -float(confidence[i]))[:MOST_IMAGES]
    assert [image["index"] for image in found["images"]] == worst
    assert all(image["class"] != image["predicted"] for image in found["images"])


def test_large_images_are_shown_small() -> None:
    small = thumbnail(torch.zeros(3, 300, 600, dtype=torch.uint8))
    assert small.shape == (3, THUMBNAIL // 2, THUMBNAIL)
    assert thumbnail(torch.zeros(3, 9, 2000, dtype=torch.uint8)).shape == (3, 1, THUMBNAIL)


@pytest.mark.usefixtures("blank_figures")
def test_the_page_of_one_run_shows_them(found: dict[str, Any], tmp_path: Path) -> None:
    html, page = page_of({**single_run(), "mistakes": found}, tmp_path)
    assert "What the model gets wrong" in page.headings
    assert f"The most confident mistakes: {MOST_IMAGES} of {found['wrong']}" in page.text
    assert "&lt;b&gt;" in html
    assert str(found["confusion"][0][0]) in page.text
    many = {**found, "confusion": None}
    _, page = page_of({**single_run(), "mistakes": many}, tmp_path)
    assert "The most frequent confusions" in page.text
