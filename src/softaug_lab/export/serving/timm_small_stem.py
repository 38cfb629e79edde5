"""Classify images: python serve.py IMAGE ... prints file, class and confidence.

Needs timm, numpy and pillow. timm's stem is for large images, this model's for small ones.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from read_image import classify_files

folder = Path(__file__).resolve().parent
config = json.loads((folder / "config.json").read_text())
cfg, names = config["pretrained_cfg"], config["label_names"]
channels, h, w = cfg["input_size"]
mode = "L" if channels == 1 else "RGB"
model: Any = timm.create_model(config["architecture"], num_classes=len(names), in_chans=channels)
if hasattr(model, "conv_stem"):  # EfficientNet
    model.conv_stem.stride = (1, 1)
else:  # ResNet
    model.conv1 = torch.nn.Conv2d(channels, model.conv1.out_channels, 3, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
timm.models.load_checkpoint(model.eval(), str(folder / "model.safetensors"))
keys = ("input_size", "interpolation", "crop_pct", "mean", "std")
transform = timm.data.create_transform(**{key: cfg[key] for key in keys})


def classify(image: Image.Image) -> tuple[str, float]:
    """Return the class of an image and its confidence."""
    with torch.inference_mode():
        p = model(transform(image)[None])[0].softmax(dim=0)  # the temperature is in the weights
    return names[int(p.argmax())], p.max().item()


classify_files(classify, w, h, mode)
