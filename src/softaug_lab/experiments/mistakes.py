"""What a run gets wrong: confusions of classes, figures by class, and the most confident mistakes.

n test images, k classes.
"""

from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from softaug_lab.data import Data, fit, png_text
from softaug_lab.evaluation import Predictions
from softaug_lab.metrics import scale
from softaug_lab.runs import RunFolder

MOST_IMAGES, MOST_PAIRS = 24, 20
MOST_CLASSES = 20  # of a confusion matrix; larger ones cannot be read, nor shown on a page
THUMBNAIL = 96  # pixels of the longer side


def mistakes(run: RunFolder, data: Data, temperature: float | None) -> dict[str, Any]:
    """Collect the mistakes of one run on the whole test images.

    Confidences are those after the temperature, if there is one. `confusion` counts images by true
    class (row) and predicted class (column), None for more than MOST_CLASSES classes; `pairs` are
    the most frequent confusions; `images` the mistakes with the highest confidence.
    """
    predictions = Predictions.load(run.predictions_file)
    labels = predictions.labels
    confidence, predicted = scale(predictions.logits, temperature or 1.0).softmax(dim=1).max(dim=1)
    k = len(data.classes)
    cells = (labels * k + predicted).bincount(minlength=k * k).view(k, k)
    wrong = (predicted != labels).nonzero()[:, 0]
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:MOST_IMAGES]
    return {
        "wrong": len(wrong),
        "confusion": cells.tolist() if k <= MOST_CLASSES else None,
        "pairs": _pairs(cells, data.classes),
        "by_class": [
            {
                "class": name,
                "images": int((labels == i).sum()),
                "accuracy": _mean((predicted == labels)[labels == i]),
                "confidence": _mean(confidence[labels == i]),
            }
            for i, name in enumerate(data.classes)
        ],
        "images": [
            {
                "index": index,
                "png": png_text(thumbnail(data.test.images[index])),
                "class": data.classes[int(labels[index])],
                "predicted": data.classes[int(predicted[index])],
                "confidence": confidence[index].item(),
            }
            for index in worst.tolist()
        ],
    }


def thumbnail(image: UInt8[Tensor, "c h w"]) -> UInt8[Tensor, "c y x"]:
    """Scale an image down so that its longer side has at most THUMBNAIL pixels."""
    height, width = image.shape[1:]
    longer = max(height, width)
    if longer <= THUMBNAIL:
        return image
    sides = (max(1, side * THUMBNAIL // longer) for side in (height, width))
    return fit(image[None], *sides)[0]


def _pairs(cells: Tensor, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The most frequent confusions; equally frequent ones in the order of the classes."""
    off = cells.clone().fill_diagonal_(0).flatten()
    order = off.argsort(descending=True, stable=True)[:MOST_PAIRS].tolist()
    k = len(classes)
    return [
        {"class": classes[i // k], "predicted": classes[i % k], "images": int(off[i])}
        for i in order
        if off[i]
    ]


def _mean(values: Tensor) -> float | None:
    """The mean of some values, None of none."""
    return values.double().mean().item() if len(values) else None
