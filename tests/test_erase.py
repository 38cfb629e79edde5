"""Erasing: shares and places by law, pixels and map by a slow reference, every fill."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from torch import Generator

from softaug import Chain, Crop, Cutout, Drawn, Erase, FrequencyMask, TimeMask, visibility

H, W = 6, 9


def rectangle(top: int, left: int, bottom: int, right: int) -> Drawn:
    values = {"top": top, "left": left, "bottom": bottom, "right": right, "seed": 7}
    return {name: torch.tensor([value]) for name, value in values.items()}


def hidden_pixels(drawn: Drawn, i: int = 0) -> set[tuple[int, int]]:
    return {
        (y, x)
        for y, x in product(range(H), range(W))
        if drawn["top"][i] <= y < drawn["bottom"][i] and drawn["left"][i] <= x < drawn["right"][i]
    }


@pytest.mark.parametrize(
    "transform",
    [
        Erase(area=(0.0, 1.0)),
        Cutout(side=5),
        Cutout(side=30),
        TimeMask(share=(0.0, 1.0)),
        FrequencyMask(share=(0.0, 1.0), probability=0.7),
    ],
)
def test_pixels_and_map_are_those_of_the_slow_reference(transform: Any) -> None:
    images = torch.arange(20 * 2 * H * W).view(20, 2, H, W).float() + 1
    drawn = transform.draw(20, H, W, Generator().manual_seed(0))
    out, seen = transform.apply(images, None, drawn)
    for i in range(20):
        hidden = hidden_pixels(drawn, i)
        for y, x in product(range(H), range(W)):
            gone = (y, x) in hidden
            assert seen[i, 0, y, x] == (not gone)
            assert out[i, :, y, x].tolist() == ([0, 0] if gone else images[i, :, y, x].tolist())
        assert visibility(seen)[i].item() == torch.tensor(1 - len(hidden) / (H * W)).item()


@given(share=st.floats(0.01, 1), low=st.floats(0.1, 3), spread=st.floats(1, 5), seed=st.integers(0))
def test_the_rectangle_has_the_share_it_was_drawn_with(
    share: float, low: float, spread: float, seed: int
) -> None:
    """Whatever the aspects asked for: one that does not fit gives way, the share does not."""
    height, width = 200, 300
    erase = Erase(area=share, aspect=(low, low * spread))
    drawn = erase.draw(5, height, width, Generator().manual_seed(seed % 2**32))
    tall, wide = drawn["bottom"] - drawn["top"], drawn["right"] - drawn["left"]
    assert (drawn["top"] >= 0).all()
    assert (drawn["left"] >= 0).all()
    assert (drawn["bottom"] <= height).all()
    assert (drawn["right"] <= width).all()
    # Each side is off by half a pixel at most.
    most = ((tall + 0.5) * (wide + 0.5) - (tall - 0.5) * (wide - 0.5)) / 2 + 0.25
    assert ((tall * wide - share * height * width).abs() <= most + 1e-6).all()


def test_shares_aspects_and_places_follow_their_laws() -> None:
    n, side = 20_000, 1000
    erase = Erase(area=(0.1, 0.2), aspect=(0.5, 2.0))
    drawn = erase.draw(n, side, side, Generator().manual_seed(1))
    tall = (drawn["bottom"] - drawn["top"]).double()
    wide = (drawn["right"] - drawn["left"]).double()
    share, aspect = tall * wide / side**2, tall / wide
    assert kstest(share.numpy(), "uniform", (0.1, 0.1)).statistic < 0.02
    log = (aspect.log() / math.log(4) + 0.5).numpy()
    assert kstest(log, "uniform").statistic < 0.02
    place = (drawn["top"] / (side - tall)).numpy()
    assert kstest(place, "uniform").statistic < 0.02


def test_every_place_of_a_cutout_is_as_likely() -> None:
    drawn = Cutout(side=4).draw(30_000, 5, 8, Generator().manual_seed(2))
    for first, size in (("top", 5), ("left", 8)):
        counts = torch.bincount(drawn[first] + 2, minlength=size)
        assert len(counts) == size
        assert chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_probability(probability: float) -> None:
    _, seen = Erase(probability=probability)(
        torch.zeros(4000, 1, 8, 8), generator=Generator().manual_seed(3)
    )
    assert (visibility(seen) < 1).double().mean().item() == pytest.approx(probability, abs=0.03)


def test_nothing_and_all_can_be_erased() -> None:
    for share in (0.0, 1.0):
        _, seen = Erase(area=share)(torch.zeros(50, 1, 7, 11))
        assert torch.equal(visibility(seen), torch.full((50,), 1 - share))


@pytest.mark.parametrize(
    ("mask", "ends", "whole"),
    [
        (TimeMask((0.1, 0.3)), ("left", "right"), {"top": 0, "bottom": 50}),
        (FrequencyMask((0.1, 0.3)), ("top", "bottom"), {"left": 0, "right": 50}),
    ],
)
def test_strips_run_from_edge_to_edge_with_uniform_shares_and_places(
    mask: Any, ends: tuple[str, str], whole: dict[str, int]
) -> None:
    height, width = (50, 1000) if ends[0] == "left" else (1000, 50)
    drawn = mask.draw(20_000, height, width, Generator().manual_seed(5))
    for side, end in whole.items():
        assert drawn[side].unique().tolist() == [end]
    begin, end = (drawn[side].double() for side in ends)
    assert kstest(((end - begin) / 1000).numpy(), "uniform", (0.1, 0.2)).statistic < 0.02
    assert kstest((begin / (1000 - (end - begin))).numpy(), "uniform").statistic < 0.02


@pytest.mark.parametrize("transform", [Erase, Cutout, TimeMask, FrequencyMask])
def test_the_same_seed_draws_the_same(transform: Any) -> None:
    first, second = (
        transform(fill="mixed").draw(50, H, W, Generator().manual_seed(7)) for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_strips_hide_as_often_as_asked() -> None:
    for mask in (TimeMask(0.4, probability=0.3), FrequencyMask(0.4, probability=0.3)):
        _, seen = mask(torch.zeros(20_000, 1, 10, 10), generator=Generator().manual_seed(6))
        assert visibility(seen).unique().tolist() == pytest.approx([0.6, 1])
        assert (visibility(seen) < 1).double().mean().item() == pytest.approx(0.3, abs=0.015)


def test_a_hole_in_what_was_cut_away_costs_nothing() -> None:
    """The joint visibility, where a product of 3/4 and 3/4 would claim 9/16."""
    chain = Chain([Crop(), Erase()])
    shift: Drawn = {"tx": torch.tensor([0]), "ty": torch.tensor([4])}
    images = torch.zeros(1, 1, 16, 16)
    for top, expected in ((12, 0.75), (0, 0.5)):
        drawn: Drawn = {"0": shift, "1": rectangle(top, 0, top + 4, 16)}
        _, seen = chain.apply(images, None, drawn)
        assert visibility(seen).item() == expected


def test_fills() -> None:
    images = torch.rand(1, 3, H, W, generator=Generator().manual_seed(4))
    inside = (0, slice(None), slice(1, 3), slice(2, 5))
    box = rectangle(1, 2, 3, 5)
    for fill, expected in ((0.5, [0.5] * 3), ((0.1, 0.2, 0.3), [0.1, 0.2, 0.3])):
        out, _ = Erase(fill=fill).apply(images, None, box)
        assert out[inside].mean(dim=(1, 2)).tolist() == pytest.approx(expected)
    out, _ = Erase(fill="mean").apply(images, None, box)
    assert torch.equal(out[inside], images.mean(dim=(2, 3))[0, :, None, None].expand(3, 2, 3))
    large = torch.full((1, 3, 99, 99), 9.0)
    noise, _ = Erase(fill="noise").apply(large, None, rectangle(0, 0, 99, 99))
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    coarse, _ = Erase(fill="noise").apply(large.to(torch.uint8), None, rectangle(0, 0, 99, 99))
    counts = torch.bincount(coarse.flatten().long(), minlength=256)
    assert chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Erase(area=(0.3, 0.2)), r"0 <= least <= largest <= 1, got \(0\.3, 0\.2\)"),
        (lambda: Erase(area=1.2), r"got 1\.2"),
        (lambda: Erase(aspect=(0, 1)), r"aspect must be 0 < least <= largest, got \(0, 1\)"),
        (lambda: Erase(probability=2), "probability must be in .* got 2"),
        (lambda: Erase(fill="nosie"), "got 'nosie'"),
        (lambda: Cutout(side=0), "side must be 1 pixel or more, got 0"),
        (lambda: TimeMask((0.3, 0.2)), r"TimeMask: share must be .* got \(0\.3, 0\.2\)"),
        (lambda: FrequencyMask(-0.1), r"FrequencyMask: share must be .* got -0\.1"),
        (lambda: TimeMask(probability=2), "TimeMask: probability must be in .* got 2"),
        (lambda: TimeMask(fill="nosie"), "got 'nosie'"),
    ],
)
def test_values_out_of_range_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
