"""Classify images: python serve.py IMAGE ... prints file, class and confidence.

Needs torch, numpy and pillow.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

extra = {"softaug.json": ""}
model = torch.export.load(Path(__file__).with_name("model.pt2"), extra_files=extra).module()
about = json.loads(extra["softaug.json"])
h, w, mode = about["height"], about["width"], "L" if about["channels"] == 1 else "RGB"


def read(file: str) -> Image.Image:
    """Read an image as in training: upright, of 8 bits, with white where it is transparent."""
    image = ImageOps.exif_transpose(Image.open(file))
    if image.mode.startswith("I"):  # 16 bits, of which 65535 is white
        image = image.convert("I").point([(level + 128) // 257 for level in range(1 << 16)], "L")
    elif image.mode[-1] in "Aa" or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


unreadable = 0
for file in sys.argv[1:]:
    try:
        image = read(file)
    except Exception as error:  # Pillow raises errors of many types
        print(f"{file}: unreadable ({error})", file=sys.stderr)
        unreadable += 1
        continue
    size = max(w, h * image.width // image.height), max(h, w * image.height // image.width)
    image = image.resize(size, Image.Resampling.BILINEAR)  # covers h x w; then the centre
    left, top = round((size[0] - w) / 2), round((size[1] - h) / 2)
    pixels = np.asarray(image.crop((left, top, left + w, top + h)), np.float32) / 255
    images = torch.from_numpy(pixels).reshape(1, h, w, -1).permute(0, 3, 1, 2)  # in [0, 1]
    with torch.inference_mode():
        p = model(images)[0].softmax(dim=0)  # the temperature is in the logits already
    print(file, about["classes"][int(p.argmax())], f"{p.max().item():.4f}", sep="\t")
if unreadable:
    sys.exit(f"{unreadable} of {len(sys.argv) - 1} images unreadable")
