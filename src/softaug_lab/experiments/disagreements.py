"""Choose test images on which two arms disagree: equally many that either arm gets right.

n test images, k classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from softaug_lab.data import Data, png_text
from softaug_lab.evaluation import Predictions
from softaug_lab.recipes import main_arm, role_of
from softaug_lab.runs import RunFolder

MOST = 6  # images for each of the two arms


def disagreements(runs: Sequence[RunFolder], data: Data) -> dict[str, Any] | None:
    """Collect images that one of two arms classifies correctly and the other does not.

    An arm's prediction is the mean of its seeds' probabilities. On either side, the images are
    those with the largest difference between the arms' probabilities of the true class. Both
    sides show equally many images; `only_arm` and `only_against` count all, and these counts say
    which arm is better. None without two arms, or where a side has no images.
    """
    arms = list(dict.fromkeys(run.recipe().arm for run in runs))
    pair = opposed(arms)
    if pair is None:
        return None
    by_arm = {arm: [run for run in runs if run.recipe().arm == arm] for arm in arms}
    labels = data.test.labels.cpu()
    first, second = (_probabilities(by_arm[arm]) for arm in pair)
    sides = [side.tolist() for side in disagreeing(first, second, labels)]
    most = min(MOST, *(len(side) for side in sides))
    if most == 0:
        return None
    chosen = [(index, arm) for arm, side in zip(pair, sides, strict=True) for index in side[:most]]
    rows = torch.tensor([index for index, _ in chosen])
    # One arm at a time: the logits of all arms may not fit into memory.
    predicted = {arm: _probabilities(by_arm[arm])[rows].max(dim=1) for arm in arms}
    return {
        "arm": pair[0],
        "against": pair[1],
        "only_arm": len(sides[0]),
        "only_against": len(sides[1]),
        "images": [
            {
                "index": index,
                "right": right,
                "png": png_text(data.test.images[index]),
                "class": data.classes[int(labels[index])],
                "predictions": [
                    {
                        "arm": arm,
                        "class": data.classes[int(top.indices[i])],
                        "confidence": top.values[i].item(),
                        "right": bool(top.indices[i] == labels[index]),
                    }
                    for arm, top in predicted.items()
                ],
            }
            for i, (index, right) in enumerate(chosen)
        ],
    }


def opposed(arms: Sequence[str]) -> tuple[str, str] | None:
    """Choose the two arms to show against each other, by their roles; None for fewer than two.

    The first is the comparison's main soft arm, or the last arm without any; the second is the
    standard arm, or the first other arm without any.
    """
    if len(arms) < 2:
        return None
    standard = [arm for arm in arms if role_of(arm) == "standard"]
    arm = main_arm(arms) or next(arm for arm in reversed(arms) if arm not in standard)
    return arm, next(other for other in [*standard, *arms] if other != arm)


def disagreeing(
    first: Float32[Tensor, "n k"], second: Float32[Tensor, "n k"], labels: Int64[Tensor, "n"]
) -> tuple[Tensor, Tensor]:
    """Return the indices (int64) of images that only the first and only the second gets right.

    Sorted by the difference in the probability of the true class, largest first; ties by index.
    """
    right, other = (one.argmax(dim=1) == labels for one in (first, second))
    true = labels[:, None]
    lead = (first.gather(1, true) - second.gather(1, true)).squeeze(1)

    def ordered(side: Tensor, lead: Tensor) -> Tensor:
        indices = side.nonzero().squeeze(1)
        return indices[lead[indices].argsort(descending=True, stable=True)]

    return ordered(right & ~other, lead), ordered(other & ~right, -lead)


def _probabilities(runs: Sequence[RunFolder]) -> Float32[Tensor, "n k"]:
    """Average the predicted probabilities over the runs of one arm."""
    total = torch.zeros(())
    for run in runs:
        total = total + Predictions.load(run.predictions_file).logits.softmax(dim=1)
    return total / len(runs)
