"""Match a model's logits to the classes of the data.

n images, k logits, d classes of the data.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Int64
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError, listed, one_line, require_file


class Columns(nn.Module):
    """Restrict a model to the logits of some classes: from images to logits [N,D].

    columns: the logit of each class, in the order of the result.
    """

    columns: Tensor

    def __init__(self, model: nn.Module, columns: Int64[Tensor, "d"]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("columns", columns)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits[:, self.columns.to(logits.device)]


def read_classes(path: Path, k: int) -> tuple[str, ...]:
    """Read the names of a model's k classes from a text file, a line for each logit, in order.

    Raises SoftaugError for an unreadable file, UsageError for another number of names or a name
    that occurs twice.
    """
    require_file(path)
    try:
        names = tuple(path.read_text(encoding="utf-8-sig").rstrip().splitlines())
    except (OSError, ValueError) as error:
        raise SoftaugError(f"{path}: not readable as text ({one_line(error)})") from error
    if len(names) != k:
        raise UsageError(f"{path}: {len(names)} classes, but the model gives {k} logits")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path}: classes named twice: {listed(twice, 3)}")
    return names


def class_columns(
    classes: Sequence[str], names: Sequence[str] | None, k: int, source: str
) -> list[int]:
    """Find the logit, of a model's k, of each class of the data.

    names: of the model's classes, None where they are unknown. source: the data, for messages.
    Classes are matched by the model's names where they are known. Otherwise by number, where all
    classes are numbers below k; by ImageNet's WordNet ids, in their order, where k is 1,000; or
    else in the order of the data. Where none of the known names is a class of the data, numbers
    and WordNet ids are tried for k = 1,000. Raises UsageError where nothing fits.
    """
    places = {name: i for i, name in enumerate(names or ())}
    if names is None or not set(classes) & places.keys():
        numbers = [int(name) for name in classes if name.isascii() and name.isdecimal()]
        whole = len(set(numbers)) == len(classes) and max(numbers) < k
        if whole and (names is None or k == 1000):
            return numbers
        if k == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in classes):
            from timm.data import ImageNetInfo

            places = {name: i for i, name in enumerate(ImageNetInfo().label_names())}
    if names is None and not set(classes) <= places.keys():
        if len(classes) == k:
            return list(range(k))
        raise UsageError(
            f"the model gives {k} logits, {source} has {len(classes)} classes; "
            "--classes names a file with the model's"
        )
    if unknown := [name for name in classes if name not in places]:
        known = names or list(places)
        raise UsageError(
            f"{source} has classes that the model does not know ({listed(unknown, 5)}); "
            f"it knows {len(known)} ({listed(known, 5)})"
        )
    return [places[name] for name in classes]
