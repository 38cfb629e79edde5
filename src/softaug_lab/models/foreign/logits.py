"""Read logits that any program has written to an .npz file. n samples, k logits."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, one_line, require_file


def read_logits(path: Path) -> tuple[Float32[Tensor, "n k"], Int64[Tensor, "n"] | None]:
    """Read `logits` [N,K] of an .npz file, and `labels` [N] in [0, K) or None without labels.

    A pickle in the file is refused. Raises SoftaugError where the file is absent, broken or of
    another structure.
    """
    arrays = _read_arrays(path)
    logits = torch.from_numpy(arrays["logits"])
    if logits.ndim != 2 or not logits.numel():
        raise SoftaugError(f"{path}: logits must be [N,K], got {list(logits.shape)}")
    if bad := int((~logits.isfinite()).any(dim=1).sum()):
        raise SoftaugError(f"{path}: logits are not finite for {bad} of {len(logits)} samples")
    ones = torch.ones(len(logits))
    if (logits >= 0).all() and torch.allclose(logits.sum(dim=1), ones, atol=1e-3):
        raise SoftaugError(
            f"{path}: the logits are probabilities, of sum 1; save what the network gives before "
            "softmax, or the logarithm of these"
        )
    labels = arrays.get("labels")
    return logits, None if labels is None else _checked_labels(path, labels, logits)


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays `logits`, as float32, and `labels`, where the file has them."""
    require_file(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("logits", "labels") if key in file.files}
            names = ", ".join(file.files) or "nothing"
        if "logits" in arrays:
            arrays["logits"] = arrays["logits"].astype(np.float32)
    # numpy raises many kinds of error for a file that is no archive.
    except Exception as error:
        raise SoftaugError(f"{path}: not readable as logits ({one_line(error)})") from error
    if "logits" not in arrays:
        raise SoftaugError(f"{path}: no array `logits`; it has {names}")
    return arrays


def _checked_labels(path: Path, labels: npt.NDArray[Any], logits: Tensor) -> Int64[Tensor, "n"]:
    if labels.dtype.kind not in "iu" or labels.shape != (len(logits),):
        raise SoftaugError(
            f"{path}: labels must be whole numbers [N] = [{len(logits)}], "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise SoftaugError(
            f"{path}: labels must be in [0, {logits.shape[1]}), "
            f"got {labels.min()} to {labels.max()}"
        )
    return torch.from_numpy(labels.astype(np.int64))
