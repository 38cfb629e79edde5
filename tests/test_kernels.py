"""Kernels and their references against loops over pixels, bit for bit, in every form."""

import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from softaug import (
    Chain,
    Constant,
    Crop,
    Cutout,
    Drawn,
    Erase,
    Flip,
    FrequencyMask,
    PowerCurve,
    ResizedCrop,
    SoftAugment,
    TableCurve,
    TimeMask,
    UniformCrop,
    VerticalFlip,
    mean_one,
    per_sample,
    visibility,
)
from softaug.transforms._kernels import (
    LARGE,
    cover,
    cover_reference,
    cover_with_map,
    mirror,
    mirror_reference,
    one_by_one,
    shift,
    shift_reference,
    shift_with_map,
)

# The path of small images, that of large ones, and the reference.
SHIFTS: list[Any] = [shift, partial(shift, large=0), shift_reference]
COVERS: list[Any] = [cover, partial(cover, large=0), cover_reference]
MIRRORS: list[Any] = [mirror, partial(mirror, large=0), mirror_reference]

DTYPES = (torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)
LAYOUTS: dict[str, Any] = {
    "contiguous": lambda images: images,
    "channels_last": lambda images: images.to(memory_format=torch.channels_last),
    "every-second-column": lambda images: images.repeat_interleave(2, dim=-1)[..., ::2],
    "transposed": lambda images: images.mT.contiguous().mT,
    "inside-a-larger-batch": lambda images: torch.cat([images, images, images])[
        len(images) : 2 * len(images)
    ],
}


@st.composite
def batches(draw: Any) -> tuple[Tensor, Tensor | None]:
    """Images with what is hardest for bits (NaN, infinities, -0), and a map or none."""
    n, channels = draw(st.integers(0, 4)), draw(st.integers(1, 4))
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    generator = Generator().manual_seed(draw(st.integers(0, 2**16)))
    images = torch.randint(0, 256, (n, channels, height, width), generator=generator)
    images = images.to(draw(st.sampled_from(DTYPES)))
    if images.is_floating_point():
        special = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0], dtype=images.dtype)
        which = torch.randint(0, 40, images.shape, generator=generator)
        images = torch.where(which < 4, special[which.clamp(max=3)], images)
    seen = torch.rand(n, 1, height, width, generator=generator) if draw(st.booleans()) else None
    return draw(st.sampled_from(list(LAYOUTS.values())))(images), seen


def integers(draw: Any, n: int, low: int, high: int) -> Tensor:
    return torch.tensor(
        draw(st.lists(st.integers(low, high), min_size=n, max_size=n)), dtype=torch.int64
    )


def slow_shift(images: Tensor, tx: Tensor, ty: Tensor, fill: Tensor) -> Tensor:
    filled = fill.to(images.dtype).expand(images.shape)
    out = filled.clone(memory_format=torch.contiguous_format)
    height, width = images.shape[-2:]
    for i in range(len(images)):
        for y in range(height):
            for x in range(width):
                below, right = y + int(ty[i]), x + int(tx[i])
                if 0 <= below < height and 0 <= right < width:
                    out[i, :, y, x] = images[i, :, below, right]
    return out


def assert_bits_equal(got: Tensor, expected: Tensor) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if got.dtype == torch.bfloat16:
        # torch (2.14) gathers every NaN of bfloat16 as one and the same.
        assert torch.equal(got.isnan(), expected.isnan())
        got, expected = (t.masked_fill(t.isnan(), 0) for t in (got, expected))
    dense = (t.clone(memory_format=torch.contiguous_format) for t in (got, expected))
    a, b = (t.flatten().view(torch.uint8) for t in dense)
    assert torch.equal(a, b)


def assert_layout_kept(got: Tensor, images: Tensor) -> None:
    """Channels stay last where they were; all else comes out as it is usual."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    assert got.is_contiguous(memory_format=torch.channels_last) or not last


def ones_like(images: Tensor) -> Tensor:
    return torch.ones(len(images), 1, *images.shape[-2:])


def fill_of(draw: Any, images: Tensor) -> Tensor | None:
    """No fill, a number, or one for each channel, each sample or each pixel."""
    n, channels, height, width = images.shape
    shapes = [(1, 1, 1, 1), (1, channels, 1, 1), (n, channels, 1, 1), (n, channels, height, width)]
    shape = draw(st.sampled_from([None, *shapes]))
    generator = Generator().manual_seed(draw(st.integers(0, 99)))
    if shape is None:
        return None
    return torch.randint(0, 256, shape, generator=generator).to(images.dtype)


@settings(max_examples=150)
@given(data=st.data())
def test_shift(data: Any) -> None:
    images, seen = data.draw(batches())
    n, _, height, width = images.shape
    # Twice the side: what was drawn for larger images is still no reason to read elsewhere.
    far = data.draw(st.sampled_from([1, 2]))
    tx = integers(data.draw, n, -far * width, far * width)
    ty = integers(data.draw, n, -far * height, far * height)
    fill = fill_of(data.draw, images)
    expected = slow_shift(images, tx, ty, torch.zeros(1) if fill is None else fill)
    for kernel in SHIFTS:
        out = kernel(images, tx, ty, fill)
        assert_bits_equal(out, expected)
        assert_layout_kept(out, images)
    out, left = shift_with_map(images, seen, tx, ty, fill)
    assert_bits_equal(out, expected)
    before = ones_like(images) if seen is None else seen
    assert_bits_equal(left, slow_shift(before, tx, ty, torch.zeros(1)))


@settings(max_examples=150)
@given(data=st.data())
def test_cover(data: Any) -> None:
    images, seen = data.draw(batches())
    n, _, height, width = images.shape
    edges = torch.stack(
        [integers(data.draw, n, -2, side + 2) for side in (height, height, width, width)]
    )
    fill = fill_of(data.draw, images)
    hidden = (torch.zeros(1) if fill is None else fill).to(images.dtype).expand(images.shape)
    expected = images.clone(memory_format=torch.contiguous_format)
    expected_left = ones_like(images) if seen is None else seen.clone()
    for i, ends in enumerate(edges.clamp(min=0).T.tolist()):
        top, bottom, left_edge, right = ends
        box = (i, slice(None), slice(top, bottom), slice(left_edge, right))
        expected[box] = hidden[box]
        expected_left[box] = 0
    for kernel in COVERS:
        out = kernel(images, edges, fill)
        assert_bits_equal(out, expected)
        assert_layout_kept(out, images)
    out, left = cover_with_map(images, seen, edges, fill)
    assert_bits_equal(out, expected)
    assert_bits_equal(left, expected_left)


@given(data=st.data())
@pytest.mark.parametrize("axis", [-1, -2])
def test_mirror(axis: int, data: Any) -> None:
    images, _ = data.draw(batches())
    chosen = integers(data.draw, len(images), 0, 1).bool()
    expected = [
        one.flip(axis) if turned else one
        for one, turned in zip(images, chosen.tolist(), strict=True)
    ]
    for kernel in MIRRORS:
        out = kernel(images, chosen, axis)
        assert out.shape == images.shape
        assert_layout_kept(out, images)
        for got, wanted in zip(out, expected, strict=True):
            assert_bits_equal(got, wanted)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("transform", "axis"), [(Flip(), -1), (VerticalFlip(), -2)])
def test_maps_are_mirrored_with_their_images(transform: Any, axis: int, dtype: torch.dtype) -> None:
    images, seen = torch.rand(4, 3, 5, 6).mul(255).to(dtype), torch.rand(4, 1, 5, 6)
    flip = torch.tensor([True, False, True, False])
    out, moved = transform.apply(images, seen, {"flip": flip})
    assert_bits_equal(out, mirror_reference(images, flip, axis))
    assert_bits_equal(moved, mirror_reference(seen, flip, axis))
    assert_bits_equal(transform.apply(images, None, {"flip": flip})[1], ones_like(images))


TRANSFORMS: list[Any] = [
    Crop(),
    Crop(fill=(1, 2, 3)),
    Crop(fill="mixed"),
    UniformCrop(2),
    Erase(),
    Erase(fill="mean"),
    Cutout(3, fill=4),
    TimeMask(0.5),
    FrequencyMask(),
    Flip(),
    VerticalFlip(),
    Chain([Flip(), Crop(), Erase()]),
]


def test_the_fast_paths_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU no reference runs, and images are changed one by one from LARGE on."""
    for name in ("shift_reference", "cover_reference", "mirror_reference"):
        monkeypatch.setattr(f"softaug.transforms._kernels.{name}", None)
    small, large = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 65)
    assert small[0].numel() * 4 == LARGE
    for images in (small, large, small[:1]):
        for transform in TRANSFORMS:
            transform(images)
    assert [one_by_one(images) for images in (small, large, small[:1])] == [False, True, True]


@pytest.mark.parametrize("side", [8, 70])
@pytest.mark.parametrize("n", [1, 4])
def test_inputs_of_kernels_never_change(n: int, side: int) -> None:
    for transform in TRANSFORMS:
        images, seen = torch.rand(n, 3, side, side + 1), torch.rand(n, 1, side, side + 1)
        kept = images.clone(), seen.clone()
        for part in transform.apply(images, seen, transform.draw(n, side, side + 1)):
            part += 1
        assert torch.equal(images, kept[0])
        assert torch.equal(seen, kept[1])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_gradients_go_where_the_pixels_came_from(
    transform: Any, layout: torch.memory_format
) -> None:
    """apply is linear in the images but for a constant fill; so its gradient is its transpose."""
    generator = Generator().manual_seed(0)
    size = (3, 3, 5, 6)
    images, direction, weight = (
        torch.rand(size, generator=generator, dtype=torch.float64).to(memory_format=layout)
        for _ in range(3)
    )
    drawn = transform.draw(3, 5, 6, generator)
    images.requires_grad_()
    out, _ = transform.apply(images, None, drawn)
    assert torch.equal(out, transform.apply(images.detach(), None, drawn)[0])
    (out * weight).sum().backward()
    assert images.grad is not None
    with torch.no_grad():
        moved = transform.apply(images.detach() + direction, None, drawn)[0] - out
    assert (moved * weight).sum().item() == pytest.approx((images.grad * direction).sum().item())


# torch compiles its rules on first use.
@pytest.mark.filterwarnings("ignore:.torch.jit.script.:FutureWarning")
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_forward_derivatives_go_where_the_pixels_go(transform: Any, n: int) -> None:
    """apply is linear in the images but for a constant fill: its derivative is a difference."""
    generator = Generator().manual_seed(0)
    images, direction = torch.rand(2, n, 3, 5, 6, generator=generator, dtype=torch.float64)
    drawn = transform.draw(n, 5, 6, generator)

    def applied(images: Tensor) -> Tensor:
        out: Tensor = transform.apply(images, None, drawn)[0]
        return out

    expected = applied(images + direction) - applied(images)
    derivative = torch.func.jvp(applied, (images,), (direction,))[1]
    torch.testing.assert_close(derivative, expected)
    with forward_ad.dual_level():
        derivative = forward_ad.unpack_dual(applied(forward_ad.make_dual(images, direction)))[1]
    torch.testing.assert_close(derivative, expected)


@pytest.mark.parametrize("transform", [*TRANSFORMS, ResizedCrop(4)], ids=str)
def test_another_default_device_changes_nothing(transform: Any) -> None:
    images = torch.rand(4, 3, 8, 9)
    drawn = transform.draw(4, 8, 9)
    expected = transform.apply(images, None, drawn)
    with torch.device("meta"):
        got = transform.apply(images, None, drawn)
    assert all(map(torch.equal, got, expected))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_who_watches_torch_sees_all_that_is_done(transform: Any, n: int) -> None:
    """Also of one image, which goes through numpy where nobody watches."""
    images, others = torch.rand(2, n, 3, 8, 9, generator=Generator().manual_seed(0))
    drawn = transform.draw(n, 8, 9, Generator().manual_seed(1))

    def shown(images: Tensor) -> Tensor:
        out: Tensor = transform.apply(images, None, drawn)[0]
        return out

    assert torch.equal(make_fx(shown)(images)(others), shown(others))


TRACED = """
import torch
from softaug import VerticalFlip

images, others = torch.rand(2, 1, 3, 8, 9)
drawn = {"flip": torch.tensor([True])}

def shown(images):
    return VerticalFlip().apply(images, None, drawn)[0]

assert torch.equal(torch.jit.trace(shown, images)(others), others.flip(-2))
"""


def test_jit_sees_it_too() -> None:
    # A process of its own: shapes, which are tensors there, are not checked.
    done = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("transform", [Crop(), Erase(), Flip(), VerticalFlip()], ids=str)
def test_a_cpu_image_without_values_has_a_shape(transform: Any) -> None:
    drawn = transform.draw(1, 8, 9, Generator().manual_seed(0))
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.zeros(1, 3, 8, 9)
        out, seen = transform.apply(images, None, drawn)
    assert (out.shape, seen.shape) == ((1, 3, 8, 9), (1, 1, 8, 9))
    assert transform.apply(images, None, drawn)[0].shape == (1, 3, 8, 9)


CURVES = (PowerCurve(chance=0.1), Constant(0.9), TableCurve([(0, 0.1), (1, 1)]))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_a_gpu_never_waits(transform: Any, dtype: torch.dtype, layout: torch.memory_format) -> None:
    """Tensors without values, as on a GPU: whoever asks for one, or for a count, raises."""
    drawn = transform.draw(4, 8, 9, Generator().manual_seed(0))
    with FakeTensorMode():
        images = torch.zeros(4, 3, 8, 9, dtype=dtype, device="cuda").to(memory_format=layout)
        labels = torch.zeros(4, dtype=torch.int64, device="cuda")

        def there(values: Drawn) -> Drawn:
            return {
                name: there(value)
                if isinstance(value, dict)
                else torch.zeros(value.shape, dtype=value.dtype, device="cuda")
                for name, value in values.items()
            }

        for given_map in (None, torch.ones(4, 1, 8, 9, device="cuda")):
            out, seen = transform.apply(images, given_map, there(drawn))
            assert (out.shape, out.dtype, out.device.type) == (images.shape, dtype, "cuda")
            assert (seen.shape, seen.device.type) == ((4, 1, 8, 9), "cuda")
        for curve in CURVES:
            for weight in (None, per_sample, mean_one):
                augment = SoftAugment(transform, 10, curve=curve, weight=weight)
                assert augment.targets(labels, visibility(seen)).shape == (4, 10)
                assert augment(images, labels, drawn=there(drawn))[1].shape == (4, 10)


COMPILED = """
import torch
from torch import Generator
from softaug import (
    Blur, Chain, Crop, Cutout, DiffusionNoise, Erase, Flip, GaussianBlur, Noise, RandomResizedCrop,
    ResizedCrop, SoftAugment, UniformCrop, VerticalFlip, mean_one
)

MOVES = (Crop(fill=3), UniformCrop(2), Erase(), Cutout(3), Flip(), VerticalFlip(),
         Crop(fill="mixed"), Chain([Crop(), Flip()]), Chain([Crop(), Erase()]))
COMPUTES = (Noise(), DiffusionNoise(), Blur(), GaussianBlur(5), ResizedCrop(6),
            RandomResizedCrop(6))
for transform in (*MOVES, *COMPUTES):
    torch._dynamo.reset()
    augment = SoftAugment(transform, 10, weight=mean_one)
    compiled = torch.compile(augment, fullgraph=True, backend=BACKEND)
    for form in (torch.contiguous_format, torch.channels_last):
        for dtype in (torch.uint8, torch.float32):
            images = (torch.rand(5, 3, 8, 9) * 255).to(dtype).to(memory_format=form)
            drawn = transform.draw(5, 8, 9, Generator().manual_seed(0))
            got = compiled(images, torch.arange(5), drawn=drawn)
            expected = augment(images, torch.arange(5), drawn=drawn)
            if transform in MOVES:
                assert torch.equal(got[0], expected[0]), (transform, form, dtype)
            difference = (got[0].float() - expected[0].float()).abs().max()
            assert difference <= (1 if dtype == torch.uint8 else 1e-2), (transform, form, dtype)
            torch.testing.assert_close(got[1], expected[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_pixels_are_the_same(backend: str) -> None:
    # A process of its own: shapes are not checked there, and what is compiled is compiled anew.
    program = COMPILED.replace("BACKEND", repr(backend))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_finite_pixels_pass_however_large_their_sum() -> None:
    images = torch.full((2, 3, 4, 4), 3e38)
    out, _ = SoftAugment(Flip(), 10)(images, torch.zeros(2, dtype=torch.int64))
    assert torch.equal(out, images)
