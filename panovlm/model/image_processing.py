"""The image processor: panoramas in, `pixel_values` [N, V, 3, S, S] of perspective views out.

Views of a partial panorama are black where it shows nothing; `return_mask=True` returns where.

It speaks the protocol of transformers' image processors (call, `save_pretrained`,
`from_pretrained`) and needs no torchvision.

Shapes: N panoramas, V views, S x S pixels per view.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import ChannelDimension
from transformers.processing_utils import ImagesKwargs
from transformers.utils.generic import TensorType

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_mask, cut_views, required_width
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Mask, Pixels
from panovlm.pictures.declaring import DeclaredPicture, PictureFile
from panovlm.pictures.panorama import Panorama, as_panorama, read_panorama
from panovlm.pictures.recognising import is_full_sphere

Picture = Image.Image | NDArray[np.generic] | torch.Tensor | str | PictureFile
"""One panorama: a Pillow image, an array [H, W, 3], a tensor [3, H, W] or the path of a file,
maybe with what is declared of it.

The fourth channel of a uint8 array marks what of a partial panorama is known: what is opaque.
"""


LAYOUT_SETTINGS = (
    "num_views",
    "fov_deg",
    "pitches_deg",
    "cubemap",
    "angles_deg",
    "global_view",
)
"""Keywords of `ViewLayout.of_settings` beside the size."""


class PanoVLMImageProcessorKwargs(ImagesKwargs, total=False):
    """Keywords of `PanoVLMImageProcessor` beyond those of every image processor."""

    num_views: int | None
    fov_deg: float | int | None
    global_view: bool | None
    pitches_deg: list[float] | None
    cubemap: bool | None
    angles_deg: list[list[float]] | None
    strict_aspect: bool | None
    return_mask: bool | None
    yaw_shift_deg: float | int | None


class PanoVLMImageProcessor(PilBackend):
    """Cuts panoramas into views, perspective and maybe a global one, normalised for the encoder.

    Every class attribute is a default that the constructor and each call can override by keyword.

    Attributes:
        num_views: Views in the ring, or in each row of several.
        fov_deg: Field of view of each view in degrees.
        pitches_deg: Pitch of each row of views, None for one level row.
        cubemap: Whether the views are the six faces of a cube, `fov_deg` wide, in place of rows.
        angles_deg: In place of rows, yaw, pitch, roll and field of view of each view.
        global_view: Whether the whole panorama follows them as one more view.
        size: Pixels of a view; height and width are equal.
        strict_aspect: Whether a picture that is not 2:1 is refused instead of stretched.
        return_mask: Whether `view_mask` is returned, bool [N, V, S, S]: where the panorama is
            known.
        yaw_shift_deg: By how much the camera turns right before its views are cut.
        do_rescale: Whether pixels 0..255 are multiplied by `rescale_factor`.
        rescale_factor: Brings pixels to [0, 1].
        do_normalize: Whether `image_mean` is subtracted and `image_std` divided by.
        image_mean: Mean of each channel after rescaling.
        image_std: Standard deviation of each channel after rescaling.
    """

    valid_kwargs = PanoVLMImageProcessorKwargs
    model_input_names = ["pixel_values"]  # noqa: RUF012  # transformers' protocol

    num_views = 8
    fov_deg = 90.0
    pitches_deg = None
    cubemap = False
    angles_deg = None
    global_view = False
    strict_aspect = False
    return_mask = False
    yaw_shift_deg = 0.0
    size = {"height": 224, "width": 224}  # noqa: RUF012  # transformers' protocol
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)

    @property
    def layout(self) -> ViewLayout:
        """The views cut when a call overrides nothing."""
        names = (*LAYOUT_SETTINGS, "size", "yaw_shift_deg")
        return _layout({name: getattr(self, name) for name in names})

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Read the files among pictures, keeping their nesting.

        `ProcessorMixin` calls this before anything else. URLs are not fetched.

        Args:
            image_url_or_urls: A picture or (nested) list of pictures; the name is transformers'.

        Returns:
            The same with every path replaced by its panorama, decoded for the processor's own
            layout: uint8 [H, W, 3], or [H, W, 4] for a partial one, opaque where it is known.
        """
        if isinstance(image_url_or_urls, list | tuple):
            return [self.fetch_images(item) for item in image_url_or_urls]
        if isinstance(image_url_or_urls, str | Path | DeclaredPicture):
            return _as_array(_read(image_url_or_urls, self.layout, self.strict_aspect))
        return image_url_or_urls

    def _prepare_image_like_inputs(self, images: Any, *args: Any, **kwargs: Any) -> list[Panorama]:
        """Convert whatever was given to a flat list of panoramas."""
        layout = _layout(kwargs)
        strict, channels = kwargs["strict_aspect"], kwargs["input_data_format"]
        return [_panorama(picture, layout, strict, channels) for picture in _flat(images)]

    def _preprocess(
        self,
        images: list[Panorama],
        *,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | tuple[float, ...],
        image_std: float | tuple[float, ...],
        return_mask: bool = False,
        return_tensors: str | TensorType | None = None,
        **settings: Any,
    ) -> BatchFeature:
        """Cut and normalise panoramas to `pixel_values` [N, V, 3, S, S]."""
        layout = _layout(settings)
        scale = np.full(3, rescale_factor if do_rescale else 1.0)
        offset = np.zeros(3)
        if do_normalize:  # (pixel * rescale - mean) / std as one multiplication and one addition
            scale, offset = scale / image_std, offset - np.divide(image_mean, image_std)
        pixel_values = np.empty(
            (len(images), layout.num_views, 3, layout.view_size, layout.view_size), np.float32
        )
        for values, panorama in zip(pixel_values, images, strict=True):
            views = cut_views(panorama.pixels, layout).transpose(0, 3, 1, 2)
            np.multiply(views, scale.astype(np.float32)[:, None, None], out=values)
            values += offset.astype(np.float32)[:, None, None]
        data: dict[str, NDArray[Any]] = {"pixel_values": pixel_values}
        if return_mask:
            data["view_mask"] = _view_masks(images, layout)
        return BatchFeature(data=data, tensor_type=return_tensors)


def _layout(settings: Mapping[str, Any]) -> ViewLayout:
    """Build the views that some of the processor's keywords describe."""
    sides = dict(settings["size"])
    if sides.get("height") is None or sides.get("height") != sides.get("width"):
        raise PanoVLMError(
            f"found a view size of {sides}, expected equal height and width; change size"
        )
    chosen = {name: settings[name] for name in LAYOUT_SETTINGS}
    layout = ViewLayout.of_settings(view_size=sides["height"], **chosen)
    return layout.yaw_rotated(float(settings["yaw_shift_deg"]))


def _view_masks(panoramas: list[Panorama], layout: ViewLayout) -> Mask:
    """Cut where panoramas are known as their views are cut, [N, V, S, S]."""
    size = layout.view_size
    masks = np.ones((len(panoramas), layout.num_views, size, size), np.bool_)
    for view_masks, panorama in zip(masks, panoramas, strict=True):
        if panorama.mask is not None:
            view_masks[:] = cut_mask(panorama.mask, layout)
    return masks


def _flat(images: Any) -> list[Picture]:
    """Flatten a picture, a batch [N, ...] or a (nested) list of them."""
    if isinstance(images, list | tuple):
        return [picture for item in images for picture in _flat(item)]
    if isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 4:
        return list(images)
    return [images]


def _panorama(
    picture: Any, layout: ViewLayout, strict: bool, channels: ChannelDimension | str | None
) -> Panorama:
    """Convert one picture of any kind to a panorama."""
    if isinstance(picture, str | Path | DeclaredPicture):
        return _read(picture, layout, strict)
    if isinstance(picture, torch.Tensor):
        picture = picture.detach().cpu().numpy()
    if isinstance(picture, np.ndarray):
        picture = _channels_last(picture, channels)
    elif not isinstance(picture, Image.Image):
        raise TypeError(
            f"found a picture of type {type(picture).__name__}, expected a Pillow image, an array, "
            "a tensor or a path"
        )
    pixels = as_panorama(picture, strict=strict)
    _warn_if_stretched(pixels)
    return Panorama(pixels, _opaque(picture, pixels))


def _opaque(picture: Image.Image | NDArray[np.generic], pixels: Pixels) -> Mask | None:
    """Return where a picture [H, W, 4] is opaque; None if everywhere, or if it is no such array."""
    if not isinstance(picture, np.ndarray) or picture.shape != (*pixels.shape[:2], 4):
        return None
    if picture.dtype != np.uint8:  # alpha of 16 bits is laid over black alone
        return None
    opaque: Mask = picture[..., 3] == 255
    return None if opaque.all() else opaque


def _as_array(panorama: Panorama) -> Pixels:
    """Return a panorama as transformers carries pictures, unknown pixels transparent."""
    if panorama.mask is None:
        return panorama.pixels
    return np.dstack([panorama.pixels, panorama.mask.astype(np.uint8) * np.uint8(255)])


def _read(path: str | PictureFile, layout: ViewLayout, strict: bool) -> Panorama:
    """Read a panorama file at the resolution a layout needs."""
    if str(path).startswith(("http://", "https://", "data:")):
        raise PanoVLMError(
            f"found the URL {str(path)[:60]}, expected the path of a local file; download it first"
        )
    panorama = read_panorama(path, required_width(layout), strict=strict)
    _warn_if_stretched(panorama.pixels)
    return panorama


def _channels_last(
    array: NDArray[np.generic], channels: ChannelDimension | str | None
) -> NDArray[np.generic]:
    """Move the channels of an array behind its rows and columns, wherever they are."""
    if array.ndim != 3:
        return array
    if channels is None:
        first = array.shape[0] in (1, 3, 4) and array.shape[-1] not in (1, 3, 4)
    else:
        first = ChannelDimension(channels) == ChannelDimension.FIRST
    return np.moveaxis(array, 0, -1) if first else array


def _warn_if_stretched(pixels: Pixels) -> None:
    """Warn once per place and size that a picture is not a full sphere and is cut all the same."""
    height, width = pixels.shape[:2]
    if not is_full_sphere(width, height):
        warnings.warn(
            f"found a picture of {width}x{height}, expected width = 2 x height; it is stretched to "
            "a full sphere (strict_aspect=True refuses it instead)",
            stacklevel=2,
        )
