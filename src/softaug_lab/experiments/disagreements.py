"""Test images on which two arms disagree, for the eye: as many for the one as for the other.

n test images, k classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from softaug_lab.data import Data
from softaug_lab.evaluation import Predictions
from softaug_lab.experiments.png import png_text
from softaug_lab.runs import RunFolder

MOST = 6  # images for each of the two arms


def disagreements(runs: Sequence[RunFolder], data: Data) -> dict[str, Any] | None:
    """Where one of two arms is right and the other wrong; None where there are no such images.

    An arm predicts what its seeds do together, by the mean of their probabilities. Of the images
    on either side come those on which the two arms' probabilities of the true class lie furthest
    apart, equally many of both: the numbers of each side say which arm is better, not the images.
    """
    arms = list(dict.fromkeys(run.recipe().arm for run in runs))
    pair = opposed(arms)
    if pair is None:
        return None
    by_arm = {arm: [run for run in runs if run.recipe().arm == arm] for arm in arms}
    labels = data.test.labels.cpu()
    first, second = (_probabilities(by_arm[arm]) for arm in pair)
    sides = [side.tolist() for side in apart(first, second, labels)]
    most = min(MOST, *(len(side) for side in sides))
    if most == 0:
        return None
    chosen = [(index, arm) for arm, side in zip(pair, sides, strict=True) for index in side[:most]]
    rows = torch.tensor([index for index, _ in chosen])
    # One arm at a time: all of them may not fit into memory.
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
    """The two arms that are set against each other, from names alone; None for fewer than two.

    A soft arm, `soft` before others and the last arm where there is none, against `standard`, or
    else against the first other arm.
    """
    if len(arms) < 2:
        return None
    soft = [arm for arm in arms if arm.startswith("soft")]
    arm = "soft" if "soft" in soft else (soft or [one for one in arms if one != "standard"][-1:])[0]
    return arm, "standard" if "standard" in arms else next(one for one in arms if one != arm)


def apart(
    first: Float32[Tensor, "n k"], second: Float32[Tensor, "n k"], labels: Int64[Tensor, "n"]
) -> tuple[Tensor, Tensor]:
    """Indices of the images that only the first and only the second gets right, int64 each.

    The furthest apart in the probability of the true class comes first, of equals the lower index.
    """
    right, other = (one.argmax(dim=1) == labels for one in (first, second))
    true = labels[:, None]
    lead = (first.gather(1, true) - second.gather(1, true)).squeeze(1)

    def ordered(side: Tensor, lead: Tensor) -> Tensor:
        found = side.nonzero().squeeze(1)
        return found[lead[found].argsort(descending=True, stable=True)]

    return ordered(right & ~other, lead), ordered(other & ~right, -lead)


def _probabilities(runs: Sequence[RunFolder]) -> Float32[Tensor, "n k"]:
    """The mean over an arm's seeds of the probabilities that it predicts."""
    total = torch.zeros(())
    for run in runs:
        total = total + Predictions.load(run.predictions_file).logits.softmax(dim=1)
    return total / len(runs)
