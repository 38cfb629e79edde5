"""CIFAR-10 and CIFAR-100 from their authors' archives, read without executing their pickles.

An archive is downloaded once, checked against its MD5 and read in memory; nothing is unpacked.
"""

import pickle
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.storage import cache_folder

Part = tuple[Tensor, Tensor]  # images uint8 [N,3,32,32], labels int64 [N]


def read_cifar(name: str) -> tuple[tuple[str, ...], Part, Part]:
    """Read the class names, the training part and the test part of `cifar10` or `cifar100`.

    Raises SoftaugError where the archive cannot be downloaded, and where it is broken.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    archive = _fetch(name, kind)
    parts = [[file for file, _ in part] for part in (kind.train_list, kind.test_list)]
    wanted = {
        f"{kind.base_folder}/{file}" for file in [*parts[0], *parts[1], kind.meta["filename"]]
    }
    try:
        content = {Path(path).name: _unpickle(data) for path, data in _members(archive, wanted)}
        classes = tuple(str(word) for word in content[kind.meta["filename"]][kind.meta["key"]])
        train, test = (_joined([content[file] for file in part], len(classes)) for part in parts)
    # A broken pickle raises errors of many types.
    except Exception as error:
        reason = str(error) if isinstance(error, pickle.UnpicklingError) else repr(error)
        raise SoftaugError(
            f"{archive}: not an archive of {name} ({reason}); remove it to fetch it anew"
        ) from error
    return classes, train, test


def _fetch(name: str, kind: Any) -> Path:
    """Return the archive in the cache; download it unless it is there with the right MD5."""
    from torchvision.datasets import utils

    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        utils.download_url(kind.url, str(cache), kind.filename, kind.tgz_md5)
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SoftaugError(
            f"{name} could not be fetched ({reason}); connect to the network, or put "
            f"{kind.filename} into {cache}, or give a folder or Parquet files instead"
        ) from error
    return cache / str(kind.filename)


def _members(archive: Path, wanted: set[str]) -> list[tuple[str, bytes]]:
    """Read the names and contents of the wanted files in one pass over the archive."""
    members = []
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name in wanted else None
            if file is not None:
                members.append((member.name, file.read()))
    return members


class _Array:
    """Replaces a NumPy array of uint8, and its dtype, while unpickling."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def tensor(self) -> Tensor:
        """Build a uint8 tensor of the pickled shape; raises where the bytes do not fit it."""
        _, shape, _, _, data = self.state
        data = data.encode("latin1") if isinstance(data, str) else data
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(shape)


# All that a pickle may name: NumPy's array before and since version 2.0, and bytes as Python 3
# pickles them for Python 2. NumPy itself is never called.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Array,
    ("_codecs", "encode"): bytes,
}


class _Unpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers, strings and the objects in ALLOWED; refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"a pickle that asks for {module}.{name}")
        return ALLOWED[module, name]


def _unpickle(data: bytes) -> Any:
    return _Unpickler(BytesIO(data), encoding="latin1").load()


def _joined(batches: list[Any], num_classes: int) -> Part:
    """Join batches to images and labels; raises where they differ in number or labels in range."""
    images = torch.cat([batch["data"].tensor().reshape(-1, 3, 32, 32) for batch in batches])
    key = "labels" if "labels" in batches[0] else "fine_labels"
    labels = torch.tensor([label for batch in batches for label in batch[key]])
    if len(labels) != len(images) or not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"{len(labels)} labels for {len(images)} images")
    return images, labels
