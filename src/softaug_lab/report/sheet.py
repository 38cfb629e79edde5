"""A sheet of sample images with captions, for `softaug preview`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 21  # characters of a caption's line


def sample_sheet(images: Tensor, captions: Sequence[str], columns: int = 8) -> "Figure":
    """Draw uint8 images [n,C,H,W] on a sheet, with a caption under each and sharp pixels.

    Images with 1, 3 or 4 channels are shown as they are; of others the mean over channels. Raises
    ValueError without images, or where the captions are not one for each image.
    """
    import matplotlib as mpl

    from softaug_lab.report.drawings import STYLE

    n, _, height, width = images.shape
    if n == 0 or len(captions) != n or columns < 1:
        raise ValueError(
            f"a sheet needs images, a caption for each and a column, got {n} images, "
            f"{len(captions)} captions and {columns} columns"
        )
    columns = min(columns, n)
    lines = max(caption.count("\n") + 1 for caption in captions)
    cell = 1.35 * height / width + 0.15 * lines + 0.12  # inches
    with mpl.rc_context(STYLE):
        figure, axes = _grid(-(-n // columns), columns, cell)
        for axis, image, caption in zip(axes, images.cpu(), captions, strict=False):
            _draw(axis, image, caption)
    return figure


def _grid(rows: int, columns: int, cell: float) -> "tuple[Figure, list[Axes]]":
    """An empty sheet of rows by columns; cell: height of a row in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.35 * columns, cell * rows), dpi=140, layout="constrained")
    figure.patch.set_facecolor("white")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def _draw(axis: "Axes", image: Tensor, caption: str) -> None:
    shown = image if len(image) in (1, 3, 4) else image.float().mean(dim=0, keepdim=True)
    pixels = shown.permute(1, 2, 0).squeeze(-1).numpy()
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    # Class names are the user's: a dollar sign starts no formula, and some names are long.
    text = "\n".join(_shortened(line) for line in caption.split("\n"))
    axis.text(
        0.5, -0.05, text, transform=axis.transAxes, ha="center", va="top",
        fontsize=7.5, color="black", parse_math=False,
    )  # fmt: skip


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
