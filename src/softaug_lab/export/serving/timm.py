"""Classify images: python serve.py IMAGE ... prints file, class and confidence.

Needs timm and pillow.
"""

import sys
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image, ImageOps

folder = Path(__file__).resolve().parent
model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)  # size, mean and std
transform = timm.data.create_transform(**config)
mode = "L" if config["input_size"][0] == 1 else "RGB"


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
    with torch.inference_mode():
        p = model(transform(image)[None])[0].softmax(dim=0)  # the temperature is in the weights
    label = model.pretrained_cfg["label_names"][int(p.argmax())]
    print(file, label, f"{p.max().item():.4f}", sep="\t")
if unreadable:
    sys.exit(f"{unreadable} of {len(sys.argv) - 1} images unreadable")
