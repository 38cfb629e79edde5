"""softaug predict"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.cli.evaluation_inputs import model_file
from softaug_lab.cli.options import Device
from softaug_lab.cli.terminal import inert
from softaug_lab.recipes import WHOLE, panels


def predict(
    run: Annotated[Path, Parameter(group=panels.MODEL)],
    images: Annotated[list[Path], Parameter(consume_multiple=True, group=panels.DATA)],
    /,
    *,
    top: Annotated[int, WHOLE, Parameter(group=panels.RUN)] = 1,
    device: Device = "auto",
) -> None:
    """Predict the class of image files: prints path, class and confidence, separated by tabs.

    Where training images were held out, confidences are those after temperature scaling.
    Control characters in names, such as tabs and newlines, are printed as Python escapes.

    Parameters
    ----------
    run
        A run folder, or a .safetensors file that softaug wrote.
    images
        Image files.
    top
        Number of most probable classes to print for each image.
    """
    from softaug_lab.basics.processes import choose_device
    from softaug_lab.data import read_image
    from softaug_lab.models import load_model, predict_logits

    if top < 1:
        raise UsageError(f"--top must be at least 1, got {top}")
    model = load_model(model_file(run)).to(choose_device(device))
    card = model.card
    failures = []
    for path in images:
        try:
            image = read_image(path, card.channels, card.height, card.width)
        except SoftaugError as error:
            failures.append(str(error))
            continue
        logits = predict_logits(model, image[None])[0]
        if not logits.isfinite().all():
            raise SoftaugError(
                f"{path}: the model's logits are not finite; training has probably diverged"
            )
        probabilities = (logits / card.temperature).softmax(dim=0)
        best = probabilities.topk(min(top, len(card.classes)))
        for p, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            line = "\t".join((inert(path), inert(card.classes[index]), f"{p:.4f}"))
            sys.stdout.write(f"{line}\n")  # plain, for other programs
    if failures:
        raise SoftaugError("; ".join(failures))
