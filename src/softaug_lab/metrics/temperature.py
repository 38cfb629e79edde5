"""Temperature scaling: one number that corrects over-confidence and keeps every ranking of classes.

Fit it on images that neither trained the model nor test it. n samples, k classes.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from softaug_lab.metrics.logits import BLOCK, check_logits, row_blocks

LOWEST, HIGHEST = 0.01, 100.0
TOLERANCE = 1e-6  # relative size of the last step; Newton squares the error that is left after it
Slopes = Callable[[Tensor, Tensor, float], tuple[float, float]]


def nll_slopes(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], inverse: float, block: int = BLOCK
) -> tuple[float, float]:
    """First and second derivative of the mean NLL with respect to the inverse temperature.

    They are the means over samples of E[z] - z[label] and of Var[z] under the scaled softmax.
    """
    slope = curvature = 0.0
    for rows in row_blocks(logits, block):
        # Relative to the label's logit: large logits that differ little lose no digits.
        z = logits[rows].double()
        z -= z.gather(1, labels[rows, None])
        p = (z * inverse).softmax(dim=1)
        mean = (p * z).sum(dim=1, keepdim=True)
        slope += mean.sum().item()
        curvature += (p * (z - mean).square()).sum().item()
    return slope / len(labels), curvature / len(labels)


def fit_temperature(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], slopes: Slopes = nll_slopes
) -> float:
    """Find the temperature T in [0.01, 100] at which logits / T have the least NLL.

    T above 1 lowers the confidence. The NLL is convex in 1 / T, so its slope has one zero, which
    Newton's steps find, with halvings in log T where a step would leave the bracket. The result is
    HIGHEST where the logits are no better than chance, and 1 where the samples determine no
    temperature: where every label has the largest logit, so that the NLL falls with T for ever, and
    where all logits of each sample are equal. slopes: the derivatives of the NLL. Raises
    ValueError for logits that are not finite.

    References: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    check_logits(logits, labels)
    if not logits.isfinite().all():
        raise ValueError("logits must be finite to fit a temperature")
    if (logits == logits[:, :1]).all():
        return 1.0
    low, high = 1 / HIGHEST, 1 / LOWEST  # of the inverse temperature
    if slopes(logits, labels, low)[0] >= 0:
        return HIGHEST
    if slopes(logits, labels, high)[0] <= 0:
        return 1.0
    inverse = 1.0
    while high - low > TOLERANCE * low:
        slope, curvature = slopes(logits, labels, inverse)
        if slope == 0:
            break
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = slope / curvature if curvature > 0 else torch.inf
        previous, inverse = inverse, inverse - step
        if abs(step) <= TOLERANCE * previous:
            break
        if not low < inverse < high:
            inverse = (low * high) ** 0.5
    return 1 / inverse


def scale(logits: Float[Tensor, "n k"], temperature: float) -> Float64[Tensor, "n k"]:
    """Divide logits by the temperature in float64, so that close logits of float32 stay apart."""
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    return logits.double() / temperature
