"""The methods from a panorama to views that are compared: ours, three libraries, two plain ones.

Every peer is called in the fastest way that its public interface was found to offer, with its grids
and maps kept between calls wherever it can keep them, and each is followed by the same
normalisation. A peer that is not installed is left out, never imitated.

Shapes: V views, S x S pixels each, H x W panorama.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from panovlm.geometry.cutting import cut_views, required_width
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels, angles_from_rays, angles_to_pixels
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.pictures.panorama import load_panorama
from quality import HALF_INTEGER, Grid, end_point_grid

Views = Pixels | Tensor
"""uint8 [V, S, S, 3] or a float tensor [V, 3, S, S], RGB, 0 to 255."""

OURS, LIBRARY, PLAIN = "ours", "library", "plain"
PROCESSOR, LOAD_AND_CUT = "PanoVLM image processor", "PanoVLM load + cut"
CUT_FULL = "PanoVLM, full-size array"
OPENCV = "OpenCV remap, cached map"
PACKAGES = ("py360convert", "pyequilib", "pytorch360convert")
"""The three panorama libraries, by their names on the package index."""


@dataclass(frozen=True)
class Method:
    """One method from a file to views.

    Attributes:
        name: As the tables call it.
        kind: OURS, LIBRARY or PLAIN.
        decode: Reads a file to uint8 [H, W, 3], in the channel order `project` expects.
        project: Cuts the views.
        grid: Where it puts its pixel centres.
        whole: From the file to normalised views at once; None for decode, project, normalise.
    """

    name: str
    kind: str
    decode: Callable[[Path], Pixels]
    project: Callable[[Pixels], Views]
    grid: Grid = HALF_INTEGER
    whole: Callable[[Path], Tensor] | None = None

    def end_to_end(self, path: Path) -> Tensor:
        """Go from a file to normalised views, float32 [V, 3, S, S]."""
        if self.whole is not None:
            return self.whole(path)
        return normalised(self.project(self.decode(path)))


def methods(layout: ViewLayout) -> tuple[list[Method], dict[str, str]]:
    """Return every method that can run here, and for each package that cannot, the reason."""
    found, missing = [*_ours(layout), _opencv(layout), _torch(layout)], {}
    builders = (_py360convert, _equilib, _pytorch360convert)
    for package, build in zip(PACKAGES, builders, strict=True):
        try:
            found += build(layout)
        except ImportError as error:
            missing[package] = f"not installed ({error})"
    return found, missing


def normalised(views: Views) -> Tensor:
    """Bring views to float32 [V, 3, S, S] in [-1, 1], alike for every peer."""
    if isinstance(views, Tensor):
        return views.float().mul_(1 / 127.5).sub_(1.0)
    out = np.empty((len(views), 3, *views.shape[1:3]), np.float32)
    np.multiply(views.transpose(0, 3, 1, 2), np.float32(1 / 127.5), out=out)
    out -= 1.0
    return torch.from_numpy(out)


def as_pixels(views: Views) -> NDArray[np.float64]:
    """Bring views of either form to float64 [V, S, S, 3]."""
    if isinstance(views, Tensor):
        return views.permute(0, 2, 3, 1).double().numpy()
    return views.astype(np.float64)


def pillow_decode(path: Path) -> Pixels:
    """Decode a picture at full size with Pillow."""
    with Image.open(path) as image:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def entropy_decode(path: Path) -> Image.Image:
    """Decode a JPEG at an eighth of its size: its entropy decoding and little else."""
    with Image.open(path) as image:
        image.draft("RGB", (image.width // 8, image.height // 8))
        image.load()
        return image


def _ours(layout: ViewLayout) -> list[Method]:
    processor = PanoVLMImageProcessor(
        num_views=layout.num_views,
        fov_deg=layout.views[0].fov_deg,
        size={"height": layout.view_size, "width": layout.view_size},
    )

    def decode(path: Path) -> Pixels:
        return load_panorama(path, required_width(layout))

    def project(panorama: Pixels) -> Pixels:
        return cut_views(panorama, layout)

    def whole(path: Path) -> Tensor:
        return processor(path, return_tensors="pt")["pixel_values"][0]

    return [
        Method(PROCESSOR, OURS, decode, project, whole=whole),
        Method(LOAD_AND_CUT, OURS, decode, project),
    ]


def _opencv(layout: ViewLayout) -> Method:
    size = layout.view_size

    @lru_cache(maxsize=4)
    def maps(height: int, width: int) -> tuple[Any, Any]:
        places = angles_to_pixels(*angles_from_rays(layout.rays(size, size)), height, width)
        flat = [each.reshape(-1, size).astype(np.float32) for each in places]
        return cv2.convertMaps(*flat, cv2.CV_16SC2)

    def project(panorama: Pixels) -> Pixels:
        views = cv2.remap(
            panorama,
            *maps(*panorama.shape[:2]),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        return cv2.cvtColor(views, cv2.COLOR_BGR2RGB).reshape(layout.num_views, size, size, 3)

    return Method(OPENCV, PLAIN, lambda path: cv2.imread(str(path)), project)


def _torch(layout: ViewLayout) -> Method:
    size = layout.view_size
    yaw_rad, pitch_rad = angles_from_rays(layout.rays(size, size))
    grid = torch.from_numpy(np.stack([yaw_rad / np.pi, -2 * pitch_rad / np.pi], axis=-1)).float()

    def project(panorama: Pixels) -> Tensor:
        batch = _as_floats(panorama).expand(layout.num_views, -1, -1, -1)
        return grid_sample(batch, grid, padding_mode="border", align_corners=False)

    return Method("torch grid_sample, cached grid", PLAIN, pillow_decode, project)


def _py360convert(layout: ViewLayout) -> list[Method]:
    from py360convert import e2p

    size = (layout.view_size, layout.view_size)

    def project(panorama: Pixels) -> Pixels:  # it keeps the maps of its last eight views itself
        views = [e2p(panorama, view.fov_deg, view.yaw_deg, 0, size) for view in layout.views]
        return np.stack(views)

    grid = end_point_grid(layout.view_size)
    return [Method("py360convert", LIBRARY, pillow_decode, project, grid)]


def _equilib(layout: ViewLayout) -> list[Method]:
    from equilib import Equi2Pers

    size, fov_deg = layout.view_size, layout.views[0].fov_deg
    sampler = Equi2Pers(size, size, fov_deg)  # the object keeps its grid between calls
    float_sampler = Equi2Pers(size, size, fov_deg, clip_output=False)  # saves a pass over all
    angles = [{"roll": 0.0, "pitch": 0.0, "yaw": -np.radians(yaw)} for yaw in layout.yaws_deg]

    def project_array(panorama: Pixels) -> Pixels:
        first = np.ascontiguousarray(panorama.transpose(2, 0, 1))
        views = sampler(np.broadcast_to(first, (len(angles), *first.shape)), angles)
        return views.transpose(0, 2, 3, 1)

    def project_tensor(panorama: Pixels) -> Tensor:
        return float_sampler(_as_floats(panorama).expand(len(angles), -1, -1, -1), angles)

    grid = Grid(shift_px=-0.5, panorama_shift_px=1.0)
    return [
        Method("equilib (NumPy)", LIBRARY, pillow_decode, project_array, grid),
        Method("equilib (torch)", LIBRARY, pillow_decode, project_tensor, grid),
    ]


def _pytorch360convert(layout: ViewLayout) -> list[Method]:
    from pytorch360convert import e2p

    size = (layout.view_size, layout.view_size)

    def project(panorama: Pixels) -> Tensor:  # it keeps nothing between calls
        floats = _as_floats(panorama)
        return torch.stack(
            [e2p(floats, view.fov_deg, view.yaw_deg, 0.0, size) for view in layout.views]
        )

    grid = end_point_grid(layout.view_size)
    return [Method("pytorch360convert", LIBRARY, pillow_decode, project, grid)]


def _as_floats(panorama: Pixels) -> Tensor:
    """Return float32 [3, H, W], the channels innermost in memory: fastest to make and to read."""
    with warnings.catch_warnings():  # the array is read, never written; a copy would cost time
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(panorama).permute(2, 0, 1).float()
