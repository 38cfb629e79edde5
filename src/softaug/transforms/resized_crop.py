"""The ImageNet crops: a window of random size and place, resampled to one size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Generator, Tensor

from softaug.checks import check_numbers, check_rising, check_whole
from softaug.transforms.base import Drawn, Images, Seen, call, draws
from softaug.transforms.crop import truncated_normal
from softaug.transforms.fills import Fill, check_fill, draw_fill, fill_pixels, reflected
from softaug.transforms.pixels import (
    as_float,
    in_dtype_of,
    memory_format,
    resample,
)

TRIES = 10  # for a window that fits, as in torchvision


@dataclass(frozen=True)
class ResizedCrop:
    """Cut a window of random size, shifted by a normal offset, and resample it to `size`.

    The window loses dw and dh of the sides: normal with standard deviation sigma (side - min_size),
    negative ones set to 0, larger ones to side - min_size. Its centre is off the image's by tx and
    ty: normal with standard deviation sigma (side + window) / 2, truncated where the two no longer
    overlap, in whole pixels. Resampled bilinearly with antialiasing, as torchvision does.

    size: height and width of the result, or one number; sigma: a share in [0, 1], the paper takes
    0.3; min_size: the least side of a window in pixels, half of the side by default (the paper:
    112 of 224); fill: as in `Crop`; noise and other images have the size of the result.

    The paper leaves two points open. (1) Its offsets have standard deviation sigma (side + window).
    Read as offsets of the centre, they miss the image on one axis in 10 of 100 draws. We take half
    of it, which misses in 1 of 1,000 before truncation, and is also the rule of the CIFAR crop:
    sigma times the offset at which nothing is left. (2) Visibility is the share of the image that
    the window holds, as for every transform here, rather than the share of the window that the
    image fills: the label can only be recognised by what is left of the image.

    Source: Liu et al. 2023, appendix B.

    >>> images, seen = ResizedCrop(size=32)(torch.rand(8, 3, 48, 64))
    >>> images.shape
    torch.Size([8, 3, 32, 32])
    """

    size: int | tuple[int, int]
    sigma: float = 0.3
    min_size: int | None = None
    fill: Fill = 0

    def __post_init__(self) -> None:
        check_size("ResizedCrop", self.output_size(0, 0))
        check_numbers("ResizedCrop", "sigma", self.sigma)
        if not 0 <= self.sigma <= 1:
            raise ValueError(
                f"ResizedCrop: sigma is a share, expected 0 to 1 (the paper: 0.3), got {self.sigma}"
            )
        if self.min_size is not None:
            check_whole("ResizedCrop", "min_size", self.min_size, 1, "pixel")
        check_fill("ResizedCrop", self.fill)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        window_width, left = self._window(n, width, generator)
        window_height, top = self._window(n, height, generator)
        window = {"top": top, "left": left, "height": window_height, "width": window_width}
        return window | draw_fill(self.fill, n, generator)

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return _cut(images, seen, drawn, self.output_size(*images.shape[-2:]), self.fill)

    def _window(
        self, n: int, side: int, generator: Generator | None
    ) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
        """The windows' length along one axis of the image, and where they begin."""
        most_lost = max(0, side - (max(1, side // 2) if self.min_size is None else self.min_size))
        normal = torch.randn(n, dtype=torch.float64, generator=generator, device="cpu")
        lost = (self.sigma * most_lost * normal).clamp(0, most_lost).round()
        offset = (side + side - lost) / 2 * truncated_normal(n, self.sigma, generator)
        return (side - lost).long(), (lost / 2 + offset).round().long()

    __call__ = call


@dataclass(frozen=True)
class RandomResizedCrop:
    """Cut a window of random area and aspect, at a random place inside, and resample it to `size`.

    The standard crop of ImageNet, by the law of torchvision's `v2.RandomResizedCrop` (up to 10
    tries for a window that fits, then the largest one in the centre), with visibility as
    for `ResizedCrop`.

    size: height and width of the result, or one number; scale: least and largest share of the area;
    ratio: least and largest width / height, uniform in its logarithm.

    >>> images, seen = RandomResizedCrop(size=32)(torch.rand(8, 3, 48, 64))
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        check_size("RandomResizedCrop", self.output_size(0, 0))
        check_rising("RandomResizedCrop", "scale", self.scale, most=1)
        check_rising("RandomResizedCrop", "ratio", self.ratio)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        area, ratio, down, right = torch.rand(
            4, n, TRIES, dtype=torch.float64, generator=generator, device="cpu"
        )
        low, high = self.scale
        area = height * width * (low + (high - low) * area)
        low, high = (math.log(end) for end in self.ratio)
        ratio = (low + (high - low) * ratio).exp()
        tall, wide = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
        fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
        # The first try that fits.
        chosen = fits.int().argmax(dim=1, keepdim=True)
        fits, tall, wide, down, right = (
            of.gather(1, chosen)[:, 0] for of in (fits, tall, wide, down, right)
        )
        # The largest window of an allowed aspect.
        most_tall = min(height, max(1, round(width / self.ratio[0])))
        most_wide = min(width, max(1, round(height * self.ratio[1])))
        tall, wide = torch.where(fits, tall, most_tall), torch.where(fits, wide, most_wide)
        down, right = torch.where(fits, down, 0.5), torch.where(fits, right, 0.5)
        return {
            "top": (down * (height - tall + fits)).long(),
            "left": (right * (width - wide + fits)).long(),
            "height": tall.long(),
            "width": wide.long(),
        }

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return _cut(images, seen, drawn, self.output_size(*images.shape[-2:]), fill=0)

    __call__ = call


def _cut(
    images: Images,
    seen: Seen | None,
    drawn: Drawn,
    size: tuple[int, int],
    fill: Fill,
) -> tuple[Tensor, Tensor]:
    """Cut the drawn windows out of images and maps, and resample them to one size.

    On a CPU in eager mode, torch's own kernel resamples one window after the other, as in
    torchvision. On a GPU and under torch.compile the whole batch is resampled at once, because a
    loop would wait for each window's numbers. The two agree to 4e-6 of white, and to 1 of 255.
    """
    windows = {name: draws(drawn, name, images) for name in ("top", "left", "height", "width")}
    drawn = drawn | windows
    here = images.device.type == "cpu" and not torch.compiler.is_compiling()
    cut = _cut_one_by_one if here else _cut_at_once
    black = images.new_zeros(1, 1, 1, 1)
    if fill == "reflect":
        # Every window lies in the image once the image goes on beyond its edges.
        moved = reflected(images, drawn["left"], drawn["top"])
        nowhere = torch.zeros_like(drawn["top"])
        shown, _ = cut(moved, None, drawn | {"top": nowhere, "left": nowhere}, size, black)
        return shown, cut(images[:, :1], seen, drawn, size, black)[1]
    colours = fill_pixels(fill, images, drawn, size)
    return cut(images, seen, drawn, size, black if colours is None else colours)


def _cut_one_by_one(
    images: Images, seen: Seen | None, drawn: Drawn, size: tuple[int, int], fill: Tensor
) -> tuple[Tensor, Tensor]:
    height, width = images.shape[-2:]
    share = (drawn["height"] * drawn["width"] / (height * width))[:, None]
    if seen is None and _all_inside(drawn, height, width):
        cut_seen = share[..., None, None].expand(-1, -1, *size).contiguous()
    elif seen is None or bool((seen == 1).all()):
        # A window of ones is a product of its two axes.
        rows = _share_inside(drawn["top"], drawn["height"], height, size[0])
        columns = _share_inside(drawn["left"], drawn["width"], width, size[1])
        cut_seen = (rows * share)[:, None, :, None] * columns[:, None, None, :]
    else:
        cut_seen = _resized_windows(seen, drawn, size, seen.new_zeros(1, 1, 1, 1))
        cut_seen = cut_seen * share[..., None, None]
    return _pixels_one_by_one(images, drawn, size, fill), cut_seen


def _pixels_one_by_one(
    images: Images, drawn: Drawn, size: tuple[int, int], fill: Tensor
) -> Shaped[Tensor, "n c y x"]:
    if fill.shape[-2:] == (1, 1):
        if images.dtype == torch.uint8:
            return _resized_windows(images, drawn, size, fill)
        pixels = as_float(images)
        return in_dtype_of(images, _resized_windows(pixels, drawn, size, fill.to(pixels)))
    # A fill of the result's own size lies behind the window, however much of it shows.
    pixels = _resized_windows(as_float(images), drawn, size, as_float(fill).new_zeros(1, 1, 1, 1))
    rows = _share_inside(drawn["top"], drawn["height"], images.shape[-2], size[0])
    columns = _share_inside(drawn["left"], drawn["width"], images.shape[-1], size[1])
    inside = rows[:, None, :, None] * columns[:, None, None, :]
    return in_dtype_of(images, pixels + (1 - inside) * as_float(fill))


def _cut_at_once(
    images: Images, seen: Seen | None, drawn: Drawn, size: tuple[int, int], fill: Tensor
) -> tuple[Tensor, Tensor]:
    rows = _window_weights(drawn["top"], drawn["height"], images.shape[-2], size[0])
    columns = _window_weights(drawn["left"], drawn["width"], images.shape[-1], size[1])
    pixels = resample(as_float(images), rows, columns)
    # The weights of an output pixel sum to the share of it that lies in the image.
    inside = rows.sum(dim=2)[:, None, :, None] * columns.sum(dim=2)[:, None, None, :]
    pixels = pixels + (1 - inside) * fill.to(pixels.dtype)
    seen = inside if seen is None else resample(seen, rows, columns)
    # Seen is conserved like mass: its mean over the window becomes a share of the whole image.
    share = drawn["height"] * drawn["width"] / (images.shape[-2] * images.shape[-1])
    return in_dtype_of(images, pixels), seen * share[:, None, None, None]


def _resized_windows(
    pixels: Shaped[Tensor, "n c h w"], drawn: Drawn, size: tuple[int, int], fill: Tensor
) -> Shaped[Tensor, "n c y x"]:
    """Resample each window to one size, in the layout of the pixels; fill: what lies outside."""
    shape = (*pixels.shape[:2], *size)
    out = torch.empty(
        shape, dtype=pixels.dtype, device=pixels.device, memory_format=memory_format(pixels)
    )
    boxes = torch.stack([drawn[name] for name in ("top", "left", "height", "width")], dim=1)
    fills = fill.expand(len(out), -1, -1, -1)
    for i, (top, left, height, width) in enumerate(boxes.tolist()):
        behind = fills[i : i + 1]
        bottom, right = max(0, top + height), max(0, left + width)
        part = pixels[i : i + 1, :, max(0, top) : bottom, max(0, left) : right]
        if (height, width) == size:
            out[i : i + 1] = _on_canvas(part, top, left, size, behind)
            continue
        if pixels.dtype == torch.uint8:
            # The kernel for uint8 works on interleaved channels; this is the fastest way there.
            part = torch.stack(part.unbind(1), dim=-1).movedim(-1, 1)
        window = _on_canvas(part, top, left, (height, width), behind)
        out[i : i + 1] = F.interpolate(window, size, mode="bilinear", antialias=True)
    return out


def _on_canvas(
    part: Shaped[Tensor, "1 c y x"], top: int, left: int, size: tuple[int, int], fill: Tensor
) -> Shaped[Tensor, "1 c h w"]:
    """The window that begins at top and left, around the part of it that lies in the image."""
    if part.shape[-2:] == size:
        return part
    canvas = fill.expand(1, part.shape[1], *size).contiguous(memory_format=memory_format(part))
    y, x = max(0, -top), max(0, -left)
    canvas[:, :, y : y + part.shape[2], x : x + part.shape[3]] = part
    return canvas


def _all_inside(drawn: Drawn, height: int, width: int) -> bool:
    """Whether no window sticks out of the image."""
    sides = (("top", "height", height), ("left", "width", width))
    return all(
        bool(((drawn[start] >= 0) & (drawn[start] + drawn[length] <= side)).all())
        for start, length, side in sides
    )


def _share_inside(
    start: Int[Tensor, "n"], length: Int[Tensor, "n"], side: int, out: int
) -> Float[Tensor, "n out"]:
    """How much of each output pixel lies in the image: the sums of `_window_weights`.

    Computed from the few input pixels around each output pixel.
    """
    scale = (length.float() / out)[:, None]
    reach = scale.clamp(min=1)
    centre = scale * (torch.arange(out, device=start.device) + 0.5)
    most = max(1.0, max(length.tolist(), default=0) / out)
    nearby = torch.arange(int(2 * most) + 2, device=start.device)[:, None, None]
    position = (centre - reach).floor() + nearby
    weights = (1 - (position + 0.5 - centre).abs() / reach).clamp(min=0)
    # Clamps give 1 from 0 to a limit and 0 elsewhere, without booleans, which are slow.
    weights *= (position + 1).clamp(0, 1) * (length[:, None] - position).clamp(0, 1)
    in_image = position + start[:, None]
    inside = weights * (in_image + 1).clamp(0, 1) * (side - in_image).clamp(0, 1)
    return inside.sum(dim=0) / weights.sum(dim=0)


def check_size(owner: str, size: Sequence[int]) -> None:
    """The size of a class (owner) is one side of an image in pixels, or height and width."""
    if len(size) != 2:
        raise ValueError(f"{owner}: size must be one side or height and width, got {size!r}")
    for side in size:
        check_whole(owner, "size", side, 1, "pixel")


def _window_weights(
    start: Int[Tensor, "n"], length: Int[Tensor, "n"], side: int, out: int
) -> Float[Tensor, "n out side"]:
    """How much of each input pixel of one axis is in each output pixel.

    The weights are triangles, as wide as an output pixel, or as an input pixel where that is wider.
    They have sum 1 over the window, less those of pixels outside of the image.
    """
    position = torch.arange(side, device=start.device)
    scale = (length.float() / out)[:, None, None]
    centre = scale * (torch.arange(out, device=start.device)[:, None] + 0.5)
    weights = (1 - (position + 0.5 - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * (position < length[:, None, None])
    weights = weights / weights.sum(dim=2, keepdim=True)
    in_window = position - start[:, None]
    inside: Bool[Tensor, "n side"] = (in_window >= 0) & (in_window < side)
    index = in_window.clamp(0, side - 1)[:, None].expand(-1, out, -1)
    return weights.gather(2, index) * inside[:, None]
