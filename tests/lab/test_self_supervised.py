"""Pre-training without labels: pairs and their weights, what watches for collapse, the probes."""

import json
import logging
import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support import stripes
from test_cli import fails, pictures
from test_recomputed import DOCUMENT
from test_train import CPU, data, ignore, same
from torch import Generator, Tensor, nn
from torchvision.transforms.v2 import functional as tv

from softaug import PowerCurve, take
from softaug.transforms.colour import ColourJitter, Greyscale
from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.cli.app import main
from softaug_lab.cli.commands import app
from softaug_lab.data.dataset import Data
from softaug_lab.evaluation.probe import (
    cached_features,
    features_of,
    knn_logits,
    linear_probe,
    probe_backbone,
    untrained,
)
from softaug_lab.experiments.record import SAMPLES, collect
from softaug_lab.experiments.run_one import run_one
from softaug_lab.models.card import ModelCard
from softaug_lab.models.classifier import build, load_model, take_head
from softaug_lab.recipes.arms import SELF_SUPERVISED, read_arm
from softaug_lab.recipes.recipe import Recipe, transform_of
from softaug_lab.report.page import EMPTY
from softaug_lab.report.summary import sentences
from softaug_lab.runs.folder import open_run
from softaug_lab.training.augmentation import build_arm, mean_confidence
from softaug_lab.training.loop import fit
from softaug_lab.training.progress import Progress
from softaug_lab.training.signals import InterruptedRunError
from softaug_lab.training.simsiam import (
    Siamese,
    SimSiam,
    alignment,
    build_siamese,
    initial_siamese,
    pair_loss,
    pair_weights,
    potential,
    spread,
)

__all__ = ["data", "pictures"]  # the fixtures
QUICK = Recipe(arm="simsiam-soft", epochs=2, batch_size=16, precision="fp32", warmup_epochs=0)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(0))


def siamese(arm: str = "simsiam-soft", **changes: Any) -> Siamese:
    made = Data("stripes", ("rows", "columns", "checks"), stripes(70, 0), stripes(30, 1))
    return build_siamese(replace(QUICK, arm=arm, **changes), made, CPU)


# The loss and its weights


def test_pair_loss_of_known_angles() -> None:
    """Both halves alike: -1; opposite: 1; one at 60 degrees, weighted 2, one at 90."""
    e1, e2 = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.5])
    at60 = torch.tensor([1.0, math.sqrt(3)])
    outputs = torch.stack(
        [torch.stack(four) for four in ([e1, e2, e2, e1], [e1, e1, -e1, -e1], [at60, e2, e1, e1])]
    )
    each = [pair_loss(one[None], torch.tensor([[2.0, 1.0]])).item() for one in outputs]
    assert each == pytest.approx([-1.5, 1.5, -0.5])
    whole = pair_loss(outputs, torch.tensor([[2.0, 1.0]] * 3)).item()
    assert whole == pytest.approx(sum(each))


def test_pair_loss_pair_by_pair() -> None:
    outputs, weights = random(5, 4, 7), random(5, 2).abs()
    expected = 0.0
    for (p1, p2, z1, z2), (w1, w2) in zip(outputs.tolist(), weights.tolist(), strict=True):
        for w, p, z in ((w1, p1, z2), (w2, p2, z1)):
            dot = sum(a * b for a, b in zip(p, z, strict=True))
            expected -= w / 2 * dot / (math.hypot(*p) * math.hypot(*z))
    assert pair_loss(outputs, weights).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        ("product", [0.5, 0.5, 0.0], [0.5, 0.5, 0.0]),
        ("minimum", [0.5, 0.5, 0.0], [0.5, 0.5, 0.0]),
        ("own", [1.0, 0.5, 0.0], [0.5, 1.0, 0.6]),
    ],
)
def test_pair_weights_by_hand(rule: str, first: list[float], second: list[float]) -> None:
    confidence = torch.tensor([[1.0, 0.5], [0.5, 1.0], [0.0, 0.6]])
    raw = pair_weights(confidence, rule, lambda one: one)
    torch.testing.assert_close(raw, torch.tensor([first, second]).T)
    weights = pair_weights(confidence, rule)
    torch.testing.assert_close(weights, raw / raw.mean(dim=0))
    torch.testing.assert_close(weights.mean(dim=0), torch.ones(2))


@pytest.mark.parametrize("rule", ["product", "minimum", "own"])
def test_a_batch_of_which_nothing_is_seen_has_no_weight(rule: str) -> None:
    weights = pair_weights(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), rule)
    assert torch.equal(weights, torch.zeros(2, 2))
    assert pair_loss(random(2, 4, 7), weights).item() == 0


def test_product_and_minimum_differ() -> None:
    confidence = torch.tensor([[0.5, 0.5], [1.0, 0.5]])
    product, minimum = (pair_weights(confidence, r)[:, 0] for r in ("product", "minimum"))
    torch.testing.assert_close(product, torch.tensor([2 / 3, 4 / 3]))
    torch.testing.assert_close(minimum, torch.ones(2))


def inputs_and_weights(objective: Siamese, batch: Any) -> tuple[Tensor, Tensor]:
    return objective.of_batch(*objective.inputs_and_targets(batch, False), 0, False)


def test_weights_follow_what_is_seen(data: Data) -> None:
    """By the curve without a chance: a pair of which nothing is seen has no weight."""
    objective = siamese()
    assert objective.curve == PowerCurve(k=2, chance=0.0)
    drawn = objective.views.draw(70, 12, 12, Generator().manual_seed(0))
    shifts = {name: drawn[name]["1"]["0"] for name in ("first", "second")}
    whole = {"images": data.train.images, "drawn": drawn, "objects": None}
    batch: Any = type("Batch", (), whole)()
    views, weights = inputs_and_weights(objective, batch)
    assert views.shape == (70, 2, 1, 12, 12)
    confidence = []
    for shift in shifts.values():
        share = (1 - shift["tx"].abs() / 12) * (1 - shift["ty"].abs() / 12)
        confidence.append(1 - (1 - share) ** 2)
    expected = confidence[0] * confidence[1]
    torch.testing.assert_close(weights[:, 0], expected / expected.mean())
    assert torch.equal(weights[:, 0], weights[:, 1])
    same, ones = inputs_and_weights(siamese("simsiam-harsh"), batch)
    assert torch.equal(views, same)
    assert ones.unique().tolist() == [1]


# The network


def test_what_is_predicted_stands_still(data: Data) -> None:
    """Only by way of p1 and p2 do gradients reach the encoder."""
    model: Any = initial_siamese(QUICK, data)
    views = data.train.images[:8, None].expand(-1, 2, -1, -1, -1)
    outputs = model(views)
    assert outputs.shape == (8, 4, 512)
    outputs[:, 2:].square().sum().backward()
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
    model(views)[:, 0].square().sum().backward()
    assert all(p.grad.any() for p in model.encoder.parameters() if p.grad is not None)
    assert model.encoder.network[0].weight.grad.any()
    assert model.head.weight.grad is None


@pytest.mark.parametrize(
    ("name", "side", "features", "d", "layers"),
    [("resnet18", 32, 512, 2048, 2), ("resnet50", 96, 2048, 2048, 3), ("small", 32, 128, 512, 2)],
)
def test_heads_are_those_of_the_paper(
    name: str, side: int, features: int, d: int, layers: int
) -> None:
    card = ModelCard(name, ("a", "b"), 3, side, side)
    model = SimSiam(build(card, (127.5,), (127.5,)))
    shapes = [
        (m.in_features, m.out_features)
        for head in (model.projection, model.prediction)
        for m in head.modules()
        if isinstance(m, nn.Linear)
    ]
    assert shapes == [(features, d), *[(d, d)] * (layers - 1), (d, d // 4), (d // 4, d)]
    last = model.projection[-1]
    assert isinstance(last, nn.BatchNorm1d)
    assert not last.affine


def test_a_network_without_a_last_layer_is_refused() -> None:
    model = build(ModelCard("small", ("a", "b"), 1, 12, 12), (127.5,), (127.5,))
    take_head(model)
    with pytest.raises(UsageError, match=r"'small' does not end in one linear layer for its 2"):
        take_head(model)


def test_a_network_with_two_last_layers_is_refused() -> None:
    model = build(
        ModelCard("deit_tiny_distilled_patch16_224", ("a", "b"), 3, 224, 224), (127.5,), (127.5,)
    )
    with pytest.raises(UsageError, match="does not end in one linear layer for its 2 classes"):
        take_head(model)


# What watches


def test_spread_alignment_and_uniformity_one_by_one() -> None:
    z = F.normalize(random(12, 5), dim=1).view(2, 6, 5)
    a, b = z.tolist()
    deviations = []
    for column in (*zip(*a, strict=True), *zip(*b, strict=True)):
        mean = sum(column) / 6
        deviations.append(math.sqrt(sum((x - mean) ** 2 for x in column) / 6))
    assert spread(z).item() == pytest.approx(sum(deviations) / 10, rel=1e-4)
    apart = [math.dist(x, y) ** 2 for x, y in zip(a, b, strict=True)]
    assert alignment(*z).item() == pytest.approx(sum(apart) / 6, rel=1e-4)
    within = [
        math.exp(-2 * math.dist(v[i], v[j]) ** 2)
        for v in (a, b)
        for i in range(6)
        for j in range(i)
    ]
    assert potential(z).item() == pytest.approx(sum(within) / len(within), rel=1e-4)


def test_features_that_fill_the_sphere_and_those_that_collapse(
    caplog: pytest.LogCaptureFixture,
) -> None:
    objective = siamese()

    def logged(z: Tensor) -> dict[str, float]:
        outputs = z[:, None].expand(-1, 4, -1)
        batch: Any = None
        sums = objective.batch_sums(outputs, batch)
        return objective.epoch_log((sums / len(z)).tolist())

    full = logged(random(4000, 64))
    assert full["spread"] == pytest.approx(full["full_spread"], rel=0.02)
    assert full["full_spread"] == pytest.approx(1 / 8)
    assert full["alignment"] == pytest.approx(0, abs=1e-6)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        collapsed = logged(torch.ones(100, 64) + 0.01 * random(100, 64))
        logged(torch.ones(100, 64))
    assert collapsed["spread"] < 0.01
    assert collapsed["uniformity"] == pytest.approx(0, abs=0.01)
    assert len(caplog.records) == 1
    assert "simsiam-soft: the features have collapsed: their spread is 0.00" in caplog.text


# Views


def test_colours_are_torchvisions() -> None:
    images = torch.rand(40, 3, 8, 8, generator=Generator().manual_seed(0))
    jitter = ColourJitter()
    drawn = jitter.draw(40, 8, 8, Generator().manual_seed(1))
    before = images.clone()
    found, seen = jitter.apply(images, None, drawn)
    assert torch.equal(images, before)
    assert seen.unique().tolist() == [1]
    assert 20 < drawn["applied"].sum() < 40
    functions = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    for i, image in enumerate(images):
        if drawn["applied"][i]:
            for number in drawn["order"][i].tolist():
                change = drawn["change"][i, number].item()
                if number == 3:
                    image = tv.adjust_hue(image, change)
                else:
                    image = functions[number](image, 1 + change)
        torch.testing.assert_close(found[i], image, atol=1e-5, rtol=0)


def test_grey_views_are_torchvisions() -> None:
    images = torch.randint(0, 256, (40, 3, 4, 5), dtype=torch.uint8)
    drawn = Greyscale().draw(40, 4, 5, Generator().manual_seed(0))
    found, _ = Greyscale().apply(images, None, drawn)
    for image, grey, is_grey in zip(images, found, drawn["grey"].tolist(), strict=True):
        expected = tv.rgb_to_grayscale(image, 3) if is_grey else image
        # torchvision cuts off where we round.
        assert (grey.int() - expected.int()).abs().max() <= 1
    assert 1 <= drawn["grey"].sum() <= 20


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_views_of_a_sample_depend_on_its_own_draw(channels: int, dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (9, channels, 12, 12))
    images = images.to(dtype) if dtype == torch.uint8 else images / 255
    views = siamese().views
    drawn = views.draw(9, 12, 12, Generator().manual_seed(0))
    pixels, seen = views.apply(images, None, drawn)
    assert pixels.shape == (9, 2, channels, 12, 12)
    assert seen.shape == (9, 2, 1, 12, 12)
    assert pixels.dtype == dtype
    some = torch.tensor([7, 2])
    again, seen_again = views.apply(images[some], None, take(drawn, some))
    torch.testing.assert_close(again, pixels[some])
    assert torch.equal(seen_again, seen[some])
    assert not torch.equal(pixels[:, 0], pixels[:, 1])


def test_blur_is_an_option_and_off_for_small_images() -> None:
    def parts(side: int, **changes: Any) -> str:
        return repr(build_arm(replace(QUICK, **changes), 3, side, side).transform)

    assert "GaussianBlur" not in parts(64)
    assert "GaussianBlur(kernel_size=23" in parts(224)
    assert "probability=0.5" in parts(224)
    assert "probability=0.3" in parts(32, blur=0.3)
    assert "GaussianBlur" not in parts(224, blur=0)


def test_arms_differ_in_crop_and_weight_alone() -> None:
    repr_of = {
        arm: repr(build_arm(replace(QUICK, arm=arm), 3, 32, 32).transform)
        for arm in (*SELF_SUPERVISED, "simsiam-soft@0.1", "simsiam-harsh@0.1")
    }
    assert repr_of["simsiam-harsh"] == repr_of["simsiam-soft"]
    assert repr_of["simsiam-harsh@0.1"] == repr_of["simsiam-soft@0.1"]
    crops = {arm: re.findall(r"(\w*Crop)\(", text)[0] for arm, text in repr_of.items()}
    assert crops["simsiam"] == "RandomResizedCrop"
    assert crops["simsiam-soft"] == "Crop"
    rest = {re.sub(r"\w*Crop\([^=]*=.*?\), Col", "Col", text) for text in repr_of.values()}
    assert len(rest) == 1
    assert [arm for arm in SELF_SUPERVISED if read_arm(arm).weighted] == ["simsiam-soft"]


# The loop


@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_interrupted_and_resumed_is_bitwise_the_same(
    stop_after: int, data: Data, tmp_path: Path
) -> None:
    whole = open_run(tmp_path / "whole", QUICK, data, {}, resume=False)
    fit(QUICK, data, whole, CPU, ignore)
    cut = open_run(tmp_path / "cut", QUICK, data, {}, resume=False)

    def interrupt(progress: Progress) -> None:
        if progress.step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        fit(QUICK, data, cut, CPU, interrupt)
    assert cut.started
    open_run(cut.folder, QUICK, data, {}, resume=True)
    fit(QUICK, data, cut, CPU, ignore)
    states = [load_model(run.backbone_file).state_dict() for run in (whole, cut)]
    assert same(*states)
    for a, b in zip(whole.history(), cut.history(), strict=True):
        for name in ("loss", "spread", "alignment", "uniformity"):
            assert a[name] == pytest.approx(b[name], rel=1e-6)


def test_the_learning_rate_is_in_proportion_to_the_batch(data: Data, tmp_path: Path) -> None:
    recipe = replace(QUICK, lr=0.04, epochs=1, batch_size=32)
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)
    fit(recipe, data, run, CPU, ignore)
    (epoch,) = run.history()
    # The last of three steps of a cosine.
    assert epoch["lr"] == pytest.approx(0.04 * 32 / 256 * 0.5 * (1 + math.cos(math.pi * 2 / 3)))


# The probes


def test_neighbours_are_scikit_learns() -> None:
    neighbors: Any = pytest.importorskip("sklearn.neighbors")
    labels = torch.arange(60) % 4
    train = random(60, 8) + 2 * torch.eye(4, 8)[labels]
    test = random(90, 8)[60:]
    reference = neighbors.KNeighborsClassifier(
        15,
        metric="cosine",
        weights=lambda distance: torch.tensor((1 - distance) / 0.1).exp().numpy(),
    ).fit(train.numpy(), labels.numpy())
    votes = knn_logits(train, labels, test, 4, 15).exp()
    shares = votes / votes.sum(dim=1, keepdim=True)
    expected = torch.from_numpy(reference.predict_proba(test.numpy())).float()
    torch.testing.assert_close(shares, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "offset"), [(1.0, 0.0), (1e-3, 0.1), (50.0, -300.0)])
def test_separable_features_are_separated(size: float, offset: float) -> None:
    """Whatever their size and origin, with the same layer but for these."""
    labels = torch.arange(300) % 3
    plain = 0.2 * random(300, 6) + torch.eye(3, 6)[labels]
    head = linear_probe(size * plain + offset, labels, 3)
    logits = head(size * plain + offset)
    assert torch.equal(logits.argmax(dim=1), labels)
    torch.testing.assert_close(
        logits.softmax(dim=1), linear_probe(plain, labels, 3)(plain).softmax(dim=1),
        atol=0.02, rtol=0,
    )  # fmt: skip
    assert same(head.state_dict(), linear_probe(size * plain + offset, labels, 3).state_dict())


def test_features_that_are_all_the_same_say_nothing() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    logits = linear_probe(torch.ones(4, 2), labels, 2)(torch.ones(1, 2))
    torch.testing.assert_close(
        logits.softmax(dim=1), torch.tensor([[0.75, 0.25]]), atol=0.05, rtol=0
    )


def test_features_are_kept_for_a_model_and_its_images_alone(data: Data, tmp_path: Path) -> None:
    model = build(ModelCard("small", ("a", "b", "c"), 1, 12, 12), (127.5,), (127.5,))
    take_head(model)
    first = cached_features(model, data.train.images, CPU, tmp_path)
    assert torch.equal(first, features_of(model, data.train.images, CPU))
    other = cached_features(model, data.test.images, CPU, tmp_path)
    assert torch.equal(other, features_of(model, data.test.images, CPU))

    def again(*_: object) -> Tensor:
        pytest.fail("computed again")

    cached = cached_features(model, data.train.images, CPU, tmp_path, compute=again)
    assert torch.equal(cached, first)
    next(model.parameters()).data += 1
    assert not torch.equal(cached_features(model, data.train.images, CPU, tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 3
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:200])
    assert not torch.equal(cached_features(model, data.train.images, CPU, tmp_path), first)


def test_the_reference_is_the_backbone_of_the_start(data: Data) -> None:
    start = initial_siamese(QUICK, data).encoder
    trained = build(ModelCard("small", data.classes, 1, 12, 12), *[(9.0,)] * 2)
    trained.mean, trained.std = start.mean, start.std
    found = untrained(QUICK, trained)
    take_head(found)
    assert same(found.state_dict(), start.state_dict())


def test_features_that_are_not_finite_are_named(data: Data) -> None:
    model = build(ModelCard("small", data.classes, 1, 12, 12), (127.5,), (127.5,))

    def featured(_: Any, images: Tensor) -> Tensor:
        return torch.full((len(images), 2), math.nan)

    with pytest.raises(SoftaugError, match="features of 100 images of stripes are not finite"):
        probe_backbone(model, data, featured, 0)


def test_a_probed_run_is_a_model_like_others(data: Data, tmp_path: Path) -> None:
    """Its predictions are the probe's; its backbone is kept; once done, nothing is done again."""
    recipe = replace(QUICK, epochs=3)
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)
    record = run_one(recipe, data, run, CPU, ignore)
    evaluation = record.evaluation
    backbone, model = load_model(run.backbone_file), load_model(run.model_file)
    _, head = take_head(model)
    take_head(backbone)
    assert same(backbone.state_dict(), model.state_dict())
    logits = head(features_of(backbone, data.test.images, CPU))
    wrong = (logits.argmax(dim=1) != data.test.labels).float().mean().item()
    assert evaluation["top1_error"] == pytest.approx(wrong)
    assert 0 <= evaluation["knn_error"] <= 1
    assert evaluation["neighbours"] == 70 // 3
    assert {"untrained_error", "untrained_knn_error"} <= set(evaluation)
    assert [set(e) >= {"spread", "alignment", "uniformity"} for e in record.history] == [True] * 3
    assert not any("train_top1_error" in epoch for epoch in record.history)
    stamp = run.model_file.stat().st_mtime_ns
    assert run_one(recipe, data, run, CPU, ignore) == record
    assert run.model_file.stat().st_mtime_ns == stamp


def test_the_law_of_visibilities_needs_no_colours(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report draws thousands of views; at 224 px, with their colours, it took minutes an arm."""
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=False)
    run_one(QUICK, data, run, CPU, ignore)
    counts, apply = [], ColourJitter.apply

    def counted(self: ColourJitter, images: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        counts.append(len(images))
        return apply(self, images, *rest)

    monkeypatch.setattr(ColourJitter, "apply", counted)
    (arm,) = collect("", "", [run], data, [])["arms"]
    assert sum(counts) == SAMPLES
    # E(1 - (1 - v)^2) of the crop, whose law is known.
    crop, curve = transform_of(QUICK, 12, 12), PowerCurve(k=2, chance=0.0)
    expected = mean_confidence(crop, curve, 12, 12)
    assert arm["mean_confidence"] == pytest.approx(expected, abs=0.01)


# The command line


def test_without_labels_other_defaults_hold() -> None:
    def recipe(*command: str) -> Recipe:
        _, bound, _ = app.parse_args(list(command), exit_on_error=False, print_error=False)
        found: Recipe = bound.arguments.get("recipe", Recipe())
        return found

    expected = Recipe(epochs=100, batch_size=512, lr=0.03, warmup_epochs=0)
    assert recipe("pretrain", "x") == expected
    assert recipe("compare", "x", "--arms", "simsiam", "simsiam-soft(pair=own)@0.2") == expected
    assert recipe("pretrain", "x", "--lr", "0.05", "--epochs", "3") == replace(
        expected, lr=0.05, epochs=3
    )
    assert recipe("compare", "x", "--arms", "soft").lr == 0.1


@pytest.fixture(scope="module")
def compared(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    main(["compare", str(pictures), "--arms", *SELF_SUPERVISED, "--seeds", "1", "--epochs", "2",
          "--batch-size", "24", "--run", str(folder)])  # fmt: skip
    return folder


def test_a_comparison_of_arms_without_labels(compared: Path) -> None:
    results = json.loads((compared / "results.json").read_text())
    assert [one["arm"] for one in results["runs"]] == list(SELF_SUPERVISED)
    pairs = {(one["arm"], one["against"]) for one in results["comparisons"]}
    assert pairs == {("simsiam-soft", "simsiam"), ("simsiam-soft", "simsiam-harsh")}
    said = " ".join(sentences(results))
    assert "a linear probe on the frozen features" in said
    assert "Compared with the same harsh crop with equal weights" in said
    assert "hard labels" not in said
    untested = " ".join(sentences(results | {"comparisons": []}))
    assert "a linear probe on the frozen features" in untested
    page = (compared / "report.html").read_text()
    for false in ("its label keeps", "the targets keep", "softened targets", "original labels"):
        assert false not in page
    assert "Confidence in a view" in page
    for text in ("kNN error %", "Spread of the features", "Alignment", "Uniformity"):
        assert text in page
    documented = set(re.findall(r"`([^`]+)`", DOCUMENT.read_text()))
    run = results["runs"][0]
    undocumented = (set(run["history"][0]) | set(run["evaluation"])) - documented
    assert {n for n in undocumented if not n.endswith(("_floor", "_interval"))} == set()


def test_where_pretraining_does_not_help_it_is_said() -> None:
    runs = [
        {"arm": arm, "seed": seed, "evaluation": {"top1_error": error, "untrained_error": 0.3}}
        for arm, errors in {"simsiam": (0.2, 0.3), "simsiam-harsh": (0.3, 0.5)}.items()
        for seed, error in enumerate(errors)
    ]
    said = sentences(EMPTY | {"runs": runs})[0]
    assert "on the backbone before training its top-1 error is 30.0 %." in said
    assert said.endswith("At this budget training does not lower it for simsiam-harsh (40.0 %).")
    assert "does not lower" not in sentences(EMPTY | {"runs": runs[:2]})[0]


def test_a_run_is_probed_on_its_own_data_and_on_others(
    compared: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = compared / "runs" / "simsiam-soft-seed-0"
    main(["probe", str(run)])
    assert "kNN error %" in capsys.readouterr().out
    figures = json.loads((run / f"probe-{pictures.name}.json").read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    for name in ("top1_error", "nll", "ece", "knn_error", "untrained_error"):
        assert figures[name] == pytest.approx(evaluation[name], abs=1e-6)
    files = set(run.glob("features-*.npy"))
    assert len(files) == 4
    other = tmp_path / "other"
    for new, old in (("x", "bright"), ("y", "dark <b>"), ("z", "bright")):
        (other / new).mkdir(parents=True)
        for picture in list((pictures / old).iterdir())[:6]:
            with Image.open(picture) as image:
                image.putpixel((0, 0), (7, 7, 7))  # another image: seen ones are left out
                image.save(other / new / picture.name)
    main(["probe", str(run), str(other), "--json", str(tmp_path / "f.json")])
    assert json.loads((tmp_path / "f.json").read_text())["images"] == 3
    assert len(set(run.glob("features-*.npy")) - files) == 4


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "DATA", "--arm", "simsiam"], "simsiam learns without labels: softaug pretrain"),
        (["pretrain", "DATA", "--arm", "soft"], "soft learns from labels: softaug train"),
        (["pretrain", "DATA", "--arm", "simsam"], "did you mean simsiam"),
        (["pretrain", "DATA", "--end-epochs", "2"], "end_epochs must be 0 with simsiam-soft"),
        (["pretrain", "DATA", "--blur", "2"], "blur must be a probability in [0, 1], got 2"),
        (["pretrain", "DATA", "--arm", "simsiam(pair=sum)"], "pair must be product or minimum or"),
        (
            ["pretrain", "DATA", "--arm", "simsiam(targets=soft)"],
            "targets must be hard with method simsiam, which has no labels, got soft",
        ),
        (["pretrain", "DATA", "--arm", "simsiam(method=supervised)"], "unknown field 'method'"),
        (
            ["compare", "nowhere", "--dry-run", "--arms", "soft", "simsiam"],
            "simsiam: trained without labels, the other arms with them",
        ),
        (
            ["compare", "DATA", "--arms", "soft", "simsiam", "--dry-run"],
            "simsiam: trained without labels, the other arms with them",
        ),
        (
            ["pretrain", "DATA", "--test", "DATA", "--stream", "--size", "12", "--readers", "1"],
            "a probe holds the features of all images; leave out --stream",
        ),
        (["probe", "RUN", "--size", "6"], "how images are read goes with DATA"),
        (["probe", "RUN", "demo"], "the model takes images [3, 12, 16] [C,H,W], demo has [1, 28"),
    ],
)
def test_wrong_requests(
    command: list[str],
    message: str,
    compared: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"DATA": str(pictures), "RUN": str(compared / "runs" / "simsiam-seed-0")}
    assert message in fails(capsys, 2, *(names.get(part, part) for part in command))


def test_a_run_that_streamed_is_probed(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["train", str(pictures), "--test", str(pictures), "--stream", "--size", "12", "--readers",
          "1", "--batch-size", "24", "--epochs", "1", "--run", str(run)])  # fmt: skip
    main(["probe", str(run)])
    assert "knn_error" in json.loads((run / f"probe-{pictures.name}.json").read_text())


def test_an_ensemble_is_probed_by_its_members(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "member-0").symlink_to(compared / "runs" / "simsiam-seed-0")
    assert "probe one of its 1 members, such as" in fails(capsys, 2, "probe", tmp_path / "run")


def test_what_is_no_run_cannot_be_probed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is this a run folder of softaug?" in fails(capsys, 1, "probe", tmp_path)
