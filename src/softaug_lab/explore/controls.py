"""Controls: sliders and switches of the page, written as an augmentation expression and read back.

The settings of the controls are plain data for JSON: `fill` is one word or number for all
transforms, `on` holds the transforms that are switched on, each with the values of its sliders.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import softaug
from softaug import Chain, Still, Transform
from softaug_lab.basics.errors import UsageError

Settings = dict[str, Any]

# A word or number of an expression, and what the page calls it.
FILLS = {
    "mixed": "mixed", "0": "black", "mean": "mean colour",
    "reflect": "mirror image", "colour": "random colour", "noise": "noise", "other": "other image",
}  # fmt: skip


@dataclass(frozen=True)
class Slider:
    """One number of a transform. least, most: the fixed end of an option that is a pair."""

    option: str
    low: float
    high: float
    step: float
    start: float
    label: str
    least: float | None = None
    most: float | None = None

    def write(self, value: float) -> str:
        """Write the option as an expression has it: `sigma=0.3`, `area=(0.02, 0.4)`."""
        ends = (self.least, value, self.most)
        shown = ", ".join(f"{end:.6g}" for end in ends if end is not None)
        is_pair = self.least is not None or self.most is not None
        return f"{self.option}=({shown})" if is_pair else f"{self.option}={shown}"

    def read(self, transform: Transform) -> float | None:
        """Return the slider's value in a transform; None where no place of the slider shows it."""
        value = getattr(transform, self.option)
        if isinstance(value, tuple):
            value = value[0] if self.most is not None else value[-1]
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True)
class Control:
    """A transform by its word in expressions, its sliders, and whether it takes the fill."""

    word: str
    label: str
    kind: type
    sliders: tuple[Slider, ...] = ()
    fill: bool = False


# In the order in which the page applies them. Flips come first and have a switch of their own.
CONTROLS = (
    Control("trivialaugment", "TrivialAugment", softaug.TrivialAugment),
    Control("randaugment", "RandAugment", softaug.RandAugment,
            (Slider("magnitude", 0, 30, 1, 9, "magnitude"),)),
    Control("random_resized_crop", "random resized crop", softaug.RandomResizedCrop,
            (Slider("scale", 0.01, 1, 0.01, 0.08, "least area", most=1),)),
    Control("crop", "crop", softaug.Crop,
            (Slider("sigma", 0, 0.6, 0.01, 0.3, "sigma"),), fill=True),
    Control("erase", "erase", softaug.Erase,
            (Slider("area", 0.02, 1, 0.01, 0.4, "largest area", least=0.02),
             Slider("probability", 0, 1, 0.01, 1, "probability")), fill=True),
    Control("blur", "blur", softaug.Blur,
            (Slider("beta", 0.5, 8, 0.1, 2, "beta, larger is milder"),)),
    Control("diffusion_noise", "noise", softaug.DiffusionNoise,
            (Slider("beta", 0.5, 8, 0.1, 2, "beta, larger is milder"),)),
)  # fmt: skip


def described() -> list[dict[str, Any]]:
    """Describe the controls as plain data, from which the page makes its sliders."""
    return [{n: v for n, v in asdict(one).items() if n != "kind"} for one in CONTROLS]


def write(settings: Mapping[str, Any]) -> str:
    """Write the settings of the controls as an expression; raises UsageError for wrong ones."""
    try:
        fill, on = settings["fill"], settings["on"]
        if fill not in FILLS:
            raise UsageError(f"unknown fill {fill!r}")
        parts = []
        for control in (one for one in CONTROLS if one.word in on):
            options = [s.write(float(on[control.word][s.option])) for s in control.sliders]
            options += [f"fill={fill}"] if control.fill else []
            parts.append(f"{control.word}({', '.join(options)})" if options else control.word)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"no settings of the controls: {settings!r}") from error
    return "+".join(parts) or "still"


def read(transform: Transform) -> Settings | None:
    """Return settings of the controls that stand for a transform, if there may be any.

    They stand for it only if their expression, built again, equals the transform: some transforms
    have options that no slider shows, or another order.
    """
    parts = transform.transforms if isinstance(transform, Chain) else (transform,)
    controls = {control.kind: control for control in CONTROLS}
    fills: set[str] = set()
    on: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, Still):
            continue
        control = controls.get(type(part))
        if control is None:
            return None
        values = {slider.option: slider.read(part) for slider in control.sliders}
        if None in values.values():
            return None
        on[control.word] = values
        if control.fill:
            fills.add(str(getattr(part, "fill", None)))
    if len(fills) > 1 or not fills <= FILLS.keys():
        return None
    return {"fill": next(iter(fills), None), "on": on}
