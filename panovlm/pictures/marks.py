"""The mark of pictures that PanoVLM wrote: the tag `Software` of EXIF names the command."""

import struct
from pathlib import Path

from PIL import ExifTags, Image

from panovlm.errors import PanoVLMError
from panovlm.pictures.containers import open_picture


def software_mark(command: str) -> Image.Exif:
    """Return the EXIF data of a picture that a command writes, as "panovlm views"."""
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = command
    return exif


def is_marked_picture(path: Path, command: str) -> bool:
    """Return whether a command wrote a picture; of a file that is no picture it did not."""
    try:
        with open_picture(path, str(path)) as picture:
            return bool(picture.getexif().get(ExifTags.Base.Software) == command)
    except (PanoVLMError, OSError, SyntaxError, ValueError, LookupError, struct.error):
        return False
