"""Classify images: python serve.py IMAGE ... prints file, class and confidence.

Needs torch, numpy and pillow.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from read_image import classify_files, cover

extra = {"softaug.json": ""}
model = torch.export.load(Path(__file__).with_name("model.pt2"), extra_files=extra).module()
about = json.loads(extra["softaug.json"])
h, w, mode = about["height"], about["width"], "L" if about["channels"] == 1 else "RGB"


def classify(image: Image.Image) -> tuple[str, float]:
    """Return the class of an image and its confidence."""
    pixels = np.asarray(cover(image, w, h), np.float32) / 255
    images = torch.from_numpy(pixels).reshape(1, h, w, -1).permute(0, 3, 1, 2)  # in [0, 1]
    with torch.inference_mode():
        p = model(images)[0].softmax(dim=0)  # the temperature is in the logits already
    return about["classes"][int(p.argmax())], p.max().item()


classify_files(classify, w, h, mode)
