"""A folder of views: the pictures and `views.json`, which has the angles of each.

`views.json` is written last: a folder without it is not whole.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panovlm.errors import PanoVLMError
from panovlm.geometry.assembling import assemble_panorama
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels
from panovlm.geometry.views import View
from panovlm.pictures.conversion.pictures import is_converted, write_picture
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.files import check_output, write_whole

VIEWS_FILE = "views.json"
FACE_NAMES = ("front", "right", "back", "left", "up", "down")
"""Names of a cube map's faces, in the order of `ViewLayout.cubemap`."""
MAX_ASSEMBLED_WIDTH = 8192
"""The widest panorama that views are assembled to."""


class _ViewEntry(BaseModel):
    """One picture of the folder and its angles."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    file: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    fov_deg: float


class _ViewsFile(BaseModel):
    """The content of `views.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    view_size: int
    views: Annotated[list[_ViewEntry], Field(min_length=1)]


def write_views(
    views: Pixels, layout: ViewLayout, names: list[str], folder: Path, quality: int
) -> None:
    """Write views [V, S, S, 3] to a folder under V names of files, `views.json` last.

    Raises:
        PanoVLMError: If one of them would replace what no conversion wrote.
    """
    for name in names:
        check_output(folder / name, is_converted)
    check_output(folder / VIEWS_FILE, _is_views_file)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VIEWS_FILE).unlink(missing_ok=True)
    for pixels, name in zip(views, names, strict=True):
        write_picture(pixels, folder / name, quality)
    pairs = zip(names, layout.views, strict=True)
    entries = [_ViewEntry(file=name, **asdict(view)) for name, view in pairs]
    text = _ViewsFile(view_size=layout.view_size, views=entries).model_dump_json(indent=2) + "\n"
    write_whole(folder / VIEWS_FILE, lambda partial: partial.write_text(text, encoding="utf-8"))


def _is_views_file(path: Path) -> bool:
    try:
        _read_views_file(path)
    except PanoVLMError:
        return False
    return True


def assemble_folder(folder: Path) -> Pixels:
    """Project the views of a folder that holds `views.json` back onto the sphere.

    Returns:
        uint8 [H, 2·H, 3], as fine as the finest view is on average and at most
        `MAX_ASSEMBLED_WIDTH` columns wide; black where no view shows anything.

    Raises:
        PanoVLMError: If `views.json` is damaged, or a picture is missing, damaged or of another
            size.
    """
    listed = _read_views_file(folder / VIEWS_FILE)
    try:
        views = (View(**entry.model_dump(exclude={"file"})) for entry in listed.views)
        layout = ViewLayout(tuple(views), listed.view_size)
    except PanoVLMError as error:
        raise PanoVLMError(f"{folder / VIEWS_FILE}: {error}") from error
    size = layout.view_size
    pixels = np.stack([_read_view(folder / entry.file, size) for entry in listed.views])
    width = min(max(360.0 / view.fov_deg * size for view in layout.views), MAX_ASSEMBLED_WIDTH)
    panorama, _ = assemble_panorama(pixels, layout, max(1, round(width / 2)))
    return np.rint(panorama, out=panorama).astype(np.uint8)


def _read_views_file(path: Path) -> _ViewsFile:
    try:
        return _ViewsFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise PanoVLMError(
            f"{path}: found no readable list of views, expected one as `panovlm convert --to views`"
            " writes it; write the views again"
        ) from error


def _read_view(path: Path, size: int) -> Pixels:
    pixels = load_panorama(path, strict=False)
    if pixels.shape[:2] != (size, size):
        raise PanoVLMError(
            f"{path}: found {pixels.shape[1]}x{pixels.shape[0]}, expected {size}x{size} as "
            f"{VIEWS_FILE} says; write the views again"
        )
    return pixels
