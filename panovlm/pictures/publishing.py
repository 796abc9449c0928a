"""What may go into a file that is published: whole pictures, and no other file that is named."""

from pathlib import Path

from panovlm.errors import PanoVLMError
from panovlm.pictures.containers import check_pixels, open_picture
from panovlm.pictures.decoding import decode


def picture_error(path: Path) -> str | None:
    """Decode a picture of any shape and return its error; None if it has none."""
    name = str(path)
    try:
        with open_picture(path, name) as picture:
            check_pixels(picture, name)
            decode(picture, name, min_width=1)
    except PanoVLMError as error:
        return str(error)
    return None


def publishing_error(path: Path, folder: Path) -> str | None:
    """Return why a file may not be published with the pictures of a folder; None if it may."""
    if path.resolve().is_relative_to(folder.resolve()):
        return picture_error(path)
    return (
        f"{path}: found a file outside {folder}, expected only pictures in it to be published; "
        "name the folder that holds all of them, or move it there"
    )
