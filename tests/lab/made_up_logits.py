"""Logits and labels: a few that hypothesis draws, and many from a generator."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

# Multiples of 1/4 make ties common.
LOGIT = st.integers(-40, 40).map(lambda value: value / 4)


@st.composite
def samples(draw: Any, most: int = 12) -> tuple[Tensor, Tensor]:
    """Logits [N,K] and labels [N] for a few samples and classes."""
    n, k = draw(st.integers(1, most)), draw(st.integers(2, 7))
    rows = st.lists(LOGIT, min_size=k, max_size=k)
    logits = draw(st.lists(rows, min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return torch.tensor(logits), torch.tensor(labels)


def random_samples(n: int = 300, k: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, k, generator=generator)
    return logits, torch.randint(k, (n,), generator=generator)
