"""Evaluation: known logits in, known figures out; the same views for all models."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import read_json
from softaug_lab.data.dataset import ImageSet
from softaug_lab.evaluation.evaluate import PASSES, evaluate, summarise
from softaug_lab.evaluation.fills import Fills
from softaug_lab.evaluation.predictions import Predictions
from softaug_lab.evaluation.record import Evaluation, Mix, ProbeErrors, has_views
from softaug_lab.evaluation.views import actual_share
from softaug_lab.metrics import proper
from softaug_lab.metrics.calibration import equal_width, error
from softaug_lab.metrics.levels import FILL_GROUPS, LOST_SHARES
from softaug_lab.metrics.record import measure
from softaug_lab.metrics.selective import Risk
from softaug_lab.metrics.table import recorded
from softaug_lab.metrics.temperature import fit_temperature
from softaug_lab.models.logits import predict_logits


class Fixed(nn.Module):
    """Logits read off the image: pixel i of the first row is 10 times class i's logit."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.classes = classes
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        assert not self.training
        self.batches.append(len(images))
        return images[:, 0, 0, : self.classes].float() / 10


class Recorder(nn.Module):
    """Keeps the images it is shown; logits of its own."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.clone())
        mean = images.float().mean(dim=(1, 2, 3))
        return mean[:, None] * self.slope * torch.arange(4)


class FourPixels(nn.Module):
    def forward(self, flat: Tensor) -> Tensor:
        return flat[:, :4].float()


def image_set(n: int = 40, channels: int = 3, height: int = 10, width: int = 14) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, channels, height, width), generator=generator)
    labels = torch.randint(4, (n,), generator=generator)
    return ImageSet(images=images.to(torch.uint8), labels=labels)


def fills_of(test: ImageSet) -> Fills:
    return Fills(test.images, (90.0,) * test.images.shape[1])


# Predicting


@pytest.mark.parametrize("batch_size", [1, 7, 40, 500])
def test_predicts_every_image_once_in_order(batch_size: int) -> None:
    model, test = Fixed(), image_set()
    logits = predict_logits(model, test.images, batch_size)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, test.images[:, 0, 0, :4].float() / 10)
    assert sum(model.batches) == 40
    assert max(model.batches) <= batch_size


def test_each_module_gets_back_its_own_mode() -> None:
    frozen = nn.BatchNorm1d(4)
    model = nn.Sequential(nn.Flatten(), FourPixels(), nn.Dropout(0.5), frozen).train()
    frozen.eval()
    images = image_set().images
    first = predict_logits(model, images)
    assert [module.training for module in model] == [True, True, True, False]
    assert model.training
    assert torch.equal(first, predict_logits(model, images))  # no dropout
    assert frozen.num_batches_tracked == 0


def test_the_mode_comes_back_after_a_failure_too() -> None:
    model = nn.Linear(3, 2).train()
    with pytest.raises(RuntimeError):
        predict_logits(model, image_set().images)
    assert model.training


def test_logits_are_plain_tensors_of_float32() -> None:
    class Half(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, 0, 0, :2].bfloat16()

    logits = predict_logits(Half(), image_set().images)
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    assert not logits.is_inference()


def test_batches_go_where_the_parameters_are() -> None:
    class Meta(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, device="meta"))
            self.seen: list[str] = []

        def forward(self, images: Tensor) -> Tensor:
            self.seen.append(images.device.type)
            return torch.zeros(len(images), 2)

    model, images = Meta(), image_set().images
    predict_logits(model, images)
    predict_logits(model, images, device="cpu")
    assert model.seen == ["meta", "cpu"]


def test_refuses_nothing_to_predict() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        predict_logits(Fixed(), image_set().images[:0])
    with pytest.raises(ValueError, match="batch_size"):
        predict_logits(Fixed(), image_set().images, batch_size=0)


# Evaluating


def test_figures_are_those_of_the_known_logits() -> None:
    test = image_set()
    evaluation, predictions = evaluate(Fixed(), test, fills=fills_of(test))
    logits = test.images[:, 0, 0, :4].float() / 10
    assert torch.equal(predictions.logits, logits)
    assert torch.equal(predictions.labels, test.labels)
    assert evaluation.images == 40
    assert evaluation.top1_error == proper.top_k_error(logits, test.labels)
    assert evaluation.top5_error is None  # four classes
    assert evaluation.metrics.nll == proper.nll(logits, test.labels)
    assert evaluation.metrics.brier == proper.brier(logits, test.labels)
    assert evaluation.metrics.calibration_gap == proper.calibration_gap(logits, test.labels)
    confidence, correct = proper.top_confidence(logits, test.labels)
    assert evaluation.metrics.ece == error(equal_width(confidence), confidence, correct)
    assert len(evaluation.reliability) == evaluation.ece_bins == 15
    assert sum(entry.count for entry in evaluation.reliability) == 40
    assert 0 < evaluation.metrics.ece_floor < 0.2


def test_each_level_is_of_its_own_logits_and_each_fill_of_its_images() -> None:
    test = image_set()
    evaluation, predictions = evaluate(Fixed(), test, fills=fills_of(test), bins=10)
    assert len(predictions.levels) + 2 == PASSES == 18
    for kind, groups in (("cut_off", evaluation.cut_off), ("hidden", evaluation.hidden)):
        assert tuple(groups) == FILL_GROUPS
        for group, levels in groups.items():
            assert tuple(level.share for level in levels) == LOST_SHARES
            for level in levels:
                kept = predictions.levels[kind, group, level.share]
                assert level.actual_share == actual_share(kind, level.share, 10, 14)
                assert level.top1_error == proper.top_k_error(kept.logits, test.labels)
                assert level.nll == proper.nll(kept.logits, test.labels)
                confidence, correct = proper.top_confidence(kept.logits, test.labels)
                assert level.ece == error(equal_width(confidence, 10), confidence, correct)
                assert level.confidence == confidence.mean().item()
                assert tuple(level.fill_errors) == predictions.fills[group]
                for i, fill in enumerate(level.fill_errors):
                    wrong = ~correct[kept.fill == i]
                    assert level.fill_errors[fill] == pytest.approx(wrong.double().mean().item())
                assert level.worst_error == max(level.fill_errors.values())
                # 40 images and 4 fills: the pooled error is the mean over fills.
                errors = list(level.fill_errors.values())
                assert level.top1_error == pytest.approx(sum(errors) / len(errors))
                assert level.worst_error >= level.top1_error - 1e-9
    assert len({level.logits.sum().item() for level in predictions.levels.values()}) > 12


def test_the_mix_is_of_its_own_logits() -> None:
    test = image_set()
    evaluation, predictions = evaluate(Fixed(), test, fills=fills_of(test))
    assert predictions.mix_logits is not None
    assert evaluation.mix is not None
    metrics = measure(predictions.mix_logits, test.labels)
    error = proper.top_k_error(predictions.mix_logits, test.labels)
    expected = Mix(40, error, metrics.nll, metrics.ece, metrics.ece_floor, metrics.aurc)
    assert evaluation.mix == expected
    # A quarter is whole.
    whole = (predictions.mix_logits == predictions.logits).all(dim=1)
    assert 10 <= int(whole.sum()) < 30


@pytest.mark.parametrize("batch_size", [40, 16])
def test_all_models_see_the_same_views(batch_size: int) -> None:
    test = image_set()
    one, other, another = Recorder(0.1), Recorder(-0.2), Recorder(0.1)
    torch.manual_seed(1)
    evaluate(one, test, fills=fills_of(test), seed=3)
    torch.manual_seed(2)
    evaluate(other, test, fills=fills_of(test), seed=3, batch_size=batch_size)
    shown = torch.cat(one.shown)
    assert len(shown) == PASSES * 40
    assert torch.equal(shown, torch.cat(other.shown))
    evaluate(another, test, fills=fills_of(test), seed=4)
    assert not torch.equal(shown, torch.cat(another.shown))


def test_views_are_shared_by_processes_image_by_image() -> None:
    """Two processes in turn: what each shows its model is its part of what one alone shows."""
    test = image_set(n=37)
    alone = Recorder(0.1)
    evaluate(alone, test, fills=fills_of(test), batch_size=500)
    parts = []
    for rank in range(2):

        class Half(Processes):
            def share(self, n: int, rank: int = rank) -> slice:
                return slice(0, n // 2) if rank == 0 else slice(n // 2, n)

            def gather(self, tensor: Tensor) -> Tensor:
                return torch.cat([tensor, tensor, tensor])[:37]

        recorder = Recorder(0.1)
        evaluate(
            recorder, test, fills=fills_of(test), batch_size=7, processes=Half(torch.device("cpu"))
        )
        parts.append(torch.cat(recorder.shown).view(PASSES, -1, 3, 10, 14))
    whole = torch.cat(alone.shown).view(PASSES, 37, 3, 10, 14)
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_a_temperature_of_before_scales_views_and_figures() -> None:
    test = image_set()
    plain, predictions = evaluate(Fixed(), test, fills=fills_of(test))
    scaled, _ = evaluate(Fixed(), test, fills=fills_of(test), temperature=2.5)
    assert scaled.temperature == 2.5
    assert scaled.metrics == plain.metrics
    assert scaled.scaled == measure(predictions.logits.double() / 2.5, test.labels)
    assert predictions.mix_logits is not None
    mixed = measure(predictions.mix_logits.double() / 2.5, test.labels)
    assert scaled.mix is not None
    assert plain.mix is not None
    assert (scaled.mix.nll, scaled.mix.ece, scaled.mix.aurc) == (mixed.nll, mixed.ece, mixed.aurc)
    assert scaled.mix.top1_error == plain.mix.top1_error
    level = predictions.levels["cut_off", "unseen", 0.6]
    assert scaled.cut_off["unseen"][2].nll == proper.nll(level.logits.double() / 2.5, test.labels)
    assert scaled.cut_off["unseen"][2].top1_error == plain.cut_off["unseen"][2].top1_error


def test_evaluating_changes_neither_model_nor_data_nor_the_global_state() -> None:
    test, model = image_set(), Recorder(0.1).train()
    images, state = test.images.clone(), torch.get_rng_state()
    evaluate(model, test, fills=fills_of(test))
    assert torch.equal(images, test.images)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert model.slope.grad is None


def test_a_diverged_model_is_a_message() -> None:
    class Diverged(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = images[:, 0, 0, :4].float()
            logits[:3] = math.nan
            return logits

    with pytest.raises(SoftaugError, match="not finite for 3 of 40 test images") as caught:
        evaluate(Diverged(), image_set(), fills=fills_of(image_set()))
    assert "\n" not in str(caught.value)


# Keeping


def test_as_dict_is_json_with_the_promised_fields() -> None:
    evaluation, _ = evaluate(Fixed(), image_set(), fills=fills_of(image_set()))
    fields = evaluation.as_dict()
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    assert set(fields) == {
        "images",
        "top1_error",
        "top5_error",
        "nll",
        "ece",
        "ece_bins",
        "ece_floor",
        "ece_interval",
        "ece_mass",
        "ece_mass_floor",
        "ece_mass_interval",
        "smooth_ece",
        "smooth_ece_floor",
        "smooth_ece_interval",
        "classwise_ece",
        "classwise_ece_floor",
        "classwise_ece_interval",
        "calibration_gap",
        "brier",
        "brier_reliability",
        "brier_resolution",
        "brier_uncertainty",
        "aurc",
        "excess_aurc",
        "temperature",
        "scaled",
        "reliability",
        "risk_coverage",
        "cut_off",
        "hidden",
        "mix",
    }
    assert fields["temperature"] is None
    assert fields["scaled"] is None
    assert list(fields["risk_coverage"][0]) == ["coverage", "risk"]
    assert list(fields["reliability"][0]) == ["low", "high", "count", "confidence", "accuracy"]
    for kind in ("cut_off", "hidden"):
        assert list(fields[kind]) == ["usual", "unseen"]
        assert list(fields[kind]["unseen"][0]) == [
            "share",
            "actual_share",
            "top1_error",
            "nll",
            "ece",
            "confidence",
            "worst_error",
            "fill_errors",
        ]
        assert recorded(fields, f"{kind}_error") == fields[kind]["unseen"][1]["top1_error"]
    assert list(fields["mix"]) == ["images", "top1_error", "nll", "ece", "ece_floor", "aurc"]
    assert recorded(fields, "mix_aurc") == fields["mix"]["aurc"]


def test_an_evaluation_comes_back_from_its_file(tmp_path: Path) -> None:
    plain, _ = evaluate(Fixed(), image_set(), fills=fills_of(image_set()))
    scaled, _ = evaluate(Fixed(), image_set(), fills=fills_of(image_set()), held_out=held_out_set())
    probed = replace(plain, probe=ProbeErrors(0.5, 7, 0.75, 0.25))
    for evaluation in (plain, scaled, probed):
        evaluation.save(tmp_path / "evaluation.json")
        assert Evaluation.load(tmp_path / "evaluation.json") == evaluation
        assert read_json(tmp_path / "evaluation.json") == evaluation.as_dict()
        assert Evaluation.from_dict({**evaluation.as_dict(), "ood": {}}) == evaluation
    assert list(probed.as_dict()) == [
        *plain.as_dict(),
        "knn_error",
        "neighbours",
        "untrained_error",
        "untrained_knn_error",
    ]
    probe = ProbeErrors(0.5, 7, 0.75, 0.25)
    probe.save(tmp_path / "probe.json")
    assert ProbeErrors.load(tmp_path / "probe.json") == probe


def test_an_evaluation_of_earlier_code_loads_without_views(tmp_path: Path) -> None:
    path = Path(__file__).parent / "old_run" / "finished" / "evaluation.json"
    old, loaded = read_json(path), Evaluation.load(path)
    assert not has_views(path)
    assert loaded.cut_off == loaded.hidden == {}
    assert loaded.mix is None
    now = loaded.as_dict()
    assert old.keys() - now.keys() == {"occlusion", "occlusion_area"}
    assert all(old[name] == now[name] for name in old.keys() & now.keys())
    test = image_set()
    evaluate(Fixed(), test, fills=fills_of(test))[0].save(tmp_path / "evaluation.json")
    assert has_views(tmp_path / "evaluation.json")


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"scaled": 3}'])
def test_a_file_of_no_evaluation_is_a_message(tmp_path: Path, content: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    for kind in (Evaluation, ProbeErrors):
        with pytest.raises(SoftaugError, match=r"evaluation\.json: not"):
            kind.load(path)


def test_saved_predictions_give_the_same_evaluation(tmp_path: Path) -> None:
    evaluation, predictions = evaluate(Fixed(), image_set(), fills=fills_of(image_set()))
    path = tmp_path / "predictions.npz"
    predictions.save(path)
    loaded = Predictions.load(path)
    assert list(tmp_path.iterdir()) == [path]
    assert loaded.labels.dtype == torch.int64
    assert loaded.logits.dtype == torch.float32
    assert loaded.fills == predictions.fills
    assert list(loaded.levels) == list(predictions.levels)
    for key, level in predictions.levels.items():
        assert torch.equal(loaded.levels[key].logits, level.logits)
        assert torch.equal(loaded.levels[key].fill, level.fill)
        assert loaded.levels[key].actual_share == level.actual_share
    assert summarise(loaded) == evaluation
    assert summarise(loaded, bins=5).ece_bins == 5


def held_out_set() -> ImageSet:
    """Images whose label is often that of the largest logit, so that their temperature is inner."""
    images = image_set(n=60).images.flip(0)
    labels = images[:, 0, 0, :4].float().argmax(dim=1)
    labels[::3] = 0
    return ImageSet(images=images, labels=labels)


def test_the_temperature_is_that_of_the_held_out_images_and_scales_the_test_figures() -> None:
    test, held_out = image_set(), held_out_set()
    plain, _ = evaluate(Fixed(), test, fills=fills_of(test))
    evaluation, predictions = evaluate(Fixed(), test, fills=fills_of(test), held_out=held_out)
    logits = held_out.images[:, 0, 0, :4].float() / 10
    assert predictions.held_out_logits is not None
    assert predictions.held_out_labels is not None
    assert torch.equal(predictions.held_out_logits, logits)
    assert torch.equal(predictions.held_out_labels, held_out.labels)
    temperature = fit_temperature(logits, held_out.labels)
    assert 1.5 < temperature < 50
    assert temperature != fit_temperature(predictions.logits, test.labels)
    assert evaluation.temperature == temperature
    assert evaluation.scaled == measure(predictions.logits.double() / temperature, test.labels)
    # Whole images without the temperature know nothing of the held-out ones; views are after it.
    later = ("temperature", "scaled", "cut_off", "hidden", "mix")
    assert replace(evaluation, **{name: getattr(plain, name) for name in later}) == plain
    mix = predictions.mix_logits
    assert mix is not None
    assert evaluation.mix is not None
    assert evaluation.mix.nll == proper.nll(mix.double() / temperature, test.labels)
    fields = evaluation.as_dict()
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    shared = ["nll", "ece", "ece_mass", "smooth_ece", "classwise_ece", "brier", "calibration_gap"]
    assert set(shared) <= set(fields["scaled"]) <= set(fields)
    for name in shared:
        assert fields["scaled"][name] != fields[name]


def test_figures_of_the_evaluation_are_those_of_its_logits() -> None:
    evaluation, predictions = evaluate(Fixed(), image_set(), fills=fills_of(image_set()), bins=10)
    expected = measure(predictions.logits, predictions.labels, bins=10)
    assert evaluation.metrics == expected
    assert evaluation.risk_coverage[-1] == Risk(1.0, evaluation.top1_error)
    assert len(evaluation.risk_coverage) == 40


def test_held_out_predictions_are_kept(tmp_path: Path) -> None:
    evaluation, predictions = evaluate(
        Fixed(), image_set(), fills=fills_of(image_set()), held_out=held_out_set()
    )
    path = tmp_path / "predictions.npz"
    predictions.save(path)
    loaded = Predictions.load(path)
    assert loaded.held_out_logits is not None
    assert summarise(loaded) == evaluation


def test_predictions_of_an_earlier_version_load(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    logits = np.ones((3, 2), dtype=np.float32)
    arrays: dict[str, Any] = {"labels": np.zeros(3, dtype=np.int64), "logits": logits}
    np.savez(path, allow_pickle=False, **arrays, **{"occluded_black_0.2": logits})
    loaded = Predictions.load(path)
    assert loaded.held_out_labels is None
    assert loaded.held_out_logits is loaded.mix_logits is None
    assert loaded.levels == {}


def test_held_out_logits_that_are_not_finite_are_a_message() -> None:
    class Diverged(Fixed):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return logits * math.nan if len(images) == 60 else logits

    with pytest.raises(SoftaugError, match="not finite for 60 of 60 held-out images"):
        evaluate(Diverged(), image_set(), fills=fills_of(image_set()), held_out=held_out_set())


def test_a_failed_save_is_a_message(tmp_path: Path) -> None:
    _, predictions = evaluate(Fixed(), image_set(), fills=fills_of(image_set()))
    with pytest.raises(SoftaugError, match="could not be written"):
        predictions.save(tmp_path / "absent" / "predictions.npz")


@pytest.mark.parametrize("content", [None, b"", b"PK broken", b"\x80\x04 no archive"])
def test_an_unreadable_file_is_a_message(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "predictions.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SoftaugError, match=r"predictions\.npz"):
        Predictions.load(path)
