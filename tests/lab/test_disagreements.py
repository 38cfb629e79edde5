"""The test images on which arms disagree: as many for the one as for the other, by a fixed rule."""

import base64
import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.evaluation.predictions import Predictions
from softaug_lab.experiments.disagreements import MOST, disagreeing, disagreements, opposed
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run

N, CLASSES = 40, ("a", "b", "c")
LABELS = torch.arange(N) % 3
PIXELS = torch.randint(0, 256, (N, 3, 4, 5), generator=torch.Generator().manual_seed(0))
TEST = ImageSet(PIXELS.to(torch.uint8), LABELS)
DATA = Data("made", CLASSES, TEST, TEST)


def made_run(folder: Path, arm: str, seed: int, wrong: list[int], sure: float = 2.0) -> RunFolder:
    """A run that takes these images for the next class; of later images it is the surer."""
    said = LABELS.clone()
    said[wrong] = (said[wrong] + 1) % 3
    certainty = sure + torch.arange(N)[:, None] / N
    logits = certainty * torch.nn.functional.one_hot(said, 3).float()
    run = open_run(
        folder / f"{arm}-{seed}", replace(Recipe(), arm=arm, seed=seed), DATA, {}, resume=False
    )
    Predictions(LABELS, logits).save(run.predictions_file)
    return run


def test_as_many_of_both_and_the_furthest_apart_first(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path, "standard", 0, [*range(10), 30, 31]),
        made_run(tmp_path, "harsh", 0, [9]),
        made_run(tmp_path, "soft", 0, [20, 22, 30, 31]),
    ]
    found = disagreements(runs, DATA)
    assert found is not None
    assert (found["arm"], found["against"]) == ("soft", "standard")
    assert (found["only_arm"], found["only_against"]) == (10, 2)
    # Both are surer of later images, so these lie further apart.
    assert [(one["right"], one["index"]) for one in found["images"]] == [
        ("soft", 9),
        ("soft", 8),
        ("standard", 22),
        ("standard", 20),
    ]
    first = found["images"][0]
    assert first["class"] == CLASSES[LABELS[9]]
    assert [(p["arm"], p["class"], p["right"]) for p in first["predictions"]] == [
        ("standard", "b", False),
        ("harsh", "b", False),
        ("soft", "a", True),
    ]
    with Image.open(io.BytesIO(base64.b64decode(first["png"]))) as picture:
        shown = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(shown, TEST.images[9])


def test_never_more_than_six_a_side(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path, "standard", 0, list(range(10))),
        made_run(tmp_path, "soft", 0, list(range(20, 30))),
    ]
    found = disagreements(runs, DATA)
    assert found is not None
    assert [one["right"] for one in found["images"]] == ["soft"] * MOST + ["standard"] * MOST
    assert (found["only_arm"], found["only_against"]) == (10, 10)


def test_seeds_predict_together_by_the_mean_of_their_probabilities(tmp_path: Path) -> None:
    """Two unsure seeds that are right lose to one that is sure and wrong."""
    runs = [
        *(made_run(tmp_path, "standard", seed, [5], sure=0.1) for seed in (0, 1)),
        made_run(tmp_path, "standard", 2, [5, 7], sure=9.0),
        *(made_run(tmp_path, "soft", seed, [6]) for seed in (0, 1, 2)),
    ]
    found = disagreements(runs, DATA)
    assert found is not None
    assert found["only_arm"] == 2
    assert [one["index"] for one in found["images"]] == [5, 6]
    runs_of_standard = [Predictions.load(run.predictions_file) for run in runs[:3]]
    expected = torch.stack([p.logits.softmax(1)[5] for p in runs_of_standard]).mean(0).max().item()
    standard = found["images"][0]["predictions"][0]
    assert standard["confidence"] == pytest.approx(expected)


def test_one_arm_or_no_disagreement_has_none(tmp_path: Path) -> None:
    alone = [made_run(tmp_path, "soft", seed, [1]) for seed in (0, 1)]
    assert disagreements(alone, DATA) is None
    # Nothing is shown that flatters one of them alone.
    assert disagreements([*alone, made_run(tmp_path, "standard", 0, [1, 2])], DATA) is None


def test_equally_far_apart_go_by_their_place() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    right, wrong = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.2, 0.8]])
    first = torch.cat([right, wrong, right, wrong])
    second = torch.cat([wrong, right, wrong, wrong])
    for_first, for_second = disagreeing(first, second, labels)
    assert for_first.tolist() == [0, 2]
    assert for_second.tolist() == [1]


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        (["none", "standard", "harsh", "soft@0.1", "soft"], ("soft", "standard")),
        (["harsh", "soft@0.1", "soft@0.2"], ("soft@0.1", "harsh")),
        (["standard", "soft-both"], ("soft-both", "standard")),
        (["simsiam-soft", "simsiam-harsh", "simsiam"], ("simsiam-soft", "simsiam")),
        (["standard", "mixup", "cutmix"], ("cutmix", "standard")),
        (["mixup", "standard"], ("mixup", "standard")),
        (["soft", "soft@0.1"], ("soft", "soft@0.1")),
        (["soft"], None),
        ([], None),
    ],
)
def test_which_two_arms_are_opposed(arms: list[str], expected: tuple[str, str] | None) -> None:
    assert opposed(arms) == expected


def test_the_rule_opposes_two_different_arms() -> None:
    names = ("standard", "harsh", "soft", "soft@0.1", "mixup")
    for arms in itertools.permutations(names, 2):
        assert set(opposed(arms) or ()) == set(arms)
