"""softaug preview"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.cli.options import READ, Arm, ReadOptions, Source, load_data
from softaug_lab.cli.terminal import inert, quoted, tell
from softaug_lab.recipes import WHOLE, Augmentation, Recipe, panels

IN_PICTURE = Parameter(group=panels.RUN)


def preview(
    data: Source,
    /,
    *,
    arm: Arm = "auto",
    augment: Augmentation = None,
    sigma: Annotated[float | None, Parameter(group=panels.AUGMENTATION)] = None,
    k: Annotated[float | None, Parameter(group=panels.AUGMENTATION)] = None,
    read: ReadOptions = READ,
    images: Annotated[int, WHOLE, IN_PICTURE] = 16,
    seed: Annotated[int, WHOLE, IN_PICTURE] = 0,
    out: Annotated[Path, IN_PICTURE] = Path("preview.png"),
) -> None:
    """Draw training images under an augmentation, each with its visibility and confidence.

    Parameters
    ----------
    augment
        Augmentation of the harsh, soft and auto arms: an expression such as crop(0.3)+erase(0.2),
        or a YAML file with a list of such parts (default: a crop of strength SIGMA; in the arms
        auto by the rule for 20 epochs).
    sigma
        Strength of the soft crop: standard deviation of the shift, as a share of the image side
        (default: 0.3, the paper's; in the arms auto by the rule for 20 epochs).
    k
        Exponent of the curve from visibility to confidence (default: 2, the paper's; in the arms
        auto by the rule).
    images
        Number of images in the picture.
    seed
        Seed of the choice of images and of their augmentation.
    out
        File to write the picture to.
    """
    from softaug_lab.experiments import augmented_samples
    from softaug_lab.report import sample_sheet
    from softaug_lab.training import build_arm, resolve

    if images < 1:
        raise UsageError(f"--images must be at least 1, got {images}")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file, such as {out / 'preview.png'}")
    out = out if out.suffix else out.with_name(f"{out.name}.png")
    recipe = Recipe(arm=arm, augment=augment, sigma=sigma, k=k)
    loaded = load_data(data, read)
    recipe = resolve(recipe, loaded)
    _, height, width = loaded.image_shape
    chosen = build_arm(recipe, loaded.num_classes, height, width, loaded.train.objects)
    pixels, labels, share, confidence = augmented_samples(chosen, loaded, images, seed)
    captions = [
        f"{inert(loaded.classes[int(label)])}\nv {v:.2f}  p {p:.2f}"
        for label, v, p in zip(labels, share.tolist(), confidence.tolist(), strict=True)
    ]
    try:
        sample_sheet(pixels, captions).savefig(out, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise SoftaugError(f"{out}: the picture could not be written ({error})") from error
    tell(f"{len(pixels)} images under {chosen!r}")
    tell(f"picture  {quoted(out)}")
