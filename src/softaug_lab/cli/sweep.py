"""softaug sweep"""

from typing import Annotated

from cyclopts import Parameter

from softaug_lab.cli.compare import compare
from softaug_lab.cli.options import (
    COMPARING,
    READ,
    RUNNING,
    Comparing,
    ReadOptions,
    RecipeFile,
    RecipeOptions,
    Running,
    Source,
)
from softaug_lab.recipes import panels, sweep_arms

MANY = Parameter(consume_multiple=True, group=panels.AUGMENTATION)
MODES = ("soft", "soft-weight", "soft-both")


def sweep(
    data: Source,
    /,
    *,
    sigmas: Annotated[tuple[float, ...], MANY] = (0.1, 0.2, 0.3, 0.4),
    ks: Annotated[tuple[float, ...], MANY] = (1, 2, 4),
    modes: Annotated[tuple[str, ...], MANY] = MODES,
    alphas: Annotated[tuple[float, ...], MANY] = (0.05, 0.1, 0.2, 0.4),
    recipe: RecipeOptions = None,
    read: ReadOptions = READ,
    comparing: Comparing = COMPARING,
    _file: RecipeFile = None,
    running: Running = RUNNING,
) -> None:
    """Compare soft crops over sigma and k, and label smoothing over alpha (the paper's figure 3).

    This is a comparison like that of compare; its report also draws the curves.

    Parameters
    ----------
    sigmas
        Strengths of the crop.
    ks
        Exponents of the curve from visibility to confidence.
    modes
        What the confidence changes: the target (soft), the weight of the loss (soft-weight), or
        both (soft-both).
    alphas
        Amounts of label smoothing on the standard crop.
    """
    compare(
        data,
        arms=sweep_arms(sigmas, ks, modes, alphas),
        recipe=recipe,
        read=read,
        comparing=comparing,
        running=running,
    )
