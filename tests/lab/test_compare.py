"""A comparison's statistics, from runs whose errors are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from softaug_lab.basics.storage import write_json
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.evaluation.evaluate import summarise
from softaug_lab.evaluation.predictions import Predictions
from softaug_lab.experiments.compare import METRICS, compare_runs
from softaug_lab.metrics.levels import OCCLUSION_SHARES
from softaug_lab.metrics.significance import paired_t, seeds_needed
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run

N, K = 400, 4
ONE = ImageSet(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
DATA = Data("made", ("a", "b", "c", "d"), ONE, ONE)


def made_run(folder: Path, arm: str, seed: int, wrong: int, wrong_hidden: int) -> RunFolder:
    """A finished run that is wrong on the first images, and on more of them when part is hidden."""
    labels = torch.arange(N) % K

    def logits(errors: int) -> torch.Tensor:
        said = torch.where(torch.arange(N) < errors, (labels + 1) % K, labels)
        noise = torch.randn(N, K, generator=torch.Generator().manual_seed(seed)) / 10
        return 3 * torch.nn.functional.one_hot(said, K).float() + noise

    hidden = {share: logits(wrong_hidden) for share in OCCLUSION_SHARES[1:]}
    predictions = Predictions(labels, logits(wrong), {"mean": hidden, "black": hidden})
    recipe = replace(Recipe(), arm=arm, seed=seed)
    run = open_run(folder / f"{arm}-{seed}", recipe, DATA, {}, resume=False)
    predictions.save(run.predictions_file)
    write_json(run.evaluation_file, summarise(predictions, OCCLUSION_SHARES).as_dict())
    return run


# Wrong images of 400 for each seed: standard, harsh, soft.
WRONG = {"standard": (80, 84, 82), "harsh": (120, 121, 119), "soft": (81, 84, 81)}


def compared(folder: Path, seeds: int) -> dict[tuple[str, str], dict[str, object]]:
    arms = list(WRONG)
    runs = [
        made_run(folder, arm, seed, WRONG[arm][seed], 2 * WRONG[arm][seed])
        for seed in range(seeds)
        for arm in arms
    ]
    return {(r["against"], r["metric"]): r for r in compare_runs(runs, arms)}


def test_differences_are_those_of_the_errors(tmp_path: Path) -> None:
    records = compared(tmp_path, seeds=3)
    assert set(records) == {(a, m) for a in ("standard", "harsh") for m in METRICS}
    errors = {arm: np.array(wrong) / N for arm, wrong in WRONG.items()}
    for against in ("standard", "harsh"):
        expected = (errors["soft"] - errors[against]).mean()
        assert records[against, "top1_error"]["difference"] == pytest.approx(expected)
        for metric in ("occluded_error", "occluded_black"):
            assert records[against, metric]["difference"] == pytest.approx(2 * expected)


def test_a_claim_needs_both_tests_after_holm(tmp_path: Path) -> None:
    records = compared(tmp_path, seeds=3)
    clear, nothing = records["harsh", "top1_error"], records["standard", "top1_error"]
    assert clear["larger_than_chance"]
    assert not nothing["larger_than_chance"]
    differences = (np.array(WRONG["soft"]) - np.array(WRONG["harsh"])) / N
    over_seeds = paired_t(differences)
    assert over_seeds is not None
    assert clear["p_seeds"] == pytest.approx(over_seeds.p)
    assert clear["seed_interval"] == pytest.approx([over_seeds.low, over_seeds.high])
    p_adjusted = clear["p_adjusted"]
    assert isinstance(p_adjusted, float)
    assert p_adjusted > over_seeds.p


def test_seeds_needed_are_those_after_correction(tmp_path: Path) -> None:
    record = compared(tmp_path, seeds=3)["harsh", "top1_error"]
    differences = (np.array(WRONG["soft"]) - np.array(WRONG["harsh"])) / N
    questions = 2 * len(METRICS)
    assert record["seeds_needed"] == seeds_needed(differences, level=1 - 0.05 / questions)


def test_one_seed_claims_nothing(tmp_path: Path) -> None:
    for record in compared(tmp_path, seeds=1).values():
        assert record["seed_interval"] is record["p_seeds"] is record["p_adjusted"] is None
        assert record["larger_than_chance"] is False
        assert record["seeds_needed"] is None
