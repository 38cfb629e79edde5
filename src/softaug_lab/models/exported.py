"""Files of an exported model, and the description in them: classes, size, preprocessing, version.

The description is one JSON object: in the metadata of an ONNX file and in the config.json of timm's
form under the key DESCRIPTION, and within a torch.export program as PROGRAM_DESCRIPTION.
"""

import json
from pathlib import Path
from typing import Any

import softaug
from softaug_lab.basics.errors import SoftaugError
from softaug_lab.models.card import ModelCard, read_card
from softaug_lab.models.classifier import Classifier

ONNX, PROGRAM, CONFIG, WEIGHTS = "model.onnx", "model.pt2", "config.json", "model.safetensors"
DESCRIPTION = "softaug"
PROGRAM_DESCRIPTION = f"{DESCRIPTION}.json"
# Fields of the model card from which an exported model is read again.
CARD_FIELDS = ("model", "classes", "channels", "height", "width", "small_stem")


def describe(model: Classifier, normalises: bool) -> dict[str, Any]:
    """Describe an exported model for JSON: what it takes, what it gives, and who wrote it.

    mean and std, a number for each channel, are of pixels in [0, 1]. normalises: whether the
    exported model subtracts and divides by itself, or expects it of its user.
    """
    card = model.card
    mean, std = ((values.flatten() / 255).tolist() for values in (model.mean, model.std))
    done = "the model normalises" if normalises else "then subtract mean and divide by std"
    return {
        "version": softaug.__version__,
        "model": card.model,
        "classes": list(card.classes),
        "channels": card.channels,
        "height": card.height,
        "width": card.width,
        "small_stem": card.takes_small_stem,
        "input": f"float32 [N,C,height,width], pixels in [0, 1]; {done}",
        "resize": "bilinear with antialiasing, to cover height x width; then the centre",
        "mean": mean,
        "std": std,
        "output": "logits [N,K] of the classes, already divided by the temperature",
        "temperature": card.temperature,
    }


def read_description(content: Any, path: Path) -> ModelCard:
    """Read the card of an exported model from its description, as JSON's text or object.

    The logits of an exported model are calibrated, so that the card's temperature is 1. path: the
    file, for messages. Raises SoftaugError for a broken description.
    """
    try:
        fields = json.loads(content) if isinstance(content, str) else content
        chosen = {name: fields[name] for name in CARD_FIELDS}
    except (KeyError, TypeError, ValueError) as error:
        raise SoftaugError(f"{path}: its description by softaug is broken ({error})") from error
    return read_card(chosen, path)
