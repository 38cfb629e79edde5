"""Classify images: python serve.py IMAGE ... prints file, class and confidence.

Needs timm, numpy and pillow.
"""

from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from read_image import classify_files

folder = Path(__file__).resolve().parent
model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)  # size, mean and std
transform = timm.data.create_transform(**config)
channels, h, w = config["input_size"]
mode = "L" if channels == 1 else "RGB"


def classify(image: Image.Image) -> tuple[str, float]:
    """Return the class of an image and its confidence."""
    with torch.inference_mode():
        p = model(transform(image)[None])[0].softmax(dim=0)  # the temperature is in the weights
    return model.pretrained_cfg["label_names"][int(p.argmax())], p.max().item()


classify_files(classify, w, h, mode)
