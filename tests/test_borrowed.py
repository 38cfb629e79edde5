"""What a borrowed transform leaves to be seen, against brute force: source points, counted."""

import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from contract import CLAUSES, Case, Clause, dtype_does_not_matter, layout_does_not_matter
from torch import Generator, Tensor
from torchvision.transforms import v2 as typed_v2

from softaug import Chain, Crop, Erase, Flip, SoftAugment, visibility
from softaug.transforms.borrowed import Borrowed

v2: Any = typed_v2  # whose types know fewer arguments than it takes
BILINEAR, NEAREST = v2.InterpolationMode.BILINEAR, v2.InterpolationMode.NEAREST
H, W = 32, 40


def pixels(n: int, channels: int = 3, height: int = H, width: int = W) -> Tensor:
    shape = (n, channels, height, width)
    return torch.rand(shape, generator=Generator().manual_seed(7))


def look(
    transform: Callable[..., Any], image: Tensor, seed: int = 0, seen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Image and map of one image [C,H,W] after the transform under one seed."""
    out, moved = Borrowed(transform).apply(image[None], seen, {"seed": torch.tensor([seed])})
    return out[0], moved[0, 0]


def share(transform: Callable[..., Any], image: Tensor, seed: int = 0) -> float:
    _, seen = look(transform, image, seed)
    return visibility(seen[None, None]).item()


def seeded(seed: int, use: Callable[[], Any]) -> Any:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  what the libraries use
    return use()


# Brute force: points of the source, (x, y) from the image's corner, sent forward.


def points(height: int = H, width: int = W, fine: int = 8) -> Tensor:
    y = (torch.arange(height * fine, dtype=torch.float64) + 0.5) / fine
    x = (torch.arange(width * fine, dtype=torch.float64) + 0.5) / fine
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def inside(at: Tensor, height: int = H, width: int = W) -> Tensor:
    return (at[0] >= 0) & (at[0] < width) & (at[1] >= 0) & (at[1] < height)


def affine(at: Tensor, angle: float, translate: Any, scale: float, shear: Any) -> Tensor:
    """torchvision's affine map around the image's centre, from its documentation."""
    turn, sx, sy = (math.radians(v) for v in (angle, *shear))
    a, c = math.cos(turn - sy) / math.cos(sy), math.sin(turn - sy) / math.cos(sy)
    b = -a * math.tan(sx) - math.sin(turn)
    d = -c * math.tan(sx) + math.cos(turn)
    matrix = scale * torch.tensor([[a, b], [c, d]], dtype=torch.float64)
    centre = torch.tensor([W / 2, H / 2], dtype=torch.float64)[:, None, None]
    moved = torch.einsum("ij,jyx->iyx", matrix, at - centre)
    return moved + centre + torch.tensor(translate, dtype=torch.float64)[:, None, None]


def looked_at(places: Tensor, height: int = H, width: int = W, fine: int = 10) -> float:
    """The share of the source's cells, 10 x 10 for each pixel, at which dense places look."""
    x, y = (places * fine).floor().long()
    hit = torch.zeros(height * fine, width * fine, dtype=torch.bool)
    ok = (x >= 0) & (x < width * fine) & (y >= 0) & (y < height * fine)
    hit[y[ok], x[ok]] = True
    return hit.double().mean().item()


AFFINE: dict[str, tuple[float, tuple[float, float], float, tuple[float, float]]] = {
    "turned-a-little": (8.0, (0, 0), 1.0, (0, 0)),
    "turned": (30.0, (0, 0), 1.0, (0, 0)),
    "turned-much": (-137.0, (0, 0), 1.0, (0, 0)),
    "zoomed-in": (0.0, (0, 0), 1.7, (0, 0)),
    "zoomed-in-much": (0.0, (0, 0), 3.3, (0, 0)),
    "zoomed-in-at-a-corner": (0.0, (30, 25), 2.5, (0, 0)),
    "zoomed-out": (0.0, (0, 0), 0.6, (0, 0)),
    "zoomed-out-much": (0.0, (0, 0), 0.3, (0, 0)),
    "zoomed-out-and-shifted": (0.0, (15, 9), 0.45, (0, 0)),
    "shifted": (0.0, (5.3, -7.6), 1.0, (0, 0)),
    "sheared": (0.0, (0, 0), 1.0, (25, 10)),
    "all": (40.0, (6, -4), 0.8, (12, -8)),
    "all-but-lost": (70.0, (20, 17), 0.7, (10, 0)),
}


@pytest.mark.parametrize("interpolation", [BILINEAR, NEAREST])
@pytest.mark.parametrize("how", AFFINE.values(), ids=AFFINE)
def test_affine_maps_leave_what_brute_force_counts(how: Any, interpolation: Any) -> None:
    angle, translate, scale, shear = how
    transform = partial(
        TF.affine, angle=angle, translate=list(translate), scale=scale, shear=list(shear),
        interpolation=interpolation, fill=[127.0],
    )  # fmt: skip
    counted = inside(affine(points(), angle, translate, scale, shear)).double().mean().item()
    assert share(transform, pixels(1)[0]) == pytest.approx(counted, abs=0.01)


@pytest.mark.parametrize("interpolation", [BILINEAR, NEAREST])
@pytest.mark.parametrize(
    "corners",
    [
        [[4, 3], [36, -6], [45, 30], [-3, 35]],
        [[-9, 7], [48, -7], [27, 33], [9, 30]],
        [[10, 10], [60, -20], [30, 25], [15, 28]],
    ],
)
def test_perspective_leaves_what_brute_force_counts(corners: Any, interpolation: Any) -> None:
    start = [[0, 0], [W, 0], [W, H], [0, H]]
    rows = [
        row
        for (x, y), (u, v) in zip(start, corners, strict=True)
        for row in ([x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y])
    ]
    ends = torch.tensor(corners, dtype=torch.float64).flatten()
    h = torch.linalg.solve(torch.tensor(rows, dtype=torch.float64), ends)
    matrix = torch.cat([h, h.new_ones(1)]).view(3, 3)
    at = torch.einsum("ij,jyx->iyx", matrix, F.pad(points(), (0, 0, 0, 0, 0, 1), value=1))
    counted = inside(at[:2] / at[2]).double().mean().item()
    transform = partial(
        TF.perspective, startpoints=start, endpoints=corners, interpolation=interpolation
    )
    assert share(transform, pixels(1)[0]) == pytest.approx(counted, abs=0.01)


@pytest.mark.parametrize(
    ("size", "out", "scale"),
    [((32, 32), 32, (0.08, 1)), ((48, 64), 24, (0.3, 1)), ((20, 16), (50, 60), (0.1, 1))],
)
@pytest.mark.parametrize("interpolation", [BILINEAR, v2.InterpolationMode.BICUBIC])
def test_a_resized_crop_leaves_the_share_of_its_window(
    size: tuple[int, int], out: Any, scale: Any, interpolation: Any
) -> None:
    crop = v2.RandomResizedCrop(out, scale, interpolation=interpolation)
    image = pixels(1, 3, *size)[0]
    for seed in range(8):
        params = seeded(seed, lambda: crop.make_params([image]))
        window = params["height"] * params["width"] / math.prod(size)
        assert share(crop, image, seed) == pytest.approx(window, abs=0.005)


def test_nearest_neighbours_that_are_rounded_down_are_within_the_source() -> None:
    resize = v2.Resize((20, 20), interpolation=NEAREST)
    assert share(resize, pixels(1, 3, 32, 32)[0]) == pytest.approx(1, abs=0.01)


def test_the_default_elastic_transform_leaves_what_is_looked_at() -> None:
    elastic, fine = v2.ElasticTransform(), 20
    for seed in range(3):
        params = seeded(seed, lambda: elastic.make_params([torch.zeros(3, H, W)]))
        field = params["displacement"].permute(0, 3, 1, 2).double()
        field = F.interpolate(field, scale_factor=fine, mode="bicubic", align_corners=False)[0]
        places = points(fine=fine) + field * torch.tensor([W / 2, H / 2])[:, None, None]
        # Cells at the rim are counted whole, half a 10th too much on each side.
        counted = looked_at(places) - (H + W) / 10 / (H * W)
        assert share(elastic, pixels(1)[0], seed) == pytest.approx(counted, abs=0.01)


@pytest.mark.parametrize("alpha", [10.0, 50.0])
def test_a_bent_map_in_a_small_frame_is_not_taken_for_a_straight_one(alpha: float) -> None:
    """Where places move inwards the border is lost, and nothing is gained where they move out."""
    elastic, fine = v2.ElasticTransform(alpha), 12
    for seed in (0, 3, 54):
        params = seeded(seed, lambda: elastic.make_params([torch.zeros(3, H, W)]))
        field = params["displacement"].permute(0, 3, 1, 2).double()
        field = F.interpolate(field, scale_factor=fine, mode="bicubic", align_corners=False)[0]
        x, y = points(fine=fine) + field * torch.tensor([W / 2, H / 2])[:, None, None]
        (xy, xx), (yy, yx) = torch.gradient(x), torch.gradient(y)
        area = (xx * yy - xy * yx) * inside(torch.stack([x, y]))
        assert share(elastic, pixels(1)[0], seed) == pytest.approx(
            area.sum().item() / (H * W), abs=0.005
        )


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("padding", [1, 2, 5, 12])
def test_a_padded_crop_leaves_the_different_pixels_that_it_shows(mode: str, padding: int) -> None:
    """Exact: the name of each source pixel is carried along; a fold or a border counts it once."""
    names = torch.arange(1.0, H * W + 1).view(1, H, W)
    crop = v2.RandomCrop((24, 30), padding=padding, padding_mode=mode, fill=0)
    for seed in range(4):
        out, seen = look(crop, names, seed)
        left = set(out.flatten().tolist()) - {0.0}
        assert visibility(seen[None, None]).item() == pytest.approx(len(left) / (H * W), abs=1e-6)
        if mode == "constant":
            assert torch.equal(seen * (H * W) / (24 * 30), (out[0] > 0) * seen.max() * H * W / 720)


WHOLE: dict[str, tuple[Callable[..., Any], float]] = {
    "nothing": (v2.Identity(), 1.0),
    "flip": (v2.RandomHorizontalFlip(1.0), 1.0),
    "flip-up": (v2.RandomVerticalFlip(1.0), 1.0),
    "quarter-turn": (lambda x: x.rot90(1, (-2, -1)), 1.0),
    "roll": (lambda x: x.roll((5, 9), (-2, -1)), 1.0),
    "roll-by-one": (lambda x: x.roll((1, -2), (-2, -1)), 1.0),
    "pad": (v2.Pad(5, fill=9), 1.0),
    "pad-by-reflection": (v2.Pad(3, padding_mode="reflect"), 1.0),
    "pad-by-edge": (v2.Pad((1, 6), padding_mode="edge"), 1.0),
    "centre-crop": (v2.CenterCrop(20), 400 / (H * W)),
    "gone": (lambda x: x * 0, 0.0),
    "all-mean": (lambda x: x.mean(dim=(-2, -1), keepdim=True).expand_as(x), 0.0),
    "every-second": (lambda x: x[..., ::2, ::2], 1.0),
    "tiles-moved": (lambda x: x.view(-1, 8, 4, 10, 4).flip(1, 3).reshape(x.shape), 1.0),
    "tiles-of-four": (lambda x: x.view(-1, 16, 2, 20, 2).flip(1, 3).reshape(x.shape), 1.0),
    "tiled": (lambda x: x.tile(1, 2, 2), 1.0),
}


@pytest.mark.parametrize(("transform", "left"), WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("channels", [1, 3])
def test_whole_pixels_are_exact(transform: Any, left: float, channels: int) -> None:
    assert share(transform, pixels(1, channels)[0]) == pytest.approx(left, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("value", ["random", 127.0, 0.0, "per-channel"])
def test_erased_pixels_are_unseen_whatever_fills_them(value: Any, channels: int) -> None:
    """A random fill draws for each channel before the place: the probe needs as many channels."""
    fill = [0.1 * c for c in range(channels)] if value == "per-channel" else value
    erase = v2.RandomErasing(p=1.0, value=fill)
    image = 2 + pixels(1, channels)[0]
    for seed in range(4):
        out, seen = look(erase, image, seed)
        assert torch.equal(seen, (out == image).all(dim=0).float())
        assert 0.5 < seen.mean() < 1


def test_pixels_filled_with_the_mean_are_unseen() -> None:
    hole = torch.zeros(H, W, dtype=torch.bool)
    hole[6:17, 20:30] = True

    def erase(image: Tensor) -> Tensor:
        return torch.where(hole, image.mean(dim=(-2, -1), keepdim=True), image)

    _, seen = look(erase, pixels(1)[0])
    assert torch.equal(seen == 0, hole)
    assert torch.equal(seen == 1, ~hole)


@pytest.mark.parametrize("interpolation", [BILINEAR, NEAREST])
def test_holes_and_maps_together(interpolation: Any) -> None:
    """A hole that is turned out of the frame costs nothing: no product of the two would do."""

    def both(image: Tensor) -> Tensor:
        image[..., 0:14, 0:16] = 0.5
        return TF.affine(
            image, 35.0, [4.0, 2.0], 1.3, [0.0, 0.0], interpolation=interpolation, fill=[0.2]
        )

    at = points()
    left = inside(affine(at, 35.0, (4, 2), 1.3, (0, 0))) & ~((at[0] < 16) & (at[1] < 14))
    counted = left.double().mean().item()
    assert share(both, pixels(1)[0]) == pytest.approx(counted, abs=0.01)


def hidden(top: int, left: int, then: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """12 x 10 pixels are hidden before another transform."""

    def both(image: Tensor) -> Tensor:
        image[..., top : top + 12, left : left + 10] = 0.5
        return then(image)

    return both


@pytest.mark.parametrize("corner", [(9, 13), (0, 0), (0, 20)])
@pytest.mark.parametrize("size", [12, 21, 50])
def test_a_hole_costs_the_same_at_any_size(corner: tuple[int, int], size: int) -> None:
    resize = hidden(*corner, lambda image: TF.resize(image, [size, size]))
    assert share(resize, pixels(1)[0]) == pytest.approx(1 - 120 / (H * W), abs=0.01)


def test_a_chain_measures_what_a_compose_does_not_show() -> None:
    """Interpolated without antialiasing, the edges of a hole fall between the pixels."""
    shrink = partial(TF.resize, size=[12, 12], antialias=False)
    hide = hidden(9, 13, lambda image: image)
    image = pixels(1)[0]
    with pytest.raises(ValueError, match=r"too little of the edges.*Chain\(\[Borrowed\(a\)"):
        look(hidden(9, 13, shrink), image)
    _, seen = Chain([Borrowed(hide), Borrowed(shrink)])(image[None])
    assert visibility(seen).item() == pytest.approx(1 - 120 / (H * W), abs=0.01)


turn = partial(TF.rotate, interpolation=BILINEAR)
window = partial(TF.resized_crop, top=3, left=5, height=20, width=22, size=[H, W])
TWICE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "turned-then-turned": (partial(turn, angle=25), partial(turn, angle=-40)),
    "turned-then-cropped": (partial(turn, angle=25), window),
    "cropped-then-turned": (window, partial(turn, angle=25)),
    "cropped-then-small": (
        v2.CenterCrop(20),
        partial(
            TF.affine,
            angle=0.0,
            translate=[0, 0],
            scale=0.55,
            shear=[0.0, 0.0],
            interpolation=BILINEAR,
        ),
    ),
    "bent-then-small": (v2.ElasticTransform(), partial(TF.resize, size=[16, 16])),
    "bent-then-large": (v2.ElasticTransform(), partial(TF.resize, size=[64, 80])),
    "bent-then-shifted": (
        v2.ElasticTransform(),
        lambda image: F.pad(image[..., 2:, 3:], (0, 3, 0, 2)),
    ),
}


@pytest.mark.parametrize(("first", "second"), TWICE.values(), ids=TWICE)
def test_two_maps_are_those_of_a_chain_or_refused(first: Any, second: Any) -> None:
    """A border inside of the frame, that a second map resamples, may show too little of itself."""
    image, drawn = pixels(1)[0], {"seed": torch.tensor([3])}
    chain = Chain([Borrowed(first), Borrowed(second)])
    _, apart = chain.apply(image[None], None, {"0": drawn, "1": drawn})
    try:
        together = share(lambda x: second(first(x)), image, 3)
    except ValueError as refused:
        assert "cannot be measured" in str(refused)  # noqa: PT017
    else:
        assert together == pytest.approx(visibility(apart).item(), abs=0.01)


def test_entries_are_source_pixels_and_conserve_them() -> None:
    image = pixels(1, 3, 32, 32)[0]
    zoom = partial(TF.affine, angle=0.0, translate=[0, 0], shear=[0.0, 0.0], interpolation=BILINEAR)
    _, out = look(partial(zoom, scale=0.5), image)
    assert torch.allclose(out[9:23, 9:23], torch.full((14, 14), 4.0))
    assert visibility(out[None, None]).item() == pytest.approx(1)
    _, into = look(partial(zoom, scale=2.0), image)
    assert torch.allclose(into, torch.full((32, 32), 0.25))
    _, small = look(v2.Resize(16), image)
    assert torch.allclose(small, torch.ones(16, 16), atol=1e-4)
    _, flipped = look(v2.RandomHorizontalFlip(1.0), image)
    assert torch.equal(flipped, torch.ones(32, 32))


def test_a_given_map_moves_with_the_pixels() -> None:
    mask = torch.zeros(1, 1, H, W)
    mask[..., 4:20, 6:18] = H * W / (16 * 12)
    image = pixels(1)[0]
    _, flipped = look(v2.RandomHorizontalFlip(1.0), image, seen=mask)
    assert torch.equal(flipped, mask[0, 0].flip(-1))
    _, shifted = look(lambda x: F.pad(x[..., 10:], (0, 10)), image, seen=mask)
    assert torch.equal(shifted, F.pad(mask[0, 0, :, 10:], (0, 10)))
    for how in AFFINE.values():
        angle, translate, scale, shear = how
        transform = partial(
            TF.affine, angle=angle, translate=list(translate), scale=scale, shear=list(shear),
            interpolation=BILINEAR,
        )  # fmt: skip
        at = points()
        object_at = (at[0] >= 6) & (at[0] < 18) & (at[1] >= 4) & (at[1] < 20)
        kept = inside(affine(at, *how))[object_at].double().mean().item()
        _, seen = look(transform, image, seen=mask)
        # Of the object, which is 15 % of the image.
        assert seen.mean().item() == pytest.approx(kept, abs=0.025)


COLOUR: dict[str, Callable[..., Any]] = {
    "brighter": partial(TF.adjust_brightness, brightness_factor=1.4),
    "darker": partial(TF.adjust_brightness, brightness_factor=0.7),
    "nearly-black": partial(TF.adjust_brightness, brightness_factor=0.004),
    "less-contrast": partial(TF.adjust_contrast, contrast_factor=0.5),
    "solarize": v2.RandomSolarize(0.5, p=1.0),
    "solarize-all": v2.Compose([v2.CenterCrop(20), v2.RandomSolarize(0.001, p=1.0)]),
    "posterize": v2.RandomPosterize(6, p=1.0),
    "equalize": v2.RandomEqualize(p=1.0),
    "autocontrast": v2.RandomAutocontrast(p=1.0),
    "invert": v2.RandomInvert(p=1.0),
    "sharpen": v2.RandomAdjustSharpness(2.0, p=1.0),
    "smooth": v2.RandomAdjustSharpness(0.0, p=1.0),
    "normalize": v2.Normalize([0.5], [0.25]),
    "scale": v2.Normalize([0.0], [2.0]),
    "blur": v2.GaussianBlur(3, 0.7),
    "strong-blur": v2.GaussianBlur(23, 3.0),
    "noise": v2.GaussianNoise(),
    "noise-unclipped": v2.GaussianNoise(sigma=0.03, clip=False),
    "square": lambda x: x**2,
    "vignette": lambda x: x * (1 - 0.5 * torch.linspace(-1, 1, W) ** 2),
    "darker-and-less-contrast": lambda x: TF.adjust_contrast(0.7 * x, 0.5),
    "affine-and-darker": v2.Compose(
        [v2.RandomAffine(30, interpolation=BILINEAR), v2.ColorJitter((0.6, 0.8))]
    ),
    "nearest-and-darker": v2.Compose(
        [v2.RandomAffine(30, scale=(2.5, 3)), v2.ColorJitter((0.6, 0.8))]
    ),
    "elastic-and-darker": v2.Compose([v2.ElasticTransform(), v2.ColorJitter((0.6, 0.8))]),
    "crop-and-darker": v2.Compose(
        [v2.RandomResizedCrop(32, (0.1, 0.2)), v2.ColorJitter((0.6, 0.8))]
    ),
    "blur-and-turn": v2.Compose([v2.GaussianBlur(5, 2.0), v2.RandomRotation(30, BILINEAR)]),
    "bytes": v2.ToDtype(torch.uint8, scale=True),
}
MIXED: dict[str, Callable[..., Any]] = {
    "grayscale": v2.Grayscale(3),
    "one-channel": v2.Grayscale(1),
    "saturation": partial(TF.adjust_saturation, saturation_factor=0.5),
    "hue": partial(TF.adjust_hue, hue_factor=0.2),
    "permute": lambda x: x.flip(-3),
    "dropped-channel": lambda x: x * torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1),
}


@pytest.mark.parametrize(
    ("transform", "channels"),
    [(t, c) for t in COLOUR.values() for c in (1, 3)] + [(t, 3) for t in MIXED.values()],
    ids=[f"{name}-{c}" for name in COLOUR for c in (1, 3)] + list(MIXED),
)
def test_colour_is_refused_with_the_remedy(transform: Any, channels: int) -> None:
    for seed in range(2):
        with pytest.raises(ValueError, match=r"cannot be measured: .*Chain\(\[.*colour=True"):
            look(transform, pixels(1, channels)[0], seed)


def test_colour_that_is_declared_carries_the_map() -> None:
    jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
    images, seen = pixels(3), torch.rand(3, 1, H, W)
    transform = Borrowed(jitter, colour=True)
    drawn = transform.draw(3, H, W, Generator().manual_seed(1))
    out, carried = transform.apply(images, seen, drawn)
    assert torch.equal(carried, seen)
    for i, seed in enumerate(drawn["seed"].tolist()):
        assert torch.equal(out[i], seeded(seed, partial(jitter, images[i])))


def test_the_remedy_works() -> None:
    chain = Chain(
        [
            Borrowed(v2.RandomAffine(30, scale=(0.5, 1.5), interpolation=BILINEAR)),
            Borrowed(v2.ColorJitter(0.4), colour=True),
            Crop(sigma=0.2),
        ]
    )
    augment = SoftAugment(chain, num_classes=10, generator=Generator().manual_seed(0))
    images, targets = augment(pixels(4), torch.arange(4))
    assert images.shape == (4, 3, H, W)
    assert targets.sum(dim=1).tolist() == pytest.approx([1] * 4)


own_numbers = Generator().manual_seed(0)
NUMBER: Any = SimpleNamespace(transform=3)  # which the checker of types would not let through


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: Borrowed.__post_init__(NUMBER), "function of an image, got 3"),
        (lambda: Borrowed(lambda x: x.roll(int(x.argmax()), -1))(pixels(1)), "cannot be measured"),
        (lambda: Borrowed(v2.RandomResize(20, 40))(pixels(6)), "images of one size, got"),
        (lambda: Borrowed(v2.FiveCrop(9))(pixels(1)), r"must give an image .* got tuple"),
        (lambda: Borrowed(lambda x: x[0])(pixels(1)), r"got \[32, 40\]"),
        (
            lambda: Borrowed(v2.Resize(9), colour=True)(pixels(1)),
            "changes the size.*leave out colour=True",
        ),
        (
            lambda: Borrowed(
                lambda x: x.roll(int(torch.randint(9, (1,), generator=own_numbers)), -1)
            )(pixels(1)),
            "cannot be measured",
        ),
        (
            lambda: Borrowed(v2.RandomSolarize(200, p=1.0))((255 * pixels(1)).to(torch.uint8)),
            "it fails on a float32 image.*colour=True",
        ),
        (
            lambda: Borrowed(lambda x: F.pad(x[..., :1], (W - 1, 0)))(pixels(1)),
            "too few pixels side by side",
        ),
        (
            lambda: Borrowed(hidden(9, 13, partial(TF.resize, size=[6, 6])))(pixels(1)),
            "too few pixels side by side",
        ),
        (
            lambda: Borrowed(v2.Compose([v2.ElasticTransform(), v2.Resize(16)]))(pixels(1)),
            "bends the image, and steeply or while it resizes",
        ),
        (
            lambda: Borrowed(
                v2.Compose([v2.RandomRotation((30, 30), BILINEAR), v2.Pad(3, 0, "reflect")])
            )(pixels(1)),
            "folds, reflects or repeats.*pad with zeros",
        ),
        (
            lambda: Borrowed(v2.ElasticTransform(interpolation=NEAREST))(pixels(2)),
            "nearest neighbours on a bent.*choose bilinear",
        ),
    ],
)
def test_what_cannot_be_borrowed_is_named(use: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        use()


WHOLE_PIXELS: dict[str, Callable[..., Any]] = {
    "compose": v2.Compose([v2.RandomCrop(14, padding=4), v2.RandomHorizontalFlip()]),
    "reflect": v2.RandomCrop((16, 20), padding=3, padding_mode="reflect"),
    "python-and-numpy": lambda x: x.roll(random.randrange(9), -1).roll(
        int(np.random.randint(9)),  # noqa: NPY002
        -2,
    ),
}
COMPUTED: dict[str, Callable[..., Any]] = {
    "erase-in-place": v2.RandomErasing(p=0.5, value="random", inplace=True),
    "affine": v2.RandomAffine(30, (0.2, 0.2), (0.5, 1.5), 10, interpolation=BILINEAR),
    "nearest": v2.RandomAffine(30, (0.2, 0.2), (0.5, 1.5), 10),
    "resized-crop": v2.RandomResizedCrop((13, 17)),
}
SOME = WHOLE_PIXELS | COMPUTED
CHAINS: dict[str, Any] = {
    "reflect+crop": Chain([Borrowed(SOME["reflect"]), Crop(sigma=0.3)]),
    "flip+resized-crop": Chain([Flip(), Borrowed(SOME["resized-crop"])]),
    "erase+affine": Chain([Erase(), Borrowed(SOME["affine"])]),
    "compose+erase-in-place": Chain([Borrowed(SOME["compose"]), Borrowed(SOME["erase-in-place"])]),
}


def small(channels: int = 3) -> Tensor:
    return pixels(3, channels, 16, 20)


INPUTS: dict[str, Callable[[], Tensor]] = {
    "uint8": lambda: (255 * small()).to(torch.uint8),
    "float32": small,
    "float64": lambda: small().double(),
    "grey": lambda: small(1),
    "two-channels": lambda: small(2),
    "alpha": lambda: (255 * small(4)).to(torch.uint8),
    "channels-last": lambda: small().contiguous(memory_format=torch.channels_last),
}


def contract() -> Iterator[Any]:
    """One transform meets each input; the others, which are slower, bytes and another layout."""
    transforms = {name: Borrowed(transform) for name, transform in SOME.items()} | CHAINS
    for (name, transform), given, clause in product(transforms.items(), INPUTS, CLAUSES):
        exact = name in (*WHOLE_PIXELS, "reflect+crop")
        layouts = clause is layout_does_not_matter
        if (name == "compose" or given == ("channels-last" if layouts else "uint8")) and (
            exact or clause is not dtype_does_not_matter
        ):
            case = f"{name}-{given}-{clause.__name__}"
            yield pytest.param(clause, transform, INPUTS[given], exact, id=case)


@pytest.mark.parametrize(("clause", "transform", "make", "exact"), [*contract()])
def test_contract(clause: Clause, transform: Any, make: Callable[[], Tensor], exact: bool) -> None:
    clause(Case(transform, make(), exact))


@pytest.mark.parametrize("make", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("transform", SOME.values(), ids=SOME)
def test_pixels_are_those_of_the_transform_under_its_seed(
    transform: Any, make: Callable[[], Tensor]
) -> None:
    images, borrowed = make(), Borrowed(transform)
    kept, states = images.clone(), (torch.get_rng_state(), random.getstate(), np.random.get_state())  # noqa: NPY002
    drawn = borrowed.draw(3, 16, 20, Generator().manual_seed(5))
    out, seen = borrowed.apply(images, None, drawn)

    assert list(drawn) == ["seed"]
    assert drawn["seed"].dtype == torch.int64
    assert drawn["seed"].shape == (3,)
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert str(np.random.get_state()) == str(states[2])  # noqa: NPY002

    assert out.dtype == images.dtype
    assert out.shape == (3, images.shape[1], *borrowed.output_size(16, 20))
    assert seen.shape == (3, 1, *out.shape[2:])
    assert ((visibility(seen) >= 0) & (visibility(seen) <= 1)).all()
    if images.is_contiguous(memory_format=torch.channels_last):
        assert out.is_contiguous(memory_format=torch.channels_last)
    for image, result, seed in zip(images, out, drawn["seed"].tolist(), strict=True):
        assert torch.equal(result, seeded(seed, partial(transform, image.clone())))


def test_samples_left_alone_keep_all() -> None:
    images, borrowed = pixels(16), Borrowed(v2.RandomApply([v2.RandomRotation(40)], p=0.5))
    out, seen = borrowed(images, generator=Generator().manual_seed(0))
    alone = (out == images).flatten(1).all(dim=1)
    assert 3 < alone.sum() < 13
    assert (visibility(seen)[alone] == 1).all()
    assert torch.equal(seen[alone], torch.ones_like(seen[alone]))
    assert (visibility(seen)[~alone] < 1).all()


def test_a_single_image_and_no_image() -> None:
    borrowed = Borrowed(v2.RandomResizedCrop(16))
    one, seen = borrowed(pixels(1)[0], generator=Generator().manual_seed(2))
    batch, batch_seen = borrowed(pixels(1), generator=Generator().manual_seed(2))
    assert torch.equal(one, batch[0])
    assert torch.equal(seen, batch_seen[0])
    assert borrowed(pixels(1)[:0])[1].shape == (0, 1, 16, 16)


def test_a_chain_knows_the_size_that_follows() -> None:
    chain = Chain([Borrowed(v2.RandomResizedCrop((16, 20))), Flip(), Crop(sigma=0.3)])
    assert chain.output_size(H, W) == (16, 20)
    assert chain(pixels(3))[0].shape == (3, 3, 16, 20)
    grey = v2.Compose([v2.Pad(2, fill=[1.0]), v2.Normalize([0.5], [0.5])])
    assert Borrowed(grey).output_size(H, W) == (36, 44)


def test_float_and_byte_images_lose_the_same() -> None:
    images = (255 * pixels(4)).to(torch.uint8)
    borrowed = Borrowed(v2.RandomAffine(30, (0.2, 0.2), (0.5, 1.5), interpolation=BILINEAR))
    drawn = borrowed.draw(4, H, W, Generator().manual_seed(3))
    as_bytes, as_floats = (borrowed.apply(i, None, drawn) for i in (images, images.float()))
    assert torch.equal(as_bytes[1], as_floats[1])


def test_the_usual_pipeline_of_torchvision() -> None:
    steps = [v2.ToImage(), v2.RandomResizedCrop(24), v2.RandomHorizontalFlip()]
    pipeline = Borrowed(v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)]))
    out, seen = pipeline((255 * pixels(2)).to(torch.uint8), generator=Generator().manual_seed(0))
    assert type(out) is Tensor
    assert out.dtype == torch.float32
    assert out.max() <= 1
    assert (visibility(seen) > 0.05).all()


# kornia


@pytest.fixture(scope="module")
def kornia() -> Any:
    return pytest.importorskip("kornia.augmentation")


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
@pytest.mark.parametrize(
    "how",
    [
        {"degrees": 60.0},
        {"degrees": 0.0, "scale": (0.4, 2.0)},
        {"degrees": 0.0, "translate": (0.4, 0.4)},
        {"degrees": 60.0, "translate": (0.3, 0.3), "scale": (0.5, 1.5), "shear": 20.0},
        {"degrees": 40.0, "translate": (0.5, 0.5), "scale": (0.35, 0.35)},
    ],
    ids=["turned", "zoomed", "shifted", "all", "small"],
)
def test_kornia_maps_leave_what_brute_force_counts(
    kornia: Any, padding_mode: str, how: Any
) -> None:
    transform = kornia.RandomAffine(**how, padding_mode=padding_mode, p=1.0)
    image = pixels(1)[0]
    for seed in (0, 1, 2, 13):
        seeded(seed, lambda: transform(image))
        matrix = transform.transform_matrix[0].double()
        # kornia's matrix is for pixel centres at whole numbers.
        moved = torch.einsum("ij,jyx->iyx", matrix[:2, :2], points() - 0.5)
        moved = moved + matrix[:2, 2, None, None] + 0.5
        counted = inside(moved).double().mean().item()
        assert share(transform, image, seed) == pytest.approx(counted, abs=0.011)


def test_kornia_reflections_are_refused(kornia: Any) -> None:
    """Reflected places show the same pixels again, or some that are nowhere else."""
    transform = kornia.RandomAffine((40.0, 60.0), padding_mode="reflection", p=1.0)
    with pytest.raises(ValueError, match="folds, reflects or repeats"):
        look(transform, pixels(1)[0])


def test_kornia_on_whole_pixels_is_exact(kornia: Any) -> None:
    names = torch.arange(1.0, H * W + 1).view(1, H, W)
    for transform in (
        kornia.RandomCrop((24, 24), padding=6, padding_mode="reflect"),
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.RandomErasing(p=1.0),
        kornia.RandomJigsaw((4, 4), p=1.0),
        kornia.CenterCrop(20),
    ):
        for seed in range(3):
            out, seen = look(transform, names, seed)
            left = set(out.flatten().tolist()) - {0.0}
            assert seen.mean().item() == pytest.approx(len(left) / (H * W), abs=1e-6)


def test_kornia_chains_and_colours(kornia: Any) -> None:
    both = kornia.ImageSequential(kornia.RandomAffine(20.0, p=1.0), kornia.RandomErasing(p=1.0))
    assert 0.4 < share(both, pixels(1)[0]) < 0.99
    for colour in (
        kornia.RandomBrightness((0.5, 0.8), p=1.0),
        kornia.RandomPlasmaBrightness(p=1.0),
        kornia.RandomGaussianBlur((3, 3), (1.0, 1.5), p=1.0),
        kornia.RandomGaussianNoise(p=1.0),
    ):
        with pytest.raises(ValueError, match="cannot be measured"):
            look(colour, pixels(1)[0])
        _, seen = Borrowed(colour, colour=True)(pixels(2))
        assert (seen == 1).all()
