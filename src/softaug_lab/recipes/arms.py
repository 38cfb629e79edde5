"""The arms of a comparison, as data: `arms.yaml` names them, text may set their fields anew."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from softaug_lab.basics.errors import UsageError, unknown_name

Targets = Literal["hard", "smoothed", "constant", "soft", "online"]
Mix = Literal["none", "mixup", "cutmix"]
Loss = Literal["cross_entropy", "focal"]
Method = Literal["supervised", "simsiam"]
Pair = Literal["product", "minimum", "own"]
WORDS = {
    name: get_args(words)
    for name, words in {
        "targets": Targets, "mix": Mix, "loss": Loss, "method": Method, "pair": Pair
    }.items()
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one arm does; `arms.yaml` says what the fields mean. k: of its own, None the recipe's.

    Raises UsageError for a value that its field cannot have.
    """

    about: str
    augment: str = "standard"
    targets: Targets = "hard"
    alpha: float = 0.1
    k: float | None = None
    ceiling: float = 1.0
    weighted: bool = False
    mix: Mix = "none"
    loss: Loss = "cross_entropy"
    gamma: float = 2.0
    members: int = 1
    method: Method = "supervised"
    pair: Pair = "product"

    def __post_init__(self) -> None:
        for name, words in WORDS.items():
            if getattr(self, name) not in words:
                raise UsageError(f"{name} must be {' or '.join(words)}, got {getattr(self, name)}")
        expected: dict[str, tuple[str, Callable[[Any], bool]]] = {
            "alpha": ("in [0, 1)", lambda value: 0 <= value < 1),
            "ceiling": ("in (0, 1]", lambda value: 0 < value <= 1),
            "gamma": ("0 or more", lambda value: 0 <= value < math.inf),
            "members": ("at least 1", lambda value: value >= 1 and value == int(value)),
            "k": ("above 0", lambda value: value is None or 0 < value < math.inf),
        }
        for name, (range_, fits) in expected.items():
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number or (name == "k" and value is None)) or not fits(value):
                raise UsageError(f"{name} must be {range_}, got {value}")
        if not isinstance(self.weighted, bool):
            raise UsageError(f"weighted must be true or false, got {self.weighted}")
        if self.weighted and self.targets not in ("hard", "soft"):
            raise UsageError(f"weighted goes with hard or soft targets, got {self.targets}")
        if self.self_supervised:
            # What these say is of labels.
            for name in ("targets", "mix", "loss", "members"):
                if getattr(self, name) != getattr(Arm, name):
                    raise UsageError(
                        f"{name} must be {getattr(Arm, name)} with method {self.method}, which "
                        f"has no labels, got {getattr(self, name)}"
                    )
        elif self.pair != Arm.pair:
            raise UsageError(f"pair goes with method simsiam, got {self.pair}")

    @property
    def self_supervised(self) -> bool:
        """Whether it trains without labels, and is judged by a probe."""
        return self.method != "supervised"


ARMS = {
    name: Arm(**said)
    for name, said in yaml.safe_load((Path(__file__).parent / "arms.yaml").read_text()).items()
}
SUPERVISED = tuple(name for name, arm in ARMS.items() if not arm.self_supervised)
SELF_SUPERVISED = tuple(name for name, arm in ARMS.items() if arm.self_supervised)
SIX_ARMS = ("none", "standard", "standard-smoothed", "harsh", "harsh-constant", "soft")
SETTABLE = [field.name for field in fields(Arm) if field.name not in ("about", "augment", "method")]
_TEXT = re.compile(r"(?P<name>[^(@]*)(\((?P<set>[^)]*)\))?(@(?P<augment>.*))?", re.DOTALL)


def read_arm(text: str) -> Arm:
    """The arm that `NAME`, `NAME(FIELD=VALUE, ...)`, `NAME@SIGMA` or `NAME@EXPRESSION` stands for.

    Raises UsageError for a name or a field that is not known and a value that does not fit.
    """
    found = _TEXT.fullmatch(text)
    if found is None or found["name"] not in ARMS:
        raise unknown_name("arm", text, ARMS)
    changes = dict(_field(text, part) for part in (found["set"] or "").split(",") if part.strip())
    if found["augment"]:
        changes["augment"] = _augment(found["augment"])
    try:
        return replace(ARMS[found["name"]], **changes)
    except UsageError as error:
        raise UsageError(f"arm {text!r}: {error}") from error


def sweep_arms(
    sigmas: Sequence[float], ks: Sequence[float], modes: Sequence[str], alphas: Sequence[float]
) -> tuple[str, ...]:
    """The arms of the paper's figure 3: label smoothing over alpha, each mode over sigma and k."""
    smoothed = [f"standard-smoothed(alpha={alpha:g})" for alpha in alphas]
    softened = [f"{mode}(k={k:g})@{sigma:g}" for mode in modes for k in ks for sigma in sigmas]
    return ("standard", *smoothed, *softened)


def swept(text: str) -> tuple[str, str, float] | None:
    """What an arm is a point of: the curve's name, the axis (sigma or alpha), and where on it."""
    if match := re.fullmatch(r"(.+)@([\d.]+)", text):
        return match[1], "sigma", float(match[2])
    if match := re.fullmatch(r"(.+)\(alpha=([\d.]+)\)", text):
        return match[1], "alpha", float(match[2])
    return None


def member_of(text: str) -> str:
    """The arm of one member of an ensemble."""
    found = _TEXT.fullmatch(text)
    assert found is not None
    own = f"{found['set']}, " if found["set"] else ""
    return f"{found['name']}({own}members=1)" + (f"@{found['augment']}" if found["augment"] else "")


def _field(text: str, part: str) -> tuple[str, Any]:
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if name not in SETTABLE:
        raise UsageError(f"arm {text!r}: {unknown_name('field', name, SETTABLE)}")
    if not equals:
        raise UsageError(f"arm {text!r}: expected {name}=VALUE")
    return name, yaml.safe_load(value)


def _augment(text: str) -> str:
    try:
        return f"crop({float(text)})"
    except ValueError:
        return text
