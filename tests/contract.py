"""The contract of a transform: each clause is a function of a case, a transform with images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor

from softaug import Drawn, take, visibility
from softaug.transforms.base import size_after
from softaug.transforms.fills import donor_index


@dataclass(frozen=True)
class Case:
    """A transform and a batch [N,C,H,W].

    exact: results do not depend on the batch or the layout to the last bit, because the transform
        moves or replaces whole pixels, or computes each image by itself.
    """

    transform: Any
    images: Tensor
    exact: bool

    def draw(self) -> Drawn:
        size = self.images.shape[-2:]
        drawn: Drawn = self.transform.draw(len(self.images), *size, Generator().manual_seed(5))
        return drawn

    def ones(self) -> Tensor:
        return torch.ones(len(self.images), 1, *self.images.shape[-2:])

    def assert_same(self, a: Tensor, b: Tensor) -> None:
        """Equal, or within what rounding does where pixels are computed."""
        if self.exact:
            assert torch.equal(a, b)
        elif a.is_floating_point():
            coarse = a.dtype == torch.float16
            rtol, atol = (1e-2, 1) if coarse else (1e-4, 1e-2)
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol)
        else:
            assert (a.int() - b.int()).abs().max() <= 2

    def assert_same_map(self, a: Tensor, b: Tensor) -> None:
        if self.exact:
            assert torch.equal(a, b)
        torch.testing.assert_close(a, b)


Clause: TypeAlias = Callable[[Case], None]


def shapes_dtypes_and_ranges(case: Case) -> None:
    images = case.images
    out, seen = case.transform.apply(images, None, case.draw())
    height, width = size_after(case.transform, *images.shape[-2:])
    assert out.shape == (*images.shape[:2], height, width)
    assert out.dtype == images.dtype
    assert seen.shape == (len(images), 1, height, width)
    assert seen.dtype == torch.float32
    assert (seen >= 0).all()
    assert ((visibility(seen) >= 0) & (visibility(seen) <= 1)).all()


def inputs_never_change(case: Case) -> None:
    seen, drawn = case.ones(), case.draw()
    images_before, seen_before = case.images.clone(), seen.clone()
    for given in (seen, None):
        out, out_seen = case.transform.apply(case.images, given, drawn)
        out += 1
        out_seen += 1
        assert torch.equal(case.images, images_before)
        assert torch.equal(seen, seen_before)


def with_donors(drawn: Drawn, images: Tensor) -> Drawn:
    """Draws with donors given from outside, where a fill shows other images."""
    given = {
        name: with_donors(value, images) if isinstance(value, dict) else value
        for name, value in drawn.items()
    }
    if "donor" not in drawn or len(images) == 1:
        return given
    index = donor_index(drawn["donor"], torch.arange(len(images)), len(images))
    return given | {"others": images[index]}


def a_batch_is_its_samples_one_by_one(case: Case) -> None:
    images, drawn = case.images, with_donors(case.draw(), case.images)
    out, seen = case.transform.apply(images, None, drawn)
    for i in range(len(images)):
        sample = slice(i, i + 1)
        alone, alone_seen = case.transform.apply(images[sample], None, take(drawn, sample))
        case.assert_same(alone[0], out[i])
        case.assert_same_map(alone_seen[0], seen[i])
    order = torch.randperm(len(images), generator=Generator().manual_seed(1))
    shuffled, shuffled_seen = case.transform.apply(images[order], None, take(drawn, order))
    case.assert_same(shuffled, out[order])
    case.assert_same_map(shuffled_seen, seen[order])


def calling_is_drawing_then_applying(case: Case) -> None:
    called, called_seen = case.transform(case.images, generator=Generator().manual_seed(5))
    applied, applied_seen = case.transform.apply(case.images, None, case.draw())
    assert torch.equal(called, applied)
    assert torch.equal(called_seen, applied_seen)


def no_map_is_a_map_of_ones(case: Case) -> None:
    drawn = case.draw()
    _, without = case.transform.apply(case.images, None, drawn)
    _, with_ones = case.transform.apply(case.images, case.ones(), drawn)
    assert torch.equal(without, with_ones)


def layout_does_not_matter(case: Case) -> None:
    drawn = case.draw()
    out, _ = case.transform.apply(case.images, None, drawn)
    plain, _ = case.transform.apply(case.images.contiguous(), None, drawn)
    case.assert_same(out, plain)
    if case.images.is_contiguous(memory_format=torch.channels_last):
        assert out.is_contiguous(memory_format=torch.channels_last)


def dtype_does_not_matter(case: Case) -> None:
    """A clause of transforms of whole pixels alone: elsewhere dtypes are rounded differently."""
    drawn = case.draw()
    out, _ = case.transform.apply(case.images, None, drawn)
    plain, _ = case.transform.apply(case.images.double(), None, drawn)
    assert torch.equal(out.double(), plain)


def visibility_never_grows(case: Case) -> None:
    """Whatever map one begins with, a transform only takes from it (but for interpolation)."""
    before = torch.rand(case.ones().shape, generator=Generator().manual_seed(9))
    _, seen = case.transform.apply(case.images, before, case.draw())
    tolerance = 1e-6 if case.exact else 0.05
    assert (visibility(seen) <= visibility(before) + tolerance).all()


def a_single_image_is_a_batch_of_one(case: Case) -> None:
    one, seen = case.transform(case.images[0], generator=Generator().manual_seed(5))
    batch, batch_seen = case.transform(case.images[:1], generator=Generator().manual_seed(5))
    assert torch.equal(one, batch[0])
    assert torch.equal(seen, batch_seen[0])


def a_gpu_gives_the_same(case: Case) -> None:
    drawn = case.draw()
    here = case.transform.apply(case.images, None, drawn)
    there = case.transform.apply(case.images.cuda(), None, drawn)
    case.assert_same(here[0], there[0].cpu())
    torch.testing.assert_close(visibility(here[1]), visibility(there[1]).cpu())


CLAUSES: list[Clause] = [
    shapes_dtypes_and_ranges,
    inputs_never_change,
    a_batch_is_its_samples_one_by_one,
    calling_is_drawing_then_applying,
    no_map_is_a_map_of_ones,
    layout_does_not_matter,
    dtype_does_not_matter,
    visibility_never_grows,
    a_single_image_is_a_batch_of_one,
]
if torch.cuda.is_available():
    CLAUSES.append(a_gpu_gives_the_same)
