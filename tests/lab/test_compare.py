"""A comparison's statistics, from runs whose errors are known."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.storage import read_json, write_json
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.evaluation.evaluate import summarise
from softaug_lab.evaluation.predictions import LevelLogits, Predictions
from softaug_lab.experiments.compare import METRICS, compare_runs
from softaug_lab.metrics.levels import FILL_GROUPS, KINDS, LOST_SHARES
from softaug_lab.metrics.proper import sample_nll, top_confidence
from softaug_lab.metrics.selective import paired_bootstrap_aurc
from softaug_lab.metrics.significance import paired_bootstrap, paired_t, seeds_needed
from softaug_lab.metrics.temperature import scale
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

    # Only unseen fills at the headline level have these errors: those are compared.
    levels = {
        (kind, group, share): LevelLogits(
            logits(wrong_hidden if (group, share) == ("unseen", 0.4) else N),
            torch.zeros(N, dtype=torch.uint8),
            share,
        )
        for kind in KINDS
        for group in FILL_GROUPS
        for share in LOST_SHARES
    }
    names = dict.fromkeys(FILL_GROUPS, ("one",))
    held_out = (labels, logits(N // 2))
    predictions = Predictions(labels, logits(wrong), levels, names, logits(3 * wrong), *held_out)
    recipe = replace(Recipe(), arm=arm, seed=seed)
    run = open_run(folder / f"{arm}-{seed}", recipe, DATA, {}, resume=False)
    predictions.save(run.predictions_file)
    write_json(run.evaluation_file, summarise(predictions).as_dict())
    return run


# Wrong images of 400 for each seed: standard, harsh, soft.
WRONG = {"standard": (80, 84, 82), "harsh": (120, 121, 119), "soft": (81, 84, 81)}


Records = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """Three arms of three seeds each, seed by seed."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        made_run(folder, arm, seed, WRONG[arm][seed], 2 * WRONG[arm][seed])
        for seed in range(3)
        for arm in WRONG
    ]


@pytest.fixture(scope="module")
def records(runs: list[RunFolder]) -> Records:
    return by_question(runs)


def by_question(runs: list[RunFolder]) -> Records:
    return {(r["against"], r["metric"]): r for r in compare_runs(runs, list(WRONG))}


def test_differences_are_those_of_the_errors(records: Records) -> None:
    assert set(records) == {(a, m) for a in ("standard", "harsh") for m in METRICS}
    errors = {arm: np.array(wrong) / N for arm, wrong in WRONG.items()}
    for against in ("standard", "harsh"):
        expected = (errors["soft"] - errors[against]).mean()
        assert records[against, "top1_error"]["difference"] == pytest.approx(expected)
        for metric in ("cut_off_error", "hidden_error"):
            assert records[against, metric]["difference"] == pytest.approx(2 * expected)


def test_the_mix_is_compared_after_the_temperature_by_image_and_by_resampled_aurc(
    runs: list[RunFolder], records: Records
) -> None:
    evaluations, mixes = {}, {}
    for arm in ("soft", "harsh"):
        of_arm = [run for run in runs if run.recipe().arm == arm]
        evaluations[arm] = [read_json(run.evaluation_file) for run in of_arm]
        kept = [Predictions.load(run.predictions_file) for run in of_arm]
        mixes[arm] = [
            (scale(p.mix_logits, e["temperature"]), p.labels)
            for p, e in zip(kept, evaluations[arm], strict=True)
            if p.mix_logits is not None
        ]
        assert all(e["temperature"] != 1 for e in evaluations[arm])
    for metric in ("aurc", "ece", "nll"):
        means = [np.mean([e["mix"][metric] for e in evaluations[a]]) for a in ("soft", "harsh")]
        record = records["harsh", f"mix_{metric}"]
        assert record["difference"] == pytest.approx(means[0] - means[1])
    soft, harsh = (
        np.stack([sample_nll(*pair).numpy() for pair in mixes[arm]]) for arm in ("soft", "harsh")
    )
    assert records["harsh", "mix_nll"]["p_images"] == paired_bootstrap(soft, harsh).p
    (a, hits_a), (b, hits_b) = (
        map(torch.stack, zip(*[top_confidence(*pair) for pair in mixes[arm]], strict=True))
        for arm in ("soft", "harsh")
    )
    estimate = paired_bootstrap_aurc(a, hits_a, b, hits_b)
    assert records["harsh", "mix_aurc"]["p_images"] == estimate.p
    assert records["harsh", "mix_aurc"]["image_interval"] == [estimate.low, estimate.high]


def test_a_run_of_an_earlier_version_without_its_model_is_a_message(
    runs: list[RunFolder], tmp_path: Path
) -> None:
    standard, soft = (
        shutil.copytree(run.folder, tmp_path / run.folder.name) for run in (runs[0], runs[2])
    )
    run = RunFolder(soft)
    evaluation = read_json(run.evaluation_file)
    for key in ("cut_off", "hidden", "mix"):
        del evaluation[key]
    write_json(run.evaluation_file, evaluation)
    with pytest.raises(SoftaugError, match=r"soft-0: evaluated by an earlier version.*remove"):
        compare_runs([run, RunFolder(standard)], ["soft", "standard"])


def test_a_claim_needs_both_tests_after_holm(records: Records) -> None:
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


def test_seeds_needed_are_those_after_correction(records: Records) -> None:
    record = records["harsh", "top1_error"]
    differences = (np.array(WRONG["soft"]) - np.array(WRONG["harsh"])) / N
    questions = 2 * len(METRICS)
    assert record["seeds_needed"] == seeds_needed(differences, level=1 - 0.05 / questions)


def test_one_seed_claims_nothing(runs: list[RunFolder]) -> None:
    for record in by_question(runs[: len(WRONG)]).values():
        assert record["seed_interval"] is record["p_seeds"] is record["p_adjusted"] is None
        assert record["larger_than_chance"] is False
        assert record["seeds_needed"] is None
