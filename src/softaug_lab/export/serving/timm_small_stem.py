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
for file in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(file)).convert("L" if channels == 1 else "RGB")
    with torch.inference_mode():
        p = model(transform(image)[None])[0].softmax(dim=0)  # the temperature is in the weights
    print(file, names[int(p.argmax())], f"{p.max().item():.4f}", sep="\t")
