"""The arms of a comparison: `arms.yaml` names them; text such as `soft(k=1)@0.2` varies them."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from softaug_lab.basics.errors import UsageError, unknown_name
from softaug_lab.recipes.plain_yaml import load_yaml

Role = Literal[
    "plain", "standard", "smoothed", "harsh", "constant", "soft", "rival", "variant"
]  # fmt: skip
Targets = Literal["hard", "smoothed", "constant", "soft", "learned", "online"]
Mix = Literal["none", "mixup", "cutmix"]
Loss = Literal["cross_entropy", "focal"]
Head = Literal["linear", "gaussians", "process", "centroids"]
Method = Literal["supervised", "simsiam"]
Pair = Literal["product", "minimum", "own"]
WORDS = {
    name: get_args(words)
    for name, words in {
        "role": Role, "targets": Targets, "mix": Mix, "loss": Loss, "head": Head, "method": Method,
        "pair": Pair,
    }.items()
}  # fmt: skip
AUTO = "auto"  # in an expression: the augmentation that a rule chooses for the data and the budget
# Controls that repeat a soft arm's augmentation without its softening.
SAME_AUGMENTATION: tuple[Role, ...] = ("harsh", "constant")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The settings of one arm; `arms.yaml` explains each field. k=None takes the recipe's k.

    Raises UsageError for a value outside its field's range.
    """

    about: str
    role: Role
    against: tuple[Role, ...] = ()
    augment: str = "standard"
    targets: Targets = "hard"
    alpha: float = 0.1
    k: float | None = None
    ceiling: float = 1.0
    weighted: bool = False
    mix: Mix = "none"
    loss: Loss = "cross_entropy"
    gamma: float = 2.0
    head: Head = "linear"
    bound: float | None = None
    members: int = 1
    method: Method = "supervised"
    pair: Pair = "product"

    def __post_init__(self) -> None:
        for name, words in WORDS.items():
            if getattr(self, name) not in words:
                raise UsageError(f"{name} must be {' or '.join(words)}, got {getattr(self, name)}")
        self._check_numbers()
        if not isinstance(self.weighted, bool):
            raise UsageError(f"weighted must be true or false, got {self.weighted}")
        if self.weighted and self.targets not in ("hard", "soft"):
            raise UsageError(f"weighted goes with hard or soft targets, got {self.targets}")
        if self.head == "centroids" and self.loss != Arm.loss:
            raise UsageError(f"loss must be {Arm.loss} with head centroids, got {self.loss}")
        self._check_method()

    def _check_numbers(self) -> None:
        expected: dict[str, tuple[str, Callable[[Any], bool]]] = {
            "alpha": ("in [0, 1)", lambda value: 0 <= value < 1),
            "ceiling": ("in (0, 1]", lambda value: 0 < value <= 1),
            "gamma": ("0 or more", lambda value: 0 <= value < math.inf),
            "members": ("at least 1", lambda value: value >= 1 and value == int(value)),
            "k": ("above 0", lambda value: value is None or 0 < value < math.inf),
            "bound": ("above 0", lambda value: value is None or 0 < value < math.inf),
        }
        for name, (range_, fits) in expected.items():
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number or (name in ("k", "bound") and value is None)) or not fits(value):
                raise UsageError(f"{name} must be {range_}, got {value}")

    def _check_method(self) -> None:
        if not self.self_supervised:
            if self.pair != Arm.pair:
                raise UsageError(f"pair goes with method simsiam, got {self.pair}")
            return
        for name in ("targets", "mix", "loss", "head", "bound", "members"):  # these need labels
            if getattr(self, name) != getattr(Arm, name):
                raise UsageError(
                    f"{name} must be {getattr(Arm, name)} with method {self.method}, which "
                    f"has no labels, got {getattr(self, name)}"
                )

    @property
    def self_supervised(self) -> bool:
        """Whether the arm trains without labels and is evaluated by a linear probe."""
        return self.method != "supervised"


ARMS = {
    name: Arm(**{**given, "against": tuple(given.get("against", ()))})
    for name, given in yaml.safe_load((Path(__file__).parent / "arms.yaml").read_text()).items()
}
SUPERVISED = tuple(name for name, arm in ARMS.items() if not arm.self_supervised)
SELF_SUPERVISED = tuple(name for name, arm in ARMS.items() if arm.self_supervised)
# Of a comparison: no augmentation, the standard ones, and auto with both of its controls.
DEFAULT_ARMS = ("none", "standard", "standard-smoothed", "auto-hard", "auto-constant", "auto")
SETTABLE = [
    field.name
    for field in fields(Arm)
    if field.name not in ("about", "role", "against", "augment", "method")
]
_TEXT = re.compile(r"(?P<name>[^(@]*)(\((?P<set>[^)]*)\))?(@(?P<augment>.+))?", re.DOTALL)


def read_arm(text: str) -> Arm:
    """Parse `NAME`, `NAME(FIELD=VALUE, ...)`, `NAME@SIGMA` or `NAME@EXPRESSION` into an Arm.

    Soft arms stay soft whatever is set; a control or rival with fields set in brackets, and a
    control of the standard augmentation with an `@`, gets the role `variant`.
    Raises UsageError for an unknown name or field and for a value outside its range.
    """
    match = _TEXT.fullmatch(text)
    if match is None or match["name"] not in ARMS:
        raise unknown_name("arm", text, ARMS)
    named = ARMS[match["name"]]
    changes = dict(_field(text, part) for part in (match["set"] or "").split(",") if part.strip())
    role: Role = "variant" if changes and named.role != "soft" else named.role
    if match["augment"]:
        changes["augment"] = _augment(match["augment"])
        if role in ("plain", "standard", "smoothed"):
            role = "variant"
    try:
        return replace(named, role=role, **changes)
    except UsageError as error:
        raise UsageError(f"arm {text!r}: {error}") from error


def role_of(text: str) -> Role | None:
    """Return the role of an arm by its text; None for an arm unknown to this version.

    Reports are drawn from records that another version may have written.
    """
    try:
        return read_arm(text).role
    except UsageError:
        return None


def same_augmentation(first: str, second: str) -> bool:
    """Whether two arms apply the same augmentation to an image, such as soft@0.2 and harsh@0.2."""
    return read_arm(first).augment == read_arm(second).augment


def rivals(arm: str, arms: Sequence[str]) -> list[str]:
    """List those of `arms` that `arm` is judged against, in the order of its field `against`.

    Controls of SAME_AUGMENTATION count only where they share the arm's augmentation.
    """
    return [
        other
        for role in read_arm(arm).against
        for other in arms
        if read_arm(other).role == role
        and (role not in SAME_AUGMENTATION or same_augmentation(arm, other))
    ]


def main_arm(arms: Sequence[str]) -> str | None:
    """Return the arm that a comparison is about: `auto`, `soft` or the first soft arm, or None."""
    soft = [arm for arm in arms if role_of(arm) == "soft"]
    return next((arm for arm in ("auto", "soft", *soft) if arm in soft), None)


def sweep_arms(
    sigmas: Sequence[float], ks: Sequence[float], modes: Sequence[str], alphas: Sequence[float]
) -> tuple[str, ...]:
    """List the arms of the paper's figure 3: label smoothing over alpha, modes over sigma and k."""
    smoothed = [f"standard-smoothed(alpha={alpha:g})" for alpha in alphas]
    softened = [f"{mode}(k={k:g})@{sigma:g}" for mode in modes for k in ks for sigma in sigmas]
    return ("standard", *smoothed, *softened)


def swept(text: str) -> tuple[str, str, float] | None:
    """Locate an arm in a sweep: the curve's name, the axis (sigma or alpha), the value on it.

    None for an arm that is no point of a sweep.
    """
    if match := re.fullmatch(r"(.+)@([\d.]+)", text):
        return match[1], "sigma", float(match[2])
    if match := re.fullmatch(r"(.+)\(alpha=([\d.]+)\)", text):
        return match[1], "alpha", float(match[2])
    return None


def member_of(text: str) -> str:
    """Return the text of the arm that each member of an ensemble trains."""
    match = _TEXT.fullmatch(text)
    assert match is not None
    given = f"{match['set']}, " if match["set"] else ""
    augment = f"@{match['augment']}" if match["augment"] else ""
    return f"{match['name']}({given}members=1){augment}"


def _field(text: str, part: str) -> tuple[str, Any]:
    name, _, value = (piece.strip() for piece in part.partition("="))
    if name not in SETTABLE:
        raise UsageError(f"arm {text!r}: {unknown_name('field', name, SETTABLE)}")
    if not value:
        raise UsageError(f"arm {text!r}: expected {name}=VALUE")
    try:
        return name, load_yaml(value)
    except yaml.YAMLError as error:
        raise UsageError(
            f"arm {text!r}: {name}: expected a number or a word, got {value}"
        ) from error


def _augment(text: str) -> str:
    """Expand a bare number to the crop of that strength."""
    try:
        return f"crop({float(text)})"
    except ValueError:
        return text
