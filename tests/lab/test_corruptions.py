"""Corruptions: laws, closed forms, and the same draws for all models.

Agreement with two published packages is measured by scripts/check_corruptions.py, which needs them.
"""

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import watched
from support import ended, fork
from torch import Tensor

from softaug_lab.corruptions import apply, parts
from softaug_lab.corruptions.apply import corrupt, names_for
from softaug_lab.corruptions.constants import (
    COMMON,
    EXTRA,
    GROUPS,
    SEVERITIES,
    benchmark,
    constants,
)
from softaug_lab.data.load import load

NAMES = (*COMMON, *EXTRA)
SIDES = {28: (28, 28), 32: (32, 32), 64: (64, 64), "tall": (48, 30)}
# As published: their constants do not grow in every severity.
NOT_STEADY = {
    32: {"glass_blur", "motion_blur", "frost", "elastic_transform", "spatter", "saturate"},
    64: {"glass_blur", "frost", "elastic_transform", "spatter", "saturate"},
}


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """Coloured images with smooth parts and edges, [48,3,64,64]: three garments each."""
    garments = load("demo").test.images[:144].view(48, 3, 28, 28)
    large = torch.nn.functional.interpolate(garments.float(), (64, 64), mode="bilinear")
    shade = torch.linspace(20, 60, 64).view(1, 1, 1, -1)
    return (0.8 * large + shade).round().to(torch.uint8)


def of_size(images: Tensor, size: tuple[int, int], channels: int = 3) -> Tensor:
    small = torch.nn.functional.interpolate(images.float(), size, mode="area")
    return small[:, :channels].round().to(torch.uint8)


def change(images: Tensor, corrupted: Tensor) -> float:
    return (images.float() - corrupted.float()).abs().mean().item()


def likeness(images: Tensor, corrupted: Tensor) -> float:
    """Return the mean correlation between images and their corrupted versions."""
    pairs = zip(images.flatten(1).float(), corrupted.flatten(1).float(), strict=True)
    return sum(torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in pairs) / len(images)


def test_there_are_15_and_4_in_four_groups() -> None:
    assert (len(COMMON), len(EXTRA), len(set(NAMES))) == (15, 4, 19)
    assert list(GROUPS) == ["noise", "blur", "weather", "digital"]


# Devices


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", [1, 5])  # water and mud of `spatter`
def test_is_computed_where_the_images_are(
    name: str, severity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a made-up CUDA device, which raises where devices are mixed; files and rims are the CPU's.

    Random numbers are drawn on the CPU.
    """
    monkeypatch.setattr(apply, "_through_jpeg", lambda image, _: torch.zeros_like(image))
    monkeypatch.setattr(parts, "_rims", lambda layer: np.ones(layer.shape, dtype=bool))
    moved: list[int] = []
    inner = parts.Draws._moved

    def watch(draws: parts.Draws, drawn: list[Tensor]) -> Tensor:
        assert {one.device.type for one in drawn} == {"cpu"}
        moved.append(len(drawn))
        return inner(draws, drawn)

    monkeypatch.setattr(parts.Draws, "_moved", watch)
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    corrupt(images, name, severity, range(4))  # the tables that all batches share have values
    with watched() as seen:
        corrupted = corrupt(torch.empty_like(images, device="cuda"), name, severity, range(4))
        assert (corrupted.device.type, corrupted.dtype) == ("cuda", torch.uint8)
    assert seen.launches
    assert bool(moved) == (name in DRAWN)


# Laws


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [32, 64])
def test_grows_with_severity(photos: Tensor, name: str, side: int) -> None:
    images = of_size(photos, (side, side))
    changes = [change(images, corrupt(images, name, s, range(48))) for s in SEVERITIES]
    assert min(changes) > 0.3
    if name not in NOT_STEADY[side]:
        assert changes == sorted(changes)
    elif name not in ("elastic_transform", "saturate"):
        assert max(changes[3:]) > 1.2 * changes[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIDES.values(), ids=map(str, SIDES))
@pytest.mark.parametrize("channels", [1, 3])
def test_keeps_shape_and_type_and_image(
    photos: Tensor, name: str, size: tuple[int, int], channels: int
) -> None:
    images = of_size(photos[:6], size, channels)
    before = images.clone()
    if name not in names_for(channels):
        assert (name, channels) == ("saturate", 1)
        with pytest.raises(ValueError, match="1 channels"):
            corrupt(images, name, 5, range(6))
        return
    corrupted = corrupt(images, name, 5, range(6))
    assert corrupted.shape == images.shape
    assert corrupted.dtype == torch.uint8
    assert torch.equal(images, before)
    assert change(images, corrupted) > 1
    # The image is still recognisable: nearer to its original than to the next image.
    assert likeness(images, corrupted) > 0.1 + likeness(images.roll(1, 0), corrupted)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_corrupted_alike_in_every_batch(photos: Tensor, name: str) -> None:
    images = of_size(photos, (32, 32))
    torch.manual_seed(1)
    whole = corrupt(images, name, 3, range(48), seed=5)
    torch.manual_seed(2)
    for i in (0, 1, 31, 47):
        assert torch.equal(whole[i : i + 1], corrupt(images[i : i + 1], name, 3, [i], seed=5))
    backwards = corrupt(images.flip(0), name, 3, range(47, -1, -1), seed=5)
    assert torch.equal(whole, backwards.flip(0))


DRAWN = tuple(
    name
    for name in NAMES
    if name
    not in (
        "defocus_blur",
        "zoom_blur",
        "brightness",
        "contrast",
        "pixelate",
        "jpeg_compression",
        "gaussian_blur",
        "saturate",
    )
)


@pytest.mark.parametrize("name", DRAWN)
def test_draws_follow_seed_number_and_severity(photos: Tensor, name: str) -> None:
    one = of_size(photos[:1], (32, 32))
    first = corrupt(one, name, 4, [0])
    assert not torch.equal(first, corrupt(one, name, 4, [1]))
    assert not torch.equal(first, corrupt(one, name, 4, [0], seed=1))


def test_draws_of_severities_are_independent() -> None:
    grey = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    one, two = (corrupt(grey, "gaussian_noise", s, [0]).float().flatten() for s in (1, 2))
    assert abs(torch.corrcoef(torch.stack([one, two]))[0, 1]) < 0.04


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 255])
def test_plain_images_come_through(name: str, value: int) -> None:
    """Black and white images have no colour, no contrast and nothing to divide by."""
    plain = torch.full((2, 3, 32, 32), value, dtype=torch.uint8)
    for severity in (1, 5):
        corrupted = corrupt(plain, name, severity, [0, 1])
        still = ("blur", "pixelate", "contrast", "jpeg", "elastic", "saturate")
        if any(word in name for word in still) and (name, value) != ("saturate", 255):
            assert (corrupted.int() - value).abs().max() <= 1


# Closed forms


def test_noise_has_the_published_deviation() -> None:
    grey = torch.full((20, 3, 64, 64), 128, dtype=torch.uint8)
    for severity in (1, 3):
        sd = corrupt(grey, "gaussian_noise", severity, range(20)).float().std() / 255
        assert sd == pytest.approx(constants("gaussian_noise", severity, 64, 64), rel=0.02)
        speckle = corrupt(grey, "speckle_noise", severity, range(20)).float().std() / 128
        assert speckle == pytest.approx(constants("speckle_noise", severity, 64, 64), rel=0.02)
        shot = corrupt(grey, "shot_noise", severity, range(20)).float() / 255
        photons = constants("shot_noise", severity, 64, 64)
        assert shot.var() == pytest.approx(128 / 255 / photons, rel=0.05)
        assert shot.mean() == pytest.approx(128 / 255, abs=0.002)
        impulse = corrupt(grey, "impulse_noise", severity, range(20))
        share = constants("impulse_noise", severity, 64, 64)
        for extreme in (0, 255):
            assert (impulse == extreme).float().mean() == pytest.approx(share / 2, rel=0.1)
        assert set(impulse.unique().tolist()) == {0, 128, 255}


def test_brightness_adds_to_the_value_and_keeps_hue_and_saturation() -> None:
    colour = torch.tensor([100, 50, 20], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    bright = corrupt(colour, "brightness", 5, [0])[0, :, 0, 0]
    value = 100 + 0.3 * 255
    assert bright.tolist() == pytest.approx([value, value / 2, value / 5], abs=0.51)
    grey = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    assert corrupt(grey, "brightness", 1, [0]).unique().tolist() == [13]


def test_saturate_scales_the_distance_to_the_largest_channel() -> None:
    colour = torch.tensor([100, 70, 60], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    # Saturation 0.4, to 0.6; hue and value stay.
    assert corrupt(colour, "saturate", 3, [0])[0, :, 0, 0].tolist() == [100, 55, 40]


def test_contrast_shrinks_the_distance_to_the_mean(photos: Tensor) -> None:
    images = of_size(photos, (32, 32))
    corrupted = corrupt(images, "contrast", 5, range(48)).float()
    mean = images.float().mean((2, 3), keepdim=True)
    assert (corrupted - (mean + 0.15 * (images - mean))).abs().max() <= 0.51


def test_pixelate_is_blocks() -> None:
    images = torch.randint(256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    corrupted = corrupt(images.to(torch.uint8), "pixelate", 5, [0, 1])
    blocks = corrupted.view(2, 3, 32, 2, 32, 2)
    assert (blocks == blocks[:, :, :, :1, :, :1]).all()
    means = images.float().view(2, 3, 32, 2, 32, 2).mean((3, 5))
    assert (blocks[:, :, :, 0, :, 0] - means).abs().max() <= 0.51


@pytest.mark.parametrize("name", ["defocus_blur", "gaussian_blur"])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_blur_keeps_the_mean_and_spreads_a_point(name: str, severity: int) -> None:
    point = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    point[0, 0, 32, 32] = 255
    spread = corrupt(point, name, severity, [0]).float()
    assert spread.sum() == pytest.approx(255, rel=0.06)  # each pixel rounded
    assert spread.max() < 200
    assert torch.allclose(spread, spread.flip(2).roll(1, 2))
    assert torch.allclose(spread, spread.mT)


def test_gaussian_blur_is_the_gaussian_by_hand() -> None:
    line = torch.zeros(1, 1, 1, 41)
    line[..., 20] = 1
    offset = torch.arange(-20, 21)
    expected = torch.where(offset.abs() <= 8, (-(offset**2) / 8).exp(), 0.0)
    blurred = parts.gaussian_blur(line, 2.0)[0, 0, 0]
    assert torch.allclose(blurred, expected / expected.sum(), atol=1e-6)
    # Mirrored at the outer side of the border's pixel, nothing is lost or gained.
    x = torch.rand(1, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    assert parts.gaussian_blur(x, 5.0, 3.0, mirror=True).sum() == pytest.approx(x.sum())


def test_motion_blur_is_along_its_angle_and_to_one_side() -> None:
    point = torch.zeros(2, 1, 21, 21)
    point[:, :, 10, 10] = 1
    blurred = parts.motion_blur(point, 3, 1.5, torch.tensor([0.0, 90.0]))[:, 0]
    weights = torch.tensor([math.exp(-0.5 * (i / 1.5) ** 2) for i in range(7)])
    weights = weights / weights.sum()
    # A pixel averages the pixels to the right of it (below it).
    assert torch.allclose(blurred[0, 10, 4:11], weights.flip(0), atol=1e-6)
    assert torch.allclose(blurred[1, 4:11, 10], weights.flip(0), atol=1e-6)
    assert torch.allclose(blurred.sum((1, 2)), torch.ones(2))


def test_zoom_enlarges_about_the_middle() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    # 16 pixels, with 15 steps between them, on 32: zero is still in the middle.
    assert torch.allclose(parts.zoom(ramp, 2.0), ramp * 15 / 31, atol=1e-6)
    assert torch.equal(parts.zoom(ramp, 1.0), ramp)


def test_shuffling_in_groups_equals_one_pixel_after_another() -> None:
    generator = torch.Generator().manual_seed(0)
    for height, width, reach in ((12, 12, 1), (13, 17, 2), (16, 11, 3)):
        offset = torch.randint(-reach, reach, (2, 2, height, width), generator=generator)
        shuffled = parts.shuffled(reach, offset)
        for n in range(2):
            expected = torch.arange(height * width).view(height, width)
            for y in range(height - reach, reach, -1):
                for x in range(width - reach, reach, -1):
                    down, right = offset[n, :, y, x].tolist()
                    expected[y, x] = expected[y + down, x + right].clone()
            assert torch.equal(shuffled[n].view(height, width), expected)


def test_a_cloud_is_rougher_the_slower_its_detail_fades() -> None:
    uniform = 2 * torch.rand(200, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    roughness = []
    for decay in (3.0, 2.0, 1.5):
        cloud = parts.cloud(uniform, decay, 32, 32)
        assert torch.equal(cloud.amin((1, 2, 3)), torch.zeros(200))
        assert torch.equal(cloud.amax((1, 2, 3)), torch.ones(200))
        roughness.append(cloud.diff(dim=3).abs().mean().item())
    assert roughness == sorted(roughness)
    assert roughness[2] > 1.5 * roughness[0]


def test_rims_are_where_a_drop_ends() -> None:
    layer = torch.zeros(2, 1, 20, 20)
    layer[0, 0, 6:14, 6:14] = 200
    rims = torch.from_numpy(parts._rims(layer[:, 0]))
    assert not rims[1].any()
    assert 20 <= int(rims[0].sum()) <= 36
    assert not rims[0, 8:12, 8:12].any()
    assert not rims[0, :4].any()
    light = parts.relief(layer)
    assert light[0].amax() > 100
    assert light[0].unique().numel() > 5


# Constants


def test_sizes_take_the_constants_of_the_nearest_benchmark() -> None:
    sides = {28: 32, 32: 32, 45: 32, 46: 64, 96: 64, 119: 64, 120: 224, 224: 224, 384: 224}
    assert {side: benchmark(side, side + 10) for side in sides} == sides
    assert constants("gaussian_noise", 5, 32, 32) == 0.10
    assert constants("gaussian_noise", 5, 224, 300) == 0.38
    assert constants("elastic_transform", 5, 224, 224) == pytest.approx((29.28, 2.44, 4.88))


@pytest.mark.parametrize("name", NAMES)
def test_every_corruption_has_five_constants_for_each_benchmark(name: str) -> None:
    for side in (32, 64, 224):
        five = [constants(name, severity, side, side) for severity in SEVERITIES]
        assert len(five) == 5
        assert len({type(one) is tuple and len(one) for one in five}) == 1


# Refusals


def test_refuses_what_is_not_there() -> None:
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match="no corruption 'rain'"):
        corrupt(images, "rain", 1, [0, 1])
    with pytest.raises(ValueError, match="1 to 5, got 6"):
        corrupt(images, "fog", 6, [0, 1])
    with pytest.raises(ValueError, match="a number each, got 1"):
        corrupt(images, "fog", 1, [0])
    for wrong in (images.float(), images[:, :2], images[..., :4]):
        with pytest.raises(ValueError, match="uint8 images"):
            corrupt(wrong, "fog", 1, [0, 1])


def test_importing_the_corruptions_does_not_import_scipy(tmp_path: Path) -> None:
    """It takes half a second, and only `spatter` needs it."""

    def import_anew() -> None:
        for name in [m for m in sys.modules if m.startswith(("scipy", "softaug_lab.corruptions"))]:
            del sys.modules[name]
        importlib.import_module("softaug_lab.corruptions")
        assert not any("scipy" in m for m in sys.modules)

    said = tmp_path / "said"
    assert ended(fork(import_anew, said)) == 0, said.read_text()
