"""Classify images: python serve.py IMAGE ... prints file, class and confidence.

Needs onnxruntime, numpy and pillow.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from read_image import classify_files, cover

session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
about = json.loads(session.get_modelmeta().custom_metadata_map["softaug"])
h, w, mode = about["height"], about["width"], "L" if about["channels"] == 1 else "RGB"


def classify(image: Image.Image) -> tuple[str, float]:
    """Return the class of an image and its confidence."""
    pixels = np.asarray(cover(image, w, h), np.float32) / 255
    images = pixels.reshape(1, h, w, -1).transpose(0, 3, 1, 2)  # [N,C,H,W] in [0, 1]
    logits = np.asarray(session.run(None, {"images": images})[0])[0]
    p = np.exp(logits - logits.max())  # the temperature is in the logits already
    return about["classes"][p.argmax()], float(p.max() / p.sum())


classify_files(classify, w, h, mode)
