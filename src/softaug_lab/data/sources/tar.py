"""Tar archives as WebDataset has them: files of one name are one sample, an image and its label."""

import json
import re
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line
from softaug_lab.basics.storage import cache_folder, read_json, write_json
from softaug_lab.data.decode import IMAGE_ENDINGS
from softaug_lab.data.shards import Row

MOST_BYTES = 1 << 26  # of a file that is read
BUFFER = 1 << 20  # bytes that are read at once after the last file
TRIES, PAUSE = 4, 1.0  # of reading what is not on this machine; seconds before the second


def is_tar(source: str) -> bool:
    """Whether a source names archives: by their ending, an address, or a command to pipe from."""
    return bool(re.match(r"pipe:|\w+://", source) or re.search(r"\.(tar(\.\w+)?|tgz)$", source))


def expand(source: str) -> list[str]:
    """The archives that `train-{000..146}.tar` stands for; `::` joins several such."""
    require_library()
    from webdataset.shardlists import expand_urls

    return list(expand_urls(source))


@dataclass(frozen=True)
class Tar:
    """One archive: a path, an address, or `pipe:` and a command that writes it.

    The label stands in a file ending in `.cls`, or is `label` of one ending in `.json`.
    """

    url: str

    @property
    def name(self) -> str:
        return self.url

    def labels(self) -> Iterable[tuple[str, Any]]:
        """Kept in the cache, since all of an archive must be read for them."""
        kept = cache_folder() / "labels" / f"{sha256(self._identity().encode()).hexdigest()}.json"
        if kept.exists():
            return [(where, label) for where, label in read_json(kept)]
        try:
            labels = [(row.name, row.label) for row in self.read(0)]
        except Exception as error:
            reason = one_line(error)
            raise SoftaugError(f"{self.url}: not readable as a tar archive ({reason})") from error
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SoftaugError(
                f"{kept.parent}: could not be made ({error.strerror}); SOFTAUG_DATA names another "
                "folder for what is kept"
            ) from error
        write_json(kept, labels)
        return labels

    def read(self, start: int) -> Iterator[Row]:
        tries = 1 if self._is_local() else TRIES
        for attempt in range(1, tries + 1):
            try:
                for row in islice(self._rows(), start, None):
                    yield row
                    start += 1
                return
            except Exception:
                if attempt == tries:
                    raise
                time.sleep(PAUSE * 2 ** (attempt - 1))

    def _rows(self) -> Iterator[Row]:
        from webdataset.gopen import gopen, set_options
        from webdataset.tariterators import group_by_keys

        with closing(gopen(self.url)) as stream:
            # What writes into a pipe that is closed early fails, and may.
            set_options(stream, ignore_errors=True)
            # The last is held until the archive is known to be whole: it may be half of a sample.
            last = None
            try:
                for sample in group_by_keys(_files(self.url, stream)):
                    if last is not None:
                        yield _row(last)
                    last = sample
            except tarfile.TarError:
                set_options(stream, ignore_errors=False)
                stream.close()  # which tells how a command failed, if it did
                raise
            # It ends in zeros; a broken one looks to its reader as if it ended there too.
            while rest := stream.read(BUFFER):
                if self.url.endswith(".tar") and rest.strip(b"\0"):
                    raise OSError("broken in the middle, or another archive was appended to it")
            set_options(stream, ignore_errors=False)
        if last is not None:
            yield _row(last)

    def _is_local(self) -> bool:
        return not re.match(r"pipe:|(?!file:)\w+://", self.url)

    def _identity(self) -> str:
        if not self._is_local():
            return self.url
        path = Path(self.url.removeprefix("file://"))
        try:
            status = path.stat()
        except OSError as error:
            raise SoftaugError(f"{path}: not readable ({error.strerror})") from error
        return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _files(url: str, stream: Any) -> Iterator[dict[str, Any]]:
    """The files of an archive, as webdataset groups them."""
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                # A few bytes may stand for any number of zeros.
                data = file.read() if member.size <= MOST_BYTES else b""
                yield {"__url__": url, "fname": member.name, "data": data}
            archive.members = []  # type: ignore[attr-defined]  # it would remember all of them
        if archive.fileobj.tell() < archive.offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("cut off after a file, before the zeros that end an archive")


def _row(sample: dict[str, Any]) -> Row:
    content = next((v for k, v in sample.items() if f".{k}" in IMAGE_ENDINGS), None)
    label: Any = None
    try:
        if "cls" in sample:
            text = sample["cls"].decode().strip()
            label = int(text) if re.fullmatch(r"[-+]?\d+", text) else text or None
        elif "json" in sample:
            label = json.loads(sample["json"])["label"]
    except (ValueError, KeyError, TypeError):
        pass  # reported as missing
    return Row(f"{Path(sample['__url__']).name} {sample['__key__']}", content, label)


def require_library() -> None:
    """Raise UsageError where webdataset is not installed."""
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "tar archives are read by webdataset: pip install 'softaug[webdataset]'"
        ) from error
