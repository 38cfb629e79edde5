"""Heads with a score of their own: against closed forms, on two moons, and as arms of a run."""

import json
import math
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_train import CPU, QUICK, data, ignore, same, trained
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.cli.app import main
from softaug_lab.data.dataset import Data
from softaug_lab.evaluation.predictions import Predictions
from softaug_lab.experiments.measure import measure_ood
from softaug_lab.experiments.record import run_as_dict
from softaug_lab.experiments.run_one import read_record, run_one
from softaug_lab.metrics.ood import auroc
from softaug_lab.models import heads as heads_module
from softaug_lab.models.classifier import headless, load_model, take_head
from softaug_lab.models.heads import HEADS, Centroids, Gaussians, Process, bound_weights
from softaug_lab.models.logits import predict_logits
from softaug_lab.models.model_file import save_model
from softaug_lab.models.own_score import own_score
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import open_run
from softaug_lab.training.heads import PENALTY, gradient_penalty, kernel_loss
from softaug_lab.training.loop import fit
from softaug_lab.training.progress import Progress
from softaug_lab.training.signals import InterruptedRunError
from softaug_lab.training.supervised import build_supervised

__all__ = ["data"]  # the fixture
ARMS = ("ddu", "sngp", "duq")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# Each part against an independent reference


def test_weights_stay_within_their_bound_by_singular_values() -> None:
    conv, linear, small = nn.Conv2d(3, 8, 3), nn.Linear(8, 5), nn.Linear(5, 5)
    free = torch.randn(5, 5) / 100
    with torch.no_grad():
        for layer in (conv, linear):
            layer.weight.mul_(50)
        small.weight.copy_(free)
    net = nn.Sequential(conv, nn.Flatten(), linear, small)
    bound_weights(net, 1.5)
    for _ in range(30):  # each pass in training is a step of the power iteration
        net(torch.randn(2, 3, 3, 3))
    net.eval()
    for layer in (conv, linear):
        largest = torch.linalg.svdvals(layer.weight.flatten(1))[0].item()
        assert largest == pytest.approx(1.5, rel=1e-3)
    assert torch.equal(small.weight, free)


def test_gaussians_are_those_of_torch() -> None:
    features = torch.randn(90, 4) @ torch.randn(4, 4) + 3
    labels = torch.arange(90) % 4 % 3  # twice as many of class 0
    head = Gaussians(nn.Linear(4, 3))
    head.fit(head.sums(features[:50], labels[:50]) + head.sums(features[50:], labels[50:]))
    logs = []
    for y in range(3):
        own = features[labels == y].double()
        covariance = torch.cov(own.T, correction=0)
        covariance += 1e-4 * covariance.diagonal().mean() * torch.eye(4)
        law = torch.distributions.MultivariateNormal(own.mean(dim=0), covariance)
        logs.append(law.log_prob(features.double()) + math.log(len(own) / 90))
    expected = torch.stack(logs).logsumexp(dim=0).float()
    torch.testing.assert_close(head.score(features), expected, rtol=1e-3, atol=1e-3)


def test_gaussians_take_a_class_of_one_image_and_one_of_none() -> None:
    head = Gaussians(nn.Linear(3, 4))
    features = torch.randn(21, 3)
    head.fit(head.sums(features, torch.tensor([0] * 10 + [1] * 10 + [2])))
    assert head.score(torch.cat([features, features * 9])).isfinite().all()


def test_the_process_has_the_posterior_variance_of_its_kernel() -> None:
    """From the training images' kernel matrix, instead of the features' precision matrix."""
    head = Process(nn.Linear(6, 3)).eval()
    x, new = torch.randn(40, 6), 2 * torch.randn(15, 6)
    phi, other = head.random_features(x).double(), head.random_features(new).double()
    torch.testing.assert_close(-head.score(new), other.square().sum(dim=1).float())  # the prior's
    head.fit(head.sums(x[:25], torch.zeros(25).long()) + head.sums(x[25:], torch.zeros(15).long()))
    gram, across = phi @ phi.T + torch.eye(40), other @ phi.T
    explained = (across * torch.linalg.solve(gram, across.T).T).sum(dim=1)
    variance = (other.square().sum(dim=1) - explained).float()
    torch.testing.assert_close(-head.score(new), variance, rtol=1e-4, atol=1e-5)
    logits = head(new)
    assert torch.equal(head.train()(new), F.linear(head.random_features(new), head.weight))
    expected = head(new) / (1 + math.pi / 8 * variance)[:, None].sqrt()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_random_features_give_an_rbf_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_module, "RANDOM_FEATURES", 4096)
    x = torch.randn(6, 5)
    phi = Process(nn.Linear(5, 2)).random_features(x)
    kernel = (-torch.cdist(x, x).square() / (2 * 5)).exp()  # the mean square, length scale 1
    torch.testing.assert_close(phi @ phi.T, kernel, rtol=0, atol=0.08)


def test_centroids_are_moving_averages_and_logits_are_logs_of_a_kernel() -> None:
    head = Centroids(nn.Linear(4, 3))
    counts, totals = head.counts.clone(), head.totals.clone()
    for _ in range(3):
        features, labels = torch.randn(8, 4), torch.randint(2, (8,))  # none of class 2
        head(features[:5]), head(features[5:])  # a batch in two parts
        head.update(labels, torch.tensor(True))
        for c in range(3):
            own = features[labels == c] @ head.weight[c].T
            counts[c] = 0.999 * counts[c] + 0.001 * len(own)
            totals[c] = 0.999 * totals[c] + 0.001 * own.sum(dim=0)
    torch.testing.assert_close(head.counts, counts)
    torch.testing.assert_close(head.totals, totals)
    head(features)
    head.update(labels, torch.tensor(False))  # a step that was left out
    torch.testing.assert_close(head.totals, totals)
    distances = [features @ head.weight[c].T - totals[c] / counts[c] for c in range(3)]
    kernel = torch.stack([(-d.square().mean(dim=1) / 0.02).exp() for d in distances], dim=1)
    torch.testing.assert_close(head(features).exp(), kernel, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(head.score(features).exp(), kernel.amax(dim=1))


def test_the_loss_of_kernel_values_is_binary_cross_entropy() -> None:
    kernel, rows = torch.rand(7, 3) * 0.9 + 0.05, torch.rand(7, 3)
    expected = F.binary_cross_entropy(kernel, rows, reduction="sum")
    torch.testing.assert_close(kernel_loss(kernel.log(), rows), expected)
    assert kernel_loss(torch.zeros(1, 2), torch.eye(2)[:1]).isfinite()  # on the centroid


def test_the_penalty_is_that_of_the_input_gradient() -> None:
    slope = torch.tensor([0.3, -0.2])
    images = torch.randn(4, 1, 1, 2, requires_grad=True)
    kernel = 5 + (images.flatten(1) * slope).sum(dim=1, keepdim=True)  # of gradient `slope`
    square = ((2.0 * slope) ** 2).sum()
    expected = 4 * PENALTY * (square - 1) ** 2
    found = gradient_penalty(kernel.log(), images, torch.tensor(2.0))
    torch.testing.assert_close(found, expected)


# What the papers show first: two moons


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.linear(x))


def moons(n: int) -> tuple[Tensor, Tensor]:
    angle, labels = math.pi * torch.rand(n), torch.arange(n) % 2
    first = torch.stack([angle.cos(), angle.sin()], dim=1)
    x = torch.where(labels[:, None] == 0, first, torch.tensor([1.0, 0.5]) - first)
    return x + 0.1 * torch.randn(n, 2), labels


@pytest.mark.parametrize("name", HEADS)
def test_on_two_moons_the_score_falls_away_from_the_data(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_module, "RANDOM_FEATURES", 256)
    (x, y), (new, truth) = moons(200), moons(200)
    net, head = nn.Sequential(nn.Linear(2, 32), _Residual()), HEADS[name](nn.Linear(32, 2))
    bound_weights(net[1], 0.95)
    assert isinstance(head, Gaussians | Process | Centroids)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        points = x[:, None, None].clone().requires_grad_()  # as images [N,1,1,2]
        logits = head(net(points.flatten(1)))
        if isinstance(head, Centroids):
            loss = kernel_loss(logits, F.one_hot(y, 2).float())
            loss = loss + gradient_penalty(logits, points, torch.ones(()))
        else:
            loss = F.cross_entropy(logits, y, reduction="sum")
        (loss / len(x)).backward()
        optimizer.step()
        if isinstance(head, Centroids):
            head.update(y, torch.tensor(True))
    with torch.no_grad():
        if not isinstance(head, Centroids):
            head.fit(head.sums(net(x), y))
        net.eval(), head.eval()
        assert (head(net(new)).argmax(dim=1) == truth).float().mean() > 0.95
        angle = torch.arange(16) * math.pi / 8
        circle = torch.stack([angle.cos(), angle.sin()], dim=1)
        near, middle, far = (
            head.score(net(points))
            for points in (new, torch.tensor([0.5, 0.25]) + 3 * circle, 6 * circle)
        )
        assert auroc(near, middle) > 0.99
        assert near.mean() > middle.mean() > far.mean()
        if name == "process":  # the softmax, too, knows less far away
            confidence = [head(net(p)).softmax(dim=1).amax(dim=1).mean() for p in (new, 6 * circle)]
            assert confidence[1] < confidence[0] - 0.1


# As arms


@pytest.mark.parametrize("arm", ARMS)
def test_a_run_that_is_cut_ends_the_same_and_keeps_its_score(
    arm: str, data: Data, tmp_path: Path
) -> None:
    recipe = replace(QUICK, arm=arm, accumulate=2, skip_nonfinite=1)
    whole = trained(recipe, data, tmp_path / "whole")

    def stop(progress: Progress) -> None:
        if progress.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        trained(recipe, data, tmp_path / "cut", watch=stop)
    run = open_run(tmp_path / "cut", recipe, data, {}, resume=True)
    objective = build_supervised(recipe, data, CPU)
    fit(recipe, data, run, CPU, ignore, objective=objective)
    model = load_model(run.model_file)
    assert same(whole, model.state_dict())
    # The file holds all of the model that was trained.
    images = data.test.images
    assert torch.equal(predict_logits(objective.model, images), predict_logits(model, images))
    scores = own_score(model, images)
    assert scores is not None
    assert scores.shape == (30,)
    if arm != "duq":  # fitted to each training image once, whole and by the final weights
        with headless(model) as head:
            assert isinstance(head, Gaussians | Process)
            train, test = (predict_logits(model, part.images) for part in (data.train, data.test))
        head.fit(head.sums(train, data.train.labels))
        torch.testing.assert_close(head.score(test), scores, rtol=1e-3, atol=1e-4)
    before = own_score(objective.model, images)  # of the model that was trained
    assert before is not None
    assert torch.equal(scores, before)


def test_duq_trains_with_its_penalty(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(QUICK, arm="duq", epochs=1)
    found = [trained(recipe, data, tmp_path / "with")]
    monkeypatch.setattr("softaug_lab.training.heads.PENALTY", 0.0)
    found.append(trained(recipe, data, tmp_path / "without"))
    assert not same(*found)


def test_its_own_score_stands_beside_softmax_and_energy(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(tmp_path / "run", recipe := replace(QUICK, arm="sngp"), data, {}, resume=False)
    run_one(recipe, data, run, CPU, ignore)
    other = torch.randint(0, 256, (20, 1, 12, 12), dtype=torch.uint8)
    measure_ood(run, data.test.images, other, "noise", CPU)
    found = json.loads(run.ood_file.read_text())
    model = load_model(run.model_file)
    known, unknown = own_score(model, data.test.images), own_score(model, other)
    assert known is not None
    assert unknown is not None
    assert found["own"]["auroc"] == auroc(known, unknown)
    assert run_as_dict(read_record(run))["evaluation"]["own_auroc"] == found["own"]["auroc"]
    logits = predict_logits(model, data.test.images)
    assert torch.equal(Predictions.load(run.predictions_file).logits, logits)
    # On the command line, from the model file alone; the temperature is in its card.
    for folder, images in (("known", data.test.images), ("other", other)):
        for i, image in enumerate(images):
            name = data.classes[int(data.test.labels[i])] if folder == "known" else ""
            file = tmp_path / folder / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(file)
    alone = shutil.copy(run.model_file, tmp_path)
    command = ["evaluate", alone, tmp_path / "known", "--ood", tmp_path / "other"]
    main([*map(str, command), "--json", str(tmp_path / "found.json")])
    assert "the model's own score" in capsys.readouterr().out
    again = json.loads((tmp_path / "found.json").read_text())["ood"]
    assert again["own"] == pytest.approx(found["own"])


@pytest.mark.parametrize(("arm", "head"), [("sngp", "process"), ("duq", "centroids")])
def test_features_are_refused_by_the_name_of_the_head(arm: str, head: str, data: Data) -> None:
    model = build_supervised(replace(QUICK, arm=arm), data, CPU).model
    with pytest.raises(UsageError, match=rf"the head of the run's arm \({head}\) is no linear"):
        take_head(model)


def test_centroids_that_learned_too_little_are_told(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.modules[run_one.__module__], "BY_CHANCE", 0.0)
    for arm in ("standard", "duq"):
        run = open_run(tmp_path / arm, recipe := replace(QUICK, arm=arm), data, {}, resume=False)
        run_one(recipe, data, run, CPU, ignore)
    told = [one for one in caplog.messages if "head of centroids learns slowly" in one]
    assert [str(tmp_path / "duq") in one for one in told] == [True]


def test_a_model_without_a_head_has_no_score(data: Data) -> None:
    objective = build_supervised(replace(QUICK, arm="standard(bound=3)"), data, CPU)
    assert own_score(objective.model, data.test.images) is None
    assert objective.penalty is None


def test_arms_begin_with_the_weights_of_the_others(data: Data) -> None:
    first, second = (
        build_supervised(replace(QUICK, arm=arm), data, CPU).model for arm in ("standard", "ddu")
    )
    images = data.test.images
    torch.testing.assert_close(predict_logits(first, images), predict_logits(second, images))


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("standard(head=forest)", "head must be linear or gaussians or .*, got forest"),
        ("ddu(bound=0)", "bound must be above 0, got 0"),
        ("duq(loss=focal)", "loss must be cross_entropy with head centroids, got focal"),
        ("simsiam(head=process)", "head must be linear with method simsiam"),
    ],
)
def test_wrong_arms_are_refused_with_the_recipe(arm: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(arm=arm)


def test_what_a_head_cannot_do_is_refused_before_training(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded = Processes(torch.device("cpu"), 0, 2, shard=True)
    with pytest.raises(UsageError, match="'ddu' trains whole models, not with --shard"):
        build_supervised(replace(QUICK, arm="ddu"), data, sharded)
    with pytest.raises(UsageError, match=r"gradients of gradients.*leave out --compile"):
        build_supervised(replace(QUICK, arm="duq", compile=True), data, CPU)
    monkeypatch.setattr(heads_module, "MOST_NUMBERS", 3 * 128 * 128 - 1)
    with pytest.raises(UsageError, match=r"a Gaussian for each class takes .* fewer features"):
        build_supervised(replace(QUICK, arm="ddu"), data, CPU)


@pytest.mark.parametrize("wrong", [{"head": "forest"}, {"bound": -1}, {"bound": "3"}, {"head": 3}])
def test_a_file_with_a_broken_head_is_refused(
    wrong: dict[str, object], data: Data, tmp_path: Path
) -> None:
    model, file = build_supervised(replace(QUICK, arm="sngp"), data, CPU).model, tmp_path / "m"
    save_model(model.card, model.state_dict(), file)
    assert load_model(file).card == model.card
    object.__setattr__(model.card, *next(iter(wrong.items())))
    save_model(model.card, model.state_dict(), file)
    with pytest.raises(SoftaugError, match=r"its card is broken .(head|bound) must be"):
        load_model(file)
