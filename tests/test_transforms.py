"""The law of the draws, and what a crop does to pixels and to the map, against slow references."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chisquare
from torch import Generator, Tensor

from softaug import Chain, Crop, Drawn, Flip, Hard, UniformCrop, visibility
from softaug.transforms.pixels import from_pil

H, W = 5, 7


def slow_shift(image: list[list[float]], tx: int, ty: int, fill: float) -> list[list[float]]:
    """Output pixel (y, x) is input pixel (y + ty, x + tx), or the fill outside of the frame."""
    height, width = len(image), len(image[0])
    return [
        [
            image[y + ty][x + tx] if 0 <= y + ty < height and 0 <= x + tx < width else fill
            for x in range(width)
        ]
        for y in range(height)
    ]


def shift_of(tx: int, ty: int) -> Drawn:
    return {"tx": torch.tensor([tx]), "ty": torch.tensor([ty])}


ALL_OFFSETS = list(product(range(-W, W + 1), range(-H, H + 1)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_moves_pixels_as_the_slow_reference(dtype: torch.dtype) -> None:
    image = torch.arange(2 * H * W).view(1, 2, H, W).to(dtype)
    for tx, ty in ALL_OFFSETS:
        moved, _ = Crop(fill=(9, 11)).apply(image, None, shift_of(tx, ty))
        for channel, fill in enumerate((9, 11)):
            expected = slow_shift(image[0, channel].tolist(), tx, ty, fill)
            assert moved[0, channel].tolist() == expected


def test_visibility_of_a_lone_crop_is_the_closed_form_exactly() -> None:
    for tx, ty in ALL_OFFSETS:
        _, seen = Crop().apply(torch.zeros(1, 1, H, W), None, shift_of(tx, ty))
        share = Fraction((W - abs(tx)) * (H - abs(ty)), W * H)
        assert visibility(seen).item() == torch.tensor(float(share)).item()
        assert (visibility(seen).item() == 0) == (abs(tx) == W or abs(ty) == H)


@pytest.mark.parametrize("size", [28, 32, 224])
def test_visibility_is_exact_at_usual_sizes(size: int) -> None:
    generator = Generator().manual_seed(size)
    crop = Crop(sigma=0.3)
    drawn = crop.draw(40, size, size, generator)
    _, seen = crop.apply(torch.zeros(40, 1, size, size, dtype=torch.uint8), None, drawn)
    kept = (size - drawn["tx"].abs()) * (size - drawn["ty"].abs())
    expected = [float(Fraction(count, size * size)) for count in kept.tolist()]
    assert torch.equal(visibility(seen), torch.tensor(expected))


def exact_law(sigma: float, size: int) -> list[float]:
    """P(t) for t = -size ... size: a normal truncated to |t| < size, then rounded."""

    def below(x: float) -> float:
        return 0.5 * (1 + math.erf(x / (sigma * size * math.sqrt(2))))

    def clip(x: float) -> float:
        return max(-size, min(size, x))

    inside = below(size) - below(-size)
    return [(below(clip(t + 0.5)) - below(clip(t - 0.5))) / inside for t in range(-size, size + 1)]


@pytest.mark.parametrize("sigma", [0.05, 0.15, 0.3, 0.6, 1.0])
def test_offsets_follow_the_truncated_normal_on_both_axes(sigma: float) -> None:
    n, height, width = 200_000, 12, 20
    drawn = Crop(sigma=sigma).draw(n, height, width, Generator().manual_seed(7))
    for offsets, size in ((drawn["tx"], width), (drawn["ty"], height)):
        expected = torch.tensor(exact_law(sigma, size), dtype=torch.float64) * n
        counts = torch.bincount(offsets + size, minlength=2 * size + 1).double()
        common = expected >= 5
        assert counts[~common].sum() <= expected[~common].sum() + 20
        observed = torch.cat([counts[common], counts[~common].sum()[None]])
        wanted = torch.cat([expected[common], expected[~common].sum()[None]])
        used = wanted > 0.5
        total = wanted[used] * observed[used].sum() / wanted[used].sum()
        assert chisquare(observed[used].numpy(), total.numpy()).pvalue > 1e-3


def test_offset_of_a_whole_side_has_its_small_probability() -> None:
    """|t| = 32 of 32 pixels at sigma 0.3 is right, and about 2 in 10,000."""
    law = exact_law(0.3, 32)
    assert 1e-4 < law[0] + law[-1] < 3e-4
    drawn = Crop(sigma=0.3).draw(1_000_000, 32, 32, Generator().manual_seed(1))
    share = (drawn["tx"].abs() == 32).double().mean().item()
    assert share == pytest.approx(law[0] + law[-1], rel=0.3)


def test_axes_and_samples_are_independent() -> None:
    drawn = Crop(sigma=0.3).draw(100_000, 32, 32, Generator().manual_seed(2))
    tx, ty = drawn["tx"].double(), drawn["ty"].double()
    for a, b in ((tx, ty), (tx.abs(), ty.abs()), (tx[1:], tx[:-1]), (tx[1:], ty[:-1])):
        correlation = torch.corrcoef(torch.stack([a, b]))[0, 1].item()
        assert abs(correlation) < 4 / math.sqrt(len(a))


def test_uniform_crop_is_uniform() -> None:
    drawn = UniformCrop(padding=3).draw(70_000, 32, 32, Generator().manual_seed(3))
    for offsets in drawn.values():
        counts = torch.bincount(offsets + 3, minlength=7)
        assert len(counts) == 7
        assert chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flip_probability(probability: float) -> None:
    flip = Flip(probability).draw(20_000, 4, 4, Generator().manual_seed(4))["flip"]
    assert flip.double().mean().item() == pytest.approx(probability, abs=0.015)


def test_flip_mirrors_the_chosen_samples_and_their_map() -> None:
    images = torch.arange(12.0).view(2, 1, 2, 3)
    seen = torch.rand(2, 1, 2, 3)
    flipped, moved = Flip().apply(images, seen, {"flip": torch.tensor([True, False])})
    assert flipped[0, 0].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert torch.equal(flipped[1], images[1])
    assert torch.equal(moved[0], seen[0].flip(-1))
    assert torch.equal(moved[1], seen[1])


offsets = st.tuples(st.integers(-W, W), st.integers(-H, H))


@given(first=offsets, second=offsets, flip=st.booleans())
def test_joint_visibility_counts_the_source_pixels_that_are_left(
    first: tuple[int, int], second: tuple[int, int], flip: bool
) -> None:
    """Carry the name of each source pixel through the chain and count the different ones."""
    chain = Chain([Crop(fill=-1), Flip(), Crop(fill=-1)])
    drawn: Drawn = {
        "0": shift_of(*first),
        "1": {"flip": torch.tensor([flip])},
        "2": shift_of(*second),
    }
    names = torch.arange(H * W).float().view(1, 1, H, W)
    moved, seen = chain.apply(names, None, drawn)
    left = set(moved.flatten().tolist()) - {-1.0}
    assert visibility(seen).item() == torch.tensor(len(left) / (H * W)).item()
    assert torch.equal(seen == 1, moved >= 0)


def test_a_product_of_visibilities_would_be_wrong() -> None:
    """There and back again loses one strip, not two."""
    chain = Chain([Crop(), Crop()])
    _, seen = chain.apply(torch.zeros(1, 1, 4, 4), None, {"0": shift_of(2, 0), "1": shift_of(2, 0)})
    assert visibility(seen).item() == 0
    _, seen = chain.apply(
        torch.zeros(1, 1, 4, 4), None, {"0": shift_of(2, 0), "1": shift_of(-2, 0)}
    )
    assert visibility(seen).item() == 0.5


def test_what_is_hard_moves_pixels_and_carries_the_map() -> None:
    images, seen = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    out, carried = Hard(Crop()).apply(images, seen, shift_of(2, 0))
    assert torch.equal(out, Crop().apply(images, None, shift_of(2, 0))[0])
    assert torch.equal(carried, seen)
    chain = Chain([Hard(Crop()), Crop()])
    _, seen = chain.apply(images, None, {"0": shift_of(2, 0), "1": shift_of(1, 0)})
    assert visibility(seen).item() == 0.75


def test_a_given_map_is_weighed_by_where_the_object_is() -> None:
    seen = torch.zeros(1, 1, 4, 4)
    seen[..., :2] = 2
    _, left = Crop().apply(torch.zeros(1, 1, 4, 4), seen, shift_of(-2, 0))
    _, right = Crop().apply(torch.zeros(1, 1, 4, 4), seen, shift_of(2, 0))
    assert (visibility(left).item(), visibility(right).item()) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: Crop(sigma=9.6), r"sigma is a share.*got 9\.6.*divide"),
        (lambda: Crop(sigma=-0.1), r"got -0\.1"),
        (lambda: Crop(sigma=math.nan), "got nan"),
        (lambda: UniformCrop(padding=-1), "padding must be 0 pixels or more, got -1"),
        (lambda: UniformCrop(padding=9)(torch.zeros(1, 1, 8, 8)), "got 9 for images of 8 x 8"),
        (lambda: Flip(1.5), r"probability must be in \[0, 1\], got 1\.5"),
        (lambda: Chain([]), "at least one transform, got none"),
        (lambda: Crop(fill=(1, 2))(torch.zeros(1, 3, 4, 4)), "each of the 3 channels"),
        (lambda: Crop(fill=300)(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)), "got 300"),
    ],
)
def test_values_out_of_range_are_named(use: object, message: str) -> None:
    assert callable(use)
    with pytest.raises(ValueError, match=message):
        use()


def test_a_chain_takes_a_list() -> None:
    made = object.__new__(Chain)  # the tests' own check of types would come first
    object.__setattr__(made, "transforms", Flip())
    with pytest.raises(
        ValueError, match=r"expected a list of transforms, got Flip.*Chain\(\[...\]\)"
    ):
        made.__post_init__()


def test_a_picture_of_16_bits_is_to_be_scaled() -> None:
    deep = Image.fromarray(np.full((4, 4), 9999, np.uint16))
    with pytest.raises(ValueError, match=r'got "I;16"; scale it to 8 bits \(divide by 257\)'):
        from_pil(deep)
    with pytest.raises(ValueError, match=r'got "CMYK"; convert\("RGB"\) it'):
        from_pil(Image.new("CMYK", (4, 4)))


def test_draws_are_on_the_cpu_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    drawn = Chain([Flip(), Crop(), UniformCrop()]).draw(3, 8, 8, Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)

    def leaves(tree: Drawn) -> list[Tensor]:
        return [
            leaf
            for value in tree.values()
            for leaf in (leaves(value) if isinstance(value, dict) else [value])
        ]

    assert all(leaf.device.type == "cpu" and len(leaf) == 3 for leaf in leaves(drawn))
