"""A panorama with no more pixels than one view has: the baseline of resizing."""

from math import sqrt

from PIL import Image

from panovlm.data.cache import ImageTransform
from panovlm.pictures.declaring import PictureFile
from panovlm.pictures.panorama import load_panorama


def to_low_resolution(view_size: int) -> ImageTransform:
    """Return the transform of every panorama into its low-resolution one."""
    return ImageTransform("low_resolution", lambda picture: low_resolution(picture, view_size))


def low_resolution(picture: PictureFile, view_size: int) -> Image.Image:
    """Return a panorama, twice as wide as high, of about `view_size` squared pixels.

    Views cut from it look where they always do, but see only what a model would that is shown the
    whole equirectangular picture as one.

    Args:
        picture: Its file, with what is declared of it.
        view_size: Pixels along a side of a view.

    Raises:
        PanoVLMError: If the picture cannot be read.
    """
    height = max(round(view_size / sqrt(2)), 1)
    pixels = load_panorama(picture, min_width=2 * height)
    return Image.fromarray(pixels).resize((2 * height, height), Image.Resampling.BOX)
