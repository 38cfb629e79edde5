"""A curve that is learned during training, from how sure the model is of images held out."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from softaug.checks import check_between, check_labels, check_numbers
from softaug.curves import PowerCurve

MOST_ALPHA = 0.3
LEAST_K, MOST_K = 0.5, 4.0
ROUNDING = 1e-6
RATE = 0.5  # the share of a gap that one observation corrects: the next one sees what it did
# What is thought likely before any observation: changes of alpha of 0.05 and of log k of 0.5. The
# confidence of one image differs from whether it is right by about 0.45.
PRIOR = tuple((0.45 / likely) ** 2 for likely in (0.05, 0.5))


class CalibratedCurve:
    """A PowerCurve whose ceiling and exponent follow the calibration of the model in training.

    confidence = c - (c - chance) (1 - v)^k with c = 1 - alpha (1 - chance); alpha starts at 0 and k
    at the paper's 2, so that before the first observation it is the paper's curve.

    Call `observe` several times, best from 30 to 90 % of the training, with the model's logits for
    held-out images. Whole images determine the ceiling; images augmented by the transform that the
    model trains with determine the exponent too. An over-confident model (mean confidence above its
    accuracy) gets softer targets, an under-confident one harder targets. Fit a temperature on other
    held-out images.

    chance in [0, 1): the confidence where nothing is visible, 1/num_classes in the paper.

    The curve changes where it is: a DataLoader's workers hold copies, so with this curve the
    augmentation belongs into the training loop, not into a `collate_fn`.

    Sources: Qin et al. 2023, AutoLabel, arXiv 2302.11188 (labels by calibration on held-out images,
    there a free number for each strength); Liu et al. 2023, eq. 7 (the family of curves).

    >>> curve = CalibratedCurve(chance=0.1)
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]]).repeat(500, 1)  # 88 % sure, 50 % right
    >>> curve.observe(logits, torch.zeros(1000, dtype=torch.int64))
    >>> curve(torch.tensor([1.0]))
    tensor([0.8269])
    """

    def __init__(self, chance: float) -> None:
        check_numbers("CalibratedCurve", "chance", chance)
        self.chance = chance
        self.alpha, self.log_k = 0.0, math.log(2.0)
        self._curve()  # checks chance

    @property
    def k(self) -> float:
        """The exponent, in [0.5, 4]."""
        return math.exp(self.log_k)

    @property
    def ceiling(self) -> float:
        """The confidence where all is visible."""
        return 1 - self.alpha * (1 - self.chance)

    def __call__(self, visibility: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return self._curve()(visibility)

    def __repr__(self) -> str:
        return (
            f"CalibratedCurve(chance={self.chance:g}): ceiling {self.ceiling:.3f}, k {self.k:.2f}"
        )

    def observe(
        self,
        logits: Float[Tensor, "n k"],
        labels: Int64[Tensor, "n"] | Any,
        visibility: Float[Tensor, "n"] | Any = None,
    ) -> None:
        """Move the curve towards the one at which the model's confidence equals its accuracy.

        logits [N,K], labels [N] and visibilities [N] of images that do not train the model, tensors
        or what makes one; without visibilities they are whole. One call corrects up to half of the
        gap between the model's confidence and its accuracy, by one damped Gauss-Newton step in
        (alpha, log k), and less the fewer the images are: 500 are worth a call of their own.
        Raises ValueError for no images, logits that are not finite, and labels or visibilities out
        of range.
        """
        logits, labels = torch.as_tensor(logits), torch.as_tensor(labels)
        seen = logits.new_ones(len(logits)) if visibility is None else torch.as_tensor(visibility)
        _check(logits, labels, seen)
        confidence, predicted = logits.detach().double().softmax(dim=1).max(dim=1)
        gap = (confidence - (predicted == labels).double()).cpu()
        slopes = self._slopes(seen.detach().double().cpu())
        normal = slopes.T @ slopes + torch.tensor(PRIOR, dtype=torch.float64, device="cpu").diag()
        alpha, log_k = torch.linalg.solve(normal, slopes.T @ gap).tolist()
        self.alpha = min(max(self.alpha - RATE * alpha, 0.0), MOST_ALPHA)
        log_k = self.log_k - RATE * log_k
        self.log_k = min(max(log_k, math.log(LEAST_K)), math.log(MOST_K))

    def state_dict(self) -> dict[str, float]:
        """Return what was learned, for a checkpoint."""
        return {"alpha": self.alpha, "log_k": self.log_k, "chance": self.chance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; raises ValueError for the state of something else.

        A state of an earlier version has no chance.
        """
        learned = {"alpha": (0.0, MOST_ALPHA), "log_k": (math.log(LEAST_K), math.log(MOST_K))}
        if not isinstance(state, Mapping) or {*state} - {"chance"} != {*learned}:
            got = ", ".join(map(str, state)) if isinstance(state, Mapping) else repr(state)
            raise ValueError(
                f"CalibratedCurve: expected a state of alpha and log_k, got {got or 'an empty one'}"
            )
        check_numbers("CalibratedCurve", "a state", *state.values())
        for name, (least, most) in learned.items():
            if not least - ROUNDING <= state[name] <= most + ROUNDING:
                raise ValueError(
                    f"CalibratedCurve: {name} must be in [{least:.4g}, {most:.4g}] in a state, got "
                    f"{state[name]}"
                )
        if abs(state.get("chance", self.chance) - self.chance) > ROUNDING:
            raise ValueError(
                f"CalibratedCurve: the state is of a curve of chance {state['chance']:g}, and this "
                f"one has {self.chance:g}; make the curve with the chance of the state"
            )
        self.alpha, self.log_k = float(state["alpha"]), float(state["log_k"])

    def _curve(self) -> PowerCurve:
        return PowerCurve(self.k, chance=self.chance, ceiling=self.ceiling)

    def _slopes(self, visibility: Tensor) -> Tensor:
        """The derivatives [N,2] of the confidence by alpha and log k."""
        lost = (1 - visibility).clamp(min=0)
        left = lost**self.k
        by_alpha = -(1 - self.chance) * (1 - left)
        by_log_k = -(self.ceiling - self.chance) * self.k * torch.xlogy(left, lost)
        return torch.stack([by_alpha, by_log_k], dim=1)


def _check(logits: Tensor, labels: Tensor, visibility: Tensor) -> None:
    expected = "CalibratedCurve.observe: "
    if logits.ndim != 2 or not len(logits):
        raise ValueError(
            f"{expected}logits must be [N,K] of one image or more, got {list(logits.shape)}"
        )
    for name, values in {"labels": labels, "visibility": visibility}.items():
        if values.shape != logits.shape[:1]:
            raise ValueError(
                f"{expected}{name} must be [N] with N = {len(logits)} as the logits, "
                f"got {list(values.shape)}"
            )
    if not logits.isfinite().all():
        bad = int((~logits.isfinite()).any(dim=1).sum())
        raise ValueError(
            f"{expected}logits must be finite, {bad} of {len(logits)} images have others"
        )
    check_labels(labels, logits.shape[1])
    check_between(visibility, 0, 1.001, f"{expected}visibility must be in [0, 1]")
