"""The weights that `--weights` names: a file, a folder of timm's, a repository of the Hub."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError, require_file
from softaug_lab.models.model_file import read_model_file
from softaug_lab.models.weights import hub
from softaug_lab.models.weights.tensors import read_tensors

FOLDER, HUB = "local-dir:", "hf-hub:"  # as timm names them
FILES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
CONFIG = "config.json"


@dataclass(frozen=True)
class Weights:
    """Tensors to begin with, and what their source says of the network that they belong to.

    name: as given. sha256: of the file. model: name of the network, mean and std: its
    normalisation, in units of the pixels (0 to 255), small_stem: as in ModelCard; None where the
    source does not say. notes: remarks for the user.
    """

    name: str
    file: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    model: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    small_stem: bool | None = None
    notes: tuple[str, ...] = ()


def read_weights(name: str, *, download: bool, sha256: str | None = None) -> Weights:
    """Read the weights of FILE, local-dir:PATH or hf-hub:NAME; no code in them runs.

    download: whether a repository that the cache lacks may be fetched; recipes may come from
    strangers, so only the command line asks for it. sha256: that the file must have.
    Raises SoftaugError for what is absent, broken, or another file than that of `sha256`.
    """
    file, config = _locate(name, download)
    with file.open("rb") as content:
        digest = file_digest(content, "sha256").hexdigest()
    if sha256 is not None and digest != sha256:
        raise SoftaugError(
            f"{name}: these weights have changed since the run began (SHA-256 {digest[:12]}, then "
            f"{sha256[:12]}); put the old file back, or begin a new run"
        )
    tensors, notes = read_tensors(file)
    said = _of_softaug(file, tensors) if config is None else _of_config(config)
    return Weights(name, file, digest, **{"tensors": tensors, "notes": tuple(notes), **said})


def _locate(name: str, download: bool) -> tuple[Path, Path | None]:
    """Return the file of weights, and that of its configuration where the source has one."""
    if name.startswith(FOLDER):
        folder = Path(name.removeprefix(FOLDER))
        file = next((folder / name for name in FILES if (folder / name).is_file()), None)
        if file is None:
            raise SoftaugError(f"{folder}: no weights; expected {' or '.join(FILES)}")
        require_file(folder / CONFIG)
        return file, folder / CONFIG
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        found = next((f for n in FILES if (f := hub.cached_file(repository, n))), None)
        config = hub.cached_file(repository, CONFIG)
        if (found is None or config is None) and not download:
            raise SoftaugError(
                f"{name}: not in the cache, and only the command line may ask for a download"
            )
        return (
            found or hub.download(repository, FILES),
            config or hub.download(repository, (CONFIG,)),
        )
    file = Path(name)
    if file.is_dir():
        raise UsageError(f"{name}: a folder; name a file in it, or {FOLDER}{name}")
    require_file(file)
    return file, None


def _of_config(file: Path) -> dict[str, Any]:
    """Read name and normalisation of a network from the config.json that timm writes."""
    try:
        content = json.loads(file.read_text())
        config = content.get("pretrained_cfg", content)
        model = content["architecture"]
        means = {key: tuple(255 * float(v) for v in config[key]) for key in ("mean", "std")}
        if not isinstance(model, str) or not all(map(math.isfinite, sum(means.values(), ()))):
            raise TypeError("a network's name and finite numbers were expected")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SoftaugError(f"{file}: no configuration of a model of timm ({error!r})") from error
    return {"model": model, **means}


def _of_softaug(file: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Read what a model file of softaug says; nothing for other files."""
    if file.suffix.lower() != ".safetensors" or not {"mean", "std"} <= set(tensors):
        return {}
    card, _ = read_model_file(file)
    own = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    return {
        "tensors": own,
        "model": card.model,
        **{key: tuple(tensors[key].flatten().tolist()) for key in ("mean", "std")},
        "small_stem": card.small_stem,
    }
