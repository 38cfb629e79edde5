"""Parquet files as on the Hugging Face Hub: a column of encoded images and one of labels."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softaug.lab.errors import SoftaugError
from softaug.lab.images import Sample

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")


def read_files(parts: Sequence[Sequence[Path]]) -> tuple[tuple[str, ...], list[list[Sample]]]:
    """Class names, and the samples of each part; all faults are reported in one SoftaugError.

    Images are structs of `bytes` (as the Hub writes them) or plain bytes. Labels are integers,
    named by the Hub's metadata where it is there, or strings.
    """
    faults: list[str] = []
    rows: list[list[tuple[str, Any, Any]]] = []
    names: list[str] | None = None
    for files in parts:
        rows.append([])
        for file in files:
            found, own_names = _read_file(file, faults)
            rows[-1] += found
            names = names or own_names
    values = [label for part in rows for _, _, label in part]
    if names is None:
        strings = sorted({value for value in values if isinstance(value, str)})
        whole = [value for value in values if isinstance(value, int) and value >= 0]
        names = strings or [str(i) for i in range(max(whole, default=-1) + 1)]
    number = {name: i for i, name in enumerate(names)}
    samples: list[list[Sample]] = []
    for part in rows:
        samples.append([])
        for where, content, value in part:
            label = number.get(value) if isinstance(value, str) else value
            if not isinstance(label, int) or not 0 <= label < len(names):
                shown = "missing" if label is None or _is_nan(label) else repr(value)
                faults.append(f"{where}: label {shown}, expected 0 to {len(names) - 1}")
            elif not isinstance(content, bytes):
                faults.append(f"{where}: no image bytes")
            else:
                samples[-1].append(Sample(where, content, label))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise SoftaugError(f"{count}: {'; '.join(faults[:10])}{more}")
    return tuple(names), samples


def _read_file(
    path: Path, faults: list[str]
) -> tuple[list[tuple[str, Any, Any]], list[str] | None]:
    """Rows (where, bytes, label) of one file, and the Hub's class names if it has them."""
    from pyarrow.lib import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(path).read()
    except (OSError, ArrowException) as error:
        raise SoftaugError(f"{path}: not readable as Parquet ({error})") from error
    image = next((name for name in IMAGE_COLUMNS if name in table.column_names), None)
    label = next((name for name in LABEL_COLUMNS if name in table.column_names), None)
    if image is None or label is None:
        missing = " or ".join(IMAGE_COLUMNS if image is None else LABEL_COLUMNS)
        faults.append(f"{path}: no column {missing}; it has {', '.join(table.column_names)}")
        return [], None
    rows = [
        (f"{path.name} row {i}", content["bytes"] if isinstance(content, dict) else content, value)
        for i, (content, value) in enumerate(
            zip(table[image].to_pylist(), table[label].to_pylist(), strict=True)
        )
    ]
    return rows, _hub_names(table.schema.metadata or {}, label)


def _hub_names(metadata: dict[bytes, bytes], label: str) -> list[str] | None:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
