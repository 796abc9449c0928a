"""Radiance HDR pictures (.hdr), tone-mapped to 8 bits.

They hold light, not the colours of a screen. Reinhard's global operator brings the picture's mean
light to a middle grey, whatever its exposure, and its brightest to white; the sRGB curve follows.

Source:
    Reinhard et al.: Photographic Tone Reproduction for Digital Images, 2002, equations 1, 2 and 4;
    the mean leaves out what is black.
"""

import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from panovlm.geometry.sphere import Pixels

_HEADER_BYTES = 4096
_SIZE = re.compile(rb"\n\n-Y (\d{1,9}) \+X (\d{1,9})\n")
_MIDDLE_GREY = 0.18
_BLUE_GREEN_RED = np.array([0.0722, 0.7152, 0.2126], np.float32)
"""Shares of the channels in luminance."""


class RadianceFile(ImageFile.ImageFile):
    """A Radiance HDR picture as Pillow opens others: header first, pixels on `load`."""

    format = "HDR"
    format_description = "Radiance HDR"

    def _open(self) -> None:
        size = None if self.fp is None else _SIZE.search(self.fp.read(_HEADER_BYTES))
        if size is None:
            raise SyntaxError("no size of a picture that is upright")
        self._size = int(size[2]), int(size[1])
        self._mode = "RGB"

    def load(self) -> Any:
        """Decode and tone-map the picture."""
        if self._im is None and self.fp is not None:
            self.fp.seek(0)
            self._im = Image.fromarray(_tone_mapped(_light(self.fp.read(), self.size))).im
        return super().load()


def _light(data: bytes, size: tuple[int, int]) -> NDArray[np.float32]:
    """Decode a Radiance file to linear blue, green and red, [H, W, 3]."""
    light = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if light is None or light.dtype != np.float32 or light.shape != (size[1], size[0], 3):
        raise ValueError("damaged")
    return np.nan_to_num(light.clip(0, 1e30), copy=False)


def _tone_mapped(light: NDArray[np.float32]) -> Pixels:
    """Convert linear blue, green and red [H, W, 3] to uint8 sRGB, red first."""
    luminance = light @ _BLUE_GREEN_RED
    seen = luminance[luminance > 0]
    if seen.size:
        scaled = luminance * (_MIDDLE_GREY / np.exp(np.log(seen).mean()))
        white = max(float(scaled.max()), 1.0)
        shown = scaled * (1 + scaled / white**2) / (1 + scaled)
        light *= (shown / np.maximum(luminance, 1e-30))[..., None]
    light = light.clip(0, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.ascontiguousarray(np.rint(curve[..., ::-1] * 255).astype(np.uint8))
