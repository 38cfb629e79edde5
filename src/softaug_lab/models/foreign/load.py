"""Load a model of another form than softaug's own: of timm, TorchScript, torch.export, ONNX, code.

TorchScript files, torch.export programs and functions are code, and it is run; nothing of the other
forms is.
n images, c channels, h w pixels, k logits.
"""

import importlib
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line, require_file
from softaug_lab.models.exported import DESCRIPTION, read_description
from softaug_lab.models.foreign.exported import load_config, load_program
from softaug_lab.models.foreign.from_timm import timm_model
from softaug_lab.models.foreign.preprocessing import Preprocessing

KINDS = {
    **dict.fromkeys((".pt", ".pth", ".ts", ".torchscript"), "torchscript"),
    ".onnx": "onnx",
    ".pt2": "program",
    ".json": "config",
    ".npz": "logits",
}
Network = Callable[[Tensor], Any]


class ForeignModel(nn.Module):
    """Map uint8 images [N,C,H,W] to float32 logits [N,K] by a network and its preprocessing.

    A network that is not a torch module receives its images on the CPU. classes: the names of its
    logits, None where they are unknown. Raises SoftaugError where the network fails, or returns
    anything but a tensor [N,K].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        network: Network,
        preprocessing: Preprocessing,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.network, self.preprocessing = name, network, preprocessing
        self.classes = classes
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.preprocessing.pixels(images.to(self.mean.device))
        try:
            logits = self.network((pixels - self.mean) / self.std)
        except Exception as error:
            raise SoftaugError(
                f"{self.name}: failed on images {list(pixels.shape)} [N,C,H,W]: {one_line(error)}"
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise SoftaugError(
                f"{self.name}: expected logits [N,K] for {len(images)} images, got {got}"
            )
        return logits.float()


def model_kind(model: Path) -> str | None:
    """Kind of a model by its name: timm, torchscript, program, onnx, config, function or logits.

    program: a .pt2 file of torch.export. config: the config.json of a folder that softaug exported
    for timm. logits: an .npz file.

    None for a run folder or a model file of softaug.
    """
    name = str(model)
    if name.startswith("timm:"):
        return "timm"
    if model.is_dir():
        return None
    if re.fullmatch(r"[^\W\d][\w.]*:[^\W\d]\w*", name) and not model.exists():
        return "function"
    return KINDS.get(model.suffix.lower())


def load_foreign(
    model: Path,
    *,
    weights: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    input_size: int | None = None,
    device: torch.device | str = "cpu",
) -> ForeignModel:
    """Load a model of any kind that `model_kind` knows but logits, in eval mode on the device.

    weights: of timm:NAME, as for `read_weights`; timm's own where None. mean, std, input_size:
    replace the model's own preprocessing; models without one take images in [0, 1] of the size of
    the data.
    Raises UsageError for a wrong request, SoftaugError for what cannot be loaded.
    """
    name, kind, device = str(model), model_kind(model), torch.device(device)
    if weights is not None and kind != "timm":
        raise UsageError(f"{name}: --weights is of timm:NAME alone")
    network, preprocessing, classes = _load(name, kind, weights, input_size, device)
    preprocessing = preprocessing.replaced(mean, std, input_size)
    loaded = ForeignModel(name, network, preprocessing, classes).eval()
    return loaded.to(device) if isinstance(network, nn.Module) else loaded


def _load(
    name: str,
    kind: str | None,
    weights: str | None,
    input_size: int | None,
    device: torch.device,
) -> tuple[Network, Preprocessing, tuple[str, ...] | None]:
    if kind == "timm":
        return *timm_model(name.removeprefix("timm:"), weights, input_size), None
    if kind == "torchscript":
        return _load_torchscript(Path(name), device), Preprocessing(), None
    if kind == "program":
        return load_program(Path(name))
    if kind == "config":
        return load_config(Path(name))
    if kind == "onnx":
        return _load_onnx(Path(name), device)
    return _call_function(name), Preprocessing(), None


def _load_torchscript(path: Path, device: torch.device) -> nn.Module:
    """Load a TorchScript file; its code runs in TorchScript's own interpreter, not in Python's."""
    require_file(path)
    try:
        with warnings.catch_warnings():
            # torch advises other formats, but the user has this file.
            warnings.simplefilter("ignore", FutureWarning)
            network: nn.Module = torch.jit.load(path, map_location=device)
    except Exception as error:
        raise SoftaugError(
            f"{path}: not readable as TorchScript ({one_line(error)}); a checkpoint of a model of "
            "timm goes with timm:NAME --weights"
        ) from error
    return network


def _load_onnx(
    path: Path, device: torch.device
) -> tuple[Network, Preprocessing, tuple[str, ...] | None]:
    """Load an ONNX file with one input of images; its fixed sides and channels are preprocessed.

    The classes are those of a file that softaug exported, else None.
    """
    session = _onnx_session(path, device)
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        has = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
        raise SoftaugError(f"{path}: expected one input of float32 [N,C,H,W], it has {has}")
    batch, *shape = inputs[0].shape

    def run(images: Tensor) -> Tensor:
        # A fixed batch: the last one is filled up with black images, whose logits are dropped.
        at_once = batch if isinstance(batch, int) else len(images)
        padded = -len(images) % at_once
        images = torch.cat([images, images.new_zeros(padded, *images.shape[1:])])
        outputs = [
            torch.from_numpy(session.run(None, {inputs[0].name: part.contiguous().numpy()})[0])
            for part in images.split(at_once)
        ]
        return torch.cat(outputs)[: len(images) - padded]

    channels, height, width = (side if isinstance(side, int) else None for side in shape)
    size = None if height is None or width is None else (height, width)
    text = session.get_modelmeta().custom_metadata_map.get(DESCRIPTION)
    classes = None if text is None else read_description(text, path).classes
    return run, Preprocessing(channels=channels, scaled=size, size=size), classes


def _onnx_session(path: Path, device: torch.device) -> Any:
    """Open an ONNX file with onnxruntime, on the GPU where the device and the build have one."""
    require_file(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise SoftaugError(f"{path}: needs onnxruntime; pip install 'softaug[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        raise SoftaugError(f"{path}: not readable as ONNX ({one_line(error)})") from error


def _call_function(name: str) -> Network:
    """Import `package.module`, call `function` and return its result; both run its code."""
    module_name, _, function = name.partition(":")
    # At the end of the path: a file named like a library must not replace the library.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise SoftaugError(f"{name}: cannot be imported: {one_line(error)}") from error
    factory = getattr(module, function, None)
    if not callable(factory):
        has = "no function" if factory is None else "something that is no function,"
        raise UsageError(f"{name}: module {module_name!r} has {has} {function!r}")
    try:
        network = factory()
    except Exception as error:
        raise SoftaugError(f"{name}: failed: {one_line(error)}") from error
    if not callable(network):
        raise SoftaugError(
            f"{name}: expected it to return a module or a callable on images, "
            f"got {type(network).__name__}"
        )
    checked: Network = network
    return checked
