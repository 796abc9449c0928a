"""What all figures share: colours, fonts, panoramas at one size, and writing them whole."""

import base64
import io
from collections.abc import Collection
from pathlib import Path

from PIL import Image, ImageFont

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.marks import is_marked_picture, software_mark
from panovlm.runtime.files import IsOwn, check_output, write_own

Colour = tuple[int, int, int]
BACKGROUND: Colour = (17, 19, 24)
TEXT: Colour = (226, 229, 235)
MUTED: Colour = (150, 157, 170)
JPEG_QUALITY = 85


def font(size_px: int = 15) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return Pillow's own font."""
    return ImageFont.load_default(size_px)


def scaled(panorama: Pixels, height: int) -> Image.Image:
    """Scale a panorama to a height and twice the width by averaging areas."""
    return Image.fromarray(panorama).resize((2 * height, height), Image.Resampling.BOX)


def save_sheet(picture: Image.Image, out: Path, command: str) -> None:
    """Write a picture, whole or not at all, in the format that its name ends in.

    Raises:
        PanoVLMError: As `check_sheet` does.
    """
    format, mark = picture_format(out), software_mark(command)
    write_own(out, lambda path: picture.save(path, format, exif=mark), _is_own_sheet(command))


def check_sheet(out: Path, command: str, inputs: Collection[Path] = ()) -> None:
    """Refuse a picture to write before the work begins.

    Raises:
        PanoVLMError: If its format cannot be written, it is one of the inputs, or something is
            there that `command`, as "panovlm views", did not write.
    """
    picture_format(out)
    check_output(out, _is_own_sheet(command), inputs)


def _is_own_sheet(command: str) -> IsOwn:
    return lambda path: is_marked_picture(path, command)


def picture_format(out: Path) -> str:
    """Return the format that a picture's name ends in.

    Raises:
        PanoVLMError: If no format that can be written has that ending.
    """
    format = Image.registered_extensions().get(out.suffix.lower())
    if format not in Image.SAVE:
        raise PanoVLMError(
            f"cannot write {out}: unknown file extension: {out.suffix or 'none'}; end the name in "
            ".png or .jpg"
        )
    return format


def require_folder(*files: Path) -> None:
    """Raise a PanoVLMError for files whose folder is missing, before the work begins."""
    for file in files:
        if not file.parent.is_dir():
            raise PanoVLMError(
                f"found no folder {file.parent} to write {file.name} to, expected one; make it or "
                "name another"
            )


def as_data_uri(picture: Image.Image) -> str:
    """Return a picture as JPEG inside the address of an `img` element."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
