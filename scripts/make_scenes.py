"""Make a data set of small objects in larger images: the demo's clothes over clutter, with masks.

    python scripts/make_scenes.py FOLDER [--side 32] [--images 2000] [--seed 0]

Each image has one piece of clothing, 3/8 to 7/12 of SIDE px tall, at a random place of the frame.
Behind it is clutter: flat rectangles, and scraps of other clothes, of any class.
FOLDER gets `train/CLASS/` and `test/CLASS/` with the images, `masks/` with a mask for each, and
`boxes.json` with boxes as in COCO. A mask is where the piece of clothing is not black. The same
seed writes the same files.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from softaug_lab.data import ImageSet, load

RECTANGLES, SCRAPS = 6, 14  # behind the clothing


def whole(low: int, high: int, generator: Generator) -> int:
    """Draw a whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def pasted(frame: Tensor, piece: Tensor, mask: Tensor, top: int, left: int) -> None:
    """Paste a piece [H,W] into a frame where its mask says so."""
    height, width = piece.shape
    view = frame[top : top + height, left : left + width]
    view[mask] = piece[mask]


def clutter(images: Tensor, side: int, generator: Generator) -> Tensor:
    """Draw a background [S,S] of rectangles and scraps of clothes."""
    frame = torch.full((side, side), whole(0, 120, generator), dtype=torch.uint8)
    for _ in range(RECTANGLES):
        height, width = (whole(side // 8, side // 2, generator) for _ in range(2))
        top, left = whole(0, side - height, generator), whole(0, side - width, generator)
        frame[top : top + height, left : left + width] = whole(0, 180, generator)
    for _ in range(SCRAPS):
        size = whole(side // 12, 3 * side // 16, generator)
        image = images[whole(0, len(images) - 1, generator), 0]
        y, x = (whole(4, 24 - size, generator) for _ in range(2))
        scrap = image[y : y + size, x : x + size]
        top, left = (whole(0, side - size, generator) for _ in range(2))
        pasted(frame, scrap, scrap > 0, top, left)
    return frame


def scene(images: Tensor, i: int, side: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw image i at a random place and size over clutter; return pixels and mask, [S,S]."""
    frame, mask = clutter(images, side, generator), torch.zeros(side, side, dtype=torch.bool)
    size = whole(3 * side // 8, 7 * side // 12, generator)
    scaled = F.interpolate(images[i][None].float(), (size, size), mode="bilinear", antialias=True)
    piece = scaled[0, 0].round().to(torch.uint8)
    top, left = (whole(0, side - size, generator) for _ in range(2))
    pasted(frame, piece, piece > 8, top, left)
    mask[top : top + size, left : left + size] = piece > 8
    return frame, mask


def box(mask: Tensor) -> list[int]:
    """Return left, top, width and height of what a mask marks."""
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def write(folder: Path, part: str, images: ImageSet, names: list[str], side: int, n: int,
          generator: Generator, coco: dict[str, list[dict[str, object]]]) -> None:  # fmt: skip
    """Write n scenes of a part with their masks, and note their boxes."""
    order = torch.randperm(len(images), generator=generator)[:n].tolist()
    for number, i in enumerate(order):
        pixels, mask = scene(images.images, i, side, generator)
        name = f"{part}/{names[int(images.labels[i])]}/{number:05}.png"
        for path, content in (
            (folder / name, pixels),
            (folder / "masks" / name, mask.to(torch.uint8) * 255),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content.numpy()).save(path)
        image = len(coco["images"])
        coco["images"].append({"id": image, "file_name": name, "width": side, "height": side})
        coco["annotations"].append({"id": image, "image_id": image, "bbox": box(mask)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--images", type=int, default=2000, help="to train on; as many to test on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    demo = load("demo")
    coco: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    names = [name.replace("/", "-") for name in demo.classes]
    generator = Generator().manual_seed(options.seed)
    for part, images in (("train", demo.train), ("test", demo.test)):
        write(options.folder, part, images, names, options.side, options.images, generator, coco)
    (options.folder / "boxes.json").write_text(json.dumps(coco))


if __name__ == "__main__":
    main()
