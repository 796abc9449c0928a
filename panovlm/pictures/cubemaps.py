"""Cube maps in one picture: found by their shape, split, joined and projected onto a sphere.

The faces are those of `ViewLayout.cubemap`, in its order: front, right, back, left, up, down; up
has the front at its bottom, down has it at its top. Four arrangements hold them in this order, row
by row: a strip (6 x 1), a column (1 x 6) and two grids (3 x 2 and 2 x 3). The dice (4 x 3) is

        .     up    .     .
        left  front right back
        .     down  .     .

a cross whose six other cells are blank.

Shapes: S x S pixels each face.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Floats, Pixels
from panovlm.geometry.views import View
from panovlm.pictures.surfaces import sample_bilinear, sphere_bands

FACES = (View(0.0), View(90.0), View(180.0), View(-90.0), View(0.0, 90.0), View(0.0, -90.0))
"""The faces as views, in their order."""
_DICE = ((1, 1), (1, 2), (1, 3), (1, 0), (0, 1), (2, 1))
"""The (row, column) of each face in the cross."""
_BLANK = ((0, 0), (0, 2), (0, 3), (2, 0), (2, 2), (2, 3))
"""The cells of the cross that hold nothing."""
_BLANK_SPREAD = 8.0
"""Standard deviation up to which a cell is blank; JPEG leaves traces of its neighbours."""
_CELLS = {(6, 1), (1, 6), (4, 3)}
_GRID_CELLS = {(3, 2), (2, 3)}


def cubemap_cells(width: int, height: int, *, grids: bool = False) -> tuple[int, int] | None:
    """Find the cells (across, down) of a picture with the shape of a cube map; None without.

    With `grids` 3:2 and 2:3 count too, which are also the shapes of ordinary photographs.
    """
    for across, down in _CELLS | (_GRID_CELLS if grids else set()):
        if width * down == height * across and width % across == 0:
            return across, down
    return None


def split_cubemap(pixels: Pixels, *, grids: bool = False) -> Pixels | None:
    """Split a cube map into its faces.

    Args:
        pixels: uint8 [H, W, 3].
        grids: Whether 3:2 and 2:3 pictures are taken as grids of faces; they may be photographs.

    Returns:
        The faces uint8 [6, S, S, 3] in the order of `FACES`; None where the picture has not the
        shape of a cube map, or is 4:3 without the blank cells of a cross.
    """
    cells = cubemap_cells(pixels.shape[1], pixels.shape[0], grids=grids)
    if cells is None:
        return None
    across, down = cells
    side = len(pixels) // down
    grid = pixels.reshape(down, side, across, side, 3).swapaxes(1, 2)  # [down, across, S, S, 3]
    if cells != (4, 3):
        return np.ascontiguousarray(grid.reshape(6, side, side, 3))
    if any(grid[cell].std(axis=(0, 1)).max() > _BLANK_SPREAD for cell in _BLANK):
        return None
    return np.stack([grid[cell] for cell in _DICE])


def join_cubemap(faces: Pixels, arrangement: Literal["strip", "dice"]) -> Pixels:
    """Join the faces of a cube map in one picture, the inverse of `split_cubemap`.

    Args:
        faces: uint8 [6, S, S, 3] in the order of `FACES`.
        arrangement: "strip" is the row of six, "dice" the cross of 4 x 3 cells, black elsewhere.

    Returns:
        uint8 [S, 6·S, 3] or [3·S, 4·S, 3].
    """
    if faces.ndim != 4 or faces.shape[0] != 6 or faces.shape[1] != faces.shape[2]:
        raise PanoVLMError(
            f"found faces of shape {faces.shape}, expected [6, S, S, 3]; cut them with "
            "ViewLayout.cubemap"
        )
    if arrangement == "strip":
        return np.concatenate(list(faces), axis=1)
    side = faces.shape[1]
    grid = np.zeros((3, 4, side, side, 3), np.uint8)
    for cell, face in zip(_DICE, faces, strict=True):
        grid[cell] = face
    return grid.swapaxes(1, 2).reshape(3 * side, 4 * side, 3)


def sphere_from_cubemap(faces: Pixels, height: int | None = None) -> Pixels:
    """Project a cube map onto an equirectangular panorama.

    Near its border a face is continued by its neighbours, so that the twelve edges do not show.

    Args:
        faces: uint8 [6, S, S, 3] in the order of `FACES`.
        height: Rows of the panorama; None takes 2·S, one pixel of a face's middle for each.

    Returns:
        uint8 [height, 2·height, 3].
    """
    height = height or 2 * faces.shape[1]
    sheet, side = _sheet(_with_borders(faces)), faces.shape[1]
    panorama = np.empty((height, 2 * height, 3), np.uint8)
    for band, yaw_rad, pitch_rad in sphere_bands(height):
        level, rise = np.cos(pitch_rad), np.sin(pitch_rad)
        face, across, down = _places(np.sin(yaw_rad) * level, rise, np.cos(yaw_rad) * level)
        panorama[band] = _sample_faces(sheet, face, across * side + 0.5, down * side + 0.5)
    return panorama


def _places(x: Floats, y: Floats, z: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Find the face that rays of components [...] meet and where, from 0 to 1 across and down."""
    beside = np.abs(x) > np.abs(z)
    over = np.abs(y) > np.maximum(np.abs(x), np.abs(z))
    face = np.where(beside, np.where(x > 0, 1, 3), np.where(z > 0, 0, 2))
    face = np.where(over, np.where(y > 0, 4, 5), face)
    right = np.where(over, x, np.where(beside, -np.sign(x) * z, np.sign(z) * x))
    up = np.where(over, -np.sign(y) * z, y)
    forward = np.maximum.reduce(np.broadcast_arrays(np.abs(x), np.abs(y), np.abs(z)))
    return face, (right / forward + 1) / 2, (1 - up / forward) / 2


def _with_borders(faces: Pixels) -> Pixels:
    """Add one pixel around each face, taken from its neighbours, [6, S + 2, S + 2, 3]."""
    side = faces.shape[1]
    sheet = _sheet(faces)
    along = (np.arange(-1, side + 1) + 0.5) / side
    before, behind = np.full(side + 2, along[0]), np.full(side + 2, along[-1])
    across = np.stack([along, along, before, behind])  # top, bottom, left, right
    down = np.stack([before, behind, along, along])
    bordered = np.pad(faces, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for framed, view in zip(bordered, FACES, strict=True):
        face, *places = _places(*np.moveaxis(view.rays_at(across, down), -1, 0))
        columns, rows = (np.clip(place * side - 0.5, 0, side - 1) for place in places)
        top, bottom, left, right = _sample_faces(sheet, face, columns, rows)
        framed[:, 0], framed[:, -1], framed[0], framed[-1] = left, right, top, bottom
    return bordered


def _sheet(faces: Pixels) -> Pixels:
    """Lay six faces [6, S, S, 3] out as two rows of three, [2·S, 3·S, 3]."""
    side = faces.shape[1]
    grid = faces.reshape(2, 3, side, side, 3).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(2 * side, 3 * side, 3))


def _sample_faces(sheet: Pixels, face: NDArray[np.intp], columns: Floats, rows: Floats) -> Pixels:
    """Sample faces laid out by `_sheet` at places counted from each face's first pixel centre."""
    side = len(sheet) // 2
    return sample_bilinear(sheet, columns + face % 3 * side, rows + face // 3 * side)
