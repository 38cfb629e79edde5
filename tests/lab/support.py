"""Made-up inputs that several test files share: images in files, logits, an archive of CIFAR.

Image i has class i % 3 and a colour of its own, so that a test can tell which images it sees.
"""

import io
import os
import pickle
import signal
import sys
import tarfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from hashlib import md5
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from softaug_lab.data.dataset import ImageSet

CLASSES = 3
CORRUPT = b"\x89PNG but not really"
# Multiples of 1/4 make ties common.
LOGIT = st.integers(-40, 40).map(lambda value: value / 4)

# Images in memory


def stripes(n: int, seed: int) -> ImageSet:
    """Three classes that any network learns: rows, columns, or a checkerboard, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    y, x = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    patterns = torch.stack([y % 2, x % 2, (x + y) % 2])[:, None] * 120
    noise = torch.randint(0, 120, (n, 1, 12, 12), generator=generator)
    return ImageSet((patterns[labels] + noise).to(torch.uint8), labels)


# Images in files


def colour(i: int) -> tuple[int, int, int]:
    return i % 256, i // 256, 7


def numbers(images: Tensor) -> list[int]:
    """The number of each image, read from its colour; images are uint8 [N,3,H,W]."""
    first, second = images[:, 0, 0, 0].long(), images[:, 1, 0, 0].long()
    return (first + 256 * second).tolist()


def encoded(i: int, size: tuple[int, int] = (6, 6)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour(i)).save(content, format="PNG")
    return content.getvalue()


def contents(images: Sequence[int], corrupt: Sequence[int] = ()) -> list[bytes]:
    return [CORRUPT if i in corrupt else encoded(i) for i in images]


def parquet(path: Path, images: Sequence[int], corrupt: Sequence[int] = ()) -> None:
    rows = [{"bytes": content, "path": None} for content in contents(images, corrupt)]
    table = pa.table({"image": rows, "label": [i % CLASSES for i in images]})
    pq.write_table(table, path, row_group_size=10)


def tar(path: Path, images: Sequence[int], corrupt: Sequence[int] = ()) -> None:
    with tarfile.open(path, "w") as archive:
        for i, content in zip(images, contents(images, corrupt), strict=True):
            for ending, data in (("png", content), ("cls", b"%d" % (i % CLASSES))):
                member = tarfile.TarInfo(f"{i:05}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def folder(root: Path, images: Sequence[int], corrupt: Sequence[int] = ()) -> None:
    for i, content in zip(images, contents(images, corrupt), strict=True):
        path = root / "abc"[i % CLASSES] / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


# Logits


@st.composite
def samples(draw: Any, most: int = 12) -> tuple[Tensor, Tensor]:
    """Logits [N,K] and labels [N] for a few samples and classes."""
    n, k = draw(st.integers(1, most)), draw(st.integers(2, 7))
    rows = st.lists(LOGIT, min_size=k, max_size=k)
    logits = draw(st.lists(rows, min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return torch.tensor(logits), torch.tensor(labels)


def random_samples(n: int = 300, k: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, k, generator=generator)
    return logits, torch.randint(k, (n,), generator=generator)


# CIFAR


def fake_cifar(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, others: Mapping[str, bytes] = {}
) -> Path:
    """Write a small archive in CIFAR's layout where softaug looks for it, with a matching checksum.

    Each batch holds two images, of a cat and a dog, whose first pixel is the number of the batch.
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
    """Pickle a batch as Python 2 with numpy 1 did: the published files hold strings as bytes."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    shape = b"(K%cM%st" % (pixels.shape[0], pixels.shape[1].to_bytes(2, "little"))
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ%sJ%sK\x00tb" % ((b"\xff" * 4,) * 2)
    content = b"T" + pixels.size.to_bytes(4, "little") + pixels.tobytes()
    state = b"(K\x01" + shape + kind + b"\x89" + content + b"tb"
    return b"\x80\x02}(U\x04data" + array + state + b"U\x06labels](K\x00K\x01eu."


def _python_3(pixels: npt.NDArray[np.uint8]) -> bytes:
    return pickle.dumps({"data": pixels, "fine_labels": [0, 1]}, protocol=2)


# Processes


def fork(act: Callable[[], object], said: Path, environment: Mapping[str, str] = {}) -> int:
    """Begin to act in a copy of this process, which need not import anything; return its id.

    It leads a process group of its own, as a command of a terminal does. said: a file for its
    messages. A new process would spend about 8 seconds on imports before its first step.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # else it is that of pytest-timeout
        os.environ.update(environment)
        sys.stderr = said.open("w", buffering=1)
        act()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


class Copy(ForkProcess):
    """A copy of this process that, like a new one, catches no signals yet."""

    def run(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        super().run()


class Copies(ForkContext):
    Process = Copy


def ended(process: int) -> int:
    """Wait for the end of a process; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
