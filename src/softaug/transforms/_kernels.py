"""Kernels that move or cover whole pixels: `shift`, `cover` and `mirror`.

Each kernel gives the bits of its `*_reference`, a few lines of plain torch. The reference runs
where torch calls are recorded or differentiated, and on a GPU. In eager mode on a CPU it is 2 to 9
times slower than the kernels, of which there are two kinds: small images are changed as one batch,
by bit masks; large images are changed one by one, as NumPy slices.

n samples, c channels, h w pixels. A fill broadcasts over the images and has their dtype; None is
0, which takes fewer steps to write.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Int, Integer, Shaped
from torch import Tensor
from torch.autograd import forward_ad

from softaug.transforms.base import Images, Seen
from softaug.transforms.pixels import empty, memory_format

LARGE = 48 * 1024  # bytes of an image from which on slices are faster than masks, as measured
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes

Fill = Shaped[Tensor, "#n #c #h #w"] | None
Axes = tuple[Bool[Tensor, "n 1 h 1"], Bool[Tensor, "n 1 1 w"]]  # which rows, which columns


# Shift: the frame moves by whole pixels.


def shift(
    images: Images,
    tx: Int[Tensor, "n"],
    ty: Int[Tensor, "n"],
    fill: Fill,
    *,
    inside: Axes | None = None,
    large: int = LARGE,
) -> Images:
    """Move the frame of each image: output pixel (y, x) is input pixel (y + ty, x + tx).

    Pixels from outside of the image show the fill. tx, ty: int64, any values; inside: the result of
    `_inside`, where it is known already.
    """
    if needs_reference(images):
        return shift_reference(images, tx, ty, fill)
    if _singly(images, large):
        return _shift_slices(images, tx, ty, fill)
    return _shift_batch(images, tx, ty, fill, inside or _inside(tx, ty, *images.shape[-2:]))


def shift_with_map(
    images: Images, seen: Seen | None, tx: Int[Tensor, "n"], ty: Int[Tensor, "n"], fill: Fill
) -> tuple[Images, Seen]:
    """Shift images, and their maps with fill 0; seen: None for all ones."""
    rows, columns = inside = _inside(tx, ty, *images.shape[-2:])
    shown = shift(images, tx, ty, fill, inside=inside)
    if seen is None:
        return shown, rows.float() * columns.float()
    return shown, shift(seen, tx, ty, None, inside=inside)


def shift_reference(
    images: Images, tx: Int[Tensor, "n"], ty: Int[Tensor, "n"], fill: Fill
) -> Images:
    """`shift` in plain torch."""
    height, width = images.shape[-2:]
    y = (torch.arange(height, device=images.device) + ty[:, None])[:, None, :, None]
    x = (torch.arange(width, device=images.device) + tx[:, None])[:, None, None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).expand(images.shape)
    moved = images.flatten(2).gather(2, index.flatten(2)).view(images.shape)
    return _in_layout(torch.where(inside, moved, 0 if fill is None else fill), images)


def _inside(tx: Int[Tensor, "n"], ty: Int[Tensor, "n"], height: int, width: int) -> Axes:
    """Which rows and columns of the output show something of the image."""
    rows, columns = _between(-ty, height - ty, height), _between(-tx, width - tx, width)
    return rows[:, None, :, None], columns[:, None, None, :]


def _shift_batch(
    images: Images, tx: Int[Tensor, "n"], ty: Int[Tensor, "n"], fill: Fill, inside: Axes
) -> Images:
    """Read each image from another place in memory, then mask what is outside."""
    height, width = images.shape[-2:]
    before = _planes(images, images)
    row, pixel = before.shape[-1], before.shape[-1] // width
    # Where all is outside, any offset does.
    offset = ty.clamp(1 - height, height - 1) * row + tx.clamp(-width, width) * pixel
    rows, columns = (_mask(axis, images) for axis in inside)
    other = None if fill is None else _planes(fill, images)
    shown = rows & _planes(columns, images)
    return _from_planes(_select(shown, _read_from(offset, before), other), images)


def _read_from(
    offset: Int[Tensor, "n"], before: Shaped[Tensor, "n p h k"]
) -> Shaped[Tensor, "n p h k"]:
    """Read each sample's memory from an offset of at most one plane on; beyond its ends, anything.

    A shift of rows and columns is one of memory, which a CPU copies at full speed.
    """
    n, size = len(before), math.prod(before.shape[1:])
    pixels = before.flatten(1)
    start = (torch.arange(n, device=offset.device) * size + offset).clamp(0, (n - 1) * size)
    read = pixels.flatten().unfold(0, size, 1).index_select(0, start)
    # The batch's memory ends where the first and the last sample do.
    first, last = int(offset[0]), int(offset[-1])
    if first < 0:
        read[0, -first:] = pixels[0, :first]
    if last > 0:
        read[-1, :-last] = pixels[-1, last:]
    return read.view(before.shape)


def _shift_slices(images: Images, tx: Int[Tensor, "n"], ty: Int[Tensor, "n"], fill: Fill) -> Images:
    """Move each image's memory at once, then write the fill around what is left of the image."""
    before = _planes(images, images)
    out = torch.empty_like(before)
    (height, row), size = before.shape[-2:], math.prod(before.shape[1:])
    pixel = row // images.shape[-1]
    source, shown = bits(before).reshape(len(out), size), bits(out)
    to = shown.reshape(len(out), size)
    filled = np.zeros(1, shown.dtype) if fill is None else bits(_planes(fill, images))
    hidden = np.broadcast_to(filled, shown.shape)
    for i, (x, y) in enumerate(zip(tx.tolist(), ty.tolist(), strict=True)):
        offset = min(max(-size, y * row + x * pixel), size)
        start, end = max(0, offset), size + min(0, offset)
        to[i, start - offset : end - offset] = source[i, start:end]
        rows, columns = _outside(y, height), _outside(x * pixel, row)
        shown[i, :, rows] = hidden[i, :, rows]
        shown[i, :, :, columns] = hidden[i, :, :, columns]
    return _from_planes(out, images)


def _outside(offset: int, side: int) -> slice:
    """The part of one axis that shows nothing of the image."""
    return slice(0, -offset) if offset < 0 else slice(max(0, side - offset), side)


# Cover: a rectangle of each image shows the fill.


def cover(
    images: Images,
    edges: Int[Tensor, "4 n"],
    fill: Fill,
    *,
    around: Axes | None = None,
    large: int = LARGE,
) -> Images:
    """Show the fill in one rectangle of each image.

    edges: top, bottom, left and right in pixels, ends exclusive; they may lie outside of the image,
    and a rectangle that ends before it begins is empty. around: the result of `_around`, where it
    is known already.
    """
    if needs_reference(images):
        return cover_reference(images, edges, fill)
    if _singly(images, large):
        return _cover_slices(images, edges, fill)
    return _cover_batch(images, fill, around or _around(edges, *images.shape[-2:]))


def cover_with_map(
    images: Images, seen: Seen | None, edges: Int[Tensor, "4 n"], fill: Fill
) -> tuple[Images, Seen]:
    """Cover images, and their maps with fill 0; seen: None for all ones."""
    rows, columns = around = _around(edges, *images.shape[-2:])
    shown = cover(images, edges, fill, around=around)
    if seen is None:
        return shown, rows.float().maximum(columns.float())
    return shown, cover(seen, edges, None, around=around)


def cover_reference(images: Images, edges: Int[Tensor, "4 n"], fill: Fill) -> Images:
    """`cover` in plain torch."""
    top, bottom, left, right = edges[:, :, None, None, None]
    y = torch.arange(images.shape[-2], device=images.device)[:, None]
    x = torch.arange(images.shape[-1], device=images.device)
    hidden = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return _in_layout(torch.where(hidden, 0 if fill is None else fill, images), images)


def _around(edges: Int[Tensor, "4 n"], height: int, width: int) -> Axes:
    """Which rows and columns the rectangle leaves out: it covers a pixel where neither does."""
    top, bottom, left, right = edges
    rows, columns = ~_between(top, bottom, height), ~_between(left, right, width)
    return rows[:, None, :, None], columns[:, None, None, :]


def _cover_batch(images: Images, fill: Fill, around: Axes) -> Images:
    """Mask what is covered in a copy of all images."""
    rows, columns = (_mask(axis, images) for axis in around)
    other = None if fill is None else _planes(fill, images)
    kept = rows | _planes(columns, images)
    return _from_planes(_select(kept, _planes(images, images).clone(), other), images)


def _cover_slices(images: Images, edges: Int[Tensor, "4 n"], fill: Fill) -> Images:
    """Write the fill's part of its rectangle over each image."""
    made = empty(images)
    filled = np.zeros(1, bits(made).dtype) if fill is None else bits(fill)
    hidden = np.broadcast_to(filled, images.shape)
    for after, before, other, top, bottom, left, right in zip(
        bits(made), bits(images), hidden, *edges.clamp(min=0).tolist(), strict=True
    ):
        box = (slice(None), slice(top, bottom), slice(left, right))
        after[...] = before
        after[box] = other[box]
    return made


# Mirror: an axis is reversed.


def mirror(images: Images, chosen: Bool[Tensor, "n"], axis: int, *, large: int = LARGE) -> Images:
    """Reverse an axis of the chosen images. axis: -1, left and right, or -2, top and bottom."""
    if needs_reference(images):
        return mirror_reference(images, chosen, axis)
    if _singly(images, large):
        return _mirror_slices(images, chosen, axis)
    if axis == -2:
        return _mirror_rows(images, chosen)
    return _select(_mask(chosen, images)[:, None, None, None], images.flip(axis), images)


def mirror_reference(images: Images, chosen: Bool[Tensor, "n"], axis: int) -> Images:
    """`mirror` in plain torch."""
    return torch.where(chosen[:, None, None, None], images.flip(axis), images)


def _mirror_rows(images: Images, chosen: Bool[Tensor, "n"]) -> Images:
    """Copy whole rows, from the bottom up in the chosen images."""
    height = images.shape[-2]
    y = torch.arange(height, device=images.device)
    source = torch.where(chosen[:, None], height - 1 - y, y)
    rows = _planes(images, images)
    plane = torch.arange(rows.shape[0] * rows.shape[1], device=images.device)
    index = plane.view(*rows.shape[:2], 1) * height + source[:, None]
    moved = rows.flatten(0, 2).index_select(0, index.flatten())
    return _from_planes(moved.view(rows.shape), images)


def _mirror_slices(images: Images, chosen: Bool[Tensor, "n"], axis: int) -> Images:
    """Copy each image, reversed or not."""
    out = empty(images)
    for after, before, reversed_ in zip(bits(out), bits(images), chosen.tolist(), strict=True):
        if not reversed_:
            after[...] = before
        elif axis == -2:
            after[...] = before[:, ::-1]
        else:  # NumPy reads single numbers backwards slowly.
            after[...] = torch.from_numpy(before).flip(-1).numpy()
    return out


# Which way to go.


def needs_reference(images: Images) -> bool:
    """Whether the kernels can't serve: on a GPU, while traced, under a derivative, or for none."""
    return (
        images.device.type != "cpu"
        or is_traced(images)
        or images.requires_grad
        or forward_ad.unpack_dual(images).tangent is not None
        or images.numel() == 0
    )


def is_traced(images: Images) -> bool:
    """Whether torch calls are recorded or intercepted: compile, trace, torch.func, a subclass.

    Such a recorder does not see NumPy, and numbers read from tensors stop it.
    """
    return bool(
        torch.compiler.is_compiling()
        or type(images) is not Tensor
        or torch._C._get_tracing_state()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
    )


def one_by_one(images: Images) -> bool:
    """Whether large images are changed one by one here; False where a reference is needed."""
    return not needs_reference(images) and _singly(images, LARGE)


def _singly(images: Images, large: int) -> bool:
    """Whether to change images one by one rather than all at once. large: bytes of an image.

    One image at a time stays in the processor's cache but costs a microsecond of Python: worth it
    for large images, and for a single image, where masks cost more calls than they save.
    """
    return len(images) == 1 or math.prod(images.shape[1:]) * images.element_size() > large


# Bits and memory.


def bits(images: Images) -> Integer[np.ndarray, "#n #c #h #w"]:
    """View the images' bits as an array of NumPy in the same memory.

    NumPy takes a slice in a tenth of torch's time, and copies it in a half. It has no bfloat16,
    hence bits.
    """
    return images.detach().view(INTEGERS[images.element_size()]).numpy()


def _between(
    first: Int[Tensor, "n"], last: Int[Tensor, "n"], size: int
) -> Bool[Tensor, "n {size}"]:
    """Which positions of one axis lie in first ... last - 1."""
    position = torch.arange(size, device=first.device)
    return (position >= first[:, None]) & (position < last[:, None])


def _mask(chosen: Bool[Tensor, "*shape"], pixels: Tensor) -> Shaped[Tensor, "*shape"]:
    """All bits where chosen, none elsewhere, in integers as wide as the pixels.

    Masks combine by & and |, and act on pixels in `_select`. Booleans would say the same, but
    torch's kernels for them, `torch.where` among them, are 10 to 50 times slower on a CPU.
    """
    return -chosen.to(INTEGERS[pixels.element_size()])


def _select(
    chosen: Shaped[Tensor, "..."], pixels: Shaped[Tensor, "..."], other: Tensor | None
) -> Shaped[Tensor, "..."]:
    """`torch.where` for a `_mask`, bit for bit, in the memory of pixels; other: None for zeros."""
    bits = pixels.view(chosen.dtype)
    if other is None:
        bits &= chosen
    else:
        # Differences to the other pixels are kept or dropped.
        difference = other.view(chosen.dtype)
        bits ^= difference
        bits &= chosen
        bits ^= difference
    return pixels


def _planes(pixels: Shaped[Tensor, "#n #c #h #w"], images: Images) -> Shaped[Tensor, "m p y k"]:
    """Pixels in the order of the images' memory, so that a kernel need not know their layout.

    pixels: the images themselves, or what broadcasts over them. [N,C,H,W] as they are; for
    channels_last [N,1,H,W*C], C values for each pixel. `_from_planes` leads back.
    """
    if memory_format(images) == torch.contiguous_format:
        return pixels.contiguous()
    _, channels, _, width = images.shape
    spread = pixels.expand(-1, channels, -1, width)
    return spread.permute(0, 2, 3, 1).flatten(2)[:, None]


def _from_planes(planes: Shaped[Tensor, "n p h k"], images: Images) -> Shaped[Tensor, "n c h w"]:
    """Planes as [N,C,H,W] again, in the images' layout."""
    if memory_format(images) == torch.contiguous_format:
        return planes
    n, channels, height, width = images.shape
    return planes.view(n, height, width, channels).permute(0, 3, 1, 2)


def _in_layout(pixels: Images, images: Images) -> Images:
    """Pixels in the layout that the kernels give for these images."""
    return pixels.contiguous(memory_format=memory_format(images))
