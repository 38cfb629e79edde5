"""What a GPU would do, shown without one: tensors on a made-up CUDA device, which have no values.

Whoever mixes devices, asks for a value or counts raises there, and each copy between host and
device is seen: one that isn't `non_blocking` makes the host wait for all work before it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from fakes import fake_draws, watched
from torch import Generator, Tensor

import softaug
from softaug import (
    Blur,
    Chain,
    Constant,
    Crop,
    Cutout,
    DiffusionNoise,
    Erase,
    Flip,
    FrequencyMask,
    Gated,
    GaussianBlur,
    Hard,
    Noise,
    PowerCurve,
    RandAugment,
    RandomResizedCrop,
    ResizedCrop,
    SoftAugment,
    Still,
    TableCurve,
    TimeMask,
    TrivialAugment,
    UniformCrop,
    VerticalFlip,
)
from softaug.devices import to_device
from softaug.transforms import policies
from softaug.transforms.base import visible
from softaug.transforms.colour import ColourJitter, Greyscale
from softaug.transforms.policies import compiled, operations
from softaug.transforms.policies.batch import apply_operations, look_up_operations

N, SIDE, CLASSES = 16, 32, 10
FILLS = (7, (1, 0, 1), "mean", "reflect", "colour", "noise", "other", "mixed")
TRANSFORMS: list[Any] = [
    *(Crop(0.3, fill=fill) for fill in FILLS),
    *(Erase(fill=fill) for fill in FILLS),
    *(ResizedCrop((24, 24), fill=fill) for fill in FILLS),
    RandomResizedCrop((24, 24)),
    UniformCrop(4),
    Cutout(8),
    TimeMask(),
    FrequencyMask(),
    Flip(),
    VerticalFlip(),
    Noise(0.3),
    DiffusionNoise(mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3)),
    Blur(),
    GaussianBlur(5),
    Still(),
    Hard(Crop(0.3)),
    ColourJitter(),
    Greyscale(),
    Chain([Flip(), Crop(0.3, fill="mixed"), Erase(fill="noise")]),
]
CURVES: list[Any] = [
    PowerCurve(chance=0.1),
    Constant(0.9),
    TableCurve([(0, 0.1), (0.5, 0.6), (1, 1)]),
    Gated(PowerCurve(chance=0.1), 3),
]


def kind(transform: Any) -> str:
    return type(transform).__name__


def batch(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    images = torch.empty(N, 3, SIDE, SIDE, dtype=dtype, device="cuda")
    return images, torch.empty(N, dtype=torch.int64, device="cuda")


def assert_there(*tensors: Tensor) -> None:
    assert [tensor.device.type for tensor in tensors] == ["cuda"] * len(tensors)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=kind)
def test_draws_from_the_host_make_nobody_wait(transform: Any, dtype: torch.dtype) -> None:
    drawn = transform.draw(N, SIDE, SIDE, Generator().manual_seed(0))
    augment = SoftAugment(transform, CLASSES)
    with watched() as seen:
        images, labels = batch(dtype)
        moved, share = visible(transform, images, None, fake_draws(drawn))
        rows = augment.targets(labels, share)
        assert_there(moved, rows)
        begun = torch.empty(N, 1, SIDE, SIDE, device="cuda")
        assert_there(*transform.apply(images, begun, fake_draws(drawn)))
    assert seen.waits == []
    assert seen.launches


@pytest.mark.parametrize("dtype", [None, torch.float32])
@pytest.mark.parametrize("size", [100, 100_000])
def test_large_values_are_copied_from_pinned_memory(size: int, dtype: torch.dtype | None) -> None:
    with watched() as seen:
        values = torch.zeros(size, dtype=torch.int64)
        values.to("cuda", non_blocking=True)
        assert len(seen.waits) == (size > 1000)
        seen.waits.clear()
        assert_there(to_device(values, torch.device("cuda"), dtype))
    assert seen.waits == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("policy", [TrivialAugment(), RandAugment()], ids=kind)
def test_policies_make_nobody_wait(policy: Any, dtype: torch.dtype) -> None:
    """Their draws stay on the host, which looks up what to launch for all samples of a kind."""
    drawn = policy.draw(N, SIDE, SIDE, Generator().manual_seed(0))
    steps = look_up_operations(
        drawn["operation"], drawn["bin"], drawn["negative"], policy.strength, SIDE, SIDE
    )
    with uncached(), watched() as seen:
        images, _ = batch(dtype)
        share = policies._share_kept(policy.kept, steps, images)
        fill = torch.zeros(1, 1, 1, 1, dtype=dtype, device="cuda")
        assert_there(*apply_operations(steps, share, images, None, fill))
    assert seen.waits == []
    # However many samples there are: those of one operation go together.
    assert seen.launches < 450


@pytest.mark.parametrize("policy", [TrivialAugment(), RandAugment()], ids=kind)
def test_policies_in_a_graph_make_nobody_wait(policy: Any, monkeypatch: Any) -> None:
    """The graph holds their table of shares as a constant."""
    drawn = policy.draw(N, SIDE, SIDE, Generator().manual_seed(0))
    shares = compiled._shares(policy, True)
    monkeypatch.setattr(compiled, "_shares", lambda *_: shares)
    with watched() as seen:
        images, _ = batch(torch.uint8)
        fill = torch.zeros(1, 1, 1, 1, dtype=torch.uint8, device="cuda")
        draws = fake_draws(drawn)
        columns: Any = [draws[name] for name in ("operation", "bin", "negative")]
        assert_there(*compiled.apply_in_graph(policy, images, None, *[*columns, fill]))
    assert seen.waits == []


def test_maps_of_objects_make_nobody_wait() -> None:
    with watched() as seen:
        mask = torch.empty(N, 1, SIDE, SIDE, dtype=torch.uint8, device="cuda")
        assert_there(softaug.as_seen(mask, empty="uniform"))
    assert seen.waits == []


@contextmanager
def uncached() -> Iterator[None]:
    """Keep the tables of fake devices out of the cache."""
    operations.cached_source_index.cache_clear()
    yield
    operations.cached_source_index.cache_clear()


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_curves_make_nobody_wait(curve: Any) -> None:
    with watched() as seen:
        assert_there(curve(torch.empty(N, device="cuda")))
    assert seen.waits == []


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smooth": partial(softaug.smooth, num_classes=CLASSES),
    "confusion of the host": partial(
        softaug.smooth_by_confusion, confusion=torch.rand(CLASSES, CLASSES)
    ),
    "weights": lambda labels, p: softaug.weigh(
        softaug.smooth(labels, p, CLASSES), softaug.mean_one(p)
    ),
    "multi-label": lambda labels, p: softaug.smooth_multilabel(
        torch.empty(len(labels), CLASSES, device=p.device), p
    ),
    "multi-label, a prior of the host": lambda labels, p: softaug.smooth_multilabel(
        torch.empty(len(labels), CLASSES, device=p.device), p, torch.rand(CLASSES)
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_target_rules_make_nobody_wait(rule: str) -> None:
    with watched() as seen:
        labels = torch.empty(N, dtype=torch.int64, device="cuda")
        assert_there(RULES[rule](labels, torch.empty(N, device="cuda")))
    assert seen.waits == []


@pytest.mark.parametrize("transform", [*TRANSFORMS, TrivialAugment(), RandAugment()], ids=kind)
def test_draws_stay_on_the_cpu(transform: Any) -> None:
    """A default device of torch changes neither where numbers are drawn nor which."""
    expected = transform.draw(N, SIDE, SIDE, Generator().manual_seed(0))
    with torch.device("meta"):
        drawn = transform.draw(N, SIDE, SIDE, Generator().manual_seed(0))
    assert flat(drawn).keys() == flat(expected).keys()
    for name, value in flat(drawn).items():
        assert torch.equal(value, flat(expected)[name]), name


def flat(drawn: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in drawn.items():
        inner = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        found |= {prefix + name: value} if inner is None else inner
    return found


def test_the_watch_sees_waits() -> None:
    """Each of what the other tests hold to be absent."""
    with watched() as seen:
        there = torch.zeros(2, device="cuda")
        assert not seen.waits
        torch.tensor([1.0, 2.0]).to("cuda")
        there.cpu()
        there.copy_(torch.zeros(2))
        there[torch.tensor([0])]
        assert len(seen.waits) == 4
        torch.zeros(2).to("cuda", non_blocking=True)
        there[torch.tensor([0]).to("cuda", non_blocking=True)]
        assert len(seen.waits) == 4
        for read in (there.tolist, lambda: bool(there.all()), lambda: there[there > 0]):
            with pytest.raises(Exception, match=r"aten\.|data"):
                read()
        with pytest.raises(RuntimeError, match="device"):
            there + torch.zeros(2)
