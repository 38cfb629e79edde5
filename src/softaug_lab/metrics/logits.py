"""Check logits and labels, and read them block by block as log-probabilities in float64.

Logits [N,K], labels int64 [N]; n samples, k classes, b samples of a block.
"""

from collections.abc import Iterator

from jaxtyping import Float, Int64
from torch import Tensor

BLOCK = 4_000_000  # logits that are turned into float64 at once: 32 MB


def log_probabilities(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], block: int = BLOCK
) -> Iterator[tuple[slice, Float[Tensor, "b k"]]]:
    """Yield the samples of each block and their log softmax in float64.

    The float64 copy of all logits need not fit into memory. Raises ValueError before the first
    block where logits and labels do not fit together or a logit is NaN.
    """
    check_logits(logits, labels)
    for rows in row_blocks(logits, block):
        values = logits[rows].double().log_softmax(dim=1)
        if values.isnan().any():
            raise ValueError("logits must not hold +inf, nor -inf for every class of a sample")
        yield rows, values


def row_blocks(logits: Float[Tensor, "n k"], block: int = BLOCK) -> Iterator[slice]:
    """Split the samples, in order, into slices of at most `block` logits or of one sample."""
    rows = max(1, block // logits.shape[1])
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


def check_logits(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> None:
    """Raise ValueError unless logits [N,K] without NaN and labels [N] in [0, K) fit together."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.numel() == 0:
        raise ValueError(
            "logits must be [N,K] and labels [N] with N >= 1, "
            f"got {list(logits.shape)} and {list(labels.shape)}"
        )
    bad = logits.isnan().any(dim=1)
    if bad.any():
        raise ValueError(f"logits are NaN for {int(bad.sum())} of {len(logits)} samples")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels must be in [0, {logits.shape[1]}), "
            f"got {int(labels.min())} to {int(labels.max())}"
        )
