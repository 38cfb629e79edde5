"""Fills against loops over samples and pixels, their laws, and what no fill may change."""

import re
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from torch import Generator, Tensor

from softaug import (
    Chain,
    Crop,
    Cutout,
    Drawn,
    Erase,
    Flip,
    Hard,
    ResizedCrop,
    TimeMask,
    UniformCrop,
    take,
)
from softaug.transforms.fills import (
    BLACK,
    COLOUR,
    NOISE,
    OTHER,
    WORDS,
    check_fill,
    donor_index,
    fill_pixels,
)
from softaug.transforms.hashed_noise import random_bytes, random_bytes_by_numpy, standard_normal

H, W = 7, 10
MAKE: dict[str, Any] = {
    "Crop": lambda fill: Crop(0.5, fill=fill),
    "UniformCrop": lambda fill: UniformCrop(4, fill=fill),
    "ResizedCrop": lambda fill: ResizedCrop((6, 9), 0.8, fill=fill),
    "Erase": lambda fill: Erase((0.2, 0.6), fill=fill),
    "Cutout": lambda fill: Cutout(5, fill=fill),
    "TimeMask": lambda fill: TimeMask(0.4, fill=fill),
}
WHOLE_PIXELS = [name for name in MAKE if name != "ResizedCrop"]
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def batch(n: int = 5, channels: int = 3, dtype: torch.dtype = torch.uint8) -> Tensor:
    generator = Generator().manual_seed(10 * n + channels)
    return torch.randint(0, 256, (n, channels, H, W), generator=generator).to(dtype)


def drawn_by(transform: Any, n: int = 5, seed: int = 0) -> Drawn:
    drawn: Drawn = transform.draw(n, H, W, Generator().manual_seed(seed))
    return drawn


def random_values(seed: Tensor, shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """One sample's noise or, for a shape of one pixel, colour."""
    made = random_bytes if dtype == torch.uint8 else standard_normal
    return made(seed[None], shape)[0].to(dtype)


def mirrored(position: int, side: int) -> int:
    """Walk to a position outside of one axis, turning round at its ends."""
    at, step = 0, 1
    for _ in range(abs(position) if side > 1 else 0):
        if not 0 <= at + step < side:
            step = -step
        at += step
    return at


def slow_fill(word: str, images: Tensor, drawn: Drawn, i: int) -> Tensor:
    """What a word puts behind sample i, [C,H,W], in its own place; all words but "reflect"."""
    kind = {"colour": COLOUR, "noise": NOISE, "other": OTHER}.get(word)
    image = images[i]
    if word == "mean":
        mean = image.to(torch.float64).mean(dim=(1, 2), keepdim=True)
        mean = mean.round() if image.dtype == torch.uint8 else mean
        return mean.to(image.dtype).expand_as(image)
    kind = int(drawn["kind"][i]) if kind is None else kind
    shape = (images.shape[1], H, W)
    if kind == BLACK:
        return torch.zeros_like(image)
    if kind == COLOUR:
        one = random_values(drawn["seed"][i], (images.shape[1], 1, 1), image.dtype)
        return one.expand_as(image)
    if kind == NOISE or len(images) == 1:
        return random_values(drawn["seed"][i], shape, image.dtype)
    rest = [j % len(images) for j in range(i + 1, i + len(images))]
    return images[rest[int(drawn["donor"][i]) % len(rest)]]


def slow(word: str, images: Tensor, drawn: Drawn) -> Tensor:
    """The result of a transform of whole pixels, sample by sample and pixel by pixel."""
    out = images.clone(memory_format=torch.contiguous_format)
    height, width = images.shape[-2:]
    for i in range(len(images)):
        crops = "tx" in drawn
        behind = None if word == "reflect" else slow_fill(word, images, drawn, i)
        for y in range(height):
            for x in range(width):
                if crops:
                    row, column = y + int(drawn["ty"][i]), x + int(drawn["tx"][i])
                    own = 0 <= row < height and 0 <= column < width
                    here = (row, column)
                    there = (mirrored(row, height), mirrored(column, width))
                else:
                    top, bottom, left, right = (
                        int(drawn[name][i]) for name in ("top", "bottom", "left", "right")
                    )
                    own = not (top <= y < bottom and left <= x < right)
                    here, there = (y, x), (y, width - 1 - x)
                if own:
                    out[i, :, y, x] = images[i, :, here[0], here[1]]
                elif behind is None:
                    out[i, :, y, x] = images[i, :, there[0], there[1]]
                else:
                    out[i, :, y, x] = behind[:, y, x]
    return out


@pytest.mark.parametrize("name", WHOLE_PIXELS)
@pytest.mark.parametrize("word", WORDS)
@settings(max_examples=5)
@given(data=st.data())
def test_a_word_fills_as_the_slow_reference_does(name: str, word: str, data: Any) -> None:
    n, channels = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.integers(1, 4))
    dtype = data.draw(st.sampled_from([torch.uint8, torch.float32, torch.float64]))
    layout = data.draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    images = batch(n, channels, dtype).contiguous(memory_format=layout)
    before = images.clone()
    transform = MAKE[name](word)
    drawn = drawn_by(transform, n, data.draw(st.integers(0, 99)))
    out, _ = transform.apply(images, None, drawn)
    expected = slow(word, images, drawn)
    if word == "mean" and dtype == torch.float32:
        torch.testing.assert_close(out, expected)
    else:
        assert torch.equal(out, expected)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("word", WORDS)
def test_who_differentiates_gets_the_same_bits(name: str, word: str) -> None:
    """The reference, which makes every kind for all samples, and NumPy, which makes one of each."""
    for dtype in FLOATS:
        for n, channels in ((1, 3), (9, 2)):
            images = batch(n, channels, dtype)
            transform = MAKE[name](word)
            drawn = drawn_by(transform, n)
            out, seen = transform.apply(images, None, drawn)
            traced, traced_seen = transform.apply(images.requires_grad_(), None, drawn)
            assert out.dtype == dtype
            assert torch.equal(out, traced)
            assert torch.equal(seen, traced_seen)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("word", WORDS)
def test_seen_counts_the_own_image_alone(name: str, word: str) -> None:
    images, black = batch(8), MAKE[name](0)
    transform = MAKE[name](word)
    drawn = drawn_by(transform, 8)
    before = torch.rand(8, 1, H, W, generator=Generator().manual_seed(1))
    for given_map in (None, before):
        _, seen = transform.apply(images, given_map, drawn)
        assert torch.equal(seen, black.apply(images, given_map, drawn)[1])
    if hasattr(transform, "visibility"):
        assert torch.equal(transform.visibility(H, W, drawn), black.visibility(H, W, drawn))


@pytest.mark.parametrize("name", MAKE)
def test_what_was_drawn_before_stays(name: str) -> None:
    """Words draw after all else: offsets, windows and rectangles are those of a black fill."""
    black = drawn_by(MAKE[name](0))
    for word in WORDS:
        drawn = drawn_by(MAKE[name](word))
        assert list(drawn)[: len(black)] == list(black)
        assert all(torch.equal(drawn[key], value) for key, value in black.items())
    assert drawn_by(MAKE[name]("mean")).keys() == drawn_by(MAKE[name]("reflect")).keys()
    assert drawn_by(MAKE[name]("mean")).keys() == black.keys()


def test_laws_of_what_is_drawn() -> None:
    drawn = drawn_by(Crop(fill="mixed"), 40_000)
    assert chisquare(torch.bincount(drawn["kind"], minlength=4)).pvalue > 1e-3
    place = torch.arange(40_000) % 7
    donors = donor_index(drawn["donor"], place, 7)
    assert not (donors == place).any()
    pairs = torch.bincount(7 * place + donors, minlength=49).view(7, 7)
    assert chisquare(pairs[~torch.eye(7, dtype=torch.bool)]).pvalue > 1e-3
    assert (drawn["donor"] >= 0).all()
    assert donor_index(drawn["donor"][:2], place[:2], 1).tolist() == [-1, -1]


def test_laws_of_random_bytes() -> None:
    """Uniform, also together with the next byte, the next word, and the next sample's byte."""
    seeds = torch.arange(300) * 2**31
    noise = random_bytes(seeds, (3, 20, 20)).flatten(1).long()
    assert chisquare(torch.bincount(noise.flatten(), minlength=256)).pvalue > 1e-3
    for first, second in (
        (noise[:, :-1], noise[:, 1:]),
        (noise[:, :-4], noise[:, 4:]),
        (noise[:-1], noise[1:]),
    ):
        both = 16 * (first // 16) + second // 16
        assert chisquare(torch.bincount(both.flatten(), minlength=256)).pvalue > 1e-3
    colours = random_bytes(drawn_by(Crop(fill="colour"), 9_000)["seed"], (3, 1, 1)).flatten()
    assert chisquare(torch.bincount(colours.long(), minlength=256)).pvalue > 1e-3


@given(
    seeds=st.lists(st.integers(0, 2**62 - 1), max_size=4),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
)
def test_bytes_by_numpy_are_those_of_torch(seeds: list[int], shape: tuple[int, int, int]) -> None:
    seed = torch.tensor(seeds, dtype=torch.int64)
    expected = random_bytes(seed, shape)
    assert torch.equal(torch.from_numpy(random_bytes_by_numpy(seed.numpy(), shape)), expected)


def test_floats_get_normal_colours_and_noise() -> None:
    images = torch.zeros(2_000, 3, 4, 4)
    for word in ("colour", "noise"):
        made = fill_pixels(word, images, drawn_by(Crop(fill=word), len(images)))
        assert made is not None
        assert kstest(made.flatten().numpy(), "norm").pvalue > 1e-3
        assert made.shape[-2:] == ((1, 1) if word == "colour" else (4, 4))


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("word", ["other", "mixed"])
def test_donors_from_outside_take_the_place_of_the_batch(name: str, word: str) -> None:
    images = batch(6)
    transform = MAKE[name](word)
    drawn = drawn_by(transform, 6)
    inside, _ = transform.apply(images, None, drawn)
    others = images[donor_index(drawn["donor"], torch.arange(6), 6)]
    outside, _ = transform.apply(images, None, drawn | {"others": others})
    assert torch.equal(inside, outside)
    # The results of samples no longer depend on their batch.
    for i in range(6):
        alone = take(drawn | {"others": others}, slice(i, i + 1))
        assert torch.equal(transform.apply(images[i : i + 1], None, alone)[0][0], outside[i])
    # A negative number stands for no donor.
    without = drawn | {"others": others, "donor": torch.full_like(drawn["donor"], -1)}
    noise = MAKE[name]("noise").apply(images, None, drawn)[0]
    shown = drawn["kind"] == OTHER if word == "mixed" else torch.ones(6, dtype=torch.bool)
    assert torch.equal(transform.apply(images, None, without)[0][shown], noise[shown])


def test_donors_of_another_size_are_resized() -> None:
    images = batch(3)
    drawn = drawn_by(Crop(fill="other"), 3) | {"tx": torch.tensor([W] * 3)}
    others = torch.zeros(3, 3, 2 * H, 3 * W, dtype=torch.uint8)
    others[1, 2, :H] = 200
    out, _ = Crop(fill="other").apply(images, None, drawn | {"others": others})
    expected = F.interpolate(others.float(), (H, W), mode="bilinear", antialias=True)
    assert torch.equal(out, expected.round().to(torch.uint8))
    # In a chain, each step's donors are those of its own draws.
    chain = Chain([ResizedCrop((4, 5)), Hard(Crop(0.9, fill="other")), Flip()])
    nested = drawn_by(chain, 3)
    nested["1"]["others"] = others
    assert chain.apply(images, None, nested)[0].shape == (3, 3, 4, 5)


def test_donors_have_been_through_the_steps_before() -> None:
    """In a chain the donors are images of the batch as this step receives it."""
    images = torch.full((2, 1, H, W), 50.0)
    away = {"tx": torch.tensor([W, W]), "ty": torch.zeros(2, dtype=torch.int64)}
    chain = Chain([Crop(fill=3.0), Crop(fill="other")])
    drawn = drawn_by(chain, 2)
    drawn["0"] |= away
    drawn["1"] |= away
    assert (chain.apply(images, None, drawn)[0] == 3).all()


@pytest.mark.parametrize("side", [1, 2, 5])
def test_reflect_is_the_padding_of_torch(side: int) -> None:
    images = torch.rand(1, 2, side, 4, generator=Generator().manual_seed(0))
    most = side - 1
    padded = F.pad(images, (3, 3, most, most), mode="reflect")
    for tx in range(-3, 4):
        for ty in range(-most, most + 1):
            drawn = {"tx": torch.tensor([tx]), "ty": torch.tensor([ty])}
            out, _ = Crop(fill="reflect").apply(images, None, drawn)
            part = padded[:, :, most + ty : most + ty + side, 3 + tx : 3 + tx + 4]
            assert torch.equal(out, part)


def cut(box: list[int], canvas: Tensor) -> Tensor:
    """A window of a canvas that goes on for one image to all sides, resampled to (5, 4)."""
    top, left, height, width = box
    part = canvas[:, :, H + top : H + top + height, W + left : W + left + width]
    resized: Tensor = F.interpolate(part, (5, 4), mode="bilinear", antialias=True)
    return resized[0]


@pytest.mark.parametrize("word", ["reflect", "mean", "mixed"])
def test_a_window_outside_shows_the_fill(word: str) -> None:
    """Resized windows against windows cut from a canvas three times as wide."""
    images = batch(8, dtype=torch.float64)
    transform = ResizedCrop((5, 4), 0.9, fill=word)
    drawn = drawn_by(transform, 8)
    out, _ = transform.apply(images, None, drawn)
    behind = None if word == "reflect" else fill_pixels(word, images, drawn, (5, 4))
    for i in range(8):
        box = [int(drawn[name][i]) for name in ("top", "left", "height", "width")]
        window = partial(cut, box)
        image = images[i : i + 1]
        if behind is None:
            rows = [mirrored(y, H) for y in range(-H, 2 * H)]
            columns = [mirrored(x, W) for x in range(-W, 2 * W)]
            expected = window(image[:, :, rows][..., columns])
        else:
            black, ones = (F.pad(one, (W, W, H, H)) for one in (image, torch.ones_like(image)))
            expected = window(black) + (1 - window(ones)) * behind[i]
        torch.testing.assert_close(out[i], expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", MAKE)
def test_a_wrong_fill_is_named_in_one_line(name: str) -> None:
    words = '"mean", "reflect", "other", "colour", "noise", "mixed"'
    expected = f"{name}: fill must be a number, one for each channel, or one of {words}, got "
    for fill in ("mixd", ()):
        with pytest.raises(ValueError, match=re.escape(expected + repr(fill)) + "$"):
            MAKE[name](fill)
    # What types forbid, a YAML file may hold.
    for wrong in (None, (1, "mean"), {"a": 1}):
        with pytest.raises(ValueError, match=re.escape(expected + repr(wrong)) + "$"):
            check_fill(name, wrong)


COMPILED = """
import torch
from torch import Generator
from softaug import Crop, Cutout, Erase, ResizedCrop, UniformCrop

for word in ("reflect", "mixed"):
    for transform in (Crop(fill=word), Erase(fill=word), ResizedCrop(6, fill=word)):
        torch._dynamo.reset()
        compiled = torch.compile(transform.apply, fullgraph=True, backend="aot_eager")
        for dtype in (torch.uint8, torch.float32):
            images = (torch.rand(9, 3, 8, 9) * 255).to(dtype)
            drawn = transform.draw(9, 8, 9, Generator().manual_seed(0))
            got, expected = (f(images, None, drawn)[0] for f in (compiled, transform.apply))
            if isinstance(transform, ResizedCrop):
                assert (got.double() - expected.double()).abs().max() <= 1
            else:
                assert torch.equal(got, expected), (transform, dtype)
"""


@pytest.mark.slow
def test_compiled_fills_are_the_same() -> None:
    # A process of its own: shapes are not checked there, and what is compiled is compiled anew.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
