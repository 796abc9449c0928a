"""Pictures from clients, checked before they are decoded; invalid ones raise `RequestError`."""

import base64
import binascii
import hashlib
import io
import re
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from panovlm.errors import PanoVLMError
from panovlm.inference.assistant import Assistant, OpenedPanorama
from panovlm.pictures.containers import check_pixels, open_picture
from panovlm.pictures.declaring import Declaration, declared_key
from panovlm.serving.errors import RequestError
from panovlm.serving.limits import Limits

_NAME = "the picture"
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]{1,40});base64,", re.IGNORECASE)


class Pictures:
    """Opens pictures for an assistant, and keeps the views of the last ones. For any thread."""

    def __init__(self, assistant: Assistant, limits: Limits) -> None:
        self._assistant, self._limits = assistant, limits
        self._opened: OrderedDict[str, OpenedPanorama] = OrderedDict()
        self._lock = Lock()

    def open(self, data: bytes, declared: Declaration | None = None) -> OpenedPanorama:
        """Open the panorama in a picture's file, which is what is declared of it."""
        key = declared_key(hashlib.sha256(data).hexdigest(), declared)
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key]
        check_picture(data, self._limits.max_pixels)
        opened = self._decoded(data, declared)
        with self._lock:
            self._opened[key] = opened
            while len(self._opened) > self._limits.num_opened:
                self._opened.popitem(last=False)
        return opened

    def _decoded(self, data: bytes, declared: Declaration | None) -> OpenedPanorama:
        with tempfile.NamedTemporaryFile(prefix="panovlm-") as file:
            file.write(data)
            file.flush()
            try:
                return self._assistant.open(Path(file.name), declared)
            except PanoVLMError as error:
                raise _invalid(str(error).replace(file.name, _NAME)) from error


def decode_data_url(url: str) -> bytes:
    """Decode a data URL."""
    head = _DATA_URL.match(url)
    if head is None:
        raise _invalid(
            "found an image_url that is no data URL, expected data:image/jpeg;base64,...; nothing "
            "is fetched from files, nor from hosts that are not allowed"
        )
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid("found a data URL that is not base64") from error


def check_picture(data: bytes, max_pixels: int) -> None:
    """Check a picture by its header as any file is checked, and its size by the server's limit."""
    try:
        with open_picture(io.BytesIO(data), _NAME) as image:
            check_pixels(image, _NAME, max_pixels)
    except PanoVLMError as error:
        raise _invalid(str(error)) from error


def _invalid(message: str) -> RequestError:
    return RequestError(400, message, "invalid_image", "messages")
