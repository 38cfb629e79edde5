"""From labels and confidences to rows of targets: soft target, soft weight, and both.

n samples, k classes. A row is a target for `F.cross_entropy`; its sum is the sample's weight,
because cross-entropy is linear in the target: w CE(logits, t) = CE(logits, w t).
"""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softaug.checks import check_between, check_labels, check_num_classes, check_values
from softaug.devices import to_device, without_autocast


def as_labels(labels: Any) -> Tensor:
    """Convert labels, a tensor, an array, a list or one number, to a tensor.

    Raises ValueError for what torch makes no tensor of, such as texts.
    """
    try:
        return torch.as_tensor(labels)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            "labels must be integers [N] or rows [N, num_classes], "
            f"got {type(labels).__name__} ({error})"
        ) from error


def as_rows(labels: Shaped[Tensor, "n *k"], num_classes: int) -> Float[Tensor, "n k"]:
    """Convert labels [N] (integers) to one-hot rows [N,K], float32; rows [N,K] keep their values.

    Raises ValueError, naming the first offending sample, for labels outside [0, K), rows of another
    width, and rows that are negative or not finite. (On a GPU the check of values is a device-side
    assertion; under torch.compile it is skipped.)
    """
    if labels.ndim == 2 and not labels.is_complex():
        check_num_classes(num_classes)
        if labels.shape[1] != num_classes:
            raise ValueError(
                f"rows must be [N, num_classes] = [N, {num_classes}], got {list(labels.shape)}"
            )
        rows = labels.float()
        check_values(rows.isfinite() & (rows >= 0), labels, "rows must be finite and >= 0")
        return rows
    column = _label_column(labels, num_classes)
    return torch.zeros(len(labels), num_classes, device=labels.device).scatter_(1, column, 1.0)


def smooth(
    labels_or_rows: Shaped[Tensor, "n *k"], confidence: Float[Tensor, "n"], num_classes: int
) -> Float[Tensor, "n k"]:
    """Keep the share p of each target and spread the rest evenly over the other classes.

    p t + (1 - p) (s - t) / (K - 1), with s the row's sum. One-hot rows get p on the label and
    (1 - p)/(K - 1) elsewhere (Liu et al. 2023, eqs. 2-4). It is the identity at p = 1, uniform at
    p = 1/K, keeps each row's sum, and composes: p1 then p2 is p1 p2 + (1 - p1)(1 - p2)/(K - 1).

    labels_or_rows: integers [N] or rows [N,K]; confidence: [N] in [0, 1]. Returns float32 [N,K].

    >>> smooth(torch.tensor([0]), torch.tensor([0.7]), num_classes=4)
    tensor([[0.7000, 0.1000, 0.1000, 0.1000]])
    """
    if labels_or_rows.ndim == 1:
        # Equal to smoothing one-hot rows, bit for bit, without building them.
        column = _label_column(labels_or_rows, num_classes)
        p = _column(confidence, labels_or_rows)
        return ((1 - p) / (num_classes - 1)).expand(-1, num_classes).scatter(1, column, p)
    rows = as_rows(labels_or_rows, num_classes)
    p = _column(confidence, rows)
    return p * rows + (1 - p) * (rows.sum(dim=1, keepdim=True) - rows) / (num_classes - 1)


def smooth_by_confusion(
    labels_or_rows: Shaped[Tensor, "n *k"],
    confidence: Float[Tensor, "n"],
    confusion: Float[Tensor, "k k"],
) -> Float[Tensor, "n k"]:
    """Keep the share p of each target and spread the rest as its class is confused with others.

    p t + (1 - p) t C, where row i of the matrix C says which classes are confused with class i, its
    diagonal set to 0 and its sum scaled to 1. Evenly confused classes give `smooth`. With a running
    mean of a model's own predictions as C, this is online label smoothing (Zhang et al. 2021, arXiv
    2011.12562).

    confusion: [K,K], >= 0, with an entry above 0 beside the diagonal in every row. For
    `SoftAugment`, pass `soften=partial(smooth_by_confusion, confusion=C)`. Returns float32 [N,K].
    """
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"confusion must be [K,K], got {list(confusion.shape)}")
    rows = as_rows(labels_or_rows, len(confusion))
    confusion = to_device(confusion, rows.device)
    p = _column(confidence, rows)
    off = confusion.float() * (1 - torch.eye(len(confusion), device=confusion.device))
    check_values(
        (off.sum(dim=1) > 0) & (off >= 0).all(dim=1) & off.isfinite().all(dim=1),
        off.sum(dim=1),
        "each row of confusion must be >= 0, with something beside the diagonal",
    )
    with without_autocast(rows):
        others = rows @ (off / off.sum(dim=1, keepdim=True))
    return p * rows + (1 - p) * others


def smooth_multilabel(
    labels: Shaped[Tensor, "n k"],
    confidence: Float[Tensor, "n"],
    prior: Tensor | None = None,
) -> Float[Tensor, "n k"]:
    """Soften multi-hot labels for binary losses: p t + (1 - p)(1 - t), each class on its own.

    A class that is present gets p, an absent one 1 - p. Chance is 1/2 for each class, so use a
    curve with `chance=0.5`; the losses are not linear in the target, so weights stay outside.

    prior: the share of images that have each class, [K] in [0, 1]. Where nothing is visible, the
    target is then the prior, and not 1/2, which is far too much for a class that is rare:
    (2 p - 1) t + 2 (1 - p) prior, with p in [1/2, 1].
    labels: [N,K], 0 or 1 (or in between); confidence: [N] in [0, 1]. Returns float32 [N,K] for
    `F.binary_cross_entropy_with_logits`. Raises ValueError for values out of these ranges.

    >>> smooth_multilabel(torch.tensor([[1, 0, 1]]), torch.tensor([0.75]))
    tensor([[0.7500, 0.2500, 0.7500]])
    >>> shares = torch.tensor([0.1, 0.1, 0.3])
    >>> smooth_multilabel(torch.tensor([[1, 0, 1]]), torch.tensor([0.75]), shares)
    tensor([[0.5500, 0.0500, 0.6500]])
    """
    if labels.ndim != 2:
        raise ValueError(f"labels must be multi-hot [N,K], got {list(labels.shape)}")
    rows = labels.float()
    check_values((rows >= 0) & (rows <= 1), rows, "multi-hot labels must be in [0, 1]")
    p = _column(confidence, rows)
    if prior is None:
        return p * rows + (1 - p) * (1 - rows)
    if prior.shape != rows.shape[1:]:
        raise ValueError(f"prior must be [K] = [{rows.shape[1]}], got {list(prior.shape)}")
    prior = to_device(prior, rows.device)
    check_values((prior >= 0) & (prior <= 1), prior, "prior must be in [0, 1]", "class")
    check_values(p >= 0.5, p, "beside a prior, confidence must be 0.5 or more (chance=0.5)")
    return (2 * p - 1) * rows + 2 * (1 - p) * prior


def weigh(rows: Float[Tensor, "n k"], weight: Float[Tensor, "n"]) -> Float[Tensor, "n k"]:
    """Fold a weight for each sample into its row: w CE(logits, t) = CE(logits, w t).

    rows: [N,K]; weight: [N], >= 0. Returns [N,K] whose row sums are scaled by the weights
    (Liu et al. 2023, eqs. 5-6). Raises ValueError unless the weights are [N]: a weight of shape
    [N,1] against a loss of shape [N] is the silent (N,N) product of the published code.
    """
    if weight.shape != rows.shape[:1]:
        raise ValueError(f"weight must be [N] = [{len(rows)}], got {list(weight.shape)}")
    return rows * weight[:, None]


def per_sample(confidence: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Weigh each sample by its own confidence (Liu et al. 2023, eqs. 5-6)."""
    return confidence


def mean_one(confidence: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Divide confidences by their mean, so that the step size stays (the paper's SimSiam).

    Confidences that are all 0 stay 0: such a batch has no gradient.
    """
    mean = confidence.mean()
    return confidence / torch.where(mean > 0, mean, 1.0)


def batch_mean(confidence: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Weigh all samples by the batch's mean confidence, as the published code in effect did.

    For reproduction only. In that code (N,1) weights times (N,) losses broadcast to (N,N), whose
    mean is the mean weight times the mean loss.
    """
    return confidence.mean().expand_as(confidence)


def _label_column(labels: Tensor, num_classes: int) -> Tensor:
    """Labels [N] as a column [N,1] of int64."""
    check_num_classes(num_classes)
    fractional = labels.is_floating_point() or labels.is_complex()
    if labels.ndim != 1 or fractional or labels.dtype == torch.bool:
        raise ValueError(
            "labels must be integers [N] or rows [N, num_classes], "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    labels = labels.long()
    check_labels(labels, num_classes)
    return labels[:, None]


def _column(confidence: Tensor, rows: Tensor) -> Tensor:
    """Confidences [N] as a column [N,1] beside the rows."""
    if confidence.shape != rows.shape[:1]:
        raise ValueError(
            f"confidence must be [N] = [{len(rows)}], got {list(confidence.shape)}; "
            "one number for each sample"
        )
    check_between(confidence, 0, 1, "confidence must be in [0, 1]")
    return confidence[:, None].float()
