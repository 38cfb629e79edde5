"""Perform a search: the short runs of its plan, the choice, and the last runs at full length."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from softaug.recommend import Strength
from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data
from softaug_lab.evaluation import Predictions, predict_views
from softaug_lab.experiments import RunRecord, fills_for, open_runs, run_jobs, run_one
from softaug_lab.models import load_model
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder, folder_name, open_run
from softaug_lab.training import Progress, resolve, rule_of
from softaug_lab.tuning.design import BOUNDS, ROUND, Point, arm_at, bounds_around, design
from softaug_lab.tuning.plan import Plan, search_data
from softaug_lab.tuning.score import OBJECTIVES, score
from softaug_lab.tuning.surface import Choice, Surface, fit_surface

DRAWN = 31  # places at which the report draws a curve
BATCH = 500  # images
Watch = Callable[[str, Recipe, Progress], None]
Pairs = list[tuple[Recipe, RunFolder]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A short run: its point and seed, the score of its model, and its error on whole images."""

    point: Point
    seed: int
    arm: str
    score: float
    error: float
    seconds: float


@dataclass(frozen=True)
class Check:
    """What the winner of the short runs gains on the rule at full length, on held-out images.

    gain: of the score, with its standard error over images. passed: whether it is above that.
    """

    gain: float
    error: float
    images: int

    @property
    def passed(self) -> bool:
        return self.gain > self.error


@dataclass(frozen=True)
class Study:
    """A search in its folder.

    data: all images; the last runs train on data.train and test on data.test. source: DATA and its
    options, for the records of runs. jobs: runs at a time, each in a process of its own.
    """

    folder: Path
    plan: Plan
    recipe: Recipe
    data: Data
    source: dict[str, Any]
    jobs: int = 1

    def run_trials(self, processes: Processes, watch: Watch) -> list[Trial]:
        """Train and score the short runs; those that are finished are only read."""
        search = search_data(self.data, self.recipe.seed)
        rule = self._rule(self.plan.trial_epochs, search)
        points = design(self.plan.trials, rule)
        pairs = []
        for point, number in points:
            arm, seed = arm_at(point, rule), self.recipe.seed + number
            recipe = replace(self.recipe, arm=arm, seed=seed, epochs=self.plan.trial_epochs)
            recipe = resolve(recipe, search)
            folder = self.folder / "trials" / folder_name(recipe)
            run = open_run(folder, recipe, search, self.source, True, processes.device)
            pairs.append((recipe, run))
        names = [f"short run {i + 1} of {len(points)}" for i in range(len(points))]
        records = self._run(pairs, names, search, processes, watch)
        trials = []
        for (point, _), (recipe, run), record in zip(points, pairs, records, strict=True):
            predictions = Predictions.load(run.predictions_file)
            value, whole = (score(name, predictions) for name in (self.plan.objective, "error"))
            trials.append(Trial(point, recipe.seed, recipe.arm, value, whole, record.seconds))
        return trials

    def _run(
        self, pairs: Pairs, names: Sequence[str], data: Data, processes: Processes, watch: Watch
    ) -> list[RunRecord]:
        """Perform the runs, of these names, `jobs` at a time; finished ones are only read."""
        if self.jobs > 1:
            name_of = {recipe: name for (recipe, _), name in zip(pairs, names, strict=True)}

            def watch_job(recipe: Recipe, progress: Progress) -> None:
                watch(name_of[recipe], recipe, progress)

            run_jobs(pairs, data, str(processes.device), self.jobs, watch_job, log.warning)
        return [
            run_one(recipe, data, run, processes, partial(watch, name, recipe))
            for (recipe, run), name in zip(pairs, names, strict=True)
        ]

    def fit(self, trials: Sequence[Trial]) -> Surface:
        """Fit the quadratic of the objective to the short runs, and that of its price."""
        objective = OBJECTIVES[self.plan.objective]
        points, seeds = [trial.point for trial in trials], [trial.seed for trial in trials]
        surface = fit_surface(points, seeds, [trial.score for trial in trials], objective.prior)
        rule = self._rule(self.plan.trial_epochs, self.data)
        surface = replace(surface, bounds=bounds_around(rule))
        if not objective.guarded:
            return surface
        errors = [trial.error for trial in trials]
        whole = fit_surface(points, seeds, errors, OBJECTIVES["error"].prior)
        return replace(surface, whole=whole)

    def last_arms(self, surface: Surface) -> tuple[str, str]:
        """Return the winner, as far from the rule at full length as it was at the short one.

        Beside it the rule, or the standard arm where the rule has won.
        """
        winner = surface.winner()
        if winner == Point():
            return "auto", "standard"
        return arm_at(winner, self._rule(self.plan.epochs, self.data)), "auto"

    def _rule(self, epochs: int, data: Data) -> Strength:
        """Return the rule's strength for so many epochs, with the last runs' RandAugment or not."""
        last = rule_of(replace(self.recipe, epochs=self.plan.epochs), self.data)
        return rule_of(replace(self.recipe, epochs=epochs), data, policy=last.policy)

    def run_last(self, arms: Sequence[str], processes: Processes, watch: Watch) -> Pairs:
        """Train and evaluate both arms at full length."""
        recipe = replace(self.recipe, epochs=self.plan.epochs)
        folder = self.folder / "last"
        pairs = open_runs(recipe, arms, (recipe.seed,), self.data, folder, self.source, processes)
        self._run(pairs, ["last run"] * len(pairs), self.data, processes, watch)
        return pairs

    def check(self, pairs: Pairs, processes: Processes) -> Check | None:
        """Compare the winner with the rule at full length; None where the rule has won.

        Images that no run trained on decide, since what gains in short runs may not in long ones.
        """
        if pairs[0][0].arm == "auto":
            return None
        winner, rule = (self._scores(run, processes) for _, run in pairs)
        gains = rule - winner
        return Check(float(gains.mean()), float(gains.std()) / len(gains) ** 0.5, len(gains))

    def _scores(self, run: RunFolder, processes: Processes) -> Tensor:
        """Score a run on each held-out image."""
        held_out = self.data.held_out
        assert held_out is not None
        model = load_model(run.model_file).to(processes.device)
        fills = fills_for(self.data, held_out)
        predictions = predict_views(model, held_out, fills, 0, BATCH, processes)
        return OBJECTIVES[self.plan.objective].of(predictions)


def as_record(
    study: Study,
    trials: Sequence[Trial],
    surface: Surface,
    arms: tuple[str, str],
    check: Check | None,
) -> dict[str, Any]:
    """Make the content of tuning.json: every short run, the fit, its check, and what was chosen."""
    objective = OBJECTIVES[study.plan.objective]
    winner, other = arms if check is None or check.passed else arms[::-1]
    return {
        "data": study.data.name,
        "plan": asdict(study.plan),
        "about": objective.about,
        "percent": objective.percent,
        "noise": surface.noise,
        "trials": [asdict(trial) for trial in trials],
        "directions": [_direction(choice, trials, surface) for choice in surface.choices()],
        "found": arms[0],
        "check": None if check is None else asdict(check),
        "winner": winner,
        "beside": other,
    }


def _direction(choice: Choice, trials: Sequence[Trial], surface: Surface) -> dict[str, Any]:
    """The fit in one direction, and the short runs that differ from the rule in it alone."""
    name = choice.direction
    x = np.linspace(*BOUNDS[name], DRAWN)
    difference, error = surface.difference(name, x)
    rules = {trial.seed: trial.score for trial in trials if trial.point == ROUND[0]}
    tried = [
        (getattr(trial.point, name), trial.score - rules[trial.seed])
        for trial in trials
        if getattr(trial.point, name) and trial.seed in rules
    ]
    return {
        **asdict(choice),
        "curve": {"x": x.tolist(), "difference": difference.tolist(), "error": error.tolist()},
        "tried": tried,
    }
