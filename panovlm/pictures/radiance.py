"""Radiance HDR pictures (.hdr), tone-mapped to 8 bits.

They hold light, not the colours of a screen. Reinhard's global operator as OpenCV has it, with a
gamma of 2.2, brings the light of the whole picture to what a screen shows, whatever its exposure.

Source:
    Reinhard, Devlin: Dynamic range reduction inspired by photoreceptor physiology, 2005.
"""

import re
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFile

from panovlm.geometry.sphere import Pixels

_HEADER_BYTES = 4096
_SIZE = re.compile(rb"\n\n-Y (\d{1,9}) \+X (\d{1,9})\n")
_GAMMA = 2.2


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
            self._im = Image.fromarray(_tone_mapped(self.fp.read(), self.size)).getim()
        return super().load()


def _tone_mapped(data: bytes, size: tuple[int, int]) -> Pixels:
    """Decode a Radiance file to uint8 RGB [H, W, 3]."""
    light = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if light is None or light.dtype != np.float32 or light.shape != (size[1], size[0], 3):
        raise ValueError("damaged")
    if not light.any():
        return np.zeros(light.shape, np.uint8)
    shown = cv2.createTonemapReinhard(_GAMMA).process(light)
    shown = np.nan_to_num(shown, nan=0.0, posinf=1.0)
    levels = np.rint(shown.clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(levels[..., ::-1])
