"""Arms are data: what text makes of them, and what the rivals do, against their formulas."""

import json
import os
import signal
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_train import CPU, QUICK, data, ignore, same, trained
from torch import Tensor

from softaug_lab.basics.errors import UsageError
from softaug_lab.corruptions.apply import corrupt
from softaug_lab.data.dataset import Data
from softaug_lab.evaluation.predictions import Predictions
from softaug_lab.experiments.measure import measure_corruptions
from softaug_lab.experiments.record import run_as_dict
from softaug_lab.experiments.run_one import read_record, run_one
from softaug_lab.models.classifier import load_model
from softaug_lab.models.logits import predict_logits
from softaug_lab.recipes import arms as arms_module
from softaug_lab.recipes.arms import (
    ARMS,
    DEFAULT_ARMS,
    SUPERVISED,
    Arm,
    main_arm,
    member_of,
    read_arm,
    rivals,
    role_of,
    same_augmentation,
    sweep_arms,
    swept,
)
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run
from softaug_lab.training.augmentation import build_arm
from softaug_lab.training.loop import fit
from softaug_lab.training.other_methods import (
    confusions,
    focal,
    loss_of,
    mix_batch,
    online_smoothing,
)
from softaug_lab.training.progress import Progress
from softaug_lab.training.signals import InterruptedRunError
from softaug_lab.training.supervised import build_supervised

__all__ = ["data"]  # the fixture


def test_all_arms_are_described() -> None:
    assert all(arm.about for arm in ARMS.values())
    text = (Path(arms_module.__file__).parent / "arms.yaml").read_text()
    assert all(f"\n# {field.name} " in text for field in fields(Arm) if field.name not in (
        "about", "alpha", "k", "ceiling", "gamma"))  # fmt: skip


def test_every_named_arm_has_the_role_that_its_comparison_needs() -> None:
    roles = ["plain", "standard", "smoothed", "harsh", "constant", "soft"]
    assert [ARMS[arm].role for arm in DEFAULT_ARMS] == roles
    papers = {"harsh": "harsh", "harsh-constant": "constant", "soft": "soft"}
    assert {arm: ARMS[arm].role for arm in papers} == papers
    others = [ARMS[name] for name in SUPERVISED if name not in {*DEFAULT_ARMS, *papers}]
    assert all(arm.role in ("soft", "rival") for arm in others)
    assert all(bool(arm.against) == (arm.role == "soft") for arm in ARMS.values())


def test_a_text_that_changes_a_control_or_rival_is_a_variant() -> None:
    for text in ("soft(k=1)@0.2", "simsiam-soft(pair=own)", "soft-both"):
        assert read_arm(text).role == "soft"
    for text in ("focal(gamma=3)", "standard@0.2", "harsh(loss=focal)@0.2", "none@crop(0.1)"):
        assert read_arm(text).role == "variant"
    assert read_arm("harsh-constant@0.2").role == "constant"
    assert read_arm("mixup@0.2").role == "rival"
    assert role_of("of-another-version") is None


def test_a_soft_arm_is_judged_against_controls_of_its_augmentation_and_all_rivals() -> None:
    arms = ["standard", "harsh@0.2", "soft(k=1)@0.2", "soft", "mixup", "none", "ensemble", "harsh"]
    assert rivals("soft(k=1)@0.2", arms) == ["standard", "harsh@0.2", "mixup", "ensemble"]
    assert rivals("soft", arms) == ["standard", "harsh", "mixup", "ensemble"]
    assert rivals("mixup", arms) == []
    assert rivals("soft", ["mollified", "focal(gamma=3)", "standard@0.1"]) == ["mollified"]
    pretrained = ["simsiam-soft(pair=own)@0.2", "simsiam-harsh@0.2", "simsiam-harsh", "simsiam"]
    assert rivals(pretrained[0], pretrained) == ["simsiam", "simsiam-harsh@0.2"]
    assert same_augmentation("soft(k=1)@0.2", "harsh@crop(0.2)")
    assert not same_augmentation("soft", "standard")


def test_a_soft_arm_of_any_name_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARMS, "blurred-targets", replace(ARMS["soft"], augment="blur"))
    arms = ["standard", "harsh", "blurred-targets", "mixup"]
    assert rivals("blurred-targets", arms) == ["standard", "mixup"]
    assert main_arm(arms) == "blurred-targets"
    assert main_arm([*arms, "soft-both", "soft"]) == "soft"
    assert main_arm(["standard", "mollified"]) is None


def test_text_sets_fields_and_augmentation() -> None:
    assert read_arm("soft") == ARMS["soft"]
    assert read_arm("soft@0.15") == replace(ARMS["soft"], augment="crop(0.15)")
    assert read_arm("soft(k=1)@crop(0.2)+erase(0.3)") == replace(
        ARMS["soft"], k=1, augment="crop(0.2)+erase(0.3)"
    )
    assert read_arm("standard(mix=cutmix, loss=focal, gamma=3)") == replace(
        ARMS["standard"], mix="cutmix", loss="focal", gamma=3, role="variant"
    )
    assert read_arm("standard@standard+cutout(5)").augment == "standard+cutout(5)"
    assert read_arm(member_of("ensemble(alpha=0.2, targets=smoothed)@crop(0.1)")) == replace(
        read_arm("ensemble(alpha=0.2, targets=smoothed)@crop(0.1)"), members=1
    )
    assert read_arm(member_of("ensemble")) == replace(ARMS["ensemble"], members=1, role="variant")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sotf", "unknown arm 'sotf'; did you mean soft"),
        ("soft(sigma=1)", "unknown field 'sigma'"),
        ("soft(k)", r"arm 'soft\(k\)': expected k=VALUE"),
        ("soft(k=0)", "k must be above 0, got 0"),
        ("soft(k=much)", "k must be above 0, got much"),
        ("soft(ceiling=1.5)", r"ceiling must be in \(0, 1\], got 1.5"),
        ("standard-smoothed(alpha=1)", r"alpha must be in \[0, 1\), got 1"),
        ("standard(targets=softer)", "targets must be hard or smoothed or .*, got softer"),
        ("standard(members=1.5)", "members must be at least 1, got 1.5"),
        ("standard(weighted=1)", "weighted must be true or false, got 1"),
        ("harsh-constant(weighted=true)", "weighted goes with hard or soft targets, got constant"),
        ("focal(gamma=-1)", "gamma must be 0 or more, got -1"),
        ("soft(pair=own)", "pair goes with method simsiam, got own"),
        ("soft@crop(0.2)+nothing", "unknown transform 'nothing'"),
    ],
)
def test_wrong_arms_are_refused_with_the_recipe(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(arm=text)


def test_standard_and_harsh_are_the_recipes() -> None:
    recipe = replace(QUICK, flip=False, standard="uniform_crop(3)", augment="erase(0.5)")
    for arm, parts in {
        "standard": ["uniform_crop(3)"],
        "harsh": ["erase(0.5)"],
        "cutout": ["uniform_crop(3)", "cutout"],
        "soft@standard+harsh": ["uniform_crop(3)", "erase(0.5)"],
    }.items():
        own = build_arm(replace(recipe, arm=arm), 3, 12, 12).transform
        expected = build_arm(replace(recipe, arm=f"soft@{'+'.join(parts)}"), 3, 12, 12).transform
        assert own == expected


def test_targets_of_each_kind() -> None:
    """At full visibility and at none, against the definitions."""

    def kept(arm: str, visibility: float) -> float:
        augment = build_arm(replace(QUICK, arm=arm), 4, 12, 12)
        return augment.targets(torch.tensor([2]), torch.tensor([visibility]))[0, 2].item()

    assert kept("standard", 0.3) == kept("focal", 0.3) == 1
    assert kept("standard-smoothed", 0.3) == pytest.approx(0.925)
    assert kept("standard-smoothed(alpha=0.4)", 0.3) == pytest.approx(0.7)
    assert kept("soft", 0.5) == pytest.approx(1 - 0.75 * 0.25)
    assert kept("soft(k=1)", 0.5) == pytest.approx(1 - 0.75 * 0.5)
    assert kept("soft-smoothed", 1.0) == pytest.approx(0.9)
    assert kept("soft-smoothed", 0.0) == pytest.approx(0.25)
    assert kept("online-smoothed", 1.0) == pytest.approx(0.9)
    assert kept("soft-weight", 0.5) == pytest.approx(1 - 0.75 * 0.25)


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
    rows = torch.tensor([[0.0, 1.0, 0.0], [0.7, 0.2, 0.1]])
    p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    expected = -sum(
        rows[i, j] * (1 - p[i, j]) ** 2 * p[i, j].log() for i in range(2) for j in range(3)
    )
    torch.testing.assert_close(focal(logits, rows, 2.0), torch.as_tensor(expected))
    plain = F.cross_entropy(logits, rows, reduction="sum")
    torch.testing.assert_close(focal(logits, rows, 0.0), plain)
    torch.testing.assert_close(loss_of(ARMS["focal"])(logits, rows), torch.as_tensor(expected))
    torch.testing.assert_close(loss_of(ARMS["soft"])(logits, rows), plain)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_images_have_mixed_targets(kind: str) -> None:
    """Images of one colour each: how much of each colour is left is what the target says."""
    colours = torch.arange(4) * 40
    images = colours.to(torch.uint8)[:, None, None, None].expand(4, 1, 20, 20).contiguous()
    rows = torch.eye(4)
    for seed in range(5):
        pixels, targets = mix_batch(ARMS[kind], images, rows, seed)
        expected = targets @ colours.float()
        torch.testing.assert_close(pixels.mean(dim=(1, 2, 3)), expected, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
        assert ((targets > 0).sum(dim=1) == 2).all()
    again, _ = mix_batch(ARMS[kind], images, rows, 4)
    assert torch.equal(pixels, again)
    assert not torch.equal(pixels, mix_batch(ARMS[kind], images, rows, 5)[0])


def test_confusions_are_of_what_is_right() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 1.0, 2.0], [4.0, 0.0, 1.0]])
    labels = torch.tensor([0, 0, 2, 0])
    p = logits.softmax(dim=1)
    found = confusions(logits, labels)
    torch.testing.assert_close(found[0], p[0] + p[3])
    torch.testing.assert_close(found[2], p[2])
    assert found[1].sum() == 0
    # The mass that a target loses goes where its class is confused, and evenly where none is known.
    rows = online_smoothing(found)(torch.tensor([2, 1]), torch.tensor([0.9, 0.9]))
    lost = p[2, :2] / p[2, :2].sum() * 0.1
    torch.testing.assert_close(rows[0], torch.tensor([*lost.tolist(), 0.9]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows[1], torch.tensor([0.05, 0.9, 0.05]))


def test_online_smoothing_goes_by_the_epoch_before_and_survives_a_cut(
    data: Data, tmp_path: Path
) -> None:
    recipe = replace(QUICK, arm="online-smoothed", epochs=3)
    whole = trained(recipe, data, tmp_path / "whole")
    assert not same(whole, trained(replace(recipe, arm="standard-smoothed"), data, tmp_path / "b"))

    def stop(progress: Progress) -> None:
        if progress.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        trained(recipe, data, tmp_path / "cut", watch=stop)
    run = open_run(tmp_path / "cut", recipe, data, {}, resume=True)
    fit(recipe, data, run, CPU, ignore)
    assert same(whole, load_model(run.model_file).state_dict())


def test_the_confusion_of_an_epoch_smooths_the_next_one(data: Data) -> None:
    objective = build_supervised(replace(QUICK, arm="online-smoothed"), data, CPU)
    batch: Any = SimpleNamespace(labels=torch.tensor([0, 1, 2]))
    logits = torch.tensor([[3.0, 2.0, 0.0], [0.0, 3.0, 0.0], [0.0, 1.0, 0.0]])
    for _ in range(2):
        objective.after_step(logits, batch, torch.tensor(True))
    objective.after_step(logits, batch, torch.tensor(False))  # a step that was left out
    assert objective.confusion is not None
    assert torch.equal(objective.confusion[0], torch.ones(3, 3))
    objective.next_epoch()
    expected = 2 * confusions(logits, batch.labels)
    torch.testing.assert_close(objective.confusion, torch.stack([expected, torch.zeros(3, 3)]))


def test_no_arm_is_mixed_in_the_end_phase(data: Data, tmp_path: Path) -> None:
    """Mixed targets have two classes, those of the end phase one."""
    recipe, mixed = replace(QUICK, arm="mixup", epochs=3, end_epochs=1), []
    objective = build_supervised(recipe, data, CPU)
    loss = objective.loss

    def spy(outputs: Tensor, targets: Tensor) -> Tensor:
        mixed.append(bool((targets.max(dim=1).values < 1).any()))
        return loss(outputs, targets)

    objective.loss = spy
    trained(recipe, data, tmp_path / "a", objective=objective)
    assert mixed == 10 * [True] + 5 * [False]


def test_an_ensemble_that_was_stopped_goes_on(data: Data, tmp_path: Path) -> None:
    """At its second member, when its own folder has no weights yet."""
    recipe = replace(QUICK, arm="ensemble(members=2)")
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)

    def stopping(member: Recipe, data: Data, folder: RunFolder, *others: Any) -> None:
        if folder.folder.name == "member-1":
            raise KeyboardInterrupt
        fit(member, data, folder, *others)

    with pytest.raises(KeyboardInterrupt):
        run_one(recipe, data, run, CPU, ignore, stopping)
    first = run.folder / "member-0" / "model.safetensors"
    made = first.stat().st_mtime_ns
    with pytest.raises(UsageError, match="--resume goes on with it"):
        open_run(run.folder, recipe, data, {}, resume=False)
    run_one(recipe, data, open_run(run.folder, recipe, data, {}, resume=True), CPU, ignore)
    assert run.finished
    assert first.stat().st_mtime_ns == made


def test_an_ensemble_averages_its_members(data: Data, tmp_path: Path) -> None:
    recipe = replace(QUICK, arm="ensemble(members=2)")
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)
    record = run_one(recipe, data, run, CPU, ignore)
    members = [
        Predictions.load(folder / "predictions.npz") for folder in run.folder.glob("member-*")
    ]
    assert len(members) == 2
    assert not torch.equal(members[0].logits, members[1].logits)
    expected = torch.stack([member.logits.softmax(dim=1) for member in members]).mean(dim=0)
    together = Predictions.load(run.predictions_file)
    torch.testing.assert_close(together.logits.exp(), expected)
    for level in together.levels:
        apart = torch.stack([m.levels[level].logits.softmax(dim=1) for m in members])
        torch.testing.assert_close(together.levels[level].logits.exp(), apart.mean(dim=0))
    assert together.mix_logits is not None
    mixed = torch.stack([m.mix_logits.softmax(dim=1) for m in members if m.mix_logits is not None])
    torch.testing.assert_close(together.mix_logits.exp(), mixed.mean(dim=0))
    assert record.evaluation["mix"]["images"] == len(data.test)
    wrong = (expected.argmax(dim=1) != data.test.labels).float().mean().item()
    assert record.evaluation["top1_error"] == pytest.approx(wrong)
    # The first member is a run of the standard arm, with its seed.
    alone = trained(replace(QUICK, arm="standard"), data, tmp_path / "alone")
    assert same(alone, load_model(run.folder / "member-0" / "model.safetensors").state_dict())
    seconds = [epoch["seconds"] for epoch in run.history()]
    assert seconds == sorted(seconds)
    assert len(run.model_files) == 3
    # Under corruptions too, once.
    measure_corruptions([run], data, CPU)
    found = json.loads(run.corruptions_file.read_text())
    corrupted = corrupt(data.test.images, "contrast", 5, range(len(data.test)))
    models = [load_model(file) for file in run.model_files if file.exists()]
    p = torch.stack([predict_logits(model, corrupted).softmax(dim=1) for model in models])
    wrong = (p.mean(dim=0).argmax(dim=1) != data.test.labels).float().mean().item()
    assert found["corruptions"]["contrast"][4]["top1_error"] == pytest.approx(wrong)
    run.corruptions_file.write_text(json.dumps({**found, "mean": {"top1_error": 0.125}}))
    measure_corruptions([run], data, CPU)
    assert run_as_dict(read_record(run))["evaluation"]["corruption_error"] == 0.125


def test_a_sweep_is_a_list_of_arms() -> None:
    arms = sweep_arms((0.1, 0.3), (1, 2), ("soft", "soft-both"), (0.05,))
    assert len(set(arms)) == len(arms) == 1 + 1 + 2 * 2 * 2
    for arm in arms:
        Recipe(arm=arm)
    assert swept("soft-both(k=2)@0.3") == ("soft-both(k=2)", "sigma", 0.3)
    assert swept("standard-smoothed(alpha=0.05)") == ("standard-smoothed", "alpha", 0.05)
    assert swept("soft@crop(0.3)") is None
    assert swept("standard") is None
