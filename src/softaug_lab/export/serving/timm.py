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
for file in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(file)).convert(mode)
    with torch.inference_mode():
        p = model(transform(image)[None])[0].softmax(dim=0)  # the temperature is in the weights
    label = model.pretrained_cfg["label_names"][int(p.argmax())]
    print(file, label, f"{p.max().item():.4f}", sep="\t")
