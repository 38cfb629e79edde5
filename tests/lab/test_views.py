"""Views that lack a part: where they lack it, with what it is filled, the same for all models."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softaug_lab.basics.seeds import hashed_uniform, hashed_words, key
from softaug_lab.data.load import load
from softaug_lab.evaluation.fills import CLOTHES, UNSEEN, USUAL, Fills, make_texture
from softaug_lab.evaluation.views import (
    Views,
    actual_share,
    example_views,
    left_sides,
    level_views,
    mixed_views,
    show,
)
from softaug_lab.metrics.levels import KINDS, LOST_SHARES

ARMS = Path(__file__).parents[2] / "src" / "softaug_lab" / "recipes" / "arms.yaml"
SIDES = st.integers(1, 20)
SHARES = st.floats(0, 1, exclude_max=True)


def numbered(n: int, height: int, width: int, channels: int = 3) -> Tensor:
    """Images whose first two channels say where a pixel was, in multiples of 10 and from 5 on."""
    places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    image = torch.zeros(channels, height, width, dtype=torch.uint8)
    image[:2] = (5 + 10 * places).to(torch.uint8)[:channels]
    return image.expand(n, -1, -1, -1).clone()


def fills_of(images: Tensor, clothes: bool = True) -> Fills:
    small = torch.arange(2 * 7 * 5, dtype=torch.uint8).view(2, 1, 7, 5)
    return Fills(images, [90.0] * images.shape[1], small if clothes else None)


def black_views(kind: str, share: float, images: Tensor, seed: int = 0) -> tuple[Views, Tensor]:
    views = level_views(kind, share, ["black"], images.shape, seed, "usual")
    shown = show(images, views, slice(None), fills_of(images), ["black"], kind, share, seed)
    return views, shown


# Where the image is


@settings(max_examples=40)
@given(SIDES, SIDES, SHARES, st.integers(0, 99))
def test_a_cut_leaves_a_corner_of_the_image_at_the_border(
    height: int, width: int, share: float, seed: int
) -> None:
    images = numbered(6, height, width)
    tall, wide = left_sides("cut_off", share, height, width)
    assert tall == max(1, round(height * (1 - share) ** 0.5))
    assert wide == max(1, round(width * (1 - share) ** 0.5))
    _, shown = black_views("cut_off", share, images, seed)
    for image, view in zip(images, shown, strict=True):
        kept = (view[0] > 0).nonzero()
        assert len(kept) == tall * wide
        assert actual_share("cut_off", share, height, width) == 1 - tall * wide / (height * width)
        top, left = kept.amin(dim=0).tolist()
        # In a corner of the view, and the opposite corner of the image.
        assert top in (0, height - tall)
        assert left in (0, width - wide)
        part = view[:, top : top + tall, left : left + wide]
        y, x = (height - tall) - top, (width - wide) - left
        assert torch.equal(part, image[:, y : y + tall, x : x + wide])


@settings(max_examples=40)
@given(SIDES, SIDES, st.integers(1, 4), SHARES, st.integers(0, 99))
def test_one_whole_rectangle_is_hidden_in_each_image(
    height: int, width: int, channels: int, share: float, seed: int
) -> None:
    images = torch.full((5, channels, height, width), 7, dtype=torch.uint8)
    _, shown = black_views("hidden", share, images, seed)
    tall, wide = round(height * share**0.5), round(width * share**0.5)
    assert actual_share("hidden", share, height, width) == tall * wide / (height * width)
    for mask in (shown == 0).unbind():
        assert (mask == mask[:1]).all()  # the same in each channel
        rows, columns = mask[0].any(dim=1), mask[0].any(dim=0)
        assert torch.equal(mask[0], rows[:, None] & columns)
        # All of it is inside, or the count would fall short.
        assert int(mask[0].sum()) == tall * wide
    assert ((shown == 0) | (shown == 7)).all()


def test_actual_shares_by_hand() -> None:
    # 28 px: cuts leave 25, 22, 18, 13 px of each side; rectangles have 13, 18, 22, 25.
    cut = [actual_share("cut_off", share, 28, 28) for share in LOST_SHARES]
    assert cut == pytest.approx([1 - side**2 / 784 for side in (25, 22, 18, 13)])
    hidden = [actual_share("hidden", share, 28, 28) for share in LOST_SHARES]
    assert hidden == pytest.approx([side**2 / 784 for side in (13, 18, 22, 25)])
    assert [*cut, *hidden] == pytest.approx([*LOST_SHARES, *LOST_SHARES], abs=0.03)


def test_directions_and_places_are_uniform() -> None:
    images = torch.empty(30_000, 1, 10, 14, dtype=torch.uint8)
    cut = level_views("cut_off", 0.4, USUAL, images.shape, 1, "usual").offset
    # 8 of 10 and 11 of 14 px are left.
    assert cut.abs().unique(dim=0).tolist() == [[2, 3]]
    hidden = level_views("hidden", 0.4, USUAL, images.shape, 1, "usual").rectangle
    top, left, bottom, right = hidden.T
    # 6 x 9 px, 5 x 6 places.
    assert (bottom - top == 6).all()
    assert (right - left == 9).all()
    for place, cells, bound in (
        ((cut > 0).long() @ torch.tensor([2, 1]), 4, 16.3),
        (top * 6 + left, 30, 58.3),
    ):  # bound: the 99.9 % point of chi squared
        counts = place.bincount(minlength=cells).double()
        assert len(counts) == cells
        assert ((counts - counts.mean()).square() / counts.mean()).sum() < bound


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_refuses_a_share_out_of_range(share: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        level_views("hidden", share, USUAL, numbered(2, 4, 4).shape, 0, "usual")


# Which fill, and who sees what


@pytest.mark.parametrize("n", [3, 40, 1003])
@pytest.mark.parametrize("kind", KINDS)
def test_fills_take_turns_and_change_from_level_to_level(n: int, kind: str) -> None:
    names, shape = (*UNSEEN, CLOTHES), torch.Size([n, 3, 8, 8])
    levels = [level_views(kind, share, names, shape, 0, "unseen").fill for share in LOST_SHARES]
    for fill in levels:
        counts = fill.bincount(minlength=5)
        assert counts.max() - counts.min() <= 1
    if n > 3:
        assert not torch.equal(levels[0], levels[1])
        other = level_views(kind, 0.2, names, shape, 1, "unseen")
        assert not torch.equal(levels[0], other.fill)
    # Groups differ in the fill alone.
    one, other = (level_views(kind, 0.4, USUAL, shape, 0, g) for g in ("usual", "unseen"))
    assert torch.equal(one.offset, other.offset)
    assert torch.equal(one.rectangle, other.rectangle)


def test_the_mix_has_its_shares_exactly() -> None:
    n, height, width = 32 * 20, 20, 20
    names = (*UNSEEN, CLOTHES)
    views = mixed_views(names, torch.Size([n, 3, height, width]), seed=0)
    cut = views.offset.abs().amax(dim=1)
    hidden = views.rectangle[:, 2] - views.rectangle[:, 0]
    assert int(((cut == 0) & (hidden == 0)).sum()) == n // 4
    assert not ((cut > 0) & (hidden > 0)).any()
    for share in LOST_SHARES:
        for kind, side, sign in (("cut_off", cut, height), ("hidden", hidden, 0)):
            tall, _ = left_sides(kind, share, height, width)
            of_level = side == abs(sign - tall)
            assert int(of_level.sum()) == n * 3 // 8 // 4
            # Each fill on a fifth of them.
            assert views.fill[of_level].bincount().tolist() == [12] * 5


@pytest.mark.parametrize("n", [1, 7, 45])
def test_a_few_images_are_mixed_too(n: int) -> None:
    views = mixed_views(UNSEEN, torch.Size([n, 1, 6, 9]), seed=3)
    assert len(views.offset) == len(views.rectangle) == len(views.fill) == n


@pytest.mark.parametrize("kind", [*KINDS, "mix"])
@pytest.mark.parametrize("group", ["usual", "unseen"])
def test_a_view_follows_from_the_number_of_its_image_alone(kind: str, group: str) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (50, 3, 12, 9), generator=generator, dtype=torch.uint8)
    fills = fills_of(images)
    names = fills.groups[group]
    views = (
        mixed_views(names, images.shape, 0)
        if kind == "mix"
        else level_views(kind, 0.6, names, images.shape, 0, group)
    )
    before, state = images.clone(), torch.get_rng_state()
    whole = show(images, views, slice(None), fills, names, kind, 0)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    for size in (1, 7):
        parts = [
            show(images, views, slice(i, i + size), fills, names, kind, 0)
            for i in range(0, 50, size)
        ]
        assert torch.equal(torch.cat(parts), whole)
    other = show(images, views, slice(None), fills, names, kind, 1)
    assert not torch.equal(other, whole)


# What the fills are


def painted(name: str, images: Tensor, seed: int) -> Tensor:
    numbers = torch.arange(len(images))
    return fills_of(images).paint([name], torch.zeros(len(images)), numbers, seed)


@pytest.mark.parametrize("name", [*USUAL, *UNSEEN, CLOTHES])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 28, 28), (2, 5, 17), (3, 32, 32), (4, 9, 2)])
def test_every_fill_paints_images_of_any_shape(name: str, shape: tuple[int, ...]) -> None:
    images = torch.zeros(6, *shape, dtype=torch.uint8)
    pixels = painted(name, images, 1)
    assert pixels.shape == images.shape
    assert pixels.dtype == torch.uint8


def test_plain_fills_have_their_colour() -> None:
    images = numbered(3, 4, 4)
    fills = Fills(images, (1.2, 99.6, 255.0))
    assert "clothes" not in fills.groups["unseen"]
    for name, colour in {"black": (0, 0, 0), "white": (255,) * 3, "mean": (1, 100, 255)}.items():
        pixels = fills.paint([name], torch.zeros(3), torch.arange(3))
        expected = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 3, 4, 4)
        assert torch.equal(pixels, expected)


@pytest.mark.parametrize("mean", [(0.0, 0.0), (0.0, 256.0, 0.0), (-1.0, 0.0, 0.0)])
def test_refuses_a_colour_that_does_not_fit(mean: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="mean must be"):
        Fills(numbered(2, 4, 4), mean)


def test_noise_is_uniform() -> None:
    noise = painted("noise", torch.zeros(300, 3, 10, 14, dtype=torch.uint8), 2)
    counts = noise.flatten().long().bincount(minlength=256).double()
    assert ((counts - counts.mean()).square() / counts.mean()).sum() < 330.5  # 99.9 % point, 255
    assert (noise[1:] == noise[:-1]).float().mean() < 0.01


def test_another_image_is_never_the_image_itself() -> None:
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 4, 4)
    shown = Counter[tuple[int, int]]()
    for seed in range(60):
        donors = painted("other", images, seed)
        assert (donors == donors[:, :1, :1, :1]).all()
        shown.update(enumerate(donors[:, 0, 0, 0].tolist()))
    assert set(shown) == {(i, j) for i in range(5) for j in range(5) if i != j}
    alone = painted("other", numbered(1, 8, 8), 0)
    assert len(alone.unique()) > 50  # noise, where there is no other


def test_a_checkerboard_is_black_and_white_in_equal_parts() -> None:
    boards = painted("checkerboard", torch.zeros(200, 3, 32, 32, dtype=torch.uint8), 1)
    assert boards.unique().tolist() == [0, 255]
    assert (boards[:, 0] == boards[:, 2]).all()
    assert boards.float().mean().item() / 255 == pytest.approx(0.5, abs=0.02)
    edges = (boards[:, 0, :, 1:] != boards[:, 0, :, :-1]).float().mean(dim=(1, 2))
    assert 1 / 9 < edges.min() < edges.max() < 1 / 1.8  # cells of 2 to 8 px


def test_ellipses_have_few_colours_and_the_texture_many() -> None:
    images = torch.zeros(40, 3, 32, 32, dtype=torch.uint8)
    for pixels in painted("ellipses", images, 1):
        assert 2 <= len(pixels.flatten(1).unique(dim=1).T) <= 7
    texture = make_texture(3, 32, 32)
    assert torch.equal(texture, make_texture(3, 32, 32))
    for pixels in painted("texture", images, 1):
        # The one texture, moved.
        assert torch.equal(pixels.flatten().sort().values, texture.flatten().sort().values)
    assert texture.float().std() > 40


def test_clothes_are_between_two_colours() -> None:
    grey = load("demo").test.images[:3]
    images = torch.zeros(30, 3, 32, 20, dtype=torch.uint8)
    pixels = Fills(images, (0.0,) * 3, grey).paint(["clothes"], torch.zeros(30), torch.arange(30))
    assert len({tuple(image[:, 0, 0].tolist()) for image in pixels}) > 25
    flat = pixels.flatten(2).double()
    line = flat - flat.mean(dim=2, keepdim=True)
    values = torch.linalg.svdvals(line)
    assert (values[:, 1] < 0.05 * values[:, 0] + 20).all()  # rounding is all that is off the line


def test_no_arm_trains_with_an_unseen_fill() -> None:
    words = set(ARMS.read_text().replace('"', " ").replace("'", " ").replace("=", " ").split())
    unseen = {*UNSEEN, CLOTHES}
    assert unseen.isdisjoint(words)
    assert unseen.isdisjoint({"mean", "noise", "reflect", "other", "colour", "mixed"})
    assert unseen.isdisjoint(USUAL)


def test_examples_show_one_image_by_every_fill() -> None:
    images = numbered(4, 8, 8)
    found = list(example_views(fills_of(images), 2, 0.4))
    assert [(k, name) for k, name, _ in found] == [
        (kind, name) for kind in KINDS for name in (*USUAL, *UNSEEN, CLOTHES)
    ]
    for kind, name, view in found:
        changed = (view != images[2]).any(dim=0)
        if kind == "hidden" and name == "white":
            assert changed.float().mean().item() == actual_share("hidden", 0.4, 8, 8)


# Hashed numbers


def test_hashed_numbers_follow_from_number_and_key_alone() -> None:
    numbers = torch.tensor([5, 0, 10_000_000])
    words = hashed_words(numbers, 9, "a", 1)
    assert torch.equal(words[1:], hashed_words(numbers[1:], 9, "a", 1))
    assert torch.equal(words[:, :4], hashed_words(numbers, 4, "a", 1))
    assert not (words == hashed_words(numbers, 9, "a", 2)).any()
    assert len(words.unique()) == 27


def test_the_hash_is_splitmix64() -> None:
    def reference(state: int) -> Iterator[int]:
        while True:
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
            yield z ^ (z >> 31)

    assert next(reference(0)) == 0xE220A8397B1DCDAF
    # The words of number 0 are those of that generator, begun at the hashed key.
    expected = list(islice(reference(key("x")), 5))
    words = hashed_words(torch.zeros(1).long(), 5, "x")[0].tolist()
    assert [word % 2**64 for word in words] == expected


def test_hashed_uniform_numbers_are_uniform() -> None:
    drawn = hashed_uniform(torch.arange(20_000), 3, "u")
    assert drawn.min() >= 0
    assert drawn.max() < 1
    for column in drawn.T:
        counts = (column * 50).long().bincount(minlength=50).double()
        assert ((counts - 400).square() / 400).sum() < 85.4  # 99.9 % point at 49
    assert torch.corrcoef(drawn.T).triu(1).abs().max() < 0.03


@pytest.mark.parametrize("fills", [4, 5])  # of the unseen group, on the demo and elsewhere
def test_every_cell_of_the_mix_gets_every_fill(fills: int) -> None:
    n = 32 * 8 * 3
    views = mixed_views([str(i) for i in range(fills)], torch.Size((n, 3, 32, 32)), seed=0)
    top, left, bottom, right = views.rectangle.T
    cells: dict[tuple[int, ...], set[int]] = {}
    for y, x, tall, wide, fill in zip(
        *views.offset.abs().T.tolist(),
        (bottom - top).tolist(),
        (right - left).tolist(),
        views.fill.tolist(),
        strict=True,
    ):
        cells.setdefault((y, x, tall, wide), set()).add(fill)
    assert len(cells) == 9  # whole, and four shares of two kinds
    assert all(found == set(range(fills)) for found in cells.values())
