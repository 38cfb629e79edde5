"""Classify images: python serve.py IMAGE ... prints file, class and confidence.

Needs timm and pillow. timm's stem is for large images, this model's for small ones.
"""

import json
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image, ImageOps

folder = Path(__file__).resolve().parent
config = json.loads((folder / "config.json").read_text())
cfg, names = config["pretrained_cfg"], config["label_names"]
channels = cfg["input_size"][0]
model: Any = timm.create_model(config["architecture"], num_classes=len(names), in_chans=channels)
if hasattr(model, "conv_stem"):  # EfficientNet
    model.conv_stem.stride = (1, 1)
else:  # ResNet
    model.conv1 = torch.nn.Conv2d(channels, model.conv1.out_channels, 3, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
timm.models.load_checkpoint(model.eval(), str(folder / "model.safetensors"))
keys = ("input_size", "interpolation", "crop_pct", "mean", "std")
transform = timm.data.create_transform(**{key: cfg[key] for key in keys})


def read(file: str) -> Image.Image:
    """Read an image as in training: upright, of 8 bits, with white where it is transparent."""
    image = ImageOps.exif_transpose(Image.open(file))
    if image.mode.startswith("I"):  # 16 bits, of which 65535 is white
        image = image.convert("I").point([(level + 128) // 257 for level in range(1 << 16)], "L")
    elif image.mode[-1] in "Aa" or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


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
    print(file, names[int(p.argmax())], f"{p.max().item():.4f}", sep="\t")
if unreadable:
    sys.exit(f"{unreadable} of {len(sys.argv) - 1} images unreadable")
