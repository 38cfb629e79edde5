"""Logits of a model for test images, kept in a file so that every metric can be recomputed.

n test images, m held-out images, k classes, c channels, h w pixels.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import write_atomically


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels int64 [N] and logits float32 [N,K] of test images, whole and partly occluded.

    occluded_logits: float32 [N,K] by the name of the fill and the occluded share of the image (all
    of OCCLUSION_SHARES above 0).
    held_out_labels, held_out_logits: of training images [M] that did not train the model, to fit
    its temperature on.
    """

    labels: Int64[Tensor, "n"]
    logits: Float32[Tensor, "n k"]
    occluded_logits: Mapping[str, Mapping[float, Float32[Tensor, "n k"]]]
    held_out_labels: Int64[Tensor, "m"] | None = None
    held_out_logits: Float32[Tensor, "m k"] | None = None

    def at(self, share: float, fill: str) -> Float32[Tensor, "n k"]:
        """Logits with this share of each image occluded; share 0 is the whole images."""
        return self.logits if share == 0 else self.occluded_logits[fill][share]

    def save(self, path: str | Path) -> None:
        """Write an .npz file atomically."""
        arrays = {"labels": self.labels.numpy(), "logits": self.logits.numpy()}
        if self.held_out_labels is not None and self.held_out_logits is not None:
            arrays["held_out_labels"] = self.held_out_labels.numpy()
            arrays["held_out_logits"] = self.held_out_logits.numpy()
        for fill, by_share in self.occluded_logits.items():
            for share, logits in by_share.items():
                arrays[f"occluded_{fill}_{share}"] = logits.numpy()
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_atomically(Path(path), buffer.getvalue())

    @staticmethod
    def load(path: str | Path) -> "Predictions":
        """Read a file that `save` wrote; raises SoftaugError where it is absent or broken."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: torch.from_numpy(file[name]) for name in file.files}
            labels, logits = arrays.pop("labels"), arrays.pop("logits")
            # Files of earlier versions have no held-out part.
            held_out = arrays.pop("held_out_labels", None), arrays.pop("held_out_logits", None)
            occluded: dict[str, dict[float, Tensor]] = {}
            for name, array in arrays.items():
                fill, share = name.removeprefix("occluded_").rsplit("_", 1)
                occluded.setdefault(fill, {})[float(share)] = array
        # numpy raises many kinds of error for a file that is no archive.
        except Exception as error:
            raise SoftaugError(
                f"{path}: not readable as predictions ({type(error).__name__}: {error}); "
                "evaluate the model again to write them"
            ) from error
        return Predictions(labels, logits, occluded, *held_out)


def predict_logits(
    model: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    batch_size: int = 500,
    device: torch.device | str | None = None,
) -> Float32[Tensor, "n k"]:
    """Compute the model's logits for uint8 images, float32 [N,K] on the CPU.

    The model runs in eval mode without gradients; afterwards every module is in its former mode.
    device: where the batches are moved; by default to the device of the model's parameters.
    """
    if len(images) == 0:
        raise ValueError("predict_logits needs at least one image, got none")
    if device is None:
        first = next(model.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
    with _eval_mode(model), torch.inference_mode():
        batches = [
            model(images[rows].to(device)).float().cpu()
            for rows in batch_slices(len(images), batch_size)
        ]
    # Tensors made in inference mode never take part in autograd; a copy made outside does.
    return torch.cat(batches)


def predict_shared(
    model: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    processes: Processes,
    batch_size: int = 500,
) -> Float32[Tensor, "n k"]:
    """Split `predict_logits` over the processes of a run; all receive all logits."""
    mine = images[processes.share(len(images))]
    return processes.gather(predict_logits(model, mine, batch_size))


def require_finite(logits: Tensor, share: float, images: str = "test images") -> Tensor:
    """Return logits [N,K]; raise SoftaugError where one is not finite, naming the hidden share."""
    bad = int((~logits.isfinite()).any(dim=1).sum())
    if bad:
        raise SoftaugError(
            f"the model's logits are not finite for {bad} of {len(logits)} {images} with "
            f"{share:.0%} hidden; training has probably diverged: lower the learning rate"
        )
    return logits


def batch_slices(n: int, size: int) -> Iterator[slice]:
    """Split n samples, in order, into slices of `size`; the last one may be shorter."""
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {size}")
    return (slice(start, start + size) for start in range(0, n, size))


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Set eval mode for the block, then restore each module's own mode (frozen ones stay so)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
