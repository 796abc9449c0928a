"""Parts of messages of OpenAI's protocol."""

import base64
from typing import Any

import cv2
import numpy as np

from panovlm.geometry.sphere import Pixels

JPEG_QUALITY = 90


def image_part(pixels: Pixels) -> dict[str, Any]:
    """Return a picture, uint8 RGB [H, W, 3], as a part of a message: a JPEG in its address."""
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    data = base64.b64encode(jpeg.tobytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def text_part(text: str) -> dict[str, Any]:
    """Return a text as a part of a message."""
    return {"type": "text", "text": text}
