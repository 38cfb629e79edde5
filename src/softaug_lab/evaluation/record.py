"""The record of an evaluation: all metrics of one model on one test set, and its JSON file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.storage import read_json, write_json
from softaug_lab.metrics import Bin, Metrics, Risk

# Fields of an Evaluation that JSON holds as they are.
PLAIN_FIELDS = (
    "images",
    "top1_error",
    "top5_error",
    "ece_bins",
    "temperature",
)


@dataclass(frozen=True)
class ProbeErrors:
    """Errors of a backbone's features beside those of the linear probe on them; fractions.

    knn_error: top-1 error by the votes of `neighbours` nearest training images. untrained_error,
    untrained_knn_error: the linear probe's and the neighbours' before training.
    """

    knn_error: float
    neighbours: int
    untrained_error: float
    untrained_knn_error: float

    def save(self, path: Path) -> None:
        """Write a JSON file."""
        write_json(path, asdict(self))

    @staticmethod
    def load(path: Path) -> "ProbeErrors":
        """Read a file that `save` wrote; raises SoftaugError where it is absent or broken."""
        with _structure_of(path):
            return ProbeErrors(**read_json(path))


@dataclass(frozen=True)
class ViewLevel:
    """Figures of the test images with a share of each lost; fractions, NLL in nats.

    share was asked for, actual_share of the area is lost: whole pixels make the difference. Each
    image has one fill of a group; fill_errors: top-1 error by fill, worst_error: the largest of
    them, the other figures are of all images. confidence: mean of the largest probability.
    """

    share: float
    actual_share: float
    top1_error: float
    nll: float
    ece: float
    confidence: float
    worst_error: float
    fill_errors: Mapping[str, float]


@dataclass(frozen=True)
class Mix:
    """Figures of whole, cut-off and hidden images together, each image once; fractions, nats."""

    images: int
    top1_error: float
    nll: float
    ece: float
    ece_floor: float
    aurc: float


@dataclass(frozen=True)
class Evaluation:
    """All metrics of one model on one test set; fractions (not percent), NLL in nats.

    top5_error: None for five classes or fewer.
    metrics: of the logits as they are; scaled: of the logits divided by `temperature`, which was
    fitted on held-out training images. temperature and scaled are None without held-out images.
    reliability: the reliability diagram with `ece_bins` bins. cut_off, hidden: by the group of
    fills, a level for each of LOST_SHARES; they and the mix are after the temperature, if there is
    one, and empty or None without views. probe: for models that were trained without labels.
    """

    metrics: Metrics
    images: int
    top1_error: float
    top5_error: float | None
    ece_bins: int
    temperature: float | None
    scaled: Metrics | None
    reliability: tuple[Bin, ...]
    risk_coverage: tuple[Risk, ...]
    cut_off: Mapping[str, tuple[ViewLevel, ...]]
    hidden: Mapping[str, tuple[ViewLevel, ...]]
    mix: Mix | None
    probe: ProbeErrors | None = None

    def as_dict(self) -> dict[str, Any]:
        """Dicts, lists and numbers for JSON; the fields of metrics and probe stand at the top."""
        nested = asdict(self)
        metrics, probe = nested.pop("metrics"), nested.pop("probe")
        flat: dict[str, Any] = _without_tuples({**metrics, **nested, **(probe or {})})
        return flat

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Evaluation":
        """Rebuild an evaluation from its `as_dict`, which may hold further keys.

        One of an earlier version has no views. Raises KeyError or TypeError for another structure.
        """
        scaled, mix = values["scaled"], values.get("mix")
        has_probe = "knn_error" in values
        return Evaluation(
            metrics=_metrics(values),
            scaled=None if scaled is None else _metrics(scaled),
            reliability=tuple(Bin(**entry) for entry in values["reliability"]),
            risk_coverage=tuple(Risk(**entry) for entry in values["risk_coverage"]),
            cut_off=_view_levels(values.get("cut_off", {})),
            hidden=_view_levels(values.get("hidden", {})),
            mix=None if mix is None else Mix(**mix),
            probe=ProbeErrors(**_chosen(values, ProbeErrors)) if has_probe else None,
            **{name: values[name] for name in PLAIN_FIELDS},
        )

    def save(self, path: Path) -> None:
        """Write `as_dict` to a JSON file."""
        write_json(path, self.as_dict())

    @staticmethod
    def load(path: Path) -> "Evaluation":
        """Read a file that `save` wrote; raises SoftaugError where it is absent or broken."""
        with _structure_of(path):
            return Evaluation.from_dict(read_json(path))


@contextmanager
def _structure_of(path: Path) -> Iterator[None]:
    """Turn errors about missing or unknown fields of a file into a SoftaugError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise SoftaugError(
            f"{path}: not an evaluation of this version ({type(error).__name__}: {error}); "
            "evaluate the model again to write it"
        ) from error


def has_views(path: Path) -> bool:
    """Whether an evaluation's file has figures of views; one of an earlier version has none."""
    with _structure_of(path):
        return read_json(path).get("mix") is not None


def _view_levels(values: Mapping[str, Any]) -> dict[str, tuple[ViewLevel, ...]]:
    return {
        group: tuple(ViewLevel(**level) for level in levels) for group, levels in values.items()
    }


def _metrics(values: Mapping[str, Any]) -> Metrics:
    chosen = _chosen(values, Metrics)
    ends = {name: tuple(value) for name, value in chosen.items() if name.endswith("_interval")}
    return Metrics(**{**chosen, **ends})


def _chosen(values: Mapping[str, Any], kind: type[Metrics | ProbeErrors]) -> dict[str, Any]:
    """Select the fields of a dataclass from JSON values."""
    return {field.name: values[field.name] for field in fields(kind)}


def _without_tuples(value: Any) -> Any:
    """Replace tuples by lists at any depth, as JSON has no tuples."""
    if isinstance(value, Mapping):
        return {key: _without_tuples(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_without_tuples(entry) for entry in value]
    return value
