"""In a DataLoader's workers every batch is drawn anew, and the same seed gives the same again."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, default_collate

from softaug import Crop, SoftAugment

K = 3


class Ones(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images of ones: after a crop with fill 0 they show where the frame went."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.ones(1, 16, 16), index % K


class Collate:
    """What a user's `collate_fn=lambda batch: augment(*default_collate(batch))` does."""

    def __init__(self, augment: SoftAugment) -> None:
        self.augment = augment

    def __call__(self, batch: list[Any]) -> tuple[Tensor, Tensor]:
        return self.augment(*default_collate(batch))


def two_epochs(held: bool, start: str, persistent: bool, seed: int) -> list[Tensor]:
    """The batches of 2 epochs x 4 batches x 2 workers, as images."""
    augment = SoftAugment(
        Crop(sigma=0.4), K, generator=Generator().manual_seed(seed) if held else None
    )
    loader = DataLoader(
        Ones(),
        batch_size=2,
        num_workers=2,
        collate_fn=Collate(augment),
        multiprocessing_context=start,
        persistent_workers=persistent,
        generator=Generator().manual_seed(seed),
    )
    return [images for _ in range(2) for images, _ in loader]


# Forking a process of several threads may deadlock, says Python; torch's own loader does so.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("held", "start", "persistent"),
    [
        *product([True, False], ["fork"], [True, False]),
        pytest.param(True, "spawn", True, marks=pytest.mark.slow),
        pytest.param(True, "spawn", False, marks=pytest.mark.slow),
    ],
)
def test_workers_and_epochs_differ_and_repeat(held: bool, start: str, persistent: bool) -> None:
    batches = two_epochs(held, start, persistent, seed=1)
    assert len({batch.numpy().tobytes() for batch in batches}) == len(batches)
    again = two_epochs(held, start, persistent, seed=1)
    assert all(map(torch.equal, batches, again))
    if start == "fork":
        other = two_epochs(held, start, persistent, seed=2)
        assert not any(map(torch.equal, batches, other))


def test_a_bare_generator_would_repeat_itself() -> None:
    """The trap that SoftAugment mends: every worker and epoch has a copy of the same generator."""
    generator = Generator().manual_seed(1)

    def collate(batch: list[Any]) -> Tensor:
        images, _ = Crop(sigma=0.4)(default_collate(batch)[0], generator=generator)
        return images

    loader: Any = DataLoader(Ones(), batch_size=4, num_workers=2, collate_fn=collate)
    first, second = list(loader)
    assert torch.equal(first, second)
