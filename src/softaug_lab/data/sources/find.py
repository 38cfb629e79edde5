"""From the name of a source to the listing of its shards."""

from collections.abc import Callable, Iterable
from pathlib import Path

from softaug_lab.basics.errors import SoftaugError, UsageError, unknown_name
from softaug_lab.data.sources import hub, imagenet, parquet, table, tar
from softaug_lab.data.sources.folder import list_folder
from softaug_lab.data.sources.listing import Listing, files_ending, list_parts

# Sources of files with one of these endings, in a folder of such files or alone.
FILES = {".parquet": parquet.list_files, ".tar": tar.list_files}


def _list_labelled(path: Path) -> Listing:
    """List the images that the tables of a folder name, or without tables its class folders."""
    tables = table.tables_in(path)
    if tables:
        return table.list_tables(path, tables)
    try:
        return list_folder(path)
    except SoftaugError as error:
        if (fault := table.several_labels(path)) is None:
            raise
        raise SoftaugError(fault) from error


def find(
    source: str,
    built_in: Iterable[str] = (),
    list_images: Callable[[Path], Listing] = _list_labelled,
) -> Listing:
    """List the shards of a source: a path, addresses of archives, or `hf:NAME`.

    built_in: other names to suggest where there is no such source. list_images: lists a folder of
    image files. Raises UsageError for an unknown source, SoftaugError for a broken one.
    """
    path = Path(source)
    try:
        # What exists is a path, whatever it is called. An empty one would be the current folder.
        if not source or not _exists(path):
            if source.startswith(hub.PREFIX):
                return hub.list_hub(source)
            if tar.is_tar(source):
                return tar.list_archives(source)
            path.exists()  # raises OSError for a name that no file can have
            raise unknown_name("data set or missing path", source, built_in)
        if path.is_file() and tar.is_tar(path.name):
            return tar.list_files([path], None)
        if imagenet.is_imagenet(path):
            return imagenet.list_imagenet(path)
        for ending, list_files in FILES.items():
            if files := files_ending(path, ending):
                return list_parts(path, files, list_files)
        if path.is_file() and table.is_table(path):
            return table.list_tables(path, [path])
        if path.is_dir():
            return list_images(path)
    except OSError as error:
        raise SoftaugError(f"{source[:200]}: not readable ({error.strerror})") from error
    raise UsageError(
        f"{source}: expected a folder of class folders, a table of files and labels (CSV), Parquet "
        "files or archives"
    )


def is_address(source: str) -> bool:
    """Whether a source may name a command, a network or the Hub rather than files and folders.

    Every one of these has a colon; a path that has one is none if it exists.
    """
    return ":" in source and not _exists(Path(source))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # patterns and addresses may be too long for the name of a file
        return False
