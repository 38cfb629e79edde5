"""Evaluation: known logits in, known figures out; rectangles inside, uniform, the same for all."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from softaug_lab.evaluation.occlusion import (
    OcclusionLevel,
    area_under,
    draw_noise,
    draw_rectangles,
    hidden_share,
    occlude,
)
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.storage import read_json
from softaug_lab.data.dataset import ImageSet
from softaug_lab.evaluation.evaluate import evaluate, summarise
from softaug_lab.evaluation.predictions import Predictions, predict_logits
from softaug_lab.evaluation.record import Evaluation, ProbeErrors
from softaug_lab.metrics import proper
from softaug_lab.metrics.calibration import equal_width, error
from softaug_lab.metrics.levels import OCCLUSION_SHARES
from softaug_lab.metrics.record import measure
from softaug_lab.metrics.selective import Risk
from softaug_lab.metrics.temperature import fit_temperature

BLACK = {"black": 0.0}


def hide(
    images: Tensor, share: float, generator: torch.Generator, fill: float | Sequence[float]
) -> tuple[Tensor, float]:
    """One rectangle of the share hidden in each image, and the share hidden in truth."""
    rectangles = draw_rectangles(images, share, generator)
    return occlude(images, rectangles, fill), hidden_share(images, share)


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


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


# Occluding


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 3),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 99),
)
def test_one_whole_rectangle_is_hidden_in_each_image(
    height: int, width: int, channels: int, share: float, seed: int
) -> None:
    images = torch.full((5, channels, height, width), 7, dtype=torch.uint8)
    hidden, actual = hide(images, share, seeded(seed), fill=0.0)
    tall, wide = round(height * share**0.5), round(width * share**0.5)
    assert (images == 7).all()
    assert actual == tall * wide / (height * width)
    for mask in (hidden == 0).unbind():
        assert (mask == mask[:1]).all()  # the same in each channel
        rows, columns = mask[0].any(dim=1), mask[0].any(dim=0)
        assert torch.equal(mask[0], rows[:, None] & columns)
        # All of it is inside, or the count would fall short.
        assert int(mask[0].sum()) == tall * wide
        for line in (rows, columns):
            ends = line.nonzero()
            assert len(ends) == 0 or int(ends[-1] - ends[0]) + 1 == len(ends)
    assert ((hidden == 0) | (hidden == 7)).all()


def test_places_are_uniform() -> None:
    # 10 x 14 with 40 % hidden: 6 x 9 pixels, 5 x 6 places.
    n = 30_000
    images = torch.empty(n, 1, 10, 14, dtype=torch.uint8)
    top, left, bottom, right = draw_rectangles(images, 0.4, seeded(1)).T
    assert (bottom - top == 6).all()
    assert (right - left == 9).all()
    counts = (top * 6 + left).bincount(minlength=30).double()
    assert len(counts) == 30
    chi_squared = ((counts - n / 30).square() / (n / 30)).sum().item()
    assert chi_squared < 58.3  # the 99.9 % point at 29 degrees of freedom


def test_the_share_is_what_is_hidden() -> None:
    images = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    shares = [hidden_share(images, share) for share in OCCLUSION_SHARES]
    assert shares == [0.0, *(side**2 / 784 for side in (13, 18, 22, 25))]
    assert shares == pytest.approx(OCCLUSION_SHARES, abs=0.02)
    hidden, actual = hide(images, 0.4, seeded(), fill=255.0)
    assert (hidden == 255).float().mean().item() == pytest.approx(actual)


@pytest.mark.parametrize(
    ("fill", "expected"),
    [(0.0, [0, 0, 0]), (99.6, [100, 100, 100]), ((1.2, 2.7, 255.0), [1, 3, 255])],
)
def test_fill_is_rounded_for_each_channel(
    fill: float | Sequence[float], expected: list[int]
) -> None:
    images = torch.full((2, 3, 4, 4), 50, dtype=torch.uint8)
    hidden, actual = hide(images, 0.99, seeded(), fill)
    assert actual == 1.0
    assert hidden.dtype == torch.uint8
    assert hidden[:, :, 0, 0].tolist() == [expected, expected]


def test_a_share_of_zero_hides_nothing() -> None:
    images = image_set().images
    hidden, actual = hide(images, 0.0, seeded(), fill=0.0)
    assert actual == 0.0
    assert torch.equal(hidden, images)


def test_rectangles_follow_the_generator_alone() -> None:
    images = image_set().images
    one, _ = hide(images, 0.4, seeded(5), fill=0.0)
    torch.manual_seed(99)
    again, _ = hide(images, 0.4, seeded(5), fill=0.0)
    other, _ = hide(images, 0.4, seeded(6), fill=0.0)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_refuses_a_share_out_of_range(share: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        hide(image_set().images, share, seeded(), fill=0.0)


@pytest.mark.parametrize("fill", [-1.0, 256.0, (0.0, 0.0), math.nan])
def test_refuses_a_fill_that_does_not_fit(fill: float | Sequence[float]) -> None:
    with pytest.raises(ValueError, match="fill must be"):
        hide(image_set().images, 0.2, seeded(), fill)


def test_noise_is_uniform_and_follows_seed_share_and_number_alone() -> None:
    images, numbers = image_set(300).images, torch.arange(300)
    noise = draw_noise(images, numbers, 0.4, seed=1)
    counts = noise.flatten().long().bincount(minlength=256).double()
    chi_squared = ((counts - counts.mean()).square() / counts.mean()).sum().item()
    assert chi_squared < 330.5  # the 99.9 % point at 255 degrees of freedom
    assert torch.equal(noise[7:9], draw_noise(images[7:9], numbers[7:9], 0.4, seed=1))
    for share, seed in ((0.2, 1), (0.4, 2)):
        assert (draw_noise(images, numbers, share, seed) == noise).float().mean() < 0.01
    assert (noise[1:] == noise[:-1]).float().mean() < 0.01


# Evaluating


def test_figures_are_those_of_the_known_logits() -> None:
    test = image_set()
    evaluation, predictions = evaluate(Fixed(), test, fills={"grey": 128.0})
    logits = test.images[:, 0, 0, :4].float() / 10
    assert torch.equal(predictions.logits, logits)
    assert torch.equal(predictions.labels, test.labels)
    assert evaluation.images == 40
    assert evaluation.top1_error == proper.top_k_error(logits, test.labels)
    assert evaluation.top5_error == 0.0  # four classes
    assert evaluation.metrics.nll == proper.nll(logits, test.labels)
    assert evaluation.metrics.brier == proper.brier(logits, test.labels)
    assert evaluation.metrics.calibration_gap == proper.calibration_gap(logits, test.labels)
    confidence, correct = proper.top_confidence(logits, test.labels)
    assert evaluation.metrics.ece == error(equal_width(confidence), confidence, correct)
    assert len(evaluation.reliability) == evaluation.ece_bins == 15
    assert sum(entry.count for entry in evaluation.reliability) == 40
    assert 0 < evaluation.metrics.ece_floor < 0.2


def test_share_zero_is_the_plain_figures_and_each_level_its_own_logits() -> None:
    test = image_set()
    evaluation, predictions = evaluate(Fixed(), test, fills=BLACK, bins=10)
    assert tuple(level.share for level in evaluation.occlusion["black"]) == OCCLUSION_SHARES
    plain = evaluation.occlusion["black"][0]
    assert (plain.top1_error, plain.nll, plain.ece) == (
        evaluation.top1_error,
        evaluation.metrics.nll,
        evaluation.metrics.ece,
    )
    for level in evaluation.occlusion["black"]:
        logits = predictions.at(level.share, "black")
        assert level.actual_share == hidden_share(test.images, level.share)
        assert level.top1_error == proper.top_k_error(logits, test.labels)
        assert level.nll == proper.nll(logits, test.labels)
        confidence, correct = proper.top_confidence(logits, test.labels)
        assert level.ece == error(equal_width(confidence, 10), confidence, correct)
    assert len({level.nll for level in evaluation.occlusion["black"]}) == 5


@pytest.mark.parametrize("batch_size", [40, 16])
def test_all_models_see_the_same_rectangles(batch_size: int) -> None:
    test = image_set()
    one, other = Recorder(0.1), Recorder(-0.2)
    torch.manual_seed(1)
    evaluate(one, test, fills=BLACK, seed=3)
    torch.manual_seed(2)
    evaluate(other, test, fills=BLACK, seed=3, batch_size=batch_size)
    shown = torch.cat(one.shown)
    assert len(shown) == 5 * 40
    assert torch.equal(shown, torch.cat(other.shown))
    another = Recorder(0.1)
    evaluate(another, test, fills=BLACK, seed=4)
    assert not torch.equal(shown, torch.cat(another.shown))


def test_every_fill_hides_the_same_places() -> None:
    recorder = Recorder(0.1)
    evaluation, _ = evaluate(recorder, image_set(), fills={"white": 255.0, "black": 0.0})
    assert list(evaluation.occlusion) == ["white", "black"]
    _, *levels = recorder.shown  # the plain images, then white and black for each share
    for white, black in zip(levels[::2], levels[1::2], strict=True):
        hidden = white != black
        assert hidden.any()
        assert white[hidden].unique().tolist() == [255]
        assert black[hidden].unique().tolist() == [0]


@pytest.mark.parametrize("batch_size", [40, 16])
def test_noise_of_its_own_hides_in_each_image_what_a_colour_hides(batch_size: int) -> None:
    test, recorder, other = image_set(), Recorder(0.1), Recorder(0.1)
    # No pixel is black but where it is hidden.
    test = ImageSet(test.images.clamp(min=1), test.labels)
    evaluate(recorder, test, fills={"noise": "noise"}, seed=3, batch_size=batch_size)
    evaluate(other, test, fills=BLACK, seed=3)
    shown = torch.cat(recorder.shown).view(5, 40, 3, 10, 14)
    hidden = torch.cat(other.shown).view(5, 40, 3, 10, 14) == 0
    for level, share in enumerate(OCCLUSION_SHARES):
        noise = draw_noise(test.images, torch.arange(40), share, seed=3)
        assert torch.equal(shown[level], torch.where(hidden[level], noise, test.images))


def test_the_area_is_the_trapezoids_by_hand() -> None:
    levels = [
        OcclusionLevel(share, actual, error, 0.0, ece)
        for share, actual, error, ece in (
            (0.0, 0.0, 0.1, 0.0),
            (0.2, 0.25, 0.3, 0.1),
            (0.4, 0.5, 0.5, 0.3),
        )
    ]
    # 0.25 * (0.1 + 0.3) / 2 + 0.25 * (0.3 + 0.5) / 2 = 0.15, over a width of 0.5.
    assert area_under(levels, "top1_error") == pytest.approx(0.3)
    assert area_under(levels, "ece") == pytest.approx(0.25 * (0.05 + 0.2) / 0.5)


def test_the_areas_are_those_of_the_levels_and_constant_figures_their_own() -> None:
    evaluation, _ = evaluate(Fixed(), image_set(), fills={"black": 0.0, "noise": "noise"})
    assert list(evaluation.occlusion_area) == ["black", "noise"]
    for fill, area in evaluation.occlusion_area.items():
        for key in ("top1_error", "ece"):
            assert area[key] == area_under(evaluation.occlusion[fill], key)
    same = [OcclusionLevel(0.0, share, 0.7, 0.0, 0.0) for share in (0.0, 0.21, 0.77)]
    assert area_under(same, "top1_error") == pytest.approx(0.7)


def test_evaluating_changes_neither_model_nor_data_nor_the_global_state() -> None:
    test, model = image_set(), Recorder(0.1).train()
    images, state = test.images.clone(), torch.get_rng_state()
    evaluate(model, test, fills=BLACK)
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
        evaluate(Diverged(), image_set(), fills=BLACK)
    assert "\n" not in str(caught.value)


# Keeping


def test_as_dict_is_json_with_the_promised_fields() -> None:
    evaluation, _ = evaluate(Fixed(), image_set(), fills=BLACK)
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
        "occlusion",
        "occlusion_area",
    }
    assert fields["temperature"] is None
    assert fields["scaled"] is None
    assert list(fields["risk_coverage"][0]) == ["coverage", "risk"]
    assert list(fields["reliability"][0]) == ["low", "high", "count", "confidence", "accuracy"]
    assert list(fields["occlusion"]["black"][0]) == [
        "share",
        "actual_share",
        "top1_error",
        "nll",
        "ece",
    ]


def test_an_evaluation_comes_back_from_its_file(tmp_path: Path) -> None:
    plain, _ = evaluate(Fixed(), image_set(), fills=BLACK)
    scaled, _ = evaluate(Fixed(), image_set(), fills=BLACK, held_out=held_out_set())
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
    assert plain.actual_shares == [level.actual_share for level in plain.occlusion["black"]]
    assert replace(plain, occlusion={}).actual_shares == [0.0]


def test_an_evaluation_of_earlier_code_loads_and_is_written_alike() -> None:
    path = Path(__file__).parent / "old_run" / "finished" / "evaluation.json"
    old = read_json(path)
    assert Evaluation.load(path).as_dict() == old
    assert list(Evaluation.load(path).as_dict()) == list(old)


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"scaled": 3}'])
def test_a_file_of_no_evaluation_is_a_message(tmp_path: Path, content: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    for kind in (Evaluation, ProbeErrors):
        with pytest.raises(SoftaugError, match=r"evaluation\.json: not"):
            kind.load(path)


def test_saved_predictions_give_the_same_evaluation(tmp_path: Path) -> None:
    evaluation, predictions = evaluate(Fixed(), image_set(), fills=BLACK)
    path = tmp_path / "predictions.npz"
    predictions.save(path)
    loaded = Predictions.load(path)
    assert list(tmp_path.iterdir()) == [path]
    assert loaded.labels.dtype == torch.int64
    assert loaded.logits.dtype == torch.float32
    assert tuple(loaded.occluded_logits["black"]) == OCCLUSION_SHARES[1:]
    for share in OCCLUSION_SHARES:
        assert torch.equal(loaded.at(share, "black"), predictions.at(share, "black"))
    actual_shares = [level.actual_share for level in evaluation.occlusion["black"]]
    assert summarise(loaded, actual_shares) == evaluation
    assert summarise(loaded, actual_shares, bins=5).ece_bins == 5


def held_out_set() -> ImageSet:
    """Images whose label is often that of the largest logit, so that their temperature is inner."""
    images = image_set(n=60).images.flip(0)
    labels = images[:, 0, 0, :4].float().argmax(dim=1)
    labels[::3] = 0
    return ImageSet(images=images, labels=labels)


def test_the_temperature_is_that_of_the_held_out_images_and_scales_the_test_figures() -> None:
    test, held_out = image_set(), held_out_set()
    plain, _ = evaluate(Fixed(), test, fills=BLACK)
    evaluation, predictions = evaluate(Fixed(), test, fills=BLACK, held_out=held_out)
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
    # Nothing else knows of the held-out images.
    assert replace(evaluation, temperature=None, scaled=None) == plain
    fields = evaluation.as_dict()
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    shared = ["nll", "ece", "ece_mass", "smooth_ece", "classwise_ece", "brier", "calibration_gap"]
    assert set(shared) <= set(fields["scaled"]) <= set(fields)
    for name in shared:
        assert fields["scaled"][name] != fields[name]


def test_figures_of_the_evaluation_are_those_of_its_logits() -> None:
    evaluation, predictions = evaluate(Fixed(), image_set(), fills=BLACK, bins=10)
    expected = measure(predictions.logits, predictions.labels, bins=10)
    assert evaluation.metrics == expected
    assert evaluation.risk_coverage[-1] == Risk(1.0, evaluation.top1_error)
    assert len(evaluation.risk_coverage) == 40


def test_held_out_predictions_are_kept(tmp_path: Path) -> None:
    evaluation, predictions = evaluate(Fixed(), image_set(), fills=BLACK, held_out=held_out_set())
    path = tmp_path / "predictions.npz"
    predictions.save(path)
    loaded = Predictions.load(path)
    assert loaded.held_out_logits is not None
    assert list(loaded.occluded_logits) == ["black"]
    actual_shares = [level.actual_share for level in evaluation.occlusion["black"]]
    assert summarise(loaded, actual_shares) == evaluation


def test_predictions_of_an_earlier_version_load(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    logits = np.ones((3, 2), dtype=np.float32)
    arrays: dict[str, Any] = {"labels": np.zeros(3, dtype=np.int64), "logits": logits}
    np.savez(path, allow_pickle=False, **arrays, **{"occluded_black_0.2": logits})
    loaded = Predictions.load(path)
    assert loaded.held_out_labels is None
    assert loaded.held_out_logits is None
    assert list(loaded.occluded_logits) == ["black"]


def test_held_out_logits_that_are_not_finite_are_a_message() -> None:
    class Diverged(Fixed):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return logits * math.nan if len(images) == 60 else logits

    with pytest.raises(SoftaugError, match="not finite for 60 of 60 held-out images"):
        evaluate(Diverged(), image_set(), fills=BLACK, held_out=held_out_set())


def test_summarise_wants_a_share_for_each_level() -> None:
    _, predictions = evaluate(Fixed(), image_set(), fills=BLACK)
    with pytest.raises(ValueError, match="argument"):
        summarise(predictions, [0.0, 0.2])


def test_a_failed_save_is_a_message(tmp_path: Path) -> None:
    _, predictions = evaluate(Fixed(), image_set(), fills=BLACK)
    with pytest.raises(SoftaugError, match="could not be written"):
        predictions.save(tmp_path / "absent" / "predictions.npz")


@pytest.mark.parametrize("content", [None, b"", b"PK broken", b"\x80\x04 no archive"])
def test_an_unreadable_file_is_a_message(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "predictions.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SoftaugError, match=r"predictions\.npz"):
        Predictions.load(path)
