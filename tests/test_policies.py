"""The policies: torchvision's pixels, a map that counts what is left, published rules, the gate."""

import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from contract import CLAUSES, Case, Clause, a_gpu_gives_the_same, dtype_does_not_matter
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Generator, Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from softaug import Chain, Crop, Drawn, Gated, PowerCurve, SoftAugment, as_seen, take, visibility
from softaug.transforms.policies import RandAugment, TrivialAugment
from softaug.transforms.policies.batch import BATCHED_VALUES
from softaug.transforms.policies.confidences import (
    LOSSY,
    FromConfidence,
    human_confidence,
    polynomial_confidence,
    smoothed_confidence,
)
from softaug.transforms.policies.operations import (
    FACTORS,
    GEOMETRIC,
    OPERATIONS,
    SIGNED,
    cached_source_index,
    operation_table,
    source_index,
)

BINS = 31
THEIR_RAND: Any = v2.RandAugment()
THEIR_TRIVIAL: Any = v2.TrivialAugmentWide()
POLICIES: dict[str, tuple[Any, Any]] = {
    "rand": (RandAugment(), THEIR_RAND),
    "trivial": (TrivialAugment(), THEIR_TRIVIAL),
}
both = pytest.mark.parametrize(("ours", "theirs"), POLICIES.values(), ids=POLICIES)


def images(n: int, channels: int = 3, height: int = 13, width: int = 18) -> Tensor:
    """Smooth pictures with noise on them, uint8: neither flat nor without edges."""
    generator = Generator().manual_seed(channels)
    coarse = torch.rand(n, channels, 4, 4, generator=generator)
    smooth = tv.resize(coarse, [height, width], antialias=True)
    noise = torch.rand(n, channels, height, width, generator=generator)
    return (255 * (0.8 * smooth + 0.2 * noise)).to(torch.uint8)


def of_dtype(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    return pixels if dtype == torch.uint8 else pixels.to(dtype) / 255


def drawn_of(*steps: tuple[str, int, bool], n: int = 1) -> Drawn:
    """The same operations, bins and signs for n samples."""
    names, bins, signs = zip(*steps, strict=True)
    return {
        "operation": torch.tensor([[OPERATIONS.index(name) for name in names]] * n),
        "bin": torch.tensor([list(bins)] * n),
        "negative": torch.tensor([list(signs)] * n),
    }


def every_draw(operation: str) -> Drawn:
    """All bins, with either sign, of one operation."""
    pairs = list(product(range(BINS), (False, True)))
    return {
        "operation": torch.full((len(pairs), 1), OPERATIONS.index(operation)),
        "bin": torch.tensor([[at] for at, _ in pairs]),
        "negative": torch.tensor([[negative] for _, negative in pairs]),
    }


def by_torchvision(theirs: Any, image: Tensor, drawn: Drawn, sample: int) -> Tensor:
    """The class of torchvision on one image, with the draws of one of our samples."""
    height, width = image.shape[-2:]
    for step in range(drawn["operation"].shape[1]):
        name = OPERATIONS[int(drawn["operation"][sample, step])]
        values, signed = theirs._AUGMENTATION_SPACE[name]
        listed = values(theirs.num_magnitude_bins, height, width)
        magnitude = 0.0 if listed is None else float(listed[int(drawn["bin"][sample, step])])
        if signed and drawn["negative"][sample, step]:
            magnitude = -magnitude
        image = theirs._apply_image_or_video_transform(
            image, name, magnitude, interpolation=theirs.interpolation, fill=theirs._fill
        )
    return image


# Pixels


@both
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_pixels_are_torchvisions(
    ours: Any, theirs: Any, operation: str, dtype: torch.dtype
) -> None:
    """Every operation, magnitude and sign, on grey and colour, square and not."""
    drawn = every_draw(operation)
    for channels, height, width in ((3, 13, 18), (1, 18, 13), (3, 32, 32)):
        pixels = of_dtype(images(2 * BINS, channels, height, width), dtype)
        out, _ = ours.apply(pixels, None, drawn)
        for sample, image in enumerate(pixels):
            expected = by_torchvision(theirs, image, drawn, sample)
            assert torch.equal(out[sample], expected), (channels, sample)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_two_operations_are_torchvisions(dtype: torch.dtype) -> None:
    ours, theirs = RandAugment(magnitude=20), v2.RandAugment(magnitude=20)
    pixels = of_dtype(images(300), dtype)
    drawn = ours.draw(300, 13, 18, Generator().manual_seed(0))
    out, _ = ours.apply(pixels, None, drawn)
    for sample, image in enumerate(pixels):
        assert torch.equal(out[sample], by_torchvision(theirs, image, drawn, sample))


@both
def test_the_classes_of_torchvision_agree_on_the_same_draw(
    ours: Any, theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own code from end to end, with the random numbers it asks for taken from our draw."""
    pixels = images(200)
    drawn = ours.draw(200, 13, 18, Generator().manual_seed(1))
    out, _ = ours.apply(pixels, None, drawn)
    for sample, image in enumerate(pixels):
        whole, real = [], []
        for step in range(drawn["operation"].shape[1]):
            operation, at, negative = (drawn[key][sample, step] for key in drawn)
            whole.append(operation)
            if isinstance(ours, TrivialAugment) and OPERATIONS[operation] in (*SIGNED, *LOSSY):
                whole.append(at)
            if OPERATIONS[operation] in SIGNED:
                real.append(torch.tensor(0.4 if negative else 0.6))
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randint", lambda *_, queue=whole: queue.pop(0))
            patch.setattr(torch, "rand", lambda *_, queue=real: queue.pop(0))
            expected = theirs(image)
        assert not whole
        assert not real
        assert torch.equal(out[sample], expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_large_images_are_torchvisions_too(dtype: torch.dtype) -> None:
    """They go one by one; each bin stands in one batch with others."""
    for channels in (1, 3):
        pixels = of_dtype(images(28, channels, 90, 200), dtype)
        assert pixels[0].numel() > BATCHED_VALUES
        drawn = {
            "operation": torch.arange(28)[:, None] % 14,
            "bin": torch.arange(3, 31)[:, None],
            "negative": torch.arange(28)[:, None] >= 14,
        }
        for kept in (pixels, pixels.to(memory_format=torch.channels_last)):
            before = torch.rand(28, 1, 90, 200, generator=Generator().manual_seed(8))
            out, seen = TrivialAugment().apply(kept, before, drawn)
            _, without = TrivialAugment().apply(kept, None, drawn)
            _, ones = TrivialAugment().apply(kept, torch.ones_like(before), drawn)
            assert out.is_contiguous(memory_format=torch.channels_last) == kept.is_contiguous(
                memory_format=torch.channels_last
            )
            assert torch.equal(without, ones)
            for sample, image in enumerate(pixels):
                assert torch.equal(out[sample], by_torchvision(THEIR_TRIVIAL, image, drawn, sample))
                alone = slice(sample, sample + 1)
                _, one_seen = TrivialAugment().apply(
                    pixels[alone], before[alone], take(drawn, alone)
                )
                assert torch.equal(one_seen[0], seen[sample])


def test_moves_that_are_kept_serve_outside_of_inference_mode() -> None:
    pixels = of_dtype(images(2, 3, 11, 9), torch.float32)
    drawn = drawn_of(("Rotate", 7, False), n=2)
    with torch.inference_mode():
        there, _ = TrivialAugment().apply(pixels, None, drawn)
    given = pixels.requires_grad_()
    out, _ = TrivialAugment().apply(given, None, drawn)
    out.sum().backward()
    assert torch.equal(out.detach(), there.clone())
    assert given.grad is not None


@pytest.mark.parametrize("operation", GEOMETRIC)
def test_autocast_and_default_dtype_move_no_pixel_elsewhere(operation: str) -> None:
    expected = source_index(operation, 13.7, 30, 29, torch.device("cpu")).clone()
    cached_source_index.cache_clear()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(source_index(operation, 13.7, 30, 29, torch.device("cpu")), expected)
    cached_source_index.cache_clear()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(source_index(operation, 13.7, 30, 29, torch.device("cpu")), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("operation", "channels"), [("Identity", 3), ("Color", 1), ("Color", 4)])
def test_pixels_that_stay_are_a_copy(operation: str, channels: int) -> None:
    # Resampling leaves [0, 1] by a rounding: that stays, too.
    pixels = of_dtype(images(2, channels), torch.float32) * 1.0005
    for some in (pixels, pixels[:1]):
        out, _ = TrivialAugment().apply(some, None, drawn_of((operation, 9, True), n=len(some)))
        assert torch.equal(out, some)
        assert out.data_ptr() != some.data_ptr()


@pytest.mark.parametrize("operation", FACTORS)
def test_recolouring_of_doubles_is_theirs(operation: str) -> None:
    drawn = every_draw(operation)
    pixels = of_dtype(images(2 * BINS), torch.float64)
    out, _ = RandAugment().apply(pixels, None, drawn)
    for sample, image in enumerate(pixels):
        assert torch.equal(out[sample], by_torchvision(THEIR_RAND, image, drawn, sample))


def test_sharpness_of_images_without_inner_pixels_is_theirs() -> None:
    pixels = images(1, 3, 2, 9)
    out, _ = TrivialAugment().apply(pixels, None, drawn_of(("Sharpness", 30, False)))
    assert torch.equal(out, pixels)


@pytest.mark.parametrize(("channels", "side"), [(1, 20), (3, 20), (3, 80)])
def test_gradients_pass_through_two_operations(channels: int, side: int) -> None:
    pixels = of_dtype(images(3, channels, side, side), torch.float32).requires_grad_()
    drawn = RandAugment().draw(3, side, side, Generator().manual_seed(0))
    steps = ("Brightness", "Color"), ("Contrast", "Solarize"), ("Sharpness", "ShearX")
    drawn["operation"] = torch.tensor([[OPERATIONS.index(name) for name in s] for s in steps])
    out, _ = RandAugment().apply(pixels, None, drawn)
    out.sum().backward()
    assert pixels.grad is not None
    assert (pixels.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_operations_are_torchvisions_in_its_order() -> None:
    for _, theirs in POLICIES.values():
        assert tuple(theirs._AUGMENTATION_SPACE) == OPERATIONS
        signed = [name for name, (_, signed) in theirs._AUGMENTATION_SPACE.items() if signed]
        assert signed == list(SIGNED)


@pytest.mark.parametrize("bins", [2, 3, 5, 7, 9, 10, 13, 25, 31, 49, 100])
def test_magnitudes_are_torchvisions_for_any_number_of_bins(bins: int) -> None:
    for size in ((32, 32), (37, 224)):
        policies: tuple[Any, Any] = (
            RandAugment(num_magnitude_bins=bins, magnitude=0),
            TrivialAugment(bins),
        )
        for ours, theirs in zip(policies, (THEIR_RAND, THEIR_TRIVIAL), strict=True):
            rows = operation_table(ours.strength, *size)
            for row, (name, space) in zip(rows, theirs._AUGMENTATION_SPACE.items(), strict=True):
                values, signed = space
                listed = (
                    [0.0] * bins if values(bins, *size) is None else values(bins, *size).tolist()
                )
                sign = -1 if signed else 1
                assert row == [((name, value), (name, sign * value)) for value in listed]


@pytest.mark.parametrize("fill", [7, (3, 0, 250)])
def test_fill_is_torchvisions(fill: Any) -> None:
    theirs = v2.TrivialAugmentWide(fill=fill)
    for operation in GEOMETRIC:
        drawn, pixels = every_draw(operation), images(2 * BINS)
        out, _ = TrivialAugment(fill=fill).apply(pixels, None, drawn)
        for sample, image in enumerate(pixels):
            assert torch.equal(out[sample], by_torchvision(theirs, image, drawn, sample))


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_each_a_grey_image(channels: int) -> None:
    pixels = images(40, channels)
    drawn = TrivialAugment().draw(40, 13, 18, Generator().manual_seed(2))
    out, seen = TrivialAugment().apply(pixels, None, drawn)
    for channel in range(channels):
        grey, grey_seen = TrivialAugment().apply(pixels[:, channel, None], None, drawn)
        assert torch.equal(out[:, channel, None], grey)
        assert torch.equal(seen, grey_seen)


def test_half_precision_is_computed_in_float32() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        pixels = of_dtype(images(60), dtype)
        drawn = RandAugment().draw(60, 13, 18, Generator().manual_seed(3))
        for policy in (RandAugment(), RandAugment(fill=(0.1, 0.2, 0.3))):
            out, _ = policy.apply(pixels, None, drawn)
            assert torch.equal(out, policy.apply(pixels.float(), None, drawn)[0].to(dtype))


def test_no_operation_changes_nothing() -> None:
    pixels = images(3)
    out, seen = RandAugment(num_ops=0)(pixels)
    assert torch.equal(out, pixels)
    assert out.data_ptr() != pixels.data_ptr()
    assert torch.equal(seen, torch.ones(3, 1, 13, 18))


# The law of the draws


def assert_uniform(values: Tensor, kinds: int) -> None:
    counts = torch.bincount(values.flatten(), minlength=kinds)
    assert len(counts) == kinds
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_draws_are_uniform_and_independent() -> None:
    rand = RandAugment(num_ops=3, magnitude=7).draw(20_000, 8, 8, Generator().manual_seed(4))
    trivial = TrivialAugment().draw(60_000, 8, 8, Generator().manual_seed(5))
    assert all(value.shape == (20_000, 3) for value in rand.values())
    assert all(value.shape == (60_000, 1) for value in trivial.values())
    assert (rand["bin"] == 7).all()
    assert_uniform(trivial["bin"], BINS)
    for drawn in (rand, trivial):
        assert_uniform(drawn["operation"], 14)
        assert_uniform(drawn["operation"] * 2 + drawn["negative"], 28)
    assert_uniform(rand["operation"][:, 0] * 14 + rand["operation"][:, 1], 14 * 14)
    assert_uniform(trivial["operation"] * BINS + trivial["bin"], 14 * BINS)


# The map


def points(height: int, width: int) -> tuple[Tensor, Tensor]:
    """4 x 4 points in each pixel; x and y from the upper left corner, in pixels."""
    y = (torch.arange(4 * height, dtype=torch.float64) + 0.5) / 4
    x = (torch.arange(4 * width, dtype=torch.float64) + 0.5) / 4
    grid = torch.meshgrid(y, x, indexing="ij")
    return grid[1].flatten(), grid[0].flatten()


def forward(
    operation: str, magnitude: float, x: Tensor, y: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Where points go: shears about the upper left corner, rotation against the clock."""
    match operation:
        case "ShearX":
            return x - magnitude * y, y
        case "ShearY":
            return x, y - magnitude * x
        case "TranslateX":
            return x + int(magnitude), y
        case "TranslateY":
            return x, y + int(magnitude)
    x, y = x - width / 2, y - height / 2
    cos, sin = (of(math.radians(magnitude)) for of in (math.cos, math.sin))
    return cos * x + sin * y + width / 2, -sin * x + cos * y + height / 2


def share_left(steps: list[tuple[str, float]], height: int, width: int) -> float:
    x, y = points(height, width)
    inside = torch.ones_like(x, dtype=torch.bool)
    for operation, magnitude in steps:
        x, y = forward(operation, magnitude, x, y, height, width)
        inside &= (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return inside.double().mean().item()


def signed_magnitude(theirs: Any, step: tuple[str, int, bool], height: int, width: int) -> float:
    name, at, negative = step
    magnitude = float(theirs._AUGMENTATION_SPACE[name][0](BINS, height, width)[at])
    return -magnitude if negative and name in SIGNED else magnitude


@both
@pytest.mark.parametrize("operation", GEOMETRIC)
def test_visibility_counts_the_points_that_are_left(ours: Any, theirs: Any, operation: str) -> None:
    """Within 1 % under nearest neighbours; exact for translations, which move whole pixels."""
    height, width = 48, 64
    drawn = every_draw(operation)
    _, seen = ours.apply(torch.zeros(2 * BINS, 1, height, width), None, drawn)
    for sample, left in enumerate(visibility(seen).tolist()):
        step = (operation, int(drawn["bin"][sample]), bool(drawn["negative"][sample]))
        magnitude = signed_magnitude(theirs, step, height, width)
        expected = share_left([(operation, magnitude)], height, width)
        tolerance = 1e-6 if operation.startswith("Translate") else 0.01
        assert left == pytest.approx(expected, abs=tolerance), step


@pytest.mark.parametrize(("first", "second"), list(product(GEOMETRIC, repeat=2)))
def test_visibility_of_two_moves_is_the_joint_one(first: str, second: str) -> None:
    """There and back, or further out: what lies outside once is lost, and counted once."""
    height, width = 48, 64
    for signs in product((False, True), repeat=2):
        steps = [(first, 30, signs[0]), (second, 25, signs[1])]
        _, seen = RandAugment().apply(torch.zeros(1, 1, height, width), None, drawn_of(*steps))
        moves = [(step[0], signed_magnitude(THEIR_RAND, step, height, width)) for step in steps]
        expected = share_left(moves, height, width)
        assert visibility(seen).item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("operation", GEOMETRIC)
def test_map_and_pixels_move_alike(operation: str) -> None:
    """Pixels that hold the map's own values stay equal to the map."""
    for dtype in (torch.float32, torch.float64):
        values = torch.rand(2 * BINS, 1, 13, 18, generator=Generator().manual_seed(6))
        out, seen = TrivialAugment().apply(values.to(dtype), values, every_draw(operation))
        shrunk = seen.sum(dim=(1, 2, 3)) < out.sum(dim=(1, 2, 3)) * (1 - 1e-5)
        assert torch.equal(seen[~shrunk], out[~shrunk].float())
        assert shrunk.double().mean() < 0.3


def test_a_map_never_grows() -> None:
    """A rotation may show the one pixel of an object twice; it isn't seen twice for that."""
    masks = torch.zeros(13 * 18, 13, 18)
    masks.view(13 * 18, -1).fill_diagonal_(1)
    before = as_seen(masks)
    pixels = torch.zeros(13 * 18, 1, 13, 18)
    for operation, at in product(GEOMETRIC, (5, 13, 24)):
        _, seen = TrivialAugment().apply(pixels, before, drawn_of((operation, at, True), n=13 * 18))
        assert (seen >= 0).all()
        assert (visibility(seen) <= 1 + 1e-6).all()
        twice = (seen > 0).flatten(1).sum(dim=1) > 1
        assert twice.any() == (operation in ("Rotate",))
        torch.testing.assert_close(visibility(seen[twice]), torch.ones(int(twice.sum())))


@both
def test_colour_multiplies_the_map_by_what_is_kept(ours: Any, theirs: Any) -> None:
    before = 0.5 + torch.rand(2 * BINS, 1, 13, 18, generator=Generator().manual_seed(7)) / 2
    for operation in OPERATIONS:
        drawn = every_draw(operation)
        _, seen = ours.apply(images(2 * BINS), before, drawn)
        if operation in ("Identity", "AutoContrast", "Equalize"):
            assert torch.equal(seen, before)
        if operation in LOSSY:
            for sample in range(2 * BINS):
                step = (operation, int(drawn["bin"][sample]), bool(drawn["negative"][sample]))
                m = signed_magnitude(theirs, step, 13, 18)
                lost = {"Posterize": 1 - m / 8, "Solarize": 1 - m}.get(operation, abs(m))
                torch.testing.assert_close(seen[sample], before[sample] * (1 - lost))


def test_colour_of_grey_is_kept() -> None:
    """torchvision leaves grey images as they are, so that nothing is lost."""
    for channels in (1, 2, 4):
        pixels = images(1, channels)
        out, seen = TrivialAugment().apply(pixels, None, drawn_of(("Color", 30, True)))
        assert torch.equal(out, pixels)
        assert (seen == 1).all()


def test_two_changes_multiply() -> None:
    steps = (("Brightness", 9, False), ("TranslateX", 9, True))
    _, seen = RandAugment().apply(images(1), None, drawn_of(*steps))
    columns = 18 - int(9 / 30 * 150 / 331 * 18)
    assert visibility(seen).item() == pytest.approx((1 - 0.27) * columns / 18)


# Rules of confidence

RULES = (polynomial_confidence, human_confidence, smoothed_confidence)
rules = pytest.mark.parametrize("rule", RULES)


@rules
@given(
    operation=st.sampled_from(LOSSY),
    extent=st.floats(0, 1),
    negative=st.booleans(),
    chance=st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    k=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
)
def test_the_curve_in_force_gives_the_published_confidence_back(
    rule: Any, operation: str, extent: float, negative: bool, chance: float, k: float
) -> None:
    magnitude = {"Posterize": 8 - 6 * extent, "Solarize": 1 - extent}.get(
        operation, -extent if negative else extent
    )
    p = rule(operation, magnitude, chance)
    kept = FromConfidence(rule, chance=chance, k=k)(operation, magnitude)
    assert 0 <= p <= 1
    assert 0 <= kept <= 1
    again = PowerCurve(k=k, chance=chance)(torch.tensor([kept], dtype=torch.float64)).item()
    assert again == pytest.approx(max(p, chance), abs=1e-6)


@rules
def test_nothing_changed_is_certain_and_more_is_never_better(rule: Any) -> None:
    for operation in LOSSY:
        for theirs, sign in product((THEIR_RAND, THEIR_TRIVIAL), (1, -1)):
            listed = theirs._AUGMENTATION_SPACE[operation][0](BINS, 32, 32).tolist()
            signed = [sign * m if operation in SIGNED else m for m in listed]
            ps = [rule(operation, m, 0.1) for m in signed]
            assert ps[0] == pytest.approx(1)
            assert ps == sorted(ps, reverse=True)


def test_polynomial_keeps_what_is_left_at_k_2_whatever_chance_is() -> None:
    for chance in (0.0, 0.01, 0.5):
        kept = FromConfidence(polynomial_confidence, chance=chance)
        assert kept("Contrast", -0.3) == pytest.approx(0.7)
        assert kept("Sharpness", 0.9) == pytest.approx(0.1)
        assert kept("Posterize", 2) == pytest.approx(0.25)
        assert kept("Solarize", 0.8) == pytest.approx(0.8)
        assert FromConfidence(polynomial_confidence, chance=chance, k=1)(
            "Color", 0.3
        ) == pytest.approx(0.91)


@pytest.mark.parametrize(
    ("rule", "operation", "magnitude", "confidence"),
    [
        (human_confidence, "Contrast", -0.99, 0.32),
        (human_confidence, "Contrast", -0.96, 0.32),
        (human_confidence, "Brightness", 0.924, 0.6425),
        (human_confidence, "Contrast", -0.891, 0.966),
        (human_confidence, "Contrast", -0.495, 0.9817),
        (human_confidence, "Brightness", -0.03, 1.0),
        (human_confidence, "Solarize", 0.0, 1.0),
        (smoothed_confidence, "Brightness", 0.5, 1 - 0.14 * 0.125),
        (smoothed_confidence, "Brightness", -0.5, 1 - 0.68 / 32),
        (smoothed_confidence, "Contrast", 0.5, 1 - 0.024 / 4),
        (smoothed_confidence, "Contrast", -0.5, 1 - 0.68 / 32),
        (smoothed_confidence, "Color", 0.9, 1.0),
        (smoothed_confidence, "Color", -0.5, 1 - 0.05 / 8),
        (smoothed_confidence, "Sharpness", 0.5, 1 - 0.004),
        (smoothed_confidence, "Sharpness", -0.5, 1 - 0.116 / 16),
        (smoothed_confidence, "Posterize", 2, 0.86),
        (smoothed_confidence, "Posterize", 5, 1 - 0.14 / 1024),
        (smoothed_confidence, "Solarize", 0.0, 0.512),
        (smoothed_confidence, "Solarize", 0.75, 1 - 0.488 / 8),
    ],
)
def test_rules_give_the_published_numbers(
    rule: Any, operation: str, magnitude: float, confidence: float
) -> None:
    assert rule(operation, magnitude, 0.1) == pytest.approx(confidence, abs=2e-3)


def test_a_rule_of_ones_own() -> None:
    certain = TrivialAugment(kept=lambda operation, magnitude: 1.0)  # noqa: ARG005
    drawn = every_draw("Solarize")
    assert (visibility(certain.apply(images(2 * BINS), None, drawn)[1]) == 1).all()


# The gate


@given(
    operations=st.integers(1, 20),
    limit=st.integers(2, 20),
    chance=st.floats(0, 0.5),
    k=st.floats(0.5, 4),
)
def test_gate_weakens_in_a_straight_line(
    operations: int, limit: int, chance: float, k: float
) -> None:
    v = torch.linspace(0, 1, 11, dtype=torch.float64)
    curve = PowerCurve(k=k, chance=chance)
    softened = 1 - Gated(curve, operations, limit)(v)
    assert (softened >= 0).all()
    assert (softened <= 1 - curve(v) + 1e-12).all()
    more = 1 - Gated(curve, operations + 1, limit)(v)
    if operations >= limit:
        assert (softened == 0).all()
    else:
        step = (1 - curve(v)) / (limit - 1)
        torch.testing.assert_close(softened - more, step)
    torch.testing.assert_close(1 - Gated(curve, 1, limit)(v), 1 - curve(v))


def test_gate_by_hand() -> None:
    v = torch.tensor([0.0, 0.5, 1.0])
    curve = PowerCurve(chance=0.2)
    assert Gated(curve, operations=8)(v).tolist() == [1, 1, 1]
    assert Gated(curve, operations=11)(v).tolist() == [1, 1, 1]
    assert Gated(curve, operations=4)(v).tolist() == pytest.approx(
        [1 - 0.8 * 4 / 7, 1 - 0.2 * 4 / 7, 1]
    )


def test_gated_softaugment_leaves_labels_hard_among_many_operations() -> None:
    curve = Gated(PowerCurve(chance=0.1), operations=11)
    augment = SoftAugment(TrivialAugment(), num_classes=10, curve=curve)
    _, targets = augment(images(10), torch.arange(10))
    assert torch.equal(targets, torch.eye(10))


# The contract

CONTRACT: dict[str, Any] = {
    "rand": RandAugment(magnitude=20),
    "rand-four": RandAugment(num_ops=4, magnitude=30),
    "trivial": TrivialAugment(),
    "crop+rand": Chain([Crop(), RandAugment()]),
    "trivial+crop": Chain([TrivialAugment(), Crop()]),
}
CLAUSES_OF_POLICIES = [
    clause for clause in CLAUSES if clause not in (dtype_does_not_matter, a_gpu_gives_the_same)
]
INPUTS: dict[str, Callable[[], Tensor]] = {
    "uint8": lambda: images(12),
    "float32": lambda: of_dtype(images(12), torch.float32),
    "float64": lambda: of_dtype(images(12), torch.float64),
    "float16": lambda: of_dtype(images(12), torch.float16),
    "grey": lambda: images(12, 1),
    "two-channels": lambda: of_dtype(images(12, 2), torch.float32),
    "alpha": lambda: images(12, 4),
    "channels-last": lambda: images(12).to(memory_format=torch.channels_last),
    "channels-last-float": lambda: of_dtype(
        images(12).to(memory_format=torch.channels_last), torch.float32
    ),
    "view": lambda: images(12, 6)[:, ::2],
    "one": lambda: images(1),
}


def drawn_for(name: str, pixels: Tensor) -> Drawn:
    height, width = pixels.shape[-2:]
    drawn: Drawn = CONTRACT[name].draw(len(pixels), height, width, Generator().manual_seed(5))
    return drawn


@pytest.mark.parametrize("clause", CLAUSES_OF_POLICIES, ids=lambda clause: clause.__name__)
@pytest.mark.parametrize(("name", "kind"), list(product(CONTRACT, INPUTS)))
def test_contract(clause: Clause, name: str, kind: str) -> None:
    """As of every transform, but to the bit: images are computed one by one, as by torchvision."""
    clause(Case(CONTRACT[name], INPUTS[kind](), exact=True))


@pytest.mark.parametrize("name", CONTRACT)
def test_no_images_give_no_images(name: str) -> None:
    out, seen = CONTRACT[name](images(1)[:0])
    assert out.shape == (0, 3, 13, 18)
    assert seen.shape == (0, 1, 13, 18)


@pytest.mark.parametrize(("operation", "threads"), [("Sharpness", 1), ("Contrast", 2)])
def test_no_bit_depends_on_the_batch(operation: str, threads: int) -> None:
    """Convolutions and sums round by the size of the batch, where torchvision gets all of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for channels, height, width in ((1, 32, 32), (3, 224, 224)):
            pixels = of_dtype(images(6, channels, height, width), torch.float32)
            drawn = drawn_of((operation, 17, True), n=6)
            out, _ = TrivialAugment().apply(pixels, None, drawn)
            for sample, image in enumerate(pixels):
                assert torch.equal(out[sample], by_torchvision(THEIR_TRIVIAL, image, drawn, sample))
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same() -> None:
    for name, kind in product(CONTRACT, INPUTS):
        pixels = INPUTS[kind]()
        drawn = drawn_for(name, pixels)
        here, there = (CONTRACT[name].apply(i, None, drawn) for i in (pixels, pixels.cuda()))
        white = 1.0 if pixels.is_floating_point() else 255.0
        # A sum that rounds otherwise may carry single pixels over a threshold.
        assert (here[0].float() - there[0].cpu().float()).abs().mean() <= 1e-3 * white
        assert torch.equal(here[1], there[1].cpu())


def test_gradients_pass_through_what_has_them() -> None:
    pixels = of_dtype(images(8), torch.float32).requires_grad_()
    out, _ = TrivialAugment().apply(pixels, None, drawn_of(("Rotate", 10, True), n=8))
    out.sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0


def test_draws_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    for policy in (RandAugment(), TrivialAugment()):
        first, second = (policy.draw(50, 8, 8, Generator().manual_seed(0)) for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert all(value.device.type == "cpu" for value in first.values())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("policy", [RandAugment, TrivialAugment])
def test_without_torchvision_a_policy_says_what_to_install(
    policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    message = rf"^{policy.__name__} needs torchvision: pip install 'softaug\[lab\]'$"
    with pytest.raises(ImportError, match=message):
        policy()


def test_policies_survive_pickling() -> None:
    """Workers that are spawned get a pickle."""
    policy = TrivialAugment(kept=FromConfidence(human_confidence, chance=0.1, k=1))
    assert pickle.loads(pickle.dumps(policy)) == policy
    gated = Gated(PowerCurve(chance=0.1), 3)
    assert pickle.loads(pickle.dumps(gated)) == gated


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: RandAugment(num_ops=-1), "num_ops must be 0 or more, got -1"),
        (lambda: RandAugment(magnitude=31), r"from 0 to num_magnitude_bins - 1 = 30, got 31"),
        (lambda: RandAugment(magnitude=-1), "got -1"),
        (lambda: RandAugment(num_magnitude_bins=1), "num_magnitude_bins must be 2 or more, got 1"),
        (lambda: TrivialAugment(num_magnitude_bins=0), "must be 2 or more, got 0"),
        (lambda: Gated(PowerCurve(chance=0), 0), "operations must be 1 or more, got 0"),
        (lambda: Gated(PowerCurve(chance=0), 3, limit=1), "limit must be 2 operations.*got 1"),
        (lambda: FromConfidence(human_confidence, chance=1.0), r"chance must be.*got 1\.0"),
        (lambda: FromConfidence(human_confidence, chance=0.1, k=0), "k must be.*got 0"),
        (lambda: polynomial_confidence("Rotate", 3, 0.1), "one of Brightness.*got 'Rotate'"),
        (lambda: TrivialAugment(fill=(1, 2))(images(2)), "each of the 3 channels"),
        (lambda: TrivialAugment(fill=300)(images(2)), "got 300"),
        (
            lambda: TrivialAugment()(torch.zeros(2, 3, 8, 8).long()),
            "uint8 or floating point, got torch.int",
        ),
        (
            lambda: RandAugment()(torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), -1.5)])),
            r"in \[0, 1\], got -1\.5 to 0 \(first in sample 1\); put them before normalisation",
        ),
        (
            lambda: RandAugment()(torch.full((1, 3, 8, 8), math.nan)),
            "got nan to nan .first in sample 0",
        ),
        (
            lambda: TrivialAugment(kept=lambda *_: 2.0).apply(
                images(1), None, drawn_of(("Solarize", 30, False))
            ),
            r"share in \[0, 1\], got 2\.0 for Solarize at magnitude 0",
        ),
        (
            lambda: FromConfidence(lambda *_: 7.0, chance=0.1)("Color", 0.5),
            r"confidence in \[0, 1\], got 7\.0 for Color at magnitude 0\.5",
        ),
    ],
)
def test_values_out_of_range_are_named(use: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        use()


def test_a_map_that_moves_out_entirely_has_a_gradient_of_0() -> None:
    drawn: Drawn = {"operation": torch.tensor([[3]]), "bin": torch.tensor([[30]])}
    drawn["negative"] = torch.tensor([[False]])
    seen = torch.ones(1, 1, 8, 8, requires_grad=True)
    _, left = TrivialAugment().apply(torch.rand(1, 3, 8, 8), seen, drawn)
    left.sum().backward()
    assert OPERATIONS[3] == "TranslateX"
    assert left.sum() == 0
    assert seen.grad is not None
    assert torch.equal(seen.grad, torch.zeros(1, 1, 8, 8))


def test_nothing_done_is_a_copy_of_pictures_too() -> None:
    picture = tv_tensors.Image(torch.rand(1, 3, 8, 8))
    for policy in (RandAugment(num_ops=0), RandAugment(num_ops=2, magnitude=0)):
        kept = picture.clone()
        out, _ = policy.apply(picture, None, policy.draw(1, 8, 8, Generator().manual_seed(0)))
        out.mul_(0)
        assert torch.equal(picture, kept)


COMPILED = """
import sys
import torch
from torch import Generator, library
from softaug import Chain, Crop, RandAugment, SoftAugment, TrivialAugment
from softaug.transforms.policies.confidences import FromConfidence, polynomial_confidence
from softaug.transforms.policies.operations import OPERATIONS
from softaug.transforms.policies.compiled import policy_operator

assert "torchvision" not in sys.modules  # it is imported on first use

def constant(share):
    return lambda operation, magnitude: share

third = FromConfidence(polynomial_confidence, chance=0.01, k=3.0)
policy = TrivialAugment(11)
both = (((5, 3, 8, 9), torch.channels_last), ((2, 3, 80, 70), torch.contiguous_format))
for transform, shapes, dynamic in (
    (Chain([RandAugment(num_ops=3, fill=0.5, kept=third), Crop()]), both, None),
    (TrivialAugment(kept=constant(0.5)), both[:1], None),
    (TrivialAugment(kept=constant(0.25)), both[:1], None),
    (policy, both, True),
):
    augment = SoftAugment(transform, 10)
    compiled = torch.compile(augment, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape, layout in shapes:
        images = torch.rand(shape).to(memory_format=layout)
        labels = torch.arange(len(images))
        drawn = transform.draw(len(images), *shape[2:], Generator().manual_seed(0))
        got, expected = (f(images, labels, drawn=drawn) for f in (compiled, augment))
        assert all(map(torch.equal, got, expected)), (transform, shape)
        assert got[0].stride() == expected[0].stride()

drawn = policy.draw(2, 80, 70, Generator().manual_seed(0))
try:
    torch.compile(policy.apply, fullgraph=True, backend="aot_eager")(2 * images, None, drawn)
except ValueError as error:
    assert "float images in [0, 1]" in str(error), error
else:
    raise AssertionError("pixels above 1 passed")

pixels = images.clone().requires_grad_()
torch.compile(policy.apply, backend="aot_eager")(pixels, None, drawn)[0].sum().backward()
again = images.clone().requires_grad_()
policy.apply(again, None, drawn)[0].sum().backward()
assert torch.equal(pixels.grad, again.grad)

torch._dynamo.reset()
grey = images[:, :1].contiguous()
compiled = torch.compile(policy.apply, fullgraph=True, backend="aot_eager")
colour = drawn | {"operation": torch.full_like(drawn["operation"], OPERATIONS.index("Color"))}
for draws in (drawn, colour):
    for seen in (None, torch.rand(2, 1, 70, 80).mT):
        got, expected = (f(grey, seen, draws) for f in (compiled, policy.apply))
        assert all(map(torch.equal, got, expected)), seen

seen = torch.ones(2, 1, 80, 70, requires_grad=True)
policy.apply(images, seen, drawn)[1].sum().backward()
expected, seen.grad = seen.grad, None
torch.compile(policy.apply, backend="aot_eager")(images, seen, drawn)[1].sum().backward()
assert torch.equal(seen.grad, expected)

# Without draws given, they are drawn outside.
augment = SoftAugment(Chain([policy, Crop()]), 10)
torch.compile(augment, fullgraph=True, backend="aot_eager")(images, labels)

small = images[..., :30, :20].contiguous()
for seen in (None, torch.rand(2, 1, 30, 20), torch.rand(2, 1, 20, 30).mT):
    for pixels, draws in ((small, drawn), ((255 * small).byte(), colour)):
        fill = torch.zeros(1, 1, 1, 1).to(pixels)
        arguments = (pixels, seen, *draws.values(), torch.ones(2), fill)
        library.opcheck(policy_operator, (*arguments, policy.strength))
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < "2.13", reason="the graph breaks there")
def test_a_graph_holds_a_policy_as_one_step() -> None:
    # A process of its own: no shapes are checked there.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
