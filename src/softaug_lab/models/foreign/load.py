"""Models that softaug did not train, and logits in a file, to be evaluated like its own.

`timm:NAME` with a checkpoint, a TorchScript or ONNX file, `package.module:function`, an .npz file.
What TorchScript files and functions hold is run; nothing of the others is. n images, c channels,
h w pixels, k logits.
"""

import importlib
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line, require_file
from softaug_lab.models.foreign.from_timm import timm_model
from softaug_lab.models.foreign.preprocessing import Preprocessing

KINDS = {
    **dict.fromkeys((".pt", ".pth", ".ts", ".torchscript"), "torchscript"),
    ".onnx": "onnx",
    ".npz": "logits",
}
Network = Callable[[Tensor], Any]


class ForeignModel(nn.Module):
    """uint8 images [N,C,H,W] to float32 logits [N,K], by what takes them as its view says.

    A network that is no module gets its images on the CPU. Raises SoftaugError where the network
    fails, or gives anything but a tensor [N,K].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, network: Network, view: Preprocessing) -> None:
        super().__init__()
        self.name, self.network, self.view = name, network, view
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(getattr(view, key)).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.view.of(images.to(self.mean.device))
        try:
            logits = self.network((pixels - self.mean) / self.std)
        except Exception as error:
            raise SoftaugError(
                f"{self.name}: failed on images {list(pixels.shape)} [N,C,H,W]: {one_line(error)}"
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            what = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise SoftaugError(
                f"{self.name}: expected logits [N,K] for {len(images)} images, got {what}"
            )
        return logits.float()


def kind(model: Path) -> str | None:
    """timm, torchscript, onnx, function or logits; None for a run or model file of softaug."""
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
    checkpoint: Path | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    input_size: int | None = None,
    device: torch.device | str = "cpu",
) -> ForeignModel:
    """Whatever `kind` knows but logits, in evaluation mode on the device.

    checkpoint: the weights of timm:NAME; timm's own where None. mean, std, input_size: instead of
    what the model says of itself, or of [0, 1] as it is and the size of the data.
    Raises UsageError for a wrong request, SoftaugError for what cannot be loaded.
    """
    name, what, device = str(model), kind(model), torch.device(device)
    if checkpoint is not None and what != "timm":
        raise UsageError(f"{name}: --checkpoint is of timm:NAME alone")
    network, view = _load(name, what, checkpoint, input_size, device)
    made = ForeignModel(name, network, view.changed(mean, std, input_size)).eval()
    return made.to(device) if isinstance(network, nn.Module) else made


def _load(
    name: str,
    what: str | None,
    checkpoint: Path | None,
    input_size: int | None,
    device: torch.device,
) -> tuple[Network, Preprocessing]:
    if what == "timm":
        return timm_model(name.removeprefix("timm:"), checkpoint, input_size)
    if what == "torchscript":
        return _torchscript(Path(name), device), Preprocessing()
    if what == "onnx":
        return _onnx(Path(name), device)
    return _function(name), Preprocessing()


def _torchscript(path: Path, device: torch.device) -> nn.Module:
    """A TorchScript file. Its code runs in TorchScript's own interpreter, not in Python's."""
    require_file(path)
    try:
        with warnings.catch_warnings():
            # torch advises other formats; the file is what the user has.
            warnings.simplefilter("ignore", FutureWarning)
            network: nn.Module = torch.jit.load(path, map_location=device)
    except Exception as error:
        raise SoftaugError(
            f"{path}: not readable as TorchScript ({one_line(error)}); a checkpoint of a model of "
            "timm goes with timm:NAME --checkpoint"
        ) from error
    return network


def _onnx(path: Path, device: torch.device) -> tuple[Network, Preprocessing]:
    """An ONNX file with one input of images; its fixed sides and channels are its view."""
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
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        raise SoftaugError(f"{path}: not readable as ONNX ({one_line(error)})") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        has = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
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
    return run, Preprocessing(channels=channels, scaled=size, size=size)


def _function(name: str) -> Network:
    """What a `package.module:function` returns; importing and calling it run its code."""
    module_name, _, function = name.partition(":")
    # At the end: a file that happens to be called like a library must not replace it.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise SoftaugError(f"{name}: cannot be imported: {one_line(error)}") from error
    make = getattr(module, function, None)
    if not callable(make):
        has = "no function" if make is None else "something that is no function,"
        raise UsageError(f"{name}: module {module_name!r} has {has} {function!r}")
    try:
        network = make()
    except Exception as error:
        raise SoftaugError(f"{name}: failed: {one_line(error)}") from error
    if not callable(network):
        raise SoftaugError(
            f"{name}: expected it to return a module or a callable on images, "
            f"got {type(network).__name__}"
        )
    made: Network = network
    return made


def read_logits(path: Path) -> tuple[Float32[Tensor, "n k"], Int64[Tensor, "n"] | None]:
    """`logits` [N,K] of an .npz file, and `labels` [N] in [0, K) where it has them.

    No pickle in it is read. Raises SoftaugError where it is absent, broken or of another form.
    """
    require_file(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("logits", "labels") if key in file.files}
            held = ", ".join(file.files) or "nothing"
        if "logits" not in arrays:
            raise SoftaugError(f"{path}: no array `logits`; it has {held}")
        logits = torch.from_numpy(arrays["logits"].astype(np.float32))
    except SoftaugError:
        raise
    # numpy has no one error for a file that is no archive.
    except Exception as error:
        raise SoftaugError(f"{path}: not readable as logits ({one_line(error)})") from error
    if logits.ndim != 2 or not logits.numel():
        raise SoftaugError(f"{path}: logits must be [N,K], got {list(logits.shape)}")
    if bad := int((~logits.isfinite()).any(dim=1).sum()):
        raise SoftaugError(f"{path}: logits are not finite for {bad} of {len(logits)} samples")
    if (given := arrays.get("labels")) is None:
        return logits, None
    if given.dtype.kind not in "iu" or given.shape != (len(logits),):
        raise SoftaugError(
            f"{path}: labels must be whole numbers [N] = [{len(logits)}], "
            f"got {given.dtype} {list(given.shape)}"
        )
    if given.min() < 0 or given.max() >= logits.shape[1]:
        raise SoftaugError(
            f"{path}: labels must be in [0, {logits.shape[1]}), got {given.min()} to {given.max()}"
        )
    return logits, torch.from_numpy(given.astype(np.int64))
