"""A search: its design and fit against references, its promises, and the command from outside."""

import json
import math
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import folder as write_images
from support import stripes
from torch import Tensor

from softaug.recommend import Strength
from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.cli.app import main
from softaug_lab.cli.evaluation_inputs import load_own
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.evaluation.predictions import LevelLogits, Predictions
from softaug_lab.evaluation.views import EIGHTHS, mixed_views
from softaug_lab.experiments.cost import Pace
from softaug_lab.experiments.jobs import side_by_side
from softaug_lab.metrics import fit_temperature
from softaug_lab.recipes.arms import read_arm
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.report.tuning import tuning_sentences, write_tuning_report
from softaug_lab.runs.folder import RunFolder, folder_name
from softaug_lab.tuning import plan as planning
from softaug_lab.tuning.design import ROUND, Point, arm_at, bounds_around, design
from softaug_lab.tuning.plan import Plan, make_plan, read_plan, require_tunable, search_data
from softaug_lab.tuning.score import OBJECTIVES, WHOLE, score
from softaug_lab.tuning.study import Study, Trial, as_record
from softaug_lab.tuning.surface import Prior, Surface, fit_surface

CPU = Processes(torch.device("cpu"))
NAMES = ("rows", "columns", "checks")
PRIOR = Prior(curvature=0.02, slope=0.1, noise=0.02)
RULE = Strength(sigma=0.1, erase=0.1)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data("stripes", NAMES, stripes(1200, 0), stripes(60, 1), held_out=stripes(120, 2))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search be content with few images to score its short runs."""
    monkeypatch.setattr(planning, "LEAST", 30)
    monkeypatch.setattr(planning, "LEAST_HELD_OUT", 10)


def test_points_of_a_round_share_a_seed_and_the_first_three_are_of_sigma() -> None:
    chosen = design(9, RULE)
    assert [seed for _, seed in chosen] == [0] * 5 + [1] * 4
    assert [point for point, _ in chosen[:4]] == [*ROUND[:4]]
    assert [point for point, _ in chosen[5:]] == [*ROUND[:4]]
    assert {p.erase for p, _ in chosen[:3]} == {0}


def test_a_bound_moves_a_point_to_what_is_trained() -> None:
    """The fit must not think that a step was taken which the bounds made shorter."""
    points = [point for point, _ in design(5, RULE)]
    assert points[4].erase == pytest.approx(-2 / 3)  # from 0.1 to 0
    strong = replace(RULE, sigma=0.3, erase=0.0)
    chosen = design(8, strong)
    assert [seed for _, seed in chosen] == [0] * 4 + [1] * 4  # no rectangles cannot be fewer
    assert chosen[1][0].sigma == pytest.approx(math.log(4 / 3) / math.log(1.6))
    assert "crop(0.4," in arm_at(chosen[1][0], strong)
    arms = {arm_at(point, rule) for rule in (RULE, strong) for point, _ in design(5, rule)}
    assert not any("e-" in arm for arm in arms)


def test_scores_that_are_all_zero_leave_the_rule() -> None:
    points, seeds = zip(*design(8, RULE), strict=True)
    for objective in OBJECTIVES.values():
        assert fit_surface(points, seeds, [0.0] * 8, objective.prior).winner() == Point()


def test_the_arm_at_a_point_is_read_as_an_arm() -> None:
    there = "auto@crop(0.1, fill=mixed)+erase((0.02, 0.4), fill=mixed, probability=0.1)"
    assert arm_at(Point(), RULE) == there
    text = arm_at(Point(sigma=1, erase=1), RULE)
    expected = "crop(0.16, fill=mixed)+erase((0.02, 0.4), fill=mixed, probability=0.25)"
    assert text == f"auto@{expected}"
    arm = read_arm(text)
    assert (arm.role, arm.targets) == ("soft", "soft")
    assert arm_at(Point(erase=-1), RULE) == "auto@crop(0.1, fill=mixed)"
    assert "crop(0.4," in arm_at(Point(sigma=9), RULE)


@given(st.integers(0, 2**32 - 1))
def test_the_fit_is_that_of_a_long_way_round(seed: int) -> None:
    """With the noise it found, it is least squares with the priors as further rows."""
    rng = np.random.default_rng(seed)
    chosen = design(int(rng.integers(3, 20)), RULE)
    scores = rng.normal(1.5, 0.1, len(chosen))
    seeds = [s for _, s in chosen]
    surface = fit_surface([p for p, _ in chosen], seeds, scores.tolist(), PRIOR)
    rows = []
    for point, s in chosen:
        levels = [float(s == other) for other in sorted(set(seeds))]
        rows.append(levels + [v for x in point for v in (x, x**2)])
    free = len(rows[0]) - 4
    level = scores.mean()
    spread = level * np.array([100.0] * free + [0.1, 0.02] * 2)
    likely = level * np.array([0.0] * free + [0.0, 0.02] * 2)
    a = np.concatenate([np.array(rows) / surface.noise, np.diag(1 / spread)])
    b = np.concatenate([(scores - level) / surface.noise, likely / spread])
    mean, *_ = np.linalg.lstsq(a, b, rcond=None)
    assert surface.mean == pytest.approx(mean[free:], abs=1e-7)
    covariance = np.linalg.inv(a.T @ a)[free:, free:]
    assert surface.covariance == pytest.approx(covariance, abs=1e-8)


def test_the_rule_is_left_for_evidence_alone() -> None:
    rng = np.random.default_rng(0)

    def share_that_leaves(truth: float, runs: int) -> tuple[float, float]:
        left, loss = 0, 0.0
        for _ in range(200):
            chosen = design(runs, RULE)
            level = rng.normal(0, 0.05, 20)
            scores = [
                1.5 + level[s] + 0.02 * (p.sigma - truth) ** 2
                + 0.02 * p.erase**2 + rng.normal(0, 0.02)
                for p, s in chosen
            ]  # fmt: skip
            points, seeds = zip(*chosen, strict=True)
            winner = fit_surface(points, seeds, scores, PRIOR).winner()
            left += winner != Point()
            loss += (winner.sigma - truth) ** 2 + winner.erase**2 - truth**2
        return left / 200, 0.02 * loss / 200

    never, no_loss = share_that_leaves(0, 12)
    assert never < 0.1
    assert no_loss < 0.001
    mostly, gain = share_that_leaves(1, 18)
    assert mostly > 0.8
    assert gain < -0.01  # of 0.02 that are there


def test_whole_images_pay_half_a_point_at_most() -> None:
    """What gains most may spend it; the rest is taken where something is left."""
    points, seeds = zip(*design(24, RULE), strict=True)
    scores = [1.5 - 0.3 * p.erase - 0.1 * p.sigma for p in points]
    free = fit_surface(points, seeds, scores, PRIOR)
    assert free.winner().erase == pytest.approx(1.5)
    assert free.winner().sigma > 1
    errors = [0.25 + 0.01 * p.erase + 0.01 * p.sigma for p in points]
    whole = fit_surface(points, seeds, errors, OBJECTIVES["error"].prior)
    sigma, erase = replace(free, whole=whole).choices()
    assert erase.price == pytest.approx(0.005, abs=2e-4)
    assert 0 < erase.best < 1
    assert (sigma.taken, erase.taken) == (False, True)
    assert sigma.gain > sigma.error
    errors = [0.25 + 0.001 * p.erase + 0.001 * p.sigma for p in points]
    cheap = fit_surface(points, seeds, errors, Prior(0.0001, 0.05, 0.001))
    assert replace(free, whole=cheap).winner() == free.winner()


@pytest.mark.parametrize("objective", [*OBJECTIVES])
def test_a_search_guards_whole_images_for_the_mix_alone(
    objective: str, data: Data, tmp_path: Path
) -> None:
    study = Study(tmp_path, replace(PLAN, objective=objective), Recipe(arm="auto"), data, {})
    trials = [
        Trial(point, seed, "", 1.5 - 0.3 * point.erase, 0.25 + 0.01 * point.erase, 1.0)
        for point, seed in design(24, RULE)
    ]
    choices = study.fit(trials).choices()
    assert (choices[1].best < 1) == (objective == "mix_nll")
    assert choices[1].taken
    assert (choices[1].price is None) == (objective != "mix_nll")


def made_up(n: int = 400) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (n,), generator=generator)
    logits = 3 * torch.eye(3)[labels] + 2 * torch.randn(n, 3, generator=generator)
    level = LevelLogits(logits / 2, torch.zeros(n, dtype=torch.uint8), 0.4)
    wrong = LevelLogits(-logits, torch.zeros(n, dtype=torch.uint8), 0.4)
    levels = {("cut_off", "unseen", 0.4): level, ("hidden", "unseen", 0.4): wrong}
    levels["hidden", "usual", 0.4] = LevelLogits(9 * logits, torch.zeros(n).byte(), 0.4)
    return Predictions(labels, logits, levels, {"unseen": ("white",)}, mix_logits=logits * 2)


def test_scores_are_those_computed_by_hand() -> None:
    made = made_up()
    wrong = (made.logits.argmax(dim=1) != made.labels).double().mean().item()
    assert score("error", made) == pytest.approx(wrong)
    assert score("cut_off_error", made) == pytest.approx(wrong)  # half the logits, the same class
    losses = []
    for fitted, scored in ((slice(0, None, 2), slice(1, None, 2)),
                           (slice(1, None, 2), slice(0, None, 2))):  # fmt: skip
        t = fit_temperature(made.logits[fitted], made.labels[fitted])
        for weight, factor in ((1 / 4, 1.0), (3 / 8, 0.5), (3 / 8, -1.0)):
            logits = factor * made.logits[scored].double() / t
            nll = torch.nn.functional.cross_entropy(logits, made.labels[scored])
            losses.append(weight * nll.item())
    assert score("mix_nll", made) == pytest.approx(sum(losses) / 2)


def test_the_mix_is_scored_in_its_own_shares() -> None:
    """Of the mix a quarter is whole, and each kind and share lost is as frequent as any other."""
    assert EIGHTHS.count(-1) / len(EIGHTHS) == WHOLE
    shown = mixed_views(("white",), torch.Size((3200, 1, 32, 32)), 0)
    kept = (shown.offset.abs().sum(1) + shown.rectangle.abs().sum(1)) == 0
    assert kept.double().mean() == WHOLE


def test_short_runs_are_scored_on_training_images_that_they_lack(data: Data) -> None:
    search = search_data(replace(data, held_out=stripes(50, 5)), seed=0)
    assert search.held_out is None
    assert len(search.test) == 300
    assert search.train_images == 900
    together = torch.cat([search.train.images, search.test.images]).flatten(1)
    assert len(together.unique(dim=0)) == len(data.train.images.flatten(1).unique(dim=0))
    test = {bytes(image.numpy()) for image in search.test.images}
    assert not test & {bytes(image.numpy()) for image in search.train.images}
    assert not test & {bytes(image.numpy()) for image in data.test.images}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": stripes(900, 0)}, "900 training images are too few to tune on"),
        (
            {"classes": (*NAMES, "dots")},
            "class 'dots' has 0 training images; tune needs 3 of each class",
        ),
        (
            {
                "classes": (*NAMES, "dots"),
                "train": ImageSet(torch.zeros(1201, 1, 12, 12).byte(), (torch.arange(1201) // 400)),
                "held_out": ImageSet(torch.zeros(1, 1, 12, 12).byte(), torch.tensor([3])),
            },
            "class 'dots' has 2 training images; tune needs 3 of each class",
        ),
    ],
)
def test_data_that_cannot_be_tuned_on(change: dict[str, object], message: str, data: Data) -> None:
    with pytest.raises(UsageError, match=message):
        search_data(replace(data, **change), seed=0)  # type: ignore[arg-type]


def timed(monkeypatch: pytest.MonkeyPatch, epoch: float, evaluation: float) -> None:
    monkeypatch.setattr(planning, "pace_within", lambda *_: Pace(epoch, evaluation))


@pytest.mark.parametrize("minutes", [2, 10, 60])
def test_a_plan_fits_into_its_time(
    minutes: float, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 1.0, 2.0)
    plan = make_plan(minutes, "mix_nll", Recipe(), data, CPU, 1)
    last = 2 * (plan.epochs * 1.0 + 2.0)
    short = plan.trials * (plan.trial_epochs * 0.75 + 2.0 * 300 / 60)
    assert 0.8 * 60 * minutes < last + short <= 60 * minutes
    assert plan.trials >= 3
    assert plan.trial_epochs == max(8, round(plan.epochs / 4))


@pytest.mark.parametrize("minutes", [2, 10, 60])
def test_runs_side_by_side_are_more_in_the_same_time(
    minutes: float, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def pace_within(seconds: float, *_: object) -> Pace:
        threads.append(torch.get_num_threads())
        assert seconds == 30 * minutes  # both last runs at a time
        return Pace(1.0, 2.0)

    monkeypatch.setattr(planning, "pace_within", pace_within)
    monkeypatch.setattr("softaug_lab.experiments.jobs.cores", lambda: 8)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        plan = make_plan(minutes, "mix_nll", Recipe(), data, CPU, 4)
        assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)
    assert threads == [2]
    last = planning.START + plan.epochs * 1.0 + 2.0
    short = plan.trials / 4 * (planning.START + plan.trial_epochs * 0.75 + 2.0 * 300 / 60)
    assert 0.7 * 60 * minutes < last + short <= 60 * minutes
    assert plan.trials % 4 == 0


def test_runs_on_one_gpu_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    counts = [
        side_by_side(torch.device(name), jobs)
        for name, jobs in (("cuda", 6), ("cuda", 3), ("cuda:1", 6), ("mps", 6))
    ]
    assert counts == [4, 3, 1, 1]


@pytest.mark.parametrize(
    ("cores", "threads", "jobs", "at_once"),
    [(8, 8, 4, 4), (2, 2, 64, 2), (2, 1, 2, 2), (2, 4, 2, 1)],
)
def test_runs_on_a_cpu_share_its_cores(
    cores: int, threads: int, jobs: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softaug_lab.experiments.jobs.cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert side_by_side(torch.device("cpu"), jobs) == at_once


def test_too_little_time_is_told_before_work(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 10.0, 2.0)
    with pytest.raises(UsageError, match=r"--minutes must be at least (\d+) here") as error:
        make_plan(2, "mix_nll", Recipe(), data, CPU, 1)
    enough = int(str(error.value).split("at least ")[1].split()[0])
    assert make_plan(enough, "mix_nll", Recipe(), data, CPU, 1).trials >= 3


def test_an_end_longer_than_a_short_run_is_told_before_work(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 1.0, 2.0)
    with pytest.raises(UsageError, match=r"--end-epochs must be below the 8 epochs .* got 10"):
        make_plan(2, "mix_nll", Recipe(epochs=20, end_epochs=10), data, CPU, 1)


def test_weights_name_their_network_to_a_search_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: None
) -> None:
    del few
    write_images(tmp_path / "pictures", range(150))
    asked: list[Recipe] = []

    def begin(recipe: Recipe, _: Data) -> Recipe:
        return replace(recipe, model="resnet10t", weights_sha256="0" * 64)

    def stop(*request: Any) -> Plan:
        asked.append(request[2])
        raise KeyboardInterrupt

    monkeypatch.setattr("softaug_lab.cli.tune.begin_with_weights", begin)
    monkeypatch.setattr("softaug_lab.tuning.make_plan", stop)
    with pytest.raises(SystemExit):
        main(["tune", str(tmp_path / "pictures"), "--minutes", "5", "--weights", "w.pth"])
    assert (asked[0].model, asked[0].weights_sha256) == ("resnet10t", "0" * 64)


PLAN = Plan(5, "mix_nll", epochs=3, trial_epochs=1, trials=4, scored=300, epoch_seconds=1.0)


def test_a_plan_is_kept_and_only_its_own_search_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    PLAN.save(path)
    assert read_plan(path, 5, "mix_nll", seed=0) == PLAN
    with pytest.raises(UsageError, match="a search with seed 0, now 7; go on with the same"):
        read_plan(path, 5, "mix_nll", seed=7)
    with pytest.raises(UsageError, match="a search with minutes 5, now 6"):
        read_plan(path, 6, "mix_nll", seed=0)
    with pytest.raises(UsageError, match="a search with objective mix_nll, now error"):
        read_plan(path, 5, "error", seed=0)
    replace(PLAN, version="0.0.1").save(path)
    with pytest.raises(UsageError, match=r"a search with version 0\.0\.1"):
        read_plan(path, 5, "mix_nll", seed=0)


class KilledError(Exception):
    pass


def test_a_search_that_is_killed_trains_nothing_twice(tmp_path: Path, few: None) -> None:
    del few
    data = Data("stripes", NAMES, stripes(200, 0), stripes(30, 1))
    recipe = Recipe(arm="auto", batch_size=34, precision="fp32")

    def study(folder: Path) -> Study:
        return Study(folder, PLAN, recipe, data, {})

    steps: list[tuple[str, str, int]] = []

    def watch(name: str, of: Recipe, step: object) -> None:
        steps.append((name, of.arm, getattr(step, "step", 0)))

    whole = study(tmp_path / "whole").run_trials(CPU, watch)
    assert [trial.point for trial in whole] == list(ROUND[:4])
    expected, seen = list(steps), []

    def kill(name: str, of: Recipe, step: object) -> None:
        seen.append((name, of.arm, getattr(step, "step", 0)))
        if len(seen) == 13:  # within the third of 5 steps each
            raise KilledError

    with pytest.raises(KilledError):
        study(tmp_path / "cut").run_trials(CPU, kill)
    steps.clear()
    again = study(tmp_path / "cut").run_trials(CPU, watch)
    assert [(t.arm, t.score) for t in again] == [(t.arm, t.score) for t in whole]
    assert {name for name, *_ in steps} == {"short run 3 of 4", "short run 4 of 4"}
    assert len(seen) + len(steps) - len(expected) <= 3  # the steps of a run without a checkpoint

    surface = study(tmp_path / "cut").fit(again)
    arms = study(tmp_path / "cut").last_arms(surface)
    record = json.loads(json.dumps(as_record(study(tmp_path / "cut"), again, surface, arms, None)))
    write_tuning_report({"command": "softaug tune", **record}, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2
    assert all(f"{trial.score:.4f}" in page for trial in again)
    said = tuning_sentences(record)
    assert said[0].startswith("Use auto, the rule: in 4 short runs")
    assert "erase: not tried" not in said[2]  # the fourth short run is of it
    three = as_record(study(tmp_path / "cut"), again[:3], surface, arms, None)
    assert "erase: not tried" in tuning_sentences(three)[2]
    still = record | {"directions": [direction | {"best": 0.0, "gain": -0.0, "taken": False}
                                     for direction in record["directions"]]}  # fmt: skip
    assert tuning_sentences(still)[1] == "sigma: the rule's value is the best."


def test_short_runs_side_by_side_are_those_one_after_another(
    tmp_path: Path, few: None, forked: None
) -> None:
    del few, forked
    data = Data("stripes", NAMES, stripes(200, 0), stripes(30, 1))
    recipe = Recipe(arm="auto", batch_size=34, precision="fp32")
    told: dict[int, list[str]] = {1: [], 3: []}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone, jobs = (
            Study(tmp_path / str(jobs), PLAN, recipe, data, {}, jobs).run_trials(
                CPU, lambda name, *_, jobs=jobs: told[jobs].append(name)
            )
            for jobs in told
        )
    finally:
        torch.set_num_threads(before)
    assert [(t.arm, t.seed, t.score) for t in jobs] == [(t.arm, t.seed, t.score) for t in alone]
    # Each of five steps is told, or each of an epoch, by a process that reads the log of another.
    names = [f"short run {i} of 4" for i in range(1, 5)]
    assert told[1] == [name for name in names for _ in range(5)]
    assert sorted(told[3]) == names


def test_the_winner_is_as_far_from_the_rule_of_the_full_length(data: Data, tmp_path: Path) -> None:
    """One step at 8 epochs is one step at 60, where the rule's own sigma is 0.1 again."""
    plan = replace(PLAN, epochs=60, trial_epochs=8)
    study = Study(tmp_path, plan, Recipe(arm="auto"), data, {})
    scores = [1.5 - 0.3 * point.sigma for point, _ in design(6, RULE)]
    points, seeds = zip(*design(6, RULE), strict=True)
    surface = fit_surface(points, seeds, scores, PRIOR)
    steps = surface.winner().sigma
    assert steps > 1
    winner, beside = study.last_arms(surface)
    assert winner.startswith(f"auto@hard(randaugment)+crop({0.1 * 1.6**steps:.3g}, ")
    assert beside == "auto"
    nothing = fit_surface(points, seeds, [1.5] * 6, PRIOR)
    assert study.last_arms(nothing) == ("auto", "standard")


@pytest.mark.parametrize(
    ("gain", "spread", "passed"), [(0.1, 0.5, True), (0.1, 2.0, False), (-0.1, 0.5, False)]
)
def test_runs_of_full_length_decide_by_held_out_images(
    gain: float, spread: float, passed: bool, data: Data, tmp_path: Path
) -> None:
    """By a gain above its standard error, of 400 paired images."""
    found = arm_at(Point(erase=1), RULE)
    study = Study(tmp_path, PLAN, Recipe(arm="auto"), data, {})
    rule = torch.linspace(1, 3, 400, dtype=torch.float64)
    noise = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(200)
    scores = {found: rule - gain + spread * noise, "auto": rule}

    class Scored(Study):
        def _scores(self, run: RunFolder, processes: Processes) -> Tensor:
            del processes
            return scores[run.folder.name]

    pairs = [(Recipe(arm=arm), RunFolder(tmp_path / arm)) for arm in (found, "auto")]
    check = Scored(tmp_path, PLAN, Recipe(arm="auto"), data, {}).check(pairs, CPU)
    assert check is not None
    assert (check.images, check.passed) == (400, passed)
    assert check.gain == pytest.approx(gain)
    assert check.error == pytest.approx(spread / 20, rel=0.01)
    trials = [Trial(p, s, "", 1.5 - 0.3 * p.erase, 0.2, 1.0) for p, s in design(12, RULE)]
    record = as_record(study, trials, study.fit(trials), (found, "auto"), check)
    assert (record["winner"], record["beside"]) == ((found, "auto") if passed else ("auto", found))
    said = tuning_sentences(record)[0]
    assert said.startswith(f"Use {found}. By" if passed else "Use auto, the rule. By")
    assert f"it {'gains' if gain > 0 else 'loses'} 0.100 {'on' if gain > 0 else 'to'} the" in said
    assert study.check([(Recipe(arm="auto"), pairs[1][1]), pairs[0]], CPU) is None


def test_a_search_needs_images_to_decide_on(data: Data) -> None:
    require_tunable(data)
    for held_out, count in ((None, 0), (stripes(99, 1), 99)):
        with pytest.raises(
            UsageError, match=rf"{count} images are held out.*hold out 100 at least"
        ):
            require_tunable(replace(data, held_out=held_out))


@pytest.mark.parametrize(
    ("robust", "sigma", "direction", "slope"),
    [(0, 0.1, "erase", 1), (1, 0.1, "erase", -1), (1, 0.3, "sigma", -1)],
)
def test_a_winner_can_be_trained(
    robust: int,
    sigma: float,
    direction: str,
    slope: int,
    tmp_path: Path,
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes no further than a strength can: what the fit says of it is what is trained."""
    rule = Strength(sigma=sigma, erase=robust / 10)
    monkeypatch.setattr(Study, "_rule", lambda *_: rule)
    study = Study(tmp_path, PLAN, Recipe(arm="auto"), data, {})
    trials = [
        Trial(p, s, "", 1.5 + 0.3 * slope * getattr(p, direction), 0.2, 1.0)
        for p, s in design(12, rule)
    ]
    surface = study.fit(trials)
    best = getattr(surface.winner(), direction)
    low, high = bounds_around(rule)[direction]
    assert low <= best <= high
    found, beside = study.last_arms(surface)
    assert (found == "auto", beside) == ((True, "standard") if robust == 0 else (False, "auto"))


@pytest.mark.parametrize(("epochs", "first"), [(59, "crop(0.0833,"), (60, "hard(randaugment)")])
def test_short_runs_have_the_policy_of_the_last(
    epochs: int, first: str, tmp_path: Path, few: None
) -> None:
    del few
    data = Data("stripes", NAMES, stripes(200, 0), stripes(30, 1))
    recipe = Recipe(arm="auto", batch_size=128, precision="fp32")
    study = Study(tmp_path, replace(PLAN, epochs=epochs, trials=1), recipe, data, {})
    (trial,) = study.run_trials(CPU, lambda *_: None)
    assert trial.arm.startswith(f"auto@{first}")


def test_objectives_are_those_of_the_command_line() -> None:
    from typing import get_args, get_type_hints

    from softaug_lab.cli.tune import tune

    hint = get_type_hints(tune, include_extras=True)["objective"]
    assert set(get_args(get_args(hint)[0])) == set(OBJECTIVES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "1", "--sigma", "0.2"], "tune chooses --sigma, leave it out; got 0.2"),
        (["--minutes", "1", "--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["--minutes", "0"], "--minutes must be finite and above 0, got 0"),
        (["--minutes", "1", "--train-images", "500"], "450 training images are too few to tune on"),
    ],
)
def test_wrong_requests(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", "demo", "--run", str(tmp_path / "run"), *options]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_several_processes_cannot_tune(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        main(["tune", "demo", "--minutes", "5"])
    assert "tune is one process; leave out torchrun" in capsys.readouterr().err


@pytest.mark.parametrize("point", [Point(), Point(erase=1)])
def test_the_command_trains_the_winner_and_writes_a_report(
    point: Point,
    tmp_path: Path,
    few: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a plan of one epoch each, since time is not what is tested."""
    del few
    write_images(tmp_path / "pictures", range(180))
    folder = tmp_path / "run"
    monkeypatch.setattr("softaug_lab.tuning.make_plan", lambda *_: replace(PLAN, trials=3))
    monkeypatch.setattr(Surface, "winner", lambda _: point)
    pictures = str(tmp_path / "pictures")
    begin = ["tune", pictures, "--minutes", "5", "--run"]
    command = [*begin, str(folder), "--held-out", "0.1"]
    main([*command, "--batch-size", "64"])
    assert {path.name for path in folder.iterdir()} == {
        "plan.json", "trials", "last", "tuning.json", "report.html"
    }  # fmt: skip
    record = json.loads((folder / "tuning.json").read_text())
    assert len(record["trials"]) == 3
    assert {path.parent.name for path in folder.glob("last/runs/*/recipe.json")} == {
        folder_name(Recipe(arm=arm))
        for arm in (record["found"], "standard" if point == Point() else "auto")
    }
    assert (record["check"] is None) == (point == Point())
    said = capsys.readouterr()
    winner = folder / "last" / "runs" / folder_name(Recipe(arm=record["winner"]))
    printed = next(line for line in said.out.splitlines() if line.startswith("model "))
    assert shlex.split(printed) == ["model", str(winner / "model.safetensors")]
    assert "3 short runs of 1 epoch," in said.err
    models = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    assert len(models) == 5
    with pytest.raises(UsageError, match=rf"name its winner, {re.escape(str(winner))}$"):
        load_own(folder)
    main([*command, "--batch-size", "64"])  # nothing is trained twice
    assert {path: path.stat().st_mtime_ns for path in models} == models
    shutil.rmtree(folder / "trials")
    (folder / "plan.json").unlink()
    with pytest.raises(SystemExit):
        main([*command, "--batch-size", "64"])
    assert "exists and is no search" in capsys.readouterr().err
    (tmp_path / "file").touch()
    for other in (winner, tmp_path / "file"):  # without a share, which that of a run would replace
        with pytest.raises(SystemExit):
            main([*begin, str(other)])
        assert f"{other}: exists and is no search" in capsys.readouterr().err
