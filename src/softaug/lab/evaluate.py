"""One trained model on one test set: predictions to keep, and the figures computed from them.

Evaluation = summarise(Predictions): the logits are kept, so that every figure can be recomputed
and arms can be compared image by image. n samples, c channels, h w pixels, k classes.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor, nn

from softaug.lab import metrics
from softaug.lab.data import ImageSet
from softaug.lab.engine import Engine
from softaug.lab.errors import SoftaugError
from softaug.lab.figures import Figures, figures
from softaug.lab.files import write_atomically
from softaug.lab.seeds import keyed
from softaug.lab.selective import Risk, risk_coverage
from softaug.lab.temperature import fit_temperature, scale

OCCLUSION_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
Colour = float | Sequence[float]  # 0 to 255, a number or one for each channel
Fill = Colour | Literal["noise"]  # noise: every value of every pixel uniform in 0 to 255


@dataclass(frozen=True)
class OcclusionLevel:
    """Figures with a rectangle hiding `actual_share` of each image's area; fractions."""

    share: float
    actual_share: float
    top1_error: float
    nll: float
    ece: float


@dataclass(frozen=True)
class Evaluation(Figures):
    """All figures of one model on one test set; fractions, not percent.

    `scaled` has the same of the logits divided by `temperature`, which was fitted on held-out
    training images. Both None where none were.
    """

    images: int
    top1_error: float
    top5_error: float
    ece_bins: int
    temperature: float | None
    scaled: Figures | None
    reliability: tuple[metrics.Bin, ...]
    risk_coverage: tuple[Risk, ...]
    occlusion: Mapping[str, tuple[OcclusionLevel, ...]]  # by the name of the fill
    occlusion_area: Mapping[str, Mapping[str, float]]  # by fill, then of top1_error and ece

    def as_dict(self) -> dict[str, Any]:
        """The fields as dicts, lists and numbers, ready for JSON."""
        fields: dict[str, Any] = _without_tuples(asdict(self))
        return fields


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels int64 [N] and logits float32 [N,K], plain and with a share of each image hidden.

    occluded_logits: float32 [N,K] for each fill and each share of OCCLUSION_SHARES above 0.
    held_out: of training images [M] that did not train the model, to fit its temperature on.
    """

    labels: Int64[Tensor, "n"]
    logits: Float32[Tensor, "n k"]
    occluded_logits: Mapping[str, Mapping[float, Float32[Tensor, "n k"]]]
    held_out_labels: Int64[Tensor, "m"] | None = None
    held_out_logits: Float32[Tensor, "m k"] | None = None

    def at(self, share: float, fill: str) -> Float32[Tensor, "n k"]:
        """The logits with this share of each image hidden; share 0 is the plain ones."""
        return self.logits if share == 0 else self.occluded_logits[fill][share]

    def save(self, path: str | Path) -> None:
        """Write an .npz file, whole or not at all."""
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
        """Read what `save` wrote; raises SoftaugError where it is absent or broken."""
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
        # numpy has no one error for a file that is no archive.
        except Exception as error:
            raise SoftaugError(
                f"{path}: not readable as predictions ({type(error).__name__}: {error}); "
                "evaluate the model again to write them"
            ) from error
        return Predictions(labels, logits, occluded, *held_out)


def evaluate(
    model: nn.Module,
    test: ImageSet,
    *,
    fills: Mapping[str, Fill],
    seed: int = 0,
    bins: int = 15,
    batch_size: int = 500,
    engine: Engine | None = None,
    held_out: ImageSet | None = None,
) -> tuple[Evaluation, Predictions]:
    """Predict the test set, plain and under occlusion, and sum it up.

    The hidden rectangles depend on `seed` and the images' number and size alone: they are the same
    for every model and every fill, and so is the noise. fills: names and colours of what hides.
    engine: its processes share the work, image by image, and all have the whole result. held_out:
    training images that did not train the model; the temperature is fitted on them, without them
    there is none. Raises
    SoftaugError where the model's logits are not finite.
    """
    engine = engine or Engine(torch.device("cpu"))
    own = engine.share(len(test))
    numbers = torch.arange(len(test))[own]
    generator = torch.Generator().manual_seed(seed)
    plain = _finite(engine.gather(predict_logits(model, test.images[own], batch_size)), share=0.0)
    occluded: dict[str, dict[float, Tensor]] = {fill: {} for fill in fills}
    actual_shares = [0.0]
    for share in OCCLUSION_SHARES[1:]:
        rectangles = draw_rectangles(test.images, share, generator)[own]
        for name, fill in fills.items():
            batches = []
            # A batch at a time: a test set of photographs need not fit into memory twice.
            for some in _slices(len(rectangles), batch_size):
                images = test.images[own][some]
                covered = cover(
                    images,
                    rectangles[some],
                    draw_noise(images, numbers[some], share, seed) if fill == "noise" else fill,
                )
                batches.append(predict_logits(model, covered, batch_size))
            occluded[name][share] = _finite(engine.gather(torch.cat(batches)), share)
        actual_shares.append(hidden_share(test.images, share))
    predictions = Predictions(test.labels.cpu(), plain, occluded)
    if held_out is not None:
        own = engine.share(len(held_out))
        logits = engine.gather(predict_logits(model, held_out.images[own], batch_size))
        predictions = replace(
            predictions,
            held_out_labels=held_out.labels.cpu(),
            held_out_logits=_finite(logits, share=0.0, images="held-out images"),
        )
    return summarise(predictions, actual_shares, bins), predictions


def summarise(
    predictions: Predictions, actual_shares: Sequence[float], bins: int = 15
) -> Evaluation:
    """Every figure from the saved logits alone; scaled ones where there are held-out logits.

    actual_shares: the share of the area hidden in truth, for each of OCCLUSION_SHARES.
    """
    labels, logits = predictions.labels, predictions.logits
    confidence, correct = metrics.top_confidence(logits, labels)
    temperature, scaled = None, None
    if predictions.held_out_logits is not None and predictions.held_out_labels is not None:
        temperature = fit_temperature(predictions.held_out_logits, predictions.held_out_labels)
        scaled = figures(scale(logits, temperature), labels, bins)
    occlusion = {
        fill: tuple(
            _level(predictions, fill, share, actual, bins)
            for share, actual in zip(OCCLUSION_SHARES, actual_shares, strict=True)
        )
        for fill in predictions.occluded_logits
    }
    return Evaluation(
        **vars(figures(logits, labels, bins)),
        images=len(labels),
        top1_error=metrics.top_k_error(logits, labels, k=1),
        top5_error=metrics.top_k_error(logits, labels, k=5),
        ece_bins=bins,
        temperature=temperature,
        scaled=scaled,
        reliability=tuple(metrics.reliability(confidence, correct, bins)),
        risk_coverage=tuple(risk_coverage(confidence, correct)),
        occlusion=occlusion,
        occlusion_area={
            fill: {key: area_under(levels, key) for key in ("top1_error", "ece")}
            for fill, levels in occlusion.items()
        },
    )


def area_under(levels: Sequence[OcclusionLevel], key: str) -> float:
    """The mean of a figure over the hidden shares, from none to the largest, in [0, 1].

    The area under the curve of the figure against the share hidden in truth, by trapezoids,
    divided by the largest share: one figure for a whole curve (Liu et al. 2023, fig. 4).
    """
    shares = [level.actual_share for level in levels]
    figures = [getattr(level, key) for level in levels]
    return float(np.trapezoid(figures, shares) / (shares[-1] - shares[0]))


def predict_logits(
    model: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    batch_size: int = 500,
    device: torch.device | str | None = None,
) -> Float32[Tensor, "n k"]:
    """The model's logits for uint8 images, float32 [N,K] on the CPU.

    Predicts in eval mode without gradients and leaves every module in the mode it was in. device:
    where the batches go; the default is where the model's parameters are.
    """
    if len(images) == 0:
        raise ValueError("predict_logits needs at least one image, got none")
    if device is None:
        first = next(model.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
    with _eval_mode(model), torch.inference_mode():
        batches = [
            model(images[some].to(device)).float().cpu()
            for some in _slices(len(images), batch_size)
        ]
    # Tensors born in inference mode refuse autograd for ever; a copy made outside does not.
    return torch.cat(batches)


def draw_rectangles(
    images: UInt8[Tensor, "n c h w"], share: float, generator: torch.Generator
) -> Int64[Tensor, "n 4"]:
    """Top, left, bottom and right of one rectangle for each image, the ends exclusive: [N,4]."""
    height, width = images.shape[-2:]
    tall, wide = _sides(images, share)
    top = torch.randint(height - tall + 1, (len(images),), generator=generator)
    left = torch.randint(width - wide + 1, (len(images),), generator=generator)
    return torch.stack([top, left, top + tall, left + wide], dim=1)


def cover(
    images: UInt8[Tensor, "n c h w"],
    rectangles: Int64[Tensor, "n 4"],
    fill: Colour | UInt8[Tensor, "n c h w"],
) -> UInt8[Tensor, "n c h w"]:
    """The images with each one's rectangle filled; the fill is rounded to whole pixel values.

    fill: a colour, or images whose pixels stand in the rectangles. Raises ValueError for a colour
    that does not fit.
    """
    channels = images.shape[1]
    if isinstance(fill, Tensor):
        return torch.where(_inside(images, rectangles), fill.to(images.device), images)
    values = [fill] if isinstance(fill, int | float) else list(fill)
    if len(values) not in (1, channels) or not all(0 <= value <= 255 for value in values):
        raise ValueError(
            f"fill must be in [0, 255], one number or one for each of {channels} channels, "
            f"got {fill}"
        )
    rounded = torch.tensor([round(v) for v in values], dtype=images.dtype, device=images.device)
    return torch.where(_inside(images, rectangles), rounded.view(1, -1, 1, 1), images)


def draw_noise(
    images: UInt8[Tensor, "n c h w"], numbers: Int64[Tensor, "n"], share: float, seed: int
) -> UInt8[Tensor, "n c h w"]:
    """Uniform noise for images of these numbers in the test set, the same in every batch."""
    shape, kind = images.shape[1:], torch.uint8
    generators = [keyed("occluding noise", seed, share, number) for number in numbers.tolist()]
    return torch.stack([torch.randint(256, shape, generator=g, dtype=kind) for g in generators])


def hidden_share(images: UInt8[Tensor, "n c h w"], share: float) -> float:
    """The share of the area that a rectangle with whole-pixel sides hides in truth."""
    tall, wide = _sides(images, share)
    return tall * wide / (images.shape[-2] * images.shape[-1])


def _inside(images: Tensor, rectangles: Tensor) -> Tensor:
    """Where each image's rectangle is, [N,1,H,W]."""
    top, left, bottom, right = rectangles.to(images.device).T[:, :, None]
    y = torch.arange(images.shape[-2], device=images.device)
    x = torch.arange(images.shape[-1], device=images.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    hidden: Tensor = rows[:, None, :, None] & columns[:, None, None, :]
    return hidden


def _sides(images: Tensor, share: float) -> tuple[int, int]:
    """Height and width, in pixels, of the rectangle with this share of an image's area."""
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    height, width = images.shape[-2:]
    return round(height * share**0.5), round(width * share**0.5)


def _level(
    predictions: Predictions, fill: str, share: float, actual_share: float, bins: int
) -> OcclusionLevel:
    logits, labels = predictions.at(share, fill), predictions.labels
    diagram = metrics.reliability(*metrics.top_confidence(logits, labels), bins)
    return OcclusionLevel(
        share=share,
        actual_share=actual_share,
        top1_error=metrics.top_k_error(logits, labels),
        nll=metrics.nll(logits, labels),
        ece=metrics.ece(diagram),
    )


def _finite(logits: Tensor, share: float, images: str = "test images") -> Tensor:
    bad = int((~logits.isfinite()).any(dim=1).sum())
    if bad:
        raise SoftaugError(
            f"the model's logits are not finite for {bad} of {len(logits)} {images} with "
            f"{share:.0%} hidden; training has probably diverged: lower the learning rate"
        )
    return logits


def _without_tuples(value: Any) -> Any:
    """The value with a list for each tuple, at any depth, as JSON has none."""
    if isinstance(value, Mapping):
        return {key: _without_tuples(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_without_tuples(entry) for entry in value]
    return value


def _slices(n: int, size: int) -> Iterator[slice]:
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {size}")
    return (slice(start, start + size) for start in range(0, n, size))


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; each module gets back its own mode, frozen ones stay frozen."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
