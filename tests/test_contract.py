"""One contract, held by every transform alone and in chains of two: for a new transform, add a row.

Pairs are chosen by kind, since what two transforms can break in each other is the form of what they
hand on (a map or none, whole or fractional, another size). Each kind meets each kind in both
orders, and so does every transform: 5 x 5 kinds, and as many pairs of each as the larger has rows.
`Borrowed`, which is slow, holds the same clauses in test_borrowed.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from contract import CLAUSES, Case, Clause, dtype_does_not_matter, layout_does_not_matter
from torch import Generator, Tensor

from softaug import (
    Blur,
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
    SoftAugment,
    Still,
    TimeMask,
    TrivialAugment,
    UniformCrop,
    VerticalFlip,
)
from softaug.transforms.base import call

N, H, W = 6, 8, 11


class Own:
    """A user's transform, which has the two steps and nothing else: one row is hidden."""

    def draw(self, n: int, height: int, _: int, generator: Generator | None = None) -> Drawn:
        return {"row": torch.randint(height, (n,), generator=generator)}

    def apply(self, images: Tensor, seen: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        rows = torch.arange(images.shape[-2], device=images.device)
        left = (rows != drawn["row"].to(images.device)[:, None])[:, None, :, None]
        return images * left, left.expand_as(images[:, :1]) * (1.0 if seen is None else seen)

    __call__ = call


# These must know what white is: uint8, or float in [0, 1], which not all of the table's floats are.
POLICIES: dict[str, Any] = {"randaugment": RandAugment(), "trivialaugment": TrivialAugment()}
KINDS: dict[str, dict[str, Any]] = {
    "exact": {
        "crop": Crop(sigma=0.3),
        "crop-fill": Crop(sigma=(0.5, 0.1), fill=7),
        "uniform-crop": UniformCrop(padding=2),
        "crop-reflect": Crop(fill="reflect"),
        "erase": Erase(area=(0.1, 0.6), probability=0.8),
        "cutout": Cutout(side=5, fill=3),
        "time-mask": TimeMask(share=(0.1, 0.5), fill=3),
    },
    "computed": {
        "erase-mean": Erase(fill="mean"),
        "erase-noise": Erase(fill="noise"),
        "erase-other": Erase(fill="other"),
        "crop-mixed": Crop(fill="mixed"),
        "noise": Noise(amplitude=1.0),
        "diffusion-noise": DiffusionNoise(probability=0.7),
        "blur": Blur(probability=0.7),
        "gaussian-blur": GaussianBlur(kernel_size=5, probability=0.7),
        **POLICIES,
    },
    "resizing": {
        "resized-crop": ResizedCrop((H, W), fill=9),
        "resized-crop-mixed": ResizedCrop((H, W), fill="mixed"),
        "random-resized-crop": RandomResizedCrop((10, 7)),
    },
    "keeping": {
        "flip": Flip(),
        "vertical-flip": VerticalFlip(),
        "still": Still(),
        "hard": Hard(Crop(sigma=0.3)),
    },
    "unknown": {"own": Own()},
}
SINGLE = {name: transform for kind in KINDS.values() for name, transform in kind.items()}
EXACT = {*KINDS["exact"], *KINDS["keeping"], *KINDS["unknown"]}


def pairs() -> Iterator[tuple[str, str]]:
    for first, second in product(map(list, KINDS.values()), repeat=2):
        for i in range(max(len(first), len(second))):
            yield first[i % len(first)], second[(i + 1) % len(second)]


def pixels(channels: int, dtype: torch.dtype) -> Tensor:
    generator = Generator().manual_seed(channels)
    return torch.randint(0, 256, (N, channels, H, W), generator=generator).to(dtype)


INPUTS: dict[str, Callable[[], Tensor]] = {
    "uint8": lambda: pixels(3, torch.uint8),
    "float32": lambda: pixels(3, torch.float32),
    "unit": lambda: pixels(3, torch.float32) / 255,
    "float16": lambda: pixels(3, torch.float16),
    "grey": lambda: pixels(1, torch.uint8),
    "two-channels": lambda: pixels(2, torch.float32),
    "alpha": lambda: pixels(4, torch.uint8),
    "channels-last": lambda: pixels(3, torch.uint8).to(memory_format=torch.channels_last),
    "view": lambda: pixels(6, torch.uint8)[:, ::2],
    "one": lambda: pixels(3, torch.uint8)[:1],
}
PAIR_INPUTS = ("channels-last", "float32")
OTHER_LAYOUTS = ("channels-last", "view", "one")
ABOVE_WHITE = ("float32", "float16", "two-channels")


def cases() -> Iterator[Any]:
    chains = [*((name,) for name in SINGLE), *pairs()]
    for names, given, clause in product(chains, INPUTS, CLAUSES):
        exact = EXACT.issuperset(names)
        if (
            (len(names) == 2 and given not in PAIR_INPUTS)
            or (given in ABOVE_WHITE and not POLICIES.keys().isdisjoint(names))
            or (clause is layout_does_not_matter and given not in OTHER_LAYOUTS)
            or (clause is dtype_does_not_matter and not exact)
        ):
            continue
        steps = [SINGLE[name] for name in names]
        transform = steps[0] if len(steps) == 1 else Chain(steps)
        case = f"{'+'.join(names)}-{given}-{clause.__name__}"
        yield pytest.param(clause, transform, INPUTS[given], exact, id=case)


@pytest.mark.parametrize(("clause", "transform", "make", "exact"), [*cases()])
def test_contract(clause: Clause, transform: Any, make: Callable[[], Tensor], exact: bool) -> None:
    clause(Case(transform, make(), exact))


def test_every_transform_is_in_a_pair_on_either_side() -> None:
    for side in zip(*pairs(), strict=True):
        assert set(side) == set(SINGLE)


def test_a_chain_draws_for_the_size_that_each_step_gets() -> None:
    drawn = Chain([ResizedCrop((2, 3)), Own()]).draw(N * 9, H, W, Generator().manual_seed(0))
    assert set(drawn["1"]["row"].tolist()) == {0, 1}


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(name: str, dtype: torch.dtype) -> None:
    """In a training step under `torch.autocast` an augmentation gives the same bits as outside."""
    augment = SoftAugment(SINGLE[name], 5)
    images, labels = pixels(3, torch.uint8), torch.arange(N) % 5
    drawn = SINGLE[name].draw(N, H, W, Generator().manual_seed(3))
    expected, rows = augment(images, labels, drawn=drawn)
    with torch.autocast("cpu", dtype):
        under, under_rows = augment(images, labels, drawn=drawn)
        torch.manual_seed(1)
        called = SINGLE[name](images)
    torch.manual_seed(1)
    assert torch.equal(under, expected)
    assert torch.equal(under_rows, rows)
    assert all(map(torch.equal, called, SINGLE[name](images)))


@pytest.mark.parametrize("name", [name for name in SINGLE if name not in ("own", "hard")])
@pytest.mark.parametrize("way", ["one", "kind", "none"])
def test_apply_refuses_draws_of_others(name: str, way: str) -> None:
    """Draws of one sample, of another kind or of another transform never pass in silence."""
    transform, images = SINGLE[name], pixels(3, torch.uint8)
    drawn = transform.draw(N, H, W, Generator().manual_seed(3))
    read = [key for key in drawn if key != "seed" or "noise" in name]
    for key in read:
        other = {"one": drawn[key][:1], "kind": 0.5 + drawn[key].float()}.get(way)
        if way == "kind" and drawn[key].is_floating_point():
            other = drawn[key].long()
        changed = drawn | {key: other} if way != "none" else {"other": drawn[key]}
        with pytest.raises(ValueError, match="drawn"):
            transform.apply(images, None, changed)
