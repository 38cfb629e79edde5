"""A small archive in CIFAR's layout, put where softaug keeps it and taken for the true one."""

import io
import pickle
import tarfile
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torchvision


def fake_cifar(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, others: Mapping[str, bytes] = {}
) -> Path:
    """Two images a batch, whose first pixel is the number of the batch; a cat and a dog.

    others: contents of members by their names, instead of the pickles that belong there.
    """
    kind: Any = {
        "cifar10": torchvision.datasets.CIFAR10,
        "cifar100": torchvision.datasets.CIFAR100,
    }[name]
    write = _python_2 if name == "cifar10" else _python_3
    members = {kind.meta["filename"]: pickle.dumps({kind.meta["key"]: ["cat", "dog"]}, 2)}
    for i, (batch, _) in enumerate([*kind.train_list, *kind.test_list]):
        pixels = np.zeros((2, 3, 32, 32), np.uint8)
        pixels[:, 0, 0, 0] = i
        pixels[:, 0, 1, 2] = 200
        members[batch] = write(pixels.reshape(2, 3072))
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / str(kind.filename)
    with tarfile.open(archive, "w:gz") as tar:
        for file, content in {**members, **others}.items():
            member = tarfile.TarInfo(f"{kind.base_folder}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(kind, "tgz_md5", md5(archive.read_bytes()).hexdigest())
    monkeypatch.setenv("SOFTAUG_DATA", str(folder))
    return archive


def _python_2(pixels: npt.NDArray[np.uint8]) -> bytes:
    """As the true batches are: of Python 2, whose strings are bytes, with the names of numpy 1."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    shape = b"(K%cM%st" % (pixels.shape[0], pixels.shape[1].to_bytes(2, "little"))
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ%sJ%sK\x00tb" % ((b"\xff" * 4,) * 2)
    content = b"T" + pixels.size.to_bytes(4, "little") + pixels.tobytes()
    state = b"(K\x01" + shape + kind + b"\x89" + content + b"tb"
    return b"\x80\x02}(U\x04data" + array + state + b"U\x06labels](K\x00K\x01eu."


def _python_3(pixels: npt.NDArray[np.uint8]) -> bytes:
    return pickle.dumps({"data": pixels, "fine_labels": [0, 1]}, protocol=2)
