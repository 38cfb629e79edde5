"""Load the forms of an exported model that only softaug describes: torch.export and timm's folder.

n images, c channels, h w pixels, k classes.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, one_line, require_file
from softaug_lab.basics.storage import read_json
from softaug_lab.models.card import ModelCard
from softaug_lab.models.exported import (
    CONFIG,
    DESCRIPTION,
    ONNX,
    PROGRAM,
    PROGRAM_DESCRIPTION,
    WEIGHTS,
    read_description,
)
from softaug_lab.models.foreign.from_timm import load_weights
from softaug_lab.models.foreign.preprocessing import Preprocessing
from softaug_lab.models.network import build_network
from softaug_lab.models.weights import read_weights

Classes = tuple[str, ...]


def exported_file(model: Path) -> Path:
    """Return the file within a folder that `softaug export` wrote; any other path stays as it is.

    A folder of a form that holds several files is known by the one that the others belong to.
    """
    if model.is_dir() and not (model / "recipe.json").exists():
        for name in (CONFIG, ONNX, PROGRAM):
            if (model / name).exists():
                return model / name
    return model


def load_program(
    path: Path,
) -> tuple[Callable[[Float32[Tensor, "n c h w"]], Tensor], Preprocessing, Classes | None]:
    """Load a torch.export program on the CPU; its code is run, and so are pickles within it.

    The preprocessing and the classes are those of a program that softaug exported; of another one
    they are unknown.
    """
    require_file(path)
    extra = {PROGRAM_DESCRIPTION: ""}
    try:
        with warnings.catch_warnings(), _silent(logging.getLogger("torch.export")):
            warnings.simplefilter("ignore")  # of torch's own, on formats of its earlier versions
            program = torch.export.load(path, extra_files=extra)
            run: Any = program.module()
    except Exception as error:
        raise SoftaugError(
            f"{path}: not readable as a torch.export program ({one_line(error)})"
        ) from error
    if not extra[PROGRAM_DESCRIPTION]:
        return lambda images: run(images), Preprocessing(), None
    card = read_description(extra[PROGRAM_DESCRIPTION], path)
    return lambda images: run(images), _preprocessing(card), card.classes


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Keep a logger from printing the traceback of an error that is raised anyway."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def load_config(path: Path) -> tuple[nn.Module, Preprocessing, Classes]:
    """Load the folder of an exported model in timm's form from its config.json and its weights.

    Raises SoftaugError for a file that softaug did not write, or weights that do not fit it.
    """
    config = read_json(path)
    if not isinstance(config, dict) or DESCRIPTION not in config:
        raise SoftaugError(
            f"{path}: no model that softaug exported; other models of timm go by timm:NAME "
            "--weights FILE"
        )
    about = config[DESCRIPTION]
    card = read_description(about, path)
    try:
        mean, std = (tuple(map(float, about[key])) for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError) as error:
        raise SoftaugError(f"{path}: its description by softaug is broken ({error})") from error
    network = build_network(card, fetch_weights=False)
    file = str(path.with_name(WEIGHTS))
    weights = read_weights(file, download=False)
    load_weights(network, weights, f"{file}: not the weights of {card.model}")
    return network, _preprocessing(card, mean, std), card.classes


def _preprocessing(
    card: ModelCard, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,)
) -> Preprocessing:
    size = (card.height, card.width)
    return Preprocessing(mean, std, card.channels, size, size)
