"""SoftAugment: transform, visibility, curve, targets; the method in one call."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor
from torch.utils.data import get_worker_info

from softaug.curves import Curve, PowerCurve
from softaug.maps import visibility
from softaug.targets import as_rows, smooth, weigh
from softaug.transforms import Drawn, Transform
from softaug.transforms.closed_form import without_a_map


@dataclass(frozen=True, eq=False)
class SoftAugment:
    """Augment a batch and soften its targets by what the augmentation destroyed.

    transform: moves images and the map of what is seen (`Crop`, `Chain`, ...).
    num_classes: K >= 2.
    curve: visibility to confidence; None is the paper's `PowerCurve(k=2, chance=1/num_classes)`.
    soften: spread the lost confidence over the other classes (soft target), or a rule of one's own
        from labels or rows and confidences to rows, such as
        `partial(smooth_by_confusion, confusion=C)`.
    weight: a rule from confidences [N] to weights [N] (`per_sample`, `mean_one`), folded into the
        rows; with soften=False it is the paper's soft weight, with soften=True its eq. 6.
    generator: on the CPU; None for torch's own. In a DataLoader worker the worker's seed is mixed
        in, so that workers and epochs differ.

    The targets go to `F.cross_entropy` as they are. Where rows cannot serve: `ignore_index` doesn't
    apply, `weight=` divides by N, and `label_smoothing=` smears weighted rows.

    Source: Liu et al. 2023, eqs. 4-7.

    >>> import softaug
    >>> augment = softaug.SoftAugment(softaug.Crop(sigma=0.3), num_classes=100)
    >>> images, targets = augment(torch.rand(8, 3, 32, 32), torch.arange(8))
    >>> targets.shape
    torch.Size([8, 100])
    """

    transform: Transform
    num_classes: int
    curve: Curve | None = None
    soften: bool | Callable[[Tensor, Tensor], Tensor] = True
    weight: Callable[[Tensor], Tensor] | None = None
    generator: Generator | None = field(default=None, repr=False)
    # A worker's own generator, kept so that a worker that lives for many epochs goes on drawing.
    _by_worker_seed: dict[int, Generator] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {self.num_classes}")
        if self.curve is None:
            object.__setattr__(self, "curve", PowerCurve(k=2, chance=1 / self.num_classes))

    def __call__(
        self,
        images: Shaped[Tensor, "*n c h w"] | Any,
        labels: Shaped[Tensor, "..."] | int,
        *,
        seen: Float[Tensor, "*n 1 h w"] | None = None,
        drawn: Drawn | None = None,
    ) -> tuple[Tensor, Float[Tensor, "*n k"]]:
        """Return augmented images and their targets, float32 [N,K].

        images: [N,C,H,W], or one image [C,H,W] with one label; uint8 or float; never changed. One
            picture of PIL with one label works too (it becomes uint8), so that this is a data
            set's `transforms=`.
        labels: integers [N] or rows [N,K] (after MixUp, say).
        seen: the map to begin with, None for all ones; drawn: draws to use instead of new ones.
        Raises ValueError for labels out of range, wrong shapes, and pixels that are not finite.
        """
        if not isinstance(images, Tensor):
            images = _from_pil(images)
        if images.ndim == 3:
            one = torch.as_tensor(labels, device=images.device)[None]
            batch, rows = self(
                images[None], one, seen=None if seen is None else seen[None], drawn=drawn
            )
            return batch[0], rows[0]
        labels = torch.as_tensor(labels)
        self._check(images, labels, seen)
        if drawn is None:
            drawn = self.transform.draw(
                len(images), images.shape[-2], images.shape[-1], self._generator()
            )
        # Somebody's own `targets` is to get its map.
        if seen is None and type(self).targets is SoftAugment.targets:
            known = without_a_map(self.transform, images, drawn)
            if known is not None:
                images, left = known
                return images, self._rows(labels, left)
        images, seen = self.transform.apply(images, seen, drawn)
        return images, self.targets(labels, seen)

    def targets(
        self, labels: Shaped[Tensor, "n *k"], seen: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n k"]:
        """The rows for labels [N] or rows [N,K] of images of which `seen` is left."""
        return self._rows(labels, visibility(seen))

    def _rows(
        self, labels: Shaped[Tensor, "n *k"], left: Float[Tensor, "n"]
    ) -> Float[Tensor, "n k"]:
        assert self.curve is not None
        confidence = self.curve(left)
        if callable(self.soften):
            rows = self.soften(labels, confidence)
        elif self.soften:
            rows = smooth(labels, confidence, self.num_classes)
        else:
            rows = as_rows(labels, self.num_classes)
        return rows if self.weight is None else weigh(rows, self.weight(confidence))

    def _generator(self) -> Generator | None:
        """The held generator; in a DataLoader worker one of the worker's own."""
        if self.generator is None:
            return None
        worker = get_worker_info()
        if worker is None:
            return self.generator
        if worker.seed not in self._by_worker_seed:
            seed = hash((self.generator.initial_seed(), worker.seed)) % 2**63
            self._by_worker_seed[worker.seed] = Generator().manual_seed(seed)
        return self._by_worker_seed[worker.seed]

    # A worker that is spawned gets a pickle, and torch (2.14) breaks there on a generator in it.
    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_by_worker_seed": {}}
        if self.generator is not None:
            state["generator"] = self.generator.get_state().tolist()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["generator"] is not None:
            held = torch.tensor(state["generator"], dtype=torch.uint8)
            state = {**state, "generator": Generator().set_state(held)}
        self.__dict__.update(state)

    def _check(self, images: Tensor, labels: Tensor, seen: Tensor | None) -> None:
        if images.ndim != 4:
            raise ValueError(f"images must be [N,C,H,W] or [C,H,W], got {list(images.shape)}")
        if labels.ndim == 0 or len(labels) != len(images):
            raise ValueError(
                f"labels must be [N] or [N, num_classes] with N = {len(images)} as the images, "
                f"got {list(labels.shape)}"
            )
        expected = (len(images), 1, *images.shape[-2:])
        if seen is not None and seen.shape != expected:
            raise ValueError(f"seen must be {list(expected)}, got {list(seen.shape)}")
        if torch.compiler.is_compiling() or not images.is_floating_point():
            return
        if images.device.type != "cpu":
            torch._assert_async(images.isfinite().all())
        # One sum is cheaper than a mask; only a suspect batch is looked at pixel by pixel.
        elif not images.sum(dtype=torch.float32).isfinite():
            bad = (~images.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
            if bad:  # and no sum of finite pixels that is too large
                raise ValueError(
                    f"images must be finite, got NaN or infinite pixels in samples {bad[:10]}"
                )


def _from_pil(picture: Any) -> Tensor:
    """A picture of PIL as uint8 [C,H,W]."""
    mode = getattr(picture, "mode", None)
    if mode is None:
        raise TypeError(
            f"images must be a tensor or a picture of PIL, got {type(picture).__name__}"
        )
    if mode not in ("L", "LA", "RGB", "RGBA"):
        raise ValueError(f'a picture of PIL must be grey or RGB, got "{mode}"; convert("RGB") it')
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
