"""Held-out figures by epoch: right, harmless to training, and the same after a resume."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import stripes
from test_pace import AHEAD, CPU, QUICK, assert_alike, ignore, log, trained

from softaug_lab.data import Data
from softaug_lab.data.held_out import hold_out
from softaug_lab.metrics import sample_nll, top_k_error
from softaug_lab.models import load_model, predict_logits
from softaug_lab.runs import RunFolder
from softaug_lab.training.loop import fit
from softaug_lab.training.pace import Pace
from softaug_lab.training.progress import Progress
from softaug_lab.training.signals import InterruptedRunError
from softaug_lab.training.validation import Validation, thinned

KEYS = ("held_out_top1_error", "held_out_nll")


@pytest.fixture(scope="module")
def data() -> Data:
    whole = Data("stripes", ("rows", "columns", "checks"), stripes(420, 0), stripes(30, 1))
    return hold_out(whole, 0.04, seed=0)


def test_the_last_epochs_figures_are_those_of_the_model(data: Data, tmp_path: Path) -> None:
    run = trained(QUICK, data, tmp_path / "run", Pace())
    assert data.held_out is not None
    logits = predict_logits(load_model(run.model_file), data.held_out.images)
    first, last = run.history()
    assert last["held_out_top1_error"] == top_k_error(logits, data.held_out.labels)
    nll = sample_nll(logits, data.held_out.labels).mean().item()
    assert last["held_out_nll"] == pytest.approx(nll, rel=1e-4)
    assert first["held_out_nll"] != last["held_out_nll"]


def test_training_is_the_same_to_the_bit(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = trained(QUICK, data, tmp_path / "measured", AHEAD)
    monkeypatch.setattr(Validation, "figures", lambda *_: {})
    plain = trained(QUICK, data, tmp_path / "plain", AHEAD)
    theirs = load_model(plain.model_file).state_dict()
    for name, value in load_model(measured.model_file).state_dict().items():
        assert torch.equal(value, theirs[name]), name
    assert not set(KEYS) & set(plain.history()[-1])


def test_a_resumed_run_has_the_same_figures(data: Data, tmp_path: Path) -> None:
    steps: list[Progress] = []
    whole = trained(QUICK, data, tmp_path / "whole", Pace(), steps.append)
    whole_steps = steps[-1].steps

    def stop(step: Progress) -> None:
        if step.step == whole_steps // 2 + 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError):
        trained(QUICK, data, tmp_path / "cut", Pace(), stop)
    cut = RunFolder(tmp_path / "cut")
    fit(QUICK, data, cut, CPU, ignore)
    assert_alike(cut, whole)
    assert set(KEYS) <= set(log(cut)[0]) & set(log(cut)[1])


def test_a_large_share_is_thinned_and_all_classes_stay(data: Data) -> None:
    many = stripes(300, 2)
    order = many.labels.argsort(stable=True)
    by_class = replace(many, images=many.images[order], labels=many.labels[order])
    few = thinned(by_class, data)
    assert len(few) == int(0.05 * data.train_images)
    assert few.labels.bincount().tolist() == pytest.approx([len(few) / 3] * 3, abs=1)
