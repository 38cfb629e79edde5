"""The joint visibility of any chain of geometric transforms, against points followed by hand."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from softaug import (
    Chain,
    Crop,
    Cutout,
    Drawn,
    Erase,
    Flip,
    FrequencyMask,
    ResizedCrop,
    TimeMask,
    UniformCrop,
    VerticalFlip,
    as_seen,
    visibility,
)
from softaug.transforms.base import size_after

H, W, FINE = 24, 36, 4


class Points:
    """4 x 4 points in every pixel of the source, followed forward through each transform."""

    def __init__(self) -> None:
        y, x = (torch.arange(FINE * side, dtype=torch.float64) for side in (H, W))
        self.y, self.x = torch.meshgrid((y + 0.5) / FINE, (x + 0.5) / FINE, indexing="ij")
        self.left = torch.ones_like(self.y, dtype=torch.bool)
        self.height, self.width = H, W

    def keep_in(self, top: float, left: float, bottom: float, right: float) -> Tensor:
        return (self.y >= top) & (self.y < bottom) & (self.x >= left) & (self.x < right)

    def follow(self, transform: Any, drawn: dict[str, Any]) -> None:
        if isinstance(transform, Crop | UniformCrop):
            self.y, self.x = self.y - drawn["ty"], self.x - drawn["tx"]
        elif isinstance(transform, Flip):
            self.x = self.width - self.x if drawn["flip"] else self.x
        elif isinstance(transform, VerticalFlip):
            self.y = self.height - self.y if drawn["flip"] else self.y
        elif isinstance(transform, Erase | Cutout | TimeMask | FrequencyMask):
            box = (drawn[side] for side in ("top", "left", "bottom", "right"))
            self.left &= ~self.keep_in(*box)
        else:
            assert isinstance(transform, ResizedCrop)
            self.height, self.width = size_after(transform, self.height, self.width)
            self.y = (self.y - drawn["top"]) * self.height / drawn["height"]
            self.x = (self.x - drawn["left"]) * self.width / drawn["width"]
        self.left &= self.keep_in(0, 0, self.height, self.width)

    def share(self, weight: Tensor) -> float:
        fine = weight.repeat_interleave(FINE, 0).repeat_interleave(FINE, 1).double()
        return float((fine * self.left).sum() / fine.sum())


MOVES: list[Any] = [
    Crop(sigma=0.2),
    Crop(sigma=(0.1, 0.3)),
    UniformCrop(5),
    Flip(),
    VerticalFlip(),
    Erase(area=(0.05, 0.4)),
    Cutout(side=11),
    TimeMask(),
    FrequencyMask(),
]
ZOOMS: list[Any] = [ResizedCrop((H, W), sigma=0.2), ResizedCrop((40, 30), sigma=0.25)]


def followed(chain: Chain, drawn: Drawn, seen: Tensor) -> float:
    points = Points()
    for i, transform in enumerate(chain.transforms):
        points.follow(transform, {name: value[0].item() for name, value in drawn[str(i)].items()})
    return points.share(seen[0, 0])


@settings(max_examples=150)
@given(st.lists(st.sampled_from(MOVES), min_size=1, max_size=4), st.integers(0, 2**31))
def test_whole_pixels_are_counted_exactly(transforms: list[Any], seed: int) -> None:
    chain = Chain(transforms)
    drawn = chain.draw(1, H, W, Generator().manual_seed(seed))
    _, seen = chain.apply(torch.zeros(1, 1, H, W), None, drawn)
    assert visibility(seen).item() == pytest.approx(
        followed(chain, drawn, torch.ones(1, 1, H, W)), abs=1e-6
    )


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from([*MOVES, *ZOOMS]), min_size=1, max_size=2),
    st.sampled_from(ZOOMS),
    st.lists(st.sampled_from(MOVES), max_size=2),
    st.integers(0, 2**31),
)
def test_zooms_are_within_a_hundredth(
    before: list[Any], zoom: Any, after: list[Any], seed: int
) -> None:
    chain = Chain([*before, zoom, *after])
    drawn = chain.draw(1, H, W, Generator().manual_seed(seed))
    _, seen = chain.apply(torch.zeros(1, 1, H, W), None, drawn)
    expected = followed(chain, drawn, torch.ones(1, 1, H, W))
    assert visibility(seen).item() == pytest.approx(expected, abs=0.01)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(MOVES), min_size=1, max_size=3), st.integers(0, 2**31))
def test_an_object_is_followed_by_its_mask(transforms: list[Any], seed: int) -> None:
    generator = Generator().manual_seed(seed)
    mask = torch.zeros(1, 1, H, W)
    mask[..., 4:15, 8:20] = torch.rand(11, 12, generator=generator)
    chain = Chain(transforms)
    drawn = chain.draw(1, H, W, generator)
    _, seen = chain.apply(torch.zeros(1, 1, H, W), as_seen(mask), drawn)
    assert visibility(seen).item() == pytest.approx(followed(chain, drawn, mask), abs=1e-5)


def test_masks_are_scaled_to_mean_one() -> None:
    mask = torch.zeros(3, 4, 6, dtype=torch.bool)
    mask[0, 0, 0] = mask[1, :2] = mask[2] = True
    seen = as_seen(mask)
    assert seen.shape == (3, 1, 4, 6)
    torch.testing.assert_close(visibility(seen), torch.ones(3))
    assert seen[0, 0, 0, 0].item() == pytest.approx(24)
    assert torch.equal(as_seen(mask[:, None]), seen)
    assert torch.equal(as_seen(mask[:1]), seen[0])


def test_empty_masks_are_named_or_uniform() -> None:
    mask = torch.ones(3, 1, 4, 4)
    mask[1] = 0
    with pytest.raises(ValueError, match=r'mask of sample 1 is empty; .*empty="uniform"'):
        as_seen(mask)
    assert torch.equal(as_seen(mask, empty="uniform"), torch.ones(3, 1, 4, 4))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 3, 4, 4), r"mask must be .* got \[2, 3, 4, 4\]"),
        (-torch.ones(2, 4, 4), "finite and >= 0, it is not for sample 0"),
        (torch.full((1, 4, 4), torch.nan), "it is not for sample 0"),
    ],
)
def test_bad_masks_are_named(mask: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_seen(mask)
