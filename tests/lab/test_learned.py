"""An arm that learns its curve: from held-out images, the same after a resume, checked early."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import stripes

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.cli.app import main
from softaug_lab.data.dataset import Data
from softaug_lab.data.held_out import halves
from softaug_lab.experiments.record import collect
from softaug_lab.experiments.run_one import require_trainable, run_one
from softaug_lab.metrics import fit_temperature
from softaug_lab.models.classifier import load_model
from softaug_lab.models.logits import predict_logits
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run
from softaug_lab.training.augmentation import resolve
from softaug_lab.training.loop import fit
from softaug_lab.training.progress import Progress

CPU = Processes(torch.device("cpu"))
ARM = "auto(targets=learned)"
QUICK = Recipe(arm=ARM, epochs=10, batch_size=16, precision="fp32", sigma=0.3)


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def data() -> Data:
    names = ("rows", "columns", "checks")
    return Data("stripes", names, stripes(70, 0), stripes(30, 1), held_out=stripes(60, 2))


def new_run(data: Data, folder: Path) -> tuple[Recipe, RunFolder]:
    recipe = resolve(QUICK, data)
    return recipe, open_run(folder, recipe, data, {}, resume=True)


def test_a_run_learns_its_curve_and_fits_its_temperature_on_other_images(
    data: Data, tmp_path: Path
) -> None:
    recipe, run = new_run(data, tmp_path / "run")
    record = run_one(recipe, data, run, CPU, lambda _: None)
    curves = [(epoch["ceiling"], epoch["k"]) for epoch in record.history]
    # Observed after epochs 3 to 9; the log of an epoch has the curve that it began with.
    assert curves[:3] == [(1, pytest.approx(2))] * 3
    assert len(set(curves[2:])) == 8
    assert data.held_out is not None
    _, others = halves(data.held_out)
    logits = predict_logits(load_model(run.model_file), others.images)
    expected = fit_temperature(logits, others.labels)
    assert record.evaluation["temperature"] == pytest.approx(expected, rel=1e-4)
    (softening,) = collect("", "", [run], data, [])["softening"]
    assert softening["confidence"][-1] == pytest.approx(curves[-1][0])  # what was learned


def test_a_run_that_is_killed_learns_the_same(data: Data, tmp_path: Path) -> None:
    recipe, whole = new_run(data, tmp_path / "whole")
    fit(recipe, data, whole, CPU, lambda _: None)

    def kill(progress: Progress) -> None:
        if progress.step == 33:  # of 5 an epoch
            raise KilledError

    _, cut = new_run(data, tmp_path / "cut")
    with pytest.raises(KilledError):
        fit(recipe, data, cut, CPU, kill)
    fit(recipe, data, cut, CPU, lambda _: None)
    for a, b in zip(whole.history(), cut.history(), strict=True):
        assert [a[key] for key in ("loss", "ceiling", "k")] == [
            pytest.approx(b[key], rel=1e-12) for key in ("loss", "ceiling", "k")
        ]
    weights = [load_model(run.model_file).state_dict() for run in (whole, cut)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_halves_share_no_image(data: Data) -> None:
    assert data.held_out is not None
    first, second = halves(data.held_out)
    assert len(first) == len(second) == 30
    shared = (first.images[:, None] == second.images[None]).flatten(2).all(dim=2).any()
    assert not shared
    assert torch.equal(
        torch.cat([first.labels, second.labels]).bincount(), data.held_out.labels.bincount()
    )


def test_it_needs_held_out_images(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"from held-out images.*--held-out 0.05"):
        require_trainable(QUICK, replace(data, held_out=None))
    command = ["compare", "demo", "--train-images", "100", "--arms", "standard", ARM]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--epochs", "1", "--seeds", "1", "--run", "never-made"])
    assert stopped.value.code == 2
    assert "held-out images, and there are none" in capsys.readouterr().err
    assert not Path("never-made").exists()
