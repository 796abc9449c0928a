"""Pictures from clients, checked before they are decoded; invalid ones raise `RequestError`."""

import base64
import binascii
import hashlib
import io
import re
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from urllib.parse import unquote, unquote_to_bytes

from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.inference.assistant import Assistant, OpenedPanorama
from panovlm.pictures.containers import check_pixels, open_picture
from panovlm.pictures.declaring import Declaration, declare, declared_key
from panovlm.pictures.panorama import is_read_as_ever, load_panorama
from panovlm.serving.errors import RequestError, of_field, refusing
from panovlm.serving.limits import Limits

SHOWN_WIDTH = 4096
"""Columns that are enough for a panorama to look around in."""
_NAME = "the picture"
_DATA_URL = re.compile(
    r"\s*data:(?:image/[a-z0-9.+-]{1,40}|application/octet-stream)?(?:;(?!base64,)[^;,]{1,100}){0,5}(;\s*base64)?,",
    re.IGNORECASE,
)


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
        with _file_of(data) as path:
            opened = self._assistant.open(path, declared)
        with self._lock:
            self._opened[key] = opened
            while len(self._opened) > self._limits.num_opened:
                self._opened.popitem(last=False)
        return opened

    def level(self, data: bytes, declared: Declaration | None = None) -> bytes | None:
        """Return the panorama in a picture's file as a JPEG of a level full sphere.

        None if the file is one: browsers show it as it is.
        """
        check_picture(data, self._limits.max_pixels)
        if not (declared and declared.said) and is_read_as_ever(io.BytesIO(data)):
            return None
        with _file_of(data) as path:
            pixels = load_panorama(declare(path, declared), SHOWN_WIDTH)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90)
        return file.getvalue()


@contextmanager
def _file_of(data: bytes) -> Iterator[Path]:
    """Keep a picture in a file while the context is open; errors do not tell its name."""
    with tempfile.NamedTemporaryFile(prefix="panovlm-") as file:
        file.write(data)
        file.flush()
        try:
            yield Path(file.name)
        except PanoVLMError as error:
            raise invalid_picture(str(error).replace(file.name, _NAME)) from error


@dataclass(frozen=True)
class Picture:
    """A picture of a request.

    Attributes:
        data: Its file, where the request brings it.
        url: Where it is, otherwise.
        place: The field of the request that names it.
        declared: What it is, where it does not say so itself.
    """

    data: bytes | None
    url: str
    place: str
    declared: Declaration | None

    @classmethod
    def of(cls, url: str, place: str, declared: Declaration | None) -> "Picture":
        """Decode a data URL; leave any other to be fetched."""
        if url[:4].lower() == "http":
            return cls(None, url, place, declared)
        with of_field(place):
            return cls(decode_data_url(url), "", place, declared)


def decode_data_url(url: str) -> bytes:
    """Decode a data URL (RFC 2397), in base64 as browsers forgive it (WHATWG, Infra) or escaped."""
    head = _DATA_URL.match(url)
    if head is None:
        raise invalid_picture(
            "found an image_url that is no data URL, expected data:image/jpeg;base64,...; nothing "
            "is fetched from files, nor from hosts that are not allowed"
        )
    data = url[head.end() :]
    if not head[1]:
        return unquote_to_bytes(data)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        data = re.sub(r"[\t\n\f\r ]+", "", unquote(data)).rstrip("=")
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_picture("found a data URL that is not base64") from error


def check_picture(data: bytes, max_pixels: int) -> None:
    """Check a picture by its header as any file is checked, and its size by the server's limit."""
    with refusing("invalid_image", None), open_picture(io.BytesIO(data), _NAME) as image:
        check_pixels(image, _NAME, max_pixels)


def invalid_picture(message: str) -> RequestError:
    """Return the error of a picture that cannot be read, of whatever field."""
    return RequestError(400, message, "invalid_image")
