"""ResizedCrop: windows by law, pixels equal to torchvision's, seen conserved like mass."""

import math

import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torch import Generator
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from softaug import Chain, Drawn, Flip, Hard, RandomResizedCrop, ResizedCrop, visibility
from softaug.transforms.pixels import fill_value
from softaug.transforms.resized_crop import _cut_at_once, _cut_one_by_one

H, W = 40, 56


def window(top: int, left: int, height: int, width: int) -> Drawn:
    values = {"top": top, "left": left, "height": height, "width": width}
    return {name: torch.tensor([value]) for name, value in values.items()}


WINDOWS = [
    (0, 0, H, W),
    (3, 5, 20, 28),
    (11, 20, 25, 17),
    (-9, 30, 30, 40),
    (25, -20, 22, 30),
    (-39, -55, 40, 56),
    (10, 10, 1, 1),
]


@pytest.mark.parametrize("box", WINDOWS)
@pytest.mark.parametrize("size", [(16, 16), (40, 56), (64, 33)])
def test_pixels_are_torchvisions(box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    images = torch.rand(1, 3, H, W, generator=Generator().manual_seed(0))
    crop = ResizedCrop(size)
    out, _ = crop.apply(images, None, window(*box))
    expected = tv.resized_crop(images, *box, list(size), antialias=True)
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)
    coarse = (images * 255).to(torch.uint8)
    out, _ = crop.apply(coarse, None, window(*box))
    expected = tv.resized_crop(coarse, *box, list(size), antialias=True)
    # torchvision computes uint8 in fixed point: the last bit may differ.
    assert (out.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("box", WINDOWS)
@pytest.mark.parametrize("size", [16, 40, 90])
def test_visibility_is_the_share_of_the_image_in_the_window(
    box: tuple[int, int, int, int], size: int
) -> None:
    top, left, height, width = box
    tall = max(0, min(H, top + height) - max(0, top))
    wide = max(0, min(W, left + width) - max(0, left))
    _, seen = ResizedCrop(size).apply(torch.zeros(1, 1, H, W), None, window(*box))
    whole = (tall, wide) == (height, width)
    tolerance = 1e-5 if whole else 0.01
    assert visibility(seen).item() == pytest.approx(tall * wide / (H * W), abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("size", [(16, 16), (40, 56), (64, 33)])
def test_window_by_window_is_the_whole_batch_at_once(
    size: tuple[int, int], dtype: torch.dtype
) -> None:
    """The way of a CPU and that of a GPU: pixels to 4e-6 of white, or to a bit; maps to 2e-6."""
    generator = Generator().manual_seed(0)
    n, white = len(WINDOWS), 255 if dtype == torch.uint8 else 1
    images = (torch.rand(n, 3, H, W, generator=generator) * white).to(dtype)
    drawn = {
        name: torch.tensor(values)
        for name, values in zip(
            ("top", "left", "height", "width"), zip(*WINDOWS, strict=True), strict=True
        )
    }
    fill = fill_value([white * share for share in (0.25, 0.5, 0.75)], images)
    rounding = {torch.uint8: 1, torch.float16: 1e-3}.get(dtype, 4e-6)
    for kept in (images, images.to(memory_format=torch.channels_last)):
        for seen in (None, torch.rand(n, 1, H, W, generator=generator)):
            out, out_seen = _cut_one_by_one(kept, seen, drawn, size, fill)
            at_once, at_once_seen = _cut_at_once(kept, seen, drawn, size, fill)
            assert out.dtype == at_once.dtype
            assert out.stride() == at_once.stride()
            assert (out.double() - at_once.double()).abs().max() <= rounding
            torch.testing.assert_close(out_seen, at_once_seen, rtol=0, atol=2e-6)


def test_what_is_outside_has_the_fill() -> None:
    crop = ResizedCrop(16, fill=(10, 20, 30))
    out, seen = crop.apply(
        torch.full((1, 3, 16, 16), 200, dtype=torch.uint8), None, window(-8, 0, 16, 16)
    )
    assert out[0, :, :8].mean(dim=(1, 2), dtype=torch.float32).tolist() == [10, 20, 30]
    assert out[0, :, 8:].unique().tolist() == [200]
    assert visibility(seen).item() == 0.5


def test_a_given_map_moves_with_the_pixels() -> None:
    seen = torch.zeros(1, 1, 16, 16)
    seen[..., :8] = 2  # the object is on the left
    crop = ResizedCrop(16)
    for left, share in ((0, 1.0), (8, 0.0), (4, 0.5)):
        _, moved = crop.apply(torch.zeros(1, 1, 16, 16), seen, window(0, left, 16, 8))
        assert visibility(moved).item() == pytest.approx(share, abs=0.01)


def test_windows_follow_their_law() -> None:
    n, height, width = 40_000, 2000, 3000
    drawn = ResizedCrop(224, sigma=0.3).draw(n, height, width, Generator().manual_seed(1))
    for side, length, start in (
        (height, drawn["height"], drawn["top"]),
        (width, drawn["width"], drawn["left"]),
    ):
        most = side // 2
        lost = (side - length).double()
        assert (lost == 0).double().mean().item() == pytest.approx(0.5, abs=0.01)
        assert lost.max().item() <= most
        positive = lost[(lost > 0) & (lost < most)].numpy()
        std = 0.3 * most
        assert kstest(positive / std, "truncnorm", (0, most / std)).statistic < 0.02
        limit = (side + length.double()) / 2
        offset = start.double() + length.double() / 2 - side / 2
        scaled = (offset / limit / 0.3).numpy()
        assert kstest(scaled, "truncnorm", (-1 / 0.3, 1 / 0.3)).statistic < 0.02


@pytest.mark.parametrize("crop", [ResizedCrop(4), RandomResizedCrop(4, ratio=(3, 4))], ids=str)
@pytest.mark.parametrize("sides", [(1, 8), (8, 1), (1, 1)])
def test_a_window_is_never_empty(
    crop: ResizedCrop | RandomResizedCrop, sides: tuple[int, int]
) -> None:
    drawn = crop.draw(1_000, *sides, Generator().manual_seed(0))
    assert min(drawn["height"].min(), drawn["width"].min()) == 1
    pixels, _ = crop.apply(torch.ones(1_000, 1, *sides), None, drawn)
    assert pixels.isfinite().all()


def test_share_of_draws_that_keep_any_of_the_image() -> None:
    """The reason for half of the paper's (W + w): see the docstring."""

    def inside(std_of_limit: float) -> float:
        """P(|t| < limit) of a normal with this standard deviation, in units of the limit."""
        return math.erf(1 / (std_of_limit * math.sqrt(2)))

    assert inside(0.3) == pytest.approx(0.9991, abs=1e-4)  # sigma (W + w) / 2, ours
    assert inside(0.6) == pytest.approx(0.904, abs=1e-3)  # sigma (W + w)
    _, seen = ResizedCrop(16)(torch.zeros(4_000, 1, 24, 24), generator=Generator().manual_seed(2))
    assert (visibility(seen) > 0).double().mean().item() > 0.998


@pytest.mark.parametrize("sides", [(200, 300), (30, 100), (100, 30)])
def test_the_standard_crop_draws_as_torchvision(sides: tuple[int, int]) -> None:
    """On long images most tries do not fit, and the window in the centre is taken instead."""
    theirs = v2.RandomResizedCrop(24, scale=(0.6, 1.0) if sides != (200, 300) else (0.08, 1.0))
    torch.manual_seed(0)
    images = torch.zeros(1, 1, *sides)
    rows = [theirs.make_params([images]) for _ in range(4000)]
    ours = RandomResizedCrop(24, scale=theirs.scale).draw(
        40_000, *sides, Generator().manual_seed(0)
    )
    for name, values in ours.items():
        expected = [row[name] for row in rows]
        assert ks_2samp(values.numpy(), expected).statistic < 0.03, name
    assert (ours["top"] >= 0).all()
    assert (ours["top"] + ours["height"] <= sides[0]).all()
    assert (ours["left"] >= 0).all()
    assert (ours["left"] + ours["width"] <= sides[1]).all()


def test_the_standard_crop_shows_its_window() -> None:
    images = torch.rand(1, 3, H, W, generator=Generator().manual_seed(0))
    drawn = window(3, 5, 20, 28)
    out, seen = RandomResizedCrop((16, 24)).apply(images, None, drawn)
    expected = tv.resized_crop(images, 3, 5, 20, 28, [16, 24], antialias=True)
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)
    assert visibility(seen).item() == pytest.approx(20 * 28 / (H * W), abs=0.01)


def test_hard_needs_a_transform_that_keeps_the_size() -> None:
    images = torch.rand(2, 1, H, W)
    assert Hard(RandomResizedCrop((H, W)))(images)[1].unique().tolist() == [1]
    with pytest.raises(ValueError, match=rf"Hard: .* makes \[9, 9\] of \[{H}, {W}\]"):
        Hard(ResizedCrop(9))(images)


def test_a_chain_draws_for_the_size_that_is_left() -> None:
    chain = Chain([ResizedCrop((12, 20)), Flip(), ResizedCrop(9)])
    assert chain.output_size(50, 60) == (9, 9)
    images, seen = chain(torch.rand(4, 3, 50, 60), generator=Generator().manual_seed(3))
    assert images.shape == (4, 3, 9, 9)
    assert seen.shape == (4, 1, 9, 9)
    drawn = chain.draw(400, 50, 60, Generator().manual_seed(3))
    assert drawn["2"]["height"].max() <= 12
    assert drawn["2"]["width"].max() <= 20
    assert drawn["2"]["width"].max() > 12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResizedCrop(0), "size must be 1 pixel or more, got 0"),
        (lambda: ResizedCrop(8, sigma=1.5), r"sigma is a share.*got 1\.5"),
        (lambda: ResizedCrop(8, min_size=0), "min_size must be 1 pixel or more, got 0"),
        (lambda: RandomResizedCrop(0), "size must be 1 pixel or more, got 0"),
        (
            lambda: RandomResizedCrop(8, scale=(0.5, 2)),
            r"scale must be 0 < least <= largest <= 1, got \(0\.5, 2\)",
        ),
        (
            lambda: RandomResizedCrop(8, ratio=(2, 1)),
            r"ratio must be 0 < least <= largest, got \(2, 1\)",
        ),
    ],
)
def test_values_out_of_range_are_named(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
