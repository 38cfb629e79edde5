"""Explorer: compute what the page shows, by the transforms, curves and models of training.

n images, c channels, h w pixels, k classes.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

import softaug
from softaug import PowerCurve, SoftAugment
from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.data import ImageSet, begun, png_text
from softaug_lab.explore import controls
from softaug_lab.models import predict_logits
from softaug_lab.recipes import Recipe, transform_of
from softaug_lab.training import build_arm

SHOWN, SHOWN_LARGE, LARGE = 24, 12, 128  # images at a time, and the side from which they are fewer
POINTS, TOP = 61, 3  # of the drawn curve, and classes named of a prediction
# What the hidden or cut-off part shows: of "mixed" nobody could say which of its kinds it is.
STAGE_FILLS = {word: name for word, name in controls.FILLS.items() if word != "mixed"}


@dataclass(frozen=True, eq=False)
class Explorer:
    """What one page shows: images, the augmentation to begin with, and a model or none.

    name: of the data. classes: the names that the labels number, k in all; with a model, those of
    its logits. part: which images these are, such as `test`. recipe: an arm auto with augmentation
    and k, which the page begins with. command: `softaug train` and its arguments for these data.
    model: from uint8 images to logits, which are divided by the temperature.
    """

    name: str
    classes: Sequence[str]
    images: ImageSet
    part: str
    recipe: Recipe
    command: Sequence[str]
    model: nn.Module | None = None
    model_name: str = ""
    temperature: float = 1.0

    def about(self) -> dict[str, Any]:
        """Describe the data, the model, the controls and the settings to begin with."""
        height, width = self.images.images.shape[-2:]
        return {
            "name": self.name,
            "part": self.part,
            "count": len(self.images),
            "classes": len(self.classes),
            "height": height,
            "width": width,
            "model": None if self.model is None else self.model_name,
            "temperature": self.temperature,
            "controls": controls.described(),
            "fills": controls.FILLS,
            "stage_fills": STAGE_FILLS,
            "text": self.recipe.augment,
            "k": self.recipe.k,
            "flip": self.recipe.flip,
        }

    def augment(
        self,
        *,
        k: float,
        flip: bool,
        images: int,
        draw: int,
        text: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Augment images as training would, from a text or from the settings of the controls.

        images: seed of the choice of images. draw: which draw of the augmentation, from 0; draw 0
        is that of `softaug preview --seed IMAGES`. Raises UsageError for a wrong augmentation.
        """
        if (text is None) == (settings is None):
            raise UsageError("expected a text or settings of the controls")
        text = controls.write(settings) if settings is not None else str(text).strip()
        recipe = replace(self.recipe, augment=text, k=float(k), flip=bool(flip))
        height, width = self.images.images.shape[-2:]
        augment = build_arm(recipe, len(self.classes), height, width, self.images.objects)
        order = self._chosen(images)
        pixels, share = _applied(augment, self.images[order], images + 1 + draw)
        confidence = self._curve(recipe.k)(share)
        return {
            "text": text,
            "settings": self._settings(recipe),
            "command": self._command(recipe),
            "curve": self.curve(recipe.k),
            "images": [
                {
                    "index": index,
                    "class": self._class(index),
                    "png": png_text(pixels[i]),
                    "visibility": share[i].item(),
                    "confidence": confidence[i].item(),
                }
                for i, index in enumerate(order.tolist())
            ],
        }

    def hide(self, *, image: int, x: int, y: int, side: int, fill: str, k: float) -> dict[str, Any]:
        """Cover a square of one image, whose left top corner is at (x, y), in whole pixels."""
        top, left, bottom, right = (self._pixels(at) for at in (y, x, y + side, x + side))
        edges = {"top": top, "left": left, "bottom": bottom, "right": right}
        return self._look(softaug.Erase(fill=_fill(fill)), edges, image, k)

    def cut(self, *, image: int, x: int, y: int, fill: str, k: float) -> dict[str, Any]:
        """Move one image by (x, y) whole pixels against its frame, which cuts off the rest."""
        offset = {"tx": self._pixels(-x), "ty": self._pixels(-y)}
        return self._look(softaug.UniformCrop(fill=_fill(fill)), offset, image, k)

    def curve(self, k: float | None) -> list[tuple[float, float]]:
        """Return points (visibility, confidence) of the curve with exponent k."""
        grid = torch.linspace(0, 1, POINTS, dtype=torch.float64)
        return list(zip(grid.tolist(), self._curve(k)(grid).tolist(), strict=True))

    def _look(
        self, transform: softaug.Erase | softaug.UniformCrop, place: Mapping[str, int], image: int,
        k: float,
    ) -> dict[str, Any]:  # fmt: skip
        """Apply a transform at a given place, and ask the model about the result."""
        if not 0 <= image < len(self.images):
            raise UsageError(f"image must be 0 to {len(self.images) - 1}, got {image}")
        # A second image, for the fill that shows another one.
        rows = torch.tensor([image, (image + 1) % len(self.images)])
        pair = self.images[rows]
        # The same random numbers for every place, so that the fill is still during a drag.
        height, width = pair.images.shape[-2:]
        drawn = transform.draw(2, height, width, Generator().manual_seed(0))
        drawn |= {name: torch.tensor([at, at]) for name, at in place.items()}
        views, seen = transform.apply(pair.images, begun(pair.objects), drawn)
        share = softaug.visibility(seen)[:1]
        return {
            "png": png_text(views[0]),
            "class": self._class(image),
            "visibility": share.item(),
            "confidence": self._curve(k)(share).item(),
            "prediction": self._prediction(views[:1], int(self.images.labels[image])),
        }

    def _prediction(self, view: UInt8[Tensor, "1 c h w"], label: int) -> dict[str, Any] | None:
        """The most probable classes for a view, after the temperature; None without a model."""
        if self.model is None:
            return None
        logits = predict_logits(self.model, view)[0]
        if not logits.isfinite().all():
            raise SoftaugError("the model's logits are not finite; training has probably diverged")
        probabilities = (logits / self.temperature).softmax(dim=0)
        best = probabilities.topk(min(TOP, len(self.classes)))
        found = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return {
            "right": found[0][0] == label,
            "top": [
                {"class": self.classes[i], "confidence": p, "true": i == label} for i, p in found
            ],
        }

    def _curve(self, k: float | None) -> PowerCurve:
        assert k is not None
        return PowerCurve(k=float(k), chance=1 / len(self.classes))

    def _settings(self, recipe: Recipe) -> controls.Settings | None:
        """The settings of the controls that the recipe's text equals, None without such settings.

        Transforms without a fill leave that of the controls open.
        """
        height, width = self.images.images.shape[-2:]
        transform = transform_of(recipe, height, width)
        found = controls.read(transform)
        if found is None:
            return None
        filled = {**found, "fill": found["fill"] or next(iter(controls.FILLS))}
        again = transform_of(replace(recipe, augment=controls.write(filled)), height, width)
        return found if again == transform else None

    def _command(self, recipe: Recipe) -> str:
        options = ["--augment", str(recipe.augment), "--k", f"{recipe.k:.6g}"]
        return shlex.join([*self.command, *options, *([] if recipe.flip else ["--no-flip"])])

    def _chosen(self, seed: int) -> Tensor:
        large = max(self.images.images.shape[-2:]) >= LARGE
        order = torch.randperm(len(self.images), generator=Generator().manual_seed(seed))
        return order[: SHOWN_LARGE if large else SHOWN]

    def _class(self, image: int) -> str:
        return self.classes[int(self.images.labels[image])]

    @cached_property
    def _longest(self) -> int:
        return max(self.images.images.shape[-2:])

    def _pixels(self, at: int) -> int:
        """A place in whole pixels, at most two sides away."""
        return max(-2 * self._longest, min(2 * self._longest, int(at)))


def _applied(
    augment: SoftAugment, chosen: ImageSet, seed: int
) -> tuple[UInt8[Tensor, "n c h w"], Float[Tensor, "n"]]:
    """Draw and apply an augmentation; return the images and their visibilities [n]."""
    height, width = chosen.images.shape[-2:]
    drawn = augment.transform.draw(len(chosen), height, width, Generator().manual_seed(seed))
    pixels, seen = augment.transform.apply(chosen.images, begun(chosen.objects), drawn)
    return pixels, softaug.visibility(seen)


def _fill(word: str) -> float | str:
    """The fill by its word on the page."""
    if word not in STAGE_FILLS:
        raise UsageError(f"unknown fill {word!r}")
    return int(word) if word.isdecimal() else word
