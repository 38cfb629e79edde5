"""SoftAugment: transform, visibility, curve, targets; the method in one call."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor
from torch.utils.data import get_worker_info

from softaug.checks import check_batch, check_drawn, check_visibility, check_whole
from softaug.curves import Curve, PowerCurve
from softaug.targets import as_labels, as_rows, smooth, weigh
from softaug.transforms.base import Drawn, Transform, visible
from softaug.transforms.pixels import from_pil


@dataclass(eq=False)
class SoftAugment:
    """Augment a batch and soften its targets by what the augmentation destroyed.

    transform: changes images and the map of what is still seen (`Crop`, `Chain`, ...).
    num_classes: K >= 2.
    curve: visibility to confidence; None is the paper's `PowerCurve(k=2, chance=1/num_classes)`.
    soften: True spreads the lost confidence over the other classes (soft target), False keeps the
        labels hard. A function from labels or rows and confidences to rows replaces the rule, such
        as `partial(smooth_by_confusion, confusion=C)`.
    weight: a function from confidences [N] to weights [N] (`per_sample`, `mean_one`), folded into
        the rows; with soften=False it is the paper's soft weight, with soften=True its eq. 6.
    generator: on the CPU; None for torch's own. In a DataLoader worker it is mixed with the
        worker's seed, so that workers and epochs differ.
    mixup_enabled: no argument, and the one attribute that may be set. At False, as timm's
        `train.py` sets it after `--mixup-off-epoch`, images pass unchanged with hard rows.

    The targets go to `F.cross_entropy` as they are. Rows cannot do everything: `ignore_index`
    doesn't apply, `weight=` divides by N, and `label_smoothing=` smears weighted rows.

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
    mixup_enabled: bool = field(default=True, init=False, repr=False)
    # Generators by worker seed, so that a worker that lives for many epochs goes on drawing.
    _by_worker_seed: dict[int, Generator] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_whole("SoftAugment", "num_classes", self.num_classes, 2)
        if isinstance(self.transform, type) or not isinstance(self.transform, Transform):
            raise ValueError(
                f"transform must have draw and apply, as softaug's have, got {self.transform!r}; "
                "softaug.Borrowed takes those of other libraries"
            )
        if not isinstance(self.soften, bool) and not callable(self.soften):
            raise ValueError(f"soften must be True, False or a function, got {self.soften!r}")
        for name in ("curve", "weight"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                raise ValueError(
                    f"{name} must be None or a function of tensors, got {getattr(self, name)!r}"
                )
        if not (self.generator is None or isinstance(self.generator, Generator)):
            raise ValueError(
                f"generator must be None or a torch.Generator, got {self.generator!r}; "
                "torch.Generator().manual_seed(seed)?"
            )
        if self.curve is None:
            object.__setattr__(self, "curve", PowerCurve(k=2, chance=1 / self.num_classes))

    def __setattr__(self, name: str, value: Any) -> None:
        # A frozen dataclass but for one field: what was made is not made over.
        if name != "mixup_enabled" and name in self.__dict__:
            raise FrozenInstanceError(f"cannot assign to field {name!r}; use dataclasses.replace")
        super().__setattr__(name, value)

    def __call__(
        self,
        images: Shaped[Tensor, "*n c h w"] | Any,
        labels: Shaped[Tensor, "..."] | int | None = None,
        *,
        seen: Float[Tensor, "*n 1 h w"] | None = None,
        drawn: Drawn | None = None,
    ) -> tuple[Tensor, Float[Tensor, "*n k"]]:
        """Return augmented images and their targets, float32 [N,K].

        images: [N,C,H,W], or one image [C,H,W] with one label; uint8 or float; never changed. One
            picture of PIL with one label works too (it becomes uint8), so that a SoftAugment can
            be a data set's `transforms=`.
        labels: integers [N] or rows [N,K] (after MixUp, say). Multi-hot labels [N,K] are read as
            rows too, so they need `soften=partial(smooth_multilabel, prior=...)`.
        seen: the map to begin with, None for all ones; drawn: draws to use instead of new ones.
        Raises ValueError for labels out of range or on another device, wrong shapes and dtypes,
        draws of another number of samples, maps whose mean exceeds 1, and pixels that are not
        finite; TypeError without labels.
        """
        if labels is None:  # a data set's transform= gets no label
            raise TypeError(
                "SoftAugment takes images and labels, got no labels; pass it as transforms= of a "
                "data set, not as transform=, or call it in collate_fn or in the training loop"
            )
        if not isinstance(images, Tensor):
            images = from_pil(images)
        if images.ndim == 3:
            one = as_labels(labels)
            if one.ndim and one.shape != (self.num_classes,):
                raise ValueError(
                    f"images {list(images.shape)} are read as one image [C,H,W] with one label or "
                    f"row [{self.num_classes}], got labels {list(one.shape)}; images[:, None] for "
                    "a batch of grey ones"
                )
            batch, rows = self(
                images[None],
                one.to(images.device)[None],
                seen=None if seen is None else seen[None],
                drawn=drawn,
            )
            return batch[0], rows[0]
        labels = as_labels(labels)
        check_batch(images, labels, seen)
        if not self.mixup_enabled:
            return images, as_rows(labels, self.num_classes)
        if drawn is None:
            height, width = images.shape[-2:]
            drawn = self.transform.draw(len(images), height, width, self._generator())
        else:
            check_drawn(drawn, len(images))
        images, share = visible(self.transform, images, seen, drawn)
        if seen is not None:
            check_visibility(share)
        return images, self.targets(labels, share)

    def targets(
        self, labels: Shaped[Tensor, "n *k"], visibility: Float[Tensor, "n"]
    ) -> Float[Tensor, "n k"]:
        """Return the rows for labels [N] or rows [N,K] of images with these visibilities.

        A subclass may override this method, to use the visibility in another way.
        """
        assert self.curve is not None
        confidence = self.curve(visibility)
        if callable(self.soften):
            rows = self.soften(labels, confidence)
        elif self.soften:
            rows = smooth(labels, confidence, self.num_classes)
        else:
            rows = as_rows(labels, self.num_classes)
        return rows if self.weight is None else weigh(rows, self.weight(confidence))

    def _generator(self) -> Generator | None:
        """The generator given; in a DataLoader worker, one seeded by it and the worker's seed."""
        if self.generator is None:
            return None
        worker = get_worker_info()
        if worker is None:
            return self.generator
        if worker.seed not in self._by_worker_seed:
            seed = hash((self.generator.initial_seed(), worker.seed)) % 2**63
            self._by_worker_seed[worker.seed] = Generator().manual_seed(seed)
        return self._by_worker_seed[worker.seed]

    # A spawned worker receives a pickle, in which torch (2.14) cannot handle a generator.
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
