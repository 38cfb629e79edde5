"""Encode images as base64 PNG text for JSON records and HTML pages."""

import base64
import io

from jaxtyping import UInt8
from torch import Tensor


def png_text(image: UInt8[Tensor, "c h w"]) -> str:
    """Encode an image of 1 or 3 channels as PNG in base64."""
    from PIL import Image

    pixels = image.permute(1, 2, 0).squeeze(-1).contiguous().numpy()
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode()
