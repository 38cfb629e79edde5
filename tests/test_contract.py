"""One contract, held by every transform and every chain of two: to add a transform, add a row."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from softaug import Chain, Crop, Drawn, Flip, Still, UniformCrop, take, visibility

SINGLE: dict[str, Any] = {
    "crop": Crop(sigma=0.3),
    "crop-fill": Crop(sigma=0.5, fill=7),
    "uniform-crop": UniformCrop(padding=2),
    "flip": Flip(),
    "still": Still(),
}
TRANSFORMS = SINGLE | {
    f"{a}+{b}": Chain([SINGLE[a], SINGLE[b]]) for a, b in product(SINGLE, repeat=2)
}
N, H, W = 6, 8, 11


def pixels(channels: int, dtype: torch.dtype) -> Tensor:
    generator = Generator().manual_seed(channels)
    return torch.randint(0, 256, (N, channels, H, W), generator=generator).to(dtype)


INPUTS: dict[str, Callable[[], Tensor]] = {
    "uint8": lambda: pixels(3, torch.uint8),
    "float32": lambda: pixels(3, torch.float32),
    "float16": lambda: pixels(3, torch.float16),
    "grey": lambda: pixels(1, torch.uint8),
    "two-channels": lambda: pixels(2, torch.float32),
    "alpha": lambda: pixels(4, torch.uint8),
    "channels-last": lambda: pixels(3, torch.uint8).to(memory_format=torch.channels_last),
    "view": lambda: pixels(6, torch.uint8)[:, ::2],
    "one": lambda: pixels(3, torch.uint8)[:1],
}
tables = [
    pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS),
    pytest.mark.parametrize("make", INPUTS.values(), ids=INPUTS),
]


def over_the_tables(test: Any) -> Any:
    for table in tables:
        test = table(test)
    return test


def drawn_for(transform: Any, images: Tensor) -> Drawn:
    drawn: Drawn = transform.draw(len(images), H, W, Generator().manual_seed(5))
    return drawn


@over_the_tables
def test_shapes_dtypes_and_ranges(transform: Any, make: Callable[[], Tensor]) -> None:
    images = make()
    out, seen = transform.apply(images, None, drawn_for(transform, images))
    assert out.shape == images.shape
    assert out.dtype == images.dtype
    assert seen.shape == (len(images), 1, H, W)
    assert seen.dtype == torch.float32
    assert (seen >= 0).all()
    assert ((visibility(seen) >= 0) & (visibility(seen) <= 1)).all()


@over_the_tables
def test_inputs_never_change(transform: Any, make: Callable[[], Tensor]) -> None:
    images, seen = make(), torch.ones(len(make()), 1, H, W)
    kept_images, kept_seen = images.clone(), seen.clone()
    drawn = drawn_for(transform, images)
    out, out_seen = transform.apply(images, seen, drawn)
    out += 1
    out_seen += 1
    assert torch.equal(images, kept_images)
    assert torch.equal(seen, kept_seen)


@over_the_tables
def test_a_batch_is_its_samples_one_by_one(transform: Any, make: Callable[[], Tensor]) -> None:
    images = make()
    drawn = drawn_for(transform, images)
    out, seen = transform.apply(images, None, drawn)
    for i in range(len(images)):
        one, one_seen = transform.apply(images[i : i + 1], None, take(drawn, slice(i, i + 1)))
        assert torch.equal(one[0], out[i])
        assert torch.equal(one_seen[0], seen[i])
    order = torch.randperm(len(images), generator=Generator().manual_seed(1))
    shuffled, _ = transform.apply(images[order], None, take(drawn, order))
    assert torch.equal(shuffled, out[order])


@over_the_tables
def test_calling_is_drawing_then_applying(transform: Any, make: Callable[[], Tensor]) -> None:
    images = make()
    called = transform(images, generator=Generator().manual_seed(5))
    applied = transform.apply(images, None, drawn_for(transform, images))
    assert torch.equal(called[0], applied[0])
    assert torch.equal(called[1], applied[1])


@over_the_tables
def test_no_map_is_a_map_of_ones(transform: Any, make: Callable[[], Tensor]) -> None:
    images = make()
    drawn = drawn_for(transform, images)
    _, without = transform.apply(images, None, drawn)
    _, with_ones = transform.apply(images, torch.ones(len(images), 1, H, W), drawn)
    assert torch.equal(without, with_ones)


@over_the_tables
def test_layout_and_dtype_do_not_matter(transform: Any, make: Callable[[], Tensor]) -> None:
    images = make()
    drawn = drawn_for(transform, images)
    out, _ = transform.apply(images, None, drawn)
    plain, _ = transform.apply(images.contiguous().double(), None, drawn)
    assert torch.equal(out.double(), plain)
    if images.is_contiguous(memory_format=torch.channels_last):
        assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_single_image_is_a_batch_of_one(transform: Any) -> None:
    image = pixels(3, torch.uint8)[0]
    one, seen = transform(image, generator=Generator().manual_seed(5))
    batch, batch_seen = transform(image[None], generator=Generator().manual_seed(5))
    assert torch.equal(one, batch[0])
    assert torch.equal(seen, batch_seen[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@over_the_tables
def test_a_gpu_gives_the_same(transform: Any, make: Callable[[], Tensor]) -> None:
    images = make()
    drawn = drawn_for(transform, images)
    here, there = (transform.apply(i, None, drawn) for i in (images, images.cuda()))
    assert torch.equal(here[0], there[0].cpu())
    assert torch.equal(visibility(here[1]), visibility(there[1]).cpu())
