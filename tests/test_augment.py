"""SoftAugment: the method in one call, its doors, and its errors."""

import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from softaug import (
    Blur,
    Chain,
    Constant,
    Crop,
    Cutout,
    Drawn,
    Erase,
    Flip,
    Hard,
    PowerCurve,
    SoftAugment,
    Still,
    UniformCrop,
    VerticalFlip,
    as_seen,
    mean_one,
    per_sample,
    smooth,
    visibility,
    weigh,
)
from softaug.transforms.base import visible

K = 4
LABELS = torch.arange(6) % K


def images() -> Tensor:
    return torch.rand(6, 3, 8, 10, generator=Generator().manual_seed(0))


def soft(**options: Any) -> SoftAugment:
    return SoftAugment(Chain([Flip(), Crop(sigma=0.3)]), K, **options)


def test_it_is_transform_visibility_curve_smooth() -> None:
    augment = soft()
    drawn = augment.transform.draw(6, 8, 10, Generator().manual_seed(1))
    out, targets = augment(images(), LABELS, drawn=drawn)
    expected, seen = augment.transform.apply(images(), None, drawn)
    confidence = PowerCurve(k=2, chance=1 / K)(visibility(seen))
    assert torch.equal(out, expected)
    assert torch.equal(targets, smooth(LABELS, confidence, K))
    assert targets.dtype == torch.float32


def test_the_three_ways_to_soften() -> None:
    drawn = soft().transform.draw(6, 8, 10, Generator().manual_seed(1))
    _, target = soft()(images(), LABELS, drawn=drawn)
    _, weight = soft(soften=False, weight=per_sample)(images(), LABELS, drawn=drawn)
    _, both = soft(weight=per_sample)(images(), LABELS, drawn=drawn)
    confidence = target.gather(1, LABELS[:, None])[:, 0]
    one_hot = F.one_hot(LABELS, K).float()
    torch.testing.assert_close(weight, weigh(one_hot, confidence))
    torch.testing.assert_close(both, weigh(target, confidence))
    _, normal = soft(weight=mean_one)(images(), LABELS, drawn=drawn)
    assert normal.sum(dim=1).mean().item() == pytest.approx(1)


def test_generator_gives_the_same_again_and_then_something_else() -> None:
    first, second = (soft(generator=Generator().manual_seed(3)) for _ in range(2))
    a, b = first(images(), LABELS), second(images(), LABELS)
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    assert not torch.equal(first(images(), LABELS)[1], a[1])


def test_a_given_map_begins_where_the_object_is() -> None:
    seen = torch.zeros(6, 1, 8, 10)
    seen[..., :5] = 2
    drawn = {"tx": torch.full((6,), -5), "ty": torch.zeros(6, dtype=torch.int64)}
    augment = SoftAugment(Crop(), K)
    _, whole = augment(images(), LABELS, seen=seen, drawn=drawn)
    torch.testing.assert_close(whole, F.one_hot(LABELS, K).float())
    _, half = augment(images(), LABELS, drawn=drawn)
    assert half.max().item() < 1


@pytest.mark.parametrize("label", [2, torch.tensor(2), torch.tensor([0.0, 0.0, 1.0, 0.0])])
def test_one_image(label: Tensor | int) -> None:
    augment = soft(generator=Generator().manual_seed(3))
    image, target = augment(images()[0], label)
    assert image.shape == (3, 8, 10)
    assert target.shape == (K,)
    assert target.argmax().item() == 2
    assert target.sum().item() == pytest.approx(1)


def test_rows_keep_their_mass() -> None:
    rows = torch.rand(6, K, generator=Generator().manual_seed(2))
    _, targets = soft()(images(), rows)
    torch.testing.assert_close(targets.sum(dim=1), rows.sum(dim=1))


def test_certain_curve_keeps_labels_hard() -> None:
    _, targets = soft(curve=Constant(1.0))(images(), LABELS)
    assert torch.equal(targets, F.one_hot(LABELS, K).float())


def test_nothing_done_nothing_lost() -> None:
    given = images()
    out, targets = SoftAugment(Still(), K)(given, LABELS)
    assert torch.equal(out, given)
    assert torch.equal(targets, F.one_hot(LABELS, K).float())


def spoilt(value: float) -> Tensor:
    bad = images()
    bad[4, 1, 2, 3] = value
    return bad


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: SoftAugment(Still(), 1), "num_classes must be 2 or more, got 1"),
        (lambda: soft()(images(), LABELS + 1), r"labels must be in \[0, 4\).*got 4 for sample 3"),
        (lambda: soft()(images(), LABELS[:5]), "with N = 6 as the images"),
        (lambda: soft()(images(), LABELS.float()), "labels must be integers"),
        (lambda: soft()(images(), torch.ones(6, 3)), r"\[N, 4\], got \[6, 3\]"),
        (lambda: soft()(images()[0, 0], LABELS), r"images must be \[N,C,H,W\] or \[C,H,W\]"),
        (lambda: soft()(spoilt(torch.nan), LABELS), r"finite, got NaN.*samples \[4\]"),
        (lambda: soft()(spoilt(torch.inf), LABELS), r"finite.*samples \[4\]"),
        (
            lambda: soft()(images(), LABELS, seen=torch.ones(6, 1, 8, 8)),
            r"seen must be \[6, 1, 8, 10\], got \[6, 1, 8, 8\]",
        ),
    ],
)
def test_bad_input_is_named(use: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Users have no run-time check of shapes, so it must not be what catches these.
    monkeypatch.setattr(
        SoftAugment, "__call__", getattr(SoftAugment.__call__, "__wrapped__", SoftAugment.__call__)
    )
    with pytest.raises(ValueError, match=message):
        use()


def test_repr_reads_as_the_call() -> None:
    assert repr(SoftAugment(Crop(sigma=0.3), 10)) == (
        "SoftAugment(transform=Crop(sigma=0.3, fill=0), num_classes=10, "
        "curve=PowerCurve(k=2, chance=0.1, ceiling=1.0), soften=True, weight=None)"
    )


def test_a_pickle_goes_on_drawing_as_the_original() -> None:
    augment = soft(generator=Generator().manual_seed(3))
    augment(images(), LABELS)
    copy = pickle.loads(pickle.dumps(augment))
    assert torch.equal(copy(images(), LABELS)[0], augment(images(), LABELS)[0])


@dataclass(frozen=True)
class Darker(Crop):
    """Somebody's own crop, which hides all."""

    def apply(self, images: Tensor, seen: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        shown, left = super().apply(images, seen, drawn)
        return 0 * shown, 0 * left


class Halved(Chain):
    """Somebody's own chain, of which half is seen."""

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {"mine": super().draw(n, height, width, generator)}

    def apply(self, images: Tensor, seen: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        shown, left = super().apply(images, seen, drawn["mine"])
        return shown, left / 2


class Inverted(Crop):
    """A user's crop with pixels of its own, for nobody but itself."""

    def pixels(self, images: Tensor, drawn: Drawn) -> Tensor:
        return 255 - super().pixels(images, drawn)


class Bold(Crop):
    """A user's crop that claims, without an `apply` of its own, to lose nothing."""

    lossless = True

    def visibility(self, height: int, width: int, drawn: Drawn) -> Tensor:
        return 0 * super().visibility(height, width, drawn) + 1


class Twice(Flip):
    """A user's flip that hides half of all maps."""

    def apply(self, images: Tensor, seen: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        shown, left = super().apply(images, seen, drawn)
        return shown, left / 2


ALONE: list[Any] = [Crop(), Crop(0.8, fill=9), UniformCrop(3), Erase(), Erase(1.0), Cutout(5)]


@pytest.mark.parametrize(("n", "side"), [(40, 6), (1, 6), (3, 130)])
@pytest.mark.parametrize(
    "transform",
    [
        *ALONE,
        *(Chain([Flip(), one, VerticalFlip()]) for one in ALONE),
        *(Chain([Hard(one), one, Still()]) for one in ALONE),
        Chain([Crop(), Erase()]),
        Chain([Chain([Flip()]), Crop()]),
        Chain([Chain([Flip(), Erase()]), Still()]),
        Chain([Chain([Flip(), Erase()]), Crop()]),
        Chain([Flip(), Still()]),
        Darker(),
        Chain([Flip(), Darker()]),
        Halved([Flip(), Crop()]),
        Chain([Halved([Flip()]), Flip()]),
        Inverted(),
        Chain([Flip(), Inverted()]),
        Bold(),
        Chain([Bold(), Flip()]),
        Twice(),
        Chain([Crop(), Twice()]),
    ],
    ids=str,
)
def test_targets_without_a_map_are_those_of_the_map(transform: Any, n: int, side: int) -> None:
    """Where one step alone loses anything no map is made: same pixels, same targets, to the bit."""
    size = (n, 3, side + 5, side)
    images = torch.randint(256, size, generator=Generator().manual_seed(0)).byte()
    labels = torch.arange(n) % 10
    drawn = transform.draw(n, side + 5, side, Generator().manual_seed(1))
    augment = SoftAugment(transform, 10)
    out, targets = augment(images, labels, drawn=drawn)
    shown, seen = transform.apply(images, None, drawn)
    assert torch.equal(out, shown)
    assert torch.equal(targets, augment.targets(labels, visibility(seen)))


def test_a_rectangle_that_ends_before_it_begins_hides_nothing() -> None:
    images, labels = torch.rand(3, 3, 8, 8), torch.arange(3)
    edges = {"top": [5, 5, 9], "bottom": [2, 2, 12], "left": [1, 6, 0], "right": [4, 3, 8]}
    drawn: Drawn = {name: torch.tensor(at) for name, at in edges.items()} | {"seed": labels}
    out, targets = SoftAugment(Erase(), K)(images, labels, drawn=drawn)
    assert torch.equal(out, images)
    assert torch.equal(targets, F.one_hot(labels, K).float())


def test_what_is_shifted_by_more_than_its_side_is_not_seen() -> None:
    images, labels = torch.rand(3, 3, 8, 8), torch.arange(3)
    drawn = {"tx": torch.tensor([20, 0, -9]), "ty": torch.tensor([-30, 11, 9])}
    out, targets = SoftAugment(Crop(), K)(images, labels, drawn=drawn)
    assert not out.any()
    assert torch.equal(targets, torch.full((3, K), 1 / K))


def test_targets_of_a_subclass_get_the_visibility() -> None:
    class Mine(SoftAugment):
        def targets(self, labels: Tensor, visibility: Tensor) -> Tensor:
            return visibility[:, None].expand(-1, len(labels))

    drawn = Crop().draw(6, 8, 10, Generator().manual_seed(1))
    _, seen = Crop().apply(images(), None, drawn)
    for given in (None, torch.ones(6, 1, 8, 10)):
        _, targets = Mine(Crop(), K)(images(), LABELS, seen=given, drawn=drawn)
        assert torch.equal(targets[:, 0], visibility(seen))


class Window:
    """A user's transform with a closed form and no `pixels`."""

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        del width, generator
        return {"rows": torch.arange(n) % height}

    def apply(self, images: Tensor, seen: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        y = torch.arange(images.shape[-2])[:, None]
        kept = (y < drawn["rows"][:, None, None, None]).float()
        before = torch.ones(len(images), 1, *images.shape[-2:]) if seen is None else seen
        return images * kept, before * kept

    def visibility(self, height: int, width: int, drawn: Drawn) -> Tensor:
        del width
        return torch.as_tensor(drawn["rows"] / height)


def test_a_transform_of_ones_own_may_have_a_closed_form() -> None:
    chain = Chain([Flip(), Window(), Hard(Crop())])
    drawn = chain.draw(6, 8, 10, Generator().manual_seed(1))
    out, share = visible(chain, images(), None, drawn)
    expected, seen = chain.apply(images(), None, drawn)
    assert torch.equal(out, expected)
    assert torch.equal(share, torch.arange(6) / 8)
    assert torch.equal(share, visibility(seen))


@pytest.mark.parametrize("transform", [Chain([Flip(), Crop()]), Erase(), Still()], ids=str)
@pytest.mark.parametrize("n", [1, 4])
def test_no_map_is_made_where_none_is_needed(
    transform: Any, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = torch.rand(n, 3, 8, 8), torch.arange(n)
    for maker in ("base.visibility", "flip.ones", "crop.shift_with_map", "erase.cover_with_map"):
        monkeypatch.setattr(f"softaug.transforms.{maker}", None)
    SoftAugment(transform, 10)(images, labels)
    with pytest.raises(TypeError):
        SoftAugment(transform, 10)(images, labels, seen=torch.ones(n, 1, 8, 8))


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
@pytest.mark.parametrize("transform", [Crop(), UniformCrop(), Erase(), Cutout(90)], ids=str)
def test_draws_may_be_kept_in_few_bits(transform: Any, dtype: torch.dtype) -> None:
    given, labels = torch.rand(3, 1, 224, 200), torch.arange(3)
    drawn = transform.draw(3, 224, 200, Generator().manual_seed(0))
    small = {name: value if name == "seed" else value.to(dtype) for name, value in drawn.items()}
    augment = SoftAugment(transform, 10)
    expected, got = (augment(given, labels, drawn=one) for one in (drawn, small))
    assert all(map(torch.equal, got, expected))


FOUR, CLASSES = torch.rand(4, 3, 8, 8), torch.arange(4)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(4, 3, 8, 8, dtype=torch.int16), "uint8 or floating point, got torch.int16"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.complex64), "uint8 or floating point, got torch.comp"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.bool), "uint8 or floating point, got torch.bool"),
        (torch.zeros(4, 32, 32, 3), r"with 32 channels; permute\(0, 3, 1, 2\)\?"),
    ],
)
def test_images_that_are_none(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftAugment(Crop(0.3), num_classes=10)(images, CLASSES)
    with pytest.raises(ValueError, match=message):
        Crop(0.3)(images)


def test_images_of_many_bands_are_images() -> None:
    images, targets = SoftAugment(Crop(0.3), num_classes=10)(torch.rand(4, 12, 8, 8), CLASSES)
    assert images.shape == (4, 12, 8, 8)
    assert targets.shape == (4, 10)


def test_labels_on_another_device_are_told() -> None:
    with pytest.raises(ValueError, match="labels must be on the images' device, cpu, got meta"):
        SoftAugment(Crop(0.3), num_classes=10)(FOUR, CLASSES.to("meta"))


@pytest.mark.parametrize("transform", [Crop(0.3), Chain([Flip(), Crop(0.3)]), Erase()])
@pytest.mark.parametrize("n", [1, 3, 5])
def test_draws_of_other_samples_are_told(transform: Any, n: int) -> None:
    augment = SoftAugment(transform, num_classes=10)
    drawn = transform.draw(n, 8, 8)
    with pytest.raises(ValueError, match=rf"drawn must be of 4 samples .* has {n}"):
        augment(FOUR, CLASSES, drawn=drawn)
    augment(FOUR, CLASSES, drawn=transform.draw(4, 8, 8))


def test_draws_are_finite() -> None:
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    drawn = {"t": torch.tensor([0.2, torch.nan, 0.1, 0.3])}
    with pytest.raises(ValueError, match="drawn must be finite, 't', got nan for sample 1"):
        SoftAugment(Blur(), 4)(images, labels, drawn=drawn)


def test_a_mask_that_was_not_scaled_is_told() -> None:
    augment = SoftAugment(Flip(), num_classes=10)
    raw = torch.full((4, 1, 8, 8), 255.0)
    with pytest.raises(ValueError, match=r"mean of seen at most 1 \(see as_seen\), got 255.0 for"):
        augment(FOUR, CLASSES, seen=raw)
    augment(FOUR, CLASSES, seen=as_seen(raw))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"transform": torch.nn.Identity()},
            "got Identity.*; softaug.Borrowed takes those",
        ),
        ({"transform": Crop}, "transform must have draw and apply"),
        ({"soften": "no"}, "soften must be True, False or a function, got 'no'"),
        ({"soften": 0.5}, "soften must be True, False or a function, got 0.5"),
        ({"curve": 0.9}, "curve must be None or a function of tensors, got 0.9"),
        ({"weight": "x"}, "weight must be None or a function of tensors, got 'x'"),
        ({"generator": 3}, r"generator must be None or a torch.Generator, got 3; .*manual_seed"),
    ],
)
def test_wrong_parts_are_told_at_once(options: dict[str, Any], message: str) -> None:
    made = object.__new__(SoftAugment)  # the tests' own check of types would come first
    for name, value in {**vars(SoftAugment(Crop(0.3), num_classes=10)), **options}.items():
        object.__setattr__(made, name, value)
    with pytest.raises(ValueError, match=message):
        made.__post_init__()


def test_without_labels_it_says_where_it_belongs() -> None:
    with pytest.raises(TypeError, match=r"got no labels; pass it as transforms= .*collate_fn"):
        SoftAugment(Crop(0.3), num_classes=10)(FOUR[0])


def test_a_batch_of_grey_images_without_channels_is_told() -> None:
    augment = SoftAugment(Crop(0.3), num_classes=10)
    grey, labels = torch.zeros(8, 32, 32), torch.arange(8)
    with pytest.raises(ValueError, match=r"\[8, 32, 32\] are read as one image .*got labels \[8\]"):
        augment(grey, labels)
    assert augment(grey[:, None], labels)[1].shape == (8, 10)
    assert augment(grey, torch.ones(10) / 10)[1].shape == (10,)
