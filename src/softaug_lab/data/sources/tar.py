"""Tar archives in WebDataset's layout: an image and its label are two files of one name."""

import json
import math
import re
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError, UsageError, one_line
from softaug_lab.basics.storage import cache_folder, held, read_json, write_json
from softaug_lab.data.decode import IMAGE_ENDINGS
from softaug_lab.data.shards import Row
from softaug_lab.data.sources.listing import Listing

MAX_FILE_BYTES = 1 << 26  # larger files are not read
MAX_SAMPLE_BYTES = 1 << 27  # of a sample no more is read: its files are in memory together
BUFFER_BYTES = 1 << 20  # read at a time after the last file
REMOTE_TRIES = 4  # attempts to read an archive that is not on this machine
ADDRESS = re.compile(r"pipe:|(?!file:)\w+://")  # what a command or a network brings


def is_tar(source: str) -> bool:
    """Return whether a source names archives, by their ending, an address, or `pipe:` a command."""
    return bool(re.match(r"pipe:|\w+://", source) or re.search(r"\.(tar(\.\w+)?|tgz)$", source))


def list_archives(source: str) -> Listing:
    """List the archives of a pattern such as `train-{000..146}.tar`; `::` joins several patterns.

    All of them are for training. Raises UsageError where webdataset is not installed.
    """
    _require_webdataset()
    from webdataset.shardlists import expand_urls

    return Listing([_named(url) for url in expand_urls(source)], None)


def list_files(train: Sequence[Path], test: Sequence[Path] | None) -> Listing:
    """List archives on this machine. Raises UsageError where webdataset is not installed."""
    _require_webdataset()
    shards = [Tar(str(file), file) for file in train]
    return Listing(shards, None if test is None else [Tar(str(file), file) for file in test])


def _named(url: str) -> "Tar":
    return Tar(url, None if ADDRESS.match(url) else Path(url.removeprefix("file://")))


@dataclass(frozen=True)
class Tar:
    """One archive: a file, an address, or `pipe:` and a command that writes the archive.

    path: of the file, None where `url` is to be fetched or is a command. A file that was found in
    a folder may be called like a command, so its name is never taken for one. pause: a remote
    archive is tried four times, this many seconds before the second attempt, doubled for each
    further one.

    The label is the text of a file ending in `.cls`, or `label` in one ending in `.json`.
    """

    url: str
    path: Path | None
    pause: float = 1.0

    @property
    def name(self) -> str:
        return self.url

    def labels(self) -> Iterable[tuple[str, Any]]:
        """Read the labels from the cache, or else from the archive, which must be read whole."""
        name = sha256(self._identity().encode()).hexdigest()
        cached = cache_folder() / "labels" / f"{name}.json"
        if not cached.exists():
            self._cache_labels(cached)
        return [(image, label) for image, label in read_json(cached)]

    def _cache_labels(self, cached: Path) -> None:
        """Read the archive in one process of this machine, for which the others wait."""
        lock = cached.with_suffix(".lock")
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            if not lock.exists():  # another user's may be there
                lock.touch()
        except OSError as error:
            raise SoftaugError(
                f"{cached.parent}: could not be written ({error.strerror}); SOFTAUG_DATA names "
                "another folder for the cache"
            ) from error
        with held(lock, patience=math.inf):
            if cached.exists():
                return
            try:
                labels = [(row.name, row.label) for row in self.read(0)]
            except Exception as error:
                raise SoftaugError(
                    f"{self.url}: not readable as a tar archive ({one_line(error)})"
                ) from error
            write_json(cached, labels)

    def read(self, start: int) -> Iterator[Row]:
        tries = REMOTE_TRIES if self.path is None else 1
        for attempt in range(1, tries + 1):
            try:
                for row in islice(self._rows(), start, None):
                    yield row
                    start += 1
                return
            except Exception:
                if attempt == tries:
                    raise
                time.sleep(self.pause * 2 ** (attempt - 1))

    def _rows(self) -> Iterator[Row]:
        from webdataset.gopen import gopen, set_options
        from webdataset.tariterators import group_by_keys

        with closing(gopen(self.url) if self.path is None else self.path.open("rb")) as stream:
            # A command whose pipe is closed early fails, and that is no error.
            set_options(stream, ignore_errors=True)
            # The last sample is yielded once the archive is known to be complete: it may be cut.
            last = None
            try:
                for sample in group_by_keys(_files(self.url, stream)):
                    if last is not None:
                        yield _row(last)
                    last = sample
            except tarfile.TarError:
                set_options(stream, ignore_errors=False)
                stream.close()  # raises with the exit status, if a command failed
                raise
            # An archive ends in zeros. tarfile also takes a broken header for the end.
            while rest := stream.read(BUFFER_BYTES):
                if self.url.endswith(".tar") and rest.strip(b"\0"):
                    raise OSError("broken in the middle, or another archive was appended to it")
            set_options(stream, ignore_errors=False)
        if last is not None:
            yield _row(last)

    def _identity(self) -> str:
        """Return the key of the cache: the address, or the path with size and time of change."""
        path = self.path
        if path is None:
            return self.url
        try:
            status = path.stat()
        except OSError as error:
            raise SoftaugError(f"{path}: not readable ({error.strerror})") from error
        return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _files(url: str, stream: Any) -> Iterator[dict[str, Any]]:
    """Yield the files of an archive as the dicts that webdataset groups to samples."""
    sample, size = "", 0
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                if _key(member.name) != sample:
                    sample, size = _key(member.name), 0
                # A sparse file of a few bytes may expand to any number of zeros.
                fits = member.size <= min(MAX_FILE_BYTES, MAX_SAMPLE_BYTES - size)
                size += member.size if fits else 0
                data = file.read() if fits else b""
                yield {"__url__": url, "fname": member.name, "data": data}
            archive.members = []  # type: ignore[attr-defined]  # tarfile would remember all of them
        if archive.fileobj.tell() < archive.offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("cut off after a file, before the zeros that end an archive")


def _key(name: str) -> str:
    """What the names of a sample's files have in common: all before the first dot of the last."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _row(sample: dict[str, Any]) -> Row:
    """Find image and label among the files of a sample; None stands for what is missing.

    Of two images, nobody knows which is meant: that sample has none.
    """
    images = [ending for ending in sample if f".{ending}" in IMAGE_ENDINGS]
    content = sample[images[0]] if len(images) == 1 else None
    twice = f" ({' and '.join(images)})" if len(images) > 1 else ""
    label: Any = None
    try:
        if "cls" in sample:
            text = sample["cls"].decode().strip()
            label = int(text) if re.fullmatch(r"[-+]?\d+", text) else text or None
        elif "json" in sample:
            label = json.loads(sample["json"])["label"]
    except (ValueError, KeyError, TypeError):
        pass  # a label of None is reported as missing
    return Row(f"{Path(sample['__url__']).name} {sample['__key__']}{twice}", content, label)


def _require_webdataset() -> None:
    """Raise UsageError where webdataset is not installed."""
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "tar archives are read by webdataset: pip install 'softaug[webdataset]'"
        ) from error
