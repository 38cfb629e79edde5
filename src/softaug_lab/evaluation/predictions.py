"""Logits of a model for test images, kept in a file so that every metric can be recomputed.

n test images, m held-out images, k classes, c channels, h w pixels.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.storage import write_atomically

OPTIONAL = ("mix_logits", "held_out_labels", "held_out_logits")


@dataclass(frozen=True, eq=False)
class LevelLogits:
    """Logits float32 [N,K] of the test images with a share of each lost.

    fill: uint8 [N], which of its group's fills each image has. actual_share: of the area lost.
    """

    logits: Float32[Tensor, "n k"]
    fill: UInt8[Tensor, "n"]
    actual_share: float


Level = tuple[str, str, float]  # kind of view, group of fills, share asked for


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels int64 [N] and logits float32 [N,K] of test images, whole and where they lack a part.

    levels: by kind of view, group of fills and share lost. fills: names of each group's fills.
    mix_logits: [N,K] of the mix of whole, cut-off and hidden images. held_out_labels,
    held_out_logits: of training images [M] that did not train the model, to fit its temperature on.
    Without views, levels is empty and mix_logits None.
    """

    labels: Int64[Tensor, "n"]
    logits: Float32[Tensor, "n k"]
    levels: Mapping[Level, LevelLogits] = field(default_factory=dict)
    fills: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mix_logits: Float32[Tensor, "n k"] | None = None
    held_out_labels: Int64[Tensor, "m"] | None = None
    held_out_logits: Float32[Tensor, "m k"] | None = None

    def save(self, path: str | Path) -> None:
        """Write an .npz file atomically."""
        optional = {name: getattr(self, name) for name in OPTIONAL}
        arrays = {"labels": self.labels.numpy(), "logits": self.logits.numpy()}
        arrays |= {name: array.numpy() for name, array in optional.items() if array is not None}
        arrays |= {f"fills_{group}": np.array(names) for group, names in self.fills.items()}
        for (kind, group, share), level in self.levels.items():
            name = f"{kind}_{group}_{share}"
            arrays[name] = level.logits.numpy()
            arrays[f"{name}_fill"] = level.fill.numpy()
            arrays[f"{name}_actual"] = np.array(level.actual_share)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_atomically(Path(path), buffer.getvalue())

    @staticmethod
    def load(path: str | Path) -> "Predictions":
        """Read a file that `save` wrote; raises SoftaugError where it is absent or broken.

        A file of an earlier version has no views.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            found = {n: torch.from_numpy(arrays[n]) for n in ("labels", "logits")}
            found |= {n: torch.from_numpy(arrays[n]) for n in OPTIONAL if n in arrays}
            return Predictions(
                **found,
                levels=_levels(arrays),
                fills={
                    name.removeprefix("fills_"): tuple(array.tolist())
                    for name, array in arrays.items()
                    if name.startswith("fills_")
                },
            )
        # numpy raises many kinds of error for a file that is no archive.
        except Exception as error:
            raise SoftaugError(
                f"{path}: not readable as predictions ({type(error).__name__}: {error}); "
                "evaluate the model again to write them"
            ) from error


def _levels(arrays: Mapping[str, np.ndarray]) -> dict[Level, LevelLogits]:
    """The levels among the arrays of a file."""
    levels = {}
    for name in (name.removesuffix("_fill") for name in arrays if name.endswith("_fill")):
        kind, group, share = name.rsplit("_", 2)
        levels[kind, group, float(share)] = LevelLogits(
            torch.from_numpy(arrays[name]),
            torch.from_numpy(arrays[f"{name}_fill"]),
            float(arrays[f"{name}_actual"]),
        )
    return levels


def require_finite(logits: Tensor, images: str = "test images") -> Tensor:
    """Return logits [N,K] of some images; raise SoftaugError where one is not finite."""
    bad = int((~logits.isfinite()).any(dim=1).sum())
    if bad:
        raise SoftaugError(
            f"the model's logits are not finite for {bad} of {len(logits)} {images}; training has "
            "probably diverged: lower the learning rate"
        )
    return logits
