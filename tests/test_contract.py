"""One contract, held by every transform and every chain of two: to add a transform, add a row."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import v2 as typed_v2

from softaug import (
    Blur,
    Borrowed,
    Chain,
    Crop,
    Cutout,
    DiffusionNoise,
    Drawn,
    Erase,
    Flip,
    GaussianBlur,
    Hard,
    Noise,
    RandAugment,
    RandomResizedCrop,
    ResizedCrop,
    Still,
    TrivialAugment,
    UniformCrop,
    VerticalFlip,
    take,
    visibility,
)

v2: Any = typed_v2  # whose types know fewer arguments than it takes
N, H, W = 6, 8, 11
# These move whole pixels or replace them, so that nothing is rounded.
EXACT: dict[str, Any] = {
    "crop": Crop(sigma=0.3),
    "crop-fill": Crop(sigma=(0.5, 0.1), fill=7),
    "uniform-crop": UniformCrop(padding=2),
    "flip": Flip(),
    "vertical-flip": VerticalFlip(),
    "still": Still(),
    "erase": Erase(area=(0.1, 0.6), probability=0.8),
    "cutout": Cutout(side=5, fill=3),
    "hard": Hard(Crop(sigma=0.3)),
}
# These must know what white is: uint8, or float in [0, 1], which the table's floats are not.
POLICIES: dict[str, Any] = {"randaugment": RandAugment(), "trivialaugment": TrivialAugment()}
SINGLE = (
    EXACT
    | POLICIES
    | {
        "resized-crop": ResizedCrop((H, W), fill=9),
        "random-resized-crop": RandomResizedCrop((H, W)),
        "erase-mean": Erase(fill="mean"),
        "erase-noise": Erase(fill="noise"),
        "noise": Noise(amplitude=1.0),
        "diffusion-noise": DiffusionNoise(probability=0.7),
        "blur": Blur(probability=0.7),
        "gaussian-blur": GaussianBlur(kernel_size=5, probability=0.7),
        "borrowed-crop": Borrowed(v2.RandomCrop((H, W), padding=3, padding_mode="reflect")),
        "borrowed-rotation": Borrowed(v2.RandomRotation(30, v2.InterpolationMode.BILINEAR)),
    }
)
PAIRS = {f"{a}+{b}": Chain([SINGLE[a], SINGLE[b]]) for a, b in product(SINGLE, repeat=2)}
EXACT_NAMES = {*EXACT, *(f"{a}+{b}" for a, b in product(EXACT, repeat=2))}


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
FLOATS = ("float32", "float16", "two-channels")
CASES = [
    (name, given)
    for name, given in (*product(SINGLE, INPUTS), *product(PAIRS, ("uint8", "float32")))
    if given not in FLOATS or POLICIES.keys().isdisjoint(name.split("+"))
]


def over_the_table(test: Any) -> Any:
    return pytest.mark.parametrize(
        ("name", "make"),
        [(name, INPUTS[given]) for name, given in CASES],
        ids=[f"{name}-{given}" for name, given in CASES],
    )(test)


def transform_of(name: str) -> Any:
    return (SINGLE | PAIRS)[name]


def assert_same(name: str, a: Tensor, b: Tensor) -> None:
    """Equal, or within what rounding does where pixels are computed."""
    if name in EXACT_NAMES:
        assert torch.equal(a, b)
    elif a.is_floating_point():
        coarse = a.dtype == torch.float16
        torch.testing.assert_close(a, b, rtol=1e-2 if coarse else 1e-4, atol=1 if coarse else 1e-2)
    else:
        assert (a.int() - b.int()).abs().max() <= 2


def drawn_for(name: str, images: Tensor) -> Drawn:
    drawn: Drawn = transform_of(name).draw(len(images), H, W, Generator().manual_seed(5))
    return drawn


@over_the_table
def test_shapes_dtypes_and_ranges(name: str, make: Callable[[], Tensor]) -> None:
    images = make()
    out, seen = transform_of(name).apply(images, None, drawn_for(name, images))
    assert out.shape == images.shape
    assert out.dtype == images.dtype
    assert seen.shape == (len(images), 1, H, W)
    assert seen.dtype == torch.float32
    assert (seen >= 0).all()
    assert ((visibility(seen) >= 0) & (visibility(seen) <= 1)).all()


@over_the_table
def test_inputs_never_change(name: str, make: Callable[[], Tensor]) -> None:
    images, seen = make(), torch.ones(len(make()), 1, H, W)
    kept_images, kept_seen = images.clone(), seen.clone()
    drawn = drawn_for(name, images)
    for given in (seen, None):
        out, out_seen = transform_of(name).apply(images, given, drawn)
        out += 1
        out_seen += 1
        assert torch.equal(images, kept_images)
        assert torch.equal(seen, kept_seen)


@over_the_table
def test_a_batch_is_its_samples_one_by_one(name: str, make: Callable[[], Tensor]) -> None:
    images = make()
    drawn = drawn_for(name, images)
    out, seen = transform_of(name).apply(images, None, drawn)
    for i in range(len(images)):
        one, one_seen = transform_of(name).apply(
            images[i : i + 1], None, take(drawn, slice(i, i + 1))
        )
        assert_same(name, one[0], out[i])
        torch.testing.assert_close(one_seen[0], seen[i])
    order = torch.randperm(len(images), generator=Generator().manual_seed(1))
    shuffled, _ = transform_of(name).apply(images[order], None, take(drawn, order))
    assert_same(name, shuffled, out[order])


@over_the_table
def test_calling_is_drawing_then_applying(name: str, make: Callable[[], Tensor]) -> None:
    images = make()
    called = transform_of(name)(images, generator=Generator().manual_seed(5))
    applied = transform_of(name).apply(images, None, drawn_for(name, images))
    assert torch.equal(called[0], applied[0])
    assert torch.equal(called[1], applied[1])


@over_the_table
def test_no_map_is_a_map_of_ones(name: str, make: Callable[[], Tensor]) -> None:
    images = make()
    drawn = drawn_for(name, images)
    _, without = transform_of(name).apply(images, None, drawn)
    _, with_ones = transform_of(name).apply(images, torch.ones(len(images), 1, H, W), drawn)
    assert torch.equal(without, with_ones)


@over_the_table
def test_layout_does_not_matter(name: str, make: Callable[[], Tensor]) -> None:
    images = make()
    drawn = drawn_for(name, images)
    out, _ = transform_of(name).apply(images, None, drawn)
    plain, _ = transform_of(name).apply(images.contiguous(), None, drawn)
    assert_same(name, out, plain)
    if images.is_contiguous(memory_format=torch.channels_last):
        assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("make", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("name", sorted(EXACT_NAMES))
def test_dtype_does_not_matter(name: str, make: Callable[[], Tensor]) -> None:
    images = make()
    drawn = drawn_for(name, images)
    out, _ = transform_of(name).apply(images, None, drawn)
    plain, _ = transform_of(name).apply(images.double(), None, drawn)
    assert torch.equal(out.double(), plain)


@over_the_table
def test_what_was_seen_is_never_more(name: str, make: Callable[[], Tensor]) -> None:
    """Whatever map one begins with, a transform only takes from it (but for interpolation)."""
    images = make()
    before = torch.rand(len(images), 1, H, W, generator=Generator().manual_seed(9))
    _, seen = transform_of(name).apply(images, before, drawn_for(name, images))
    assert (visibility(seen) <= visibility(before) + (1e-6 if name in EXACT_NAMES else 0.05)).all()


@pytest.mark.parametrize("name", [*SINGLE, *PAIRS])
def test_a_single_image_is_a_batch_of_one(name: str) -> None:
    image, transform = pixels(3, torch.uint8)[0], transform_of(name)
    one, seen = transform(image, generator=Generator().manual_seed(5))
    batch, batch_seen = transform(image[None], generator=Generator().manual_seed(5))
    assert torch.equal(one, batch[0])
    assert torch.equal(seen, batch_seen[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@over_the_table
def test_a_gpu_gives_the_same(name: str, make: Callable[[], Tensor]) -> None:
    images = make()
    drawn = drawn_for(name, images)
    here, there = (transform_of(name).apply(i, None, drawn) for i in (images, images.cuda()))
    assert_same(name, here[0], there[0].cpu())
    torch.testing.assert_close(visibility(here[1]), visibility(there[1]).cpu())
