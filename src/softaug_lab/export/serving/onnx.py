"""Classify images: python serve.py IMAGE ... prints file, class and confidence.

Needs onnxruntime, numpy and pillow.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
about = json.loads(session.get_modelmeta().custom_metadata_map["softaug"])
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
    images = pixels.reshape(1, h, w, -1).transpose(0, 3, 1, 2)  # [N,C,H,W] in [0, 1]
    logits = np.asarray(session.run(None, {"images": images})[0])[0]
    p = np.exp(logits - logits.max())  # the temperature is in the logits already
    print(file, about["classes"][p.argmax()], f"{p.max() / p.sum():.4f}", sep="\t")
if unreadable:
    sys.exit(f"{unreadable} of {len(sys.argv) - 1} images unreadable")
