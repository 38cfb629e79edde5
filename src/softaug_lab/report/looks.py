"""How each arm is drawn: colour, dashes, width and marker."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from softaug_lab.recipes import role_of


@dataclass(frozen=True)
class Look:
    """How an arm is drawn in every figure. dash: lengths of line and gap in points; () is solid."""

    colour: str
    dash: tuple[float, ...] = ()
    width: float = 1.6
    marker: str = "o"


# These colours differ under the three dichromacies, with a contrast of 3:1 or more on white and on
# near-black. Dashes mark the arms that soften all images alike.
LOOKS = {
    "none": Look("#909090", marker="x"),
    "standard": Look("#5591e8", marker="s"),
    "standard-smoothed": Look("#1d7280", (5, 2), marker="D"),
    "harsh": Look("#d47a10", marker="^"),
    "harsh-constant": Look("#8f35e6", (5, 2), marker="v"),
    "soft": Look("#d12a3c", width=2.8, marker="o"),
}
LOOKS_LIKE = {"auto": "soft", "auto-hard": "harsh", "auto-constant": "harsh-constant"}
SPARE_COLOURS = ("#a8517b", "#6b8e23", "#9a6a2f", "#4f8a8b", "#b05ac0", "#6a78a8")
SPARE_DASHES: tuple[tuple[float, ...], ...] = ((1.2, 1.6), (7, 2, 1.2, 2), (3, 1.5))


def arm_looks(arms: Sequence[str]) -> dict[str, Look]:
    """Choose a look for each arm; the arms of LOOKS look the same in every report."""
    # The dash changes with every round of the colours, so that all pairs come before any repeats.
    spare = itertools.cycle(
        (colour, SPARE_DASHES[(i + turn) % len(SPARE_DASHES)])
        for turn in range(len(SPARE_DASHES))
        for i, colour in enumerate(SPARE_COLOURS)
    )
    known = LOOKS | {new: LOOKS[old] for new, old in LOOKS_LIKE.items() if old not in arms}
    return {
        arm: known.get(arm) or Look(*next(spare), width=2.2 if role_of(arm) == "soft" else 1.6)
        for arm in arms
    }
