"""Pictures from clients, checked before they are decoded."""

import base64
import binascii
import hashlib
import io
import re
import tempfile
import warnings
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.inference.assistant import Assistant, OpenedPanorama
from panovlm.serving.errors import RequestError
from panovlm.serving.limits import Limits

FORMATS = ("JPEG", "PNG", "WEBP")
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]{1,40});base64,", re.IGNORECASE)


class Pictures:
    """Opens pictures for an assistant, and keeps the views of the last ones. For any thread."""

    def __init__(self, assistant: Assistant, limits: Limits) -> None:
        self._assistant, self._limits = assistant, limits
        self._opened: OrderedDict[str, OpenedPanorama] = OrderedDict()
        self._lock = Lock()

    def open(self, data: bytes) -> OpenedPanorama:
        """Open the panorama in a picture's file.

        Raises:
            RequestError: If it is no good panorama.
        """
        key = hashlib.sha256(data).hexdigest()
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key]
        check_picture(data, self._limits.max_pixels)
        opened = self._decoded(data)
        with self._lock:
            self._opened[key] = opened
            while len(self._opened) > self._limits.num_opened:
                self._opened.popitem(last=False)
        return opened

    def _decoded(self, data: bytes) -> OpenedPanorama:
        with tempfile.NamedTemporaryFile(prefix="panovlm-") as file:
            file.write(data)
            file.flush()
            try:
                return self._assistant.open(Path(file.name))
            except PanoVLMError as error:
                message = str(error).replace(file.name, "the picture")
                raise _bad_picture(message) from error


def data_of(url: str) -> bytes:
    """Decode a data URL.

    Raises:
        RequestError: If it is another URL, or not base64.
    """
    head = _DATA_URL.match(url)
    if head is None:
        raise _bad_picture(
            "found an image_url that is no data URL, expected data:image/jpeg;base64,...; nothing "
            "is fetched from files, nor from hosts that are not allowed"
        )
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad_picture("found a data URL that is not base64") from error


def check_picture(data: bytes, max_pixels: int) -> None:
    """Check a picture's format and size by its header, decoding nothing.

    Raises:
        RequestError: If it is no JPEG, PNG or WebP, too large, or moves.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            moves = image.format != "JPEG" and getattr(image, "n_frames", 1) > 1
    except Exception as error:  # decoders raise of every kind; what they say is not for clients
        raise _bad_picture(
            f"found no readable picture, expected {', '.join(FORMATS)} of reasonable size"
        ) from error
    if image.width * image.height > max_pixels:
        raise _bad_picture(
            f"found a picture of {image.width}x{image.height}, expected at most "
            f"{max_pixels / 1e6:g} megapixels; scale it down"
        )
    if moves:
        raise _bad_picture("found a moving picture, expected one panorama")


def _bad_picture(message: str) -> RequestError:
    return RequestError(400, message, "invalid_image", "messages")
