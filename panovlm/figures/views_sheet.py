"""The views sheet: one picture that shows how a panorama is cut, to check by eye.

On top the panorama with the outline of every view, below the views with their directions and, in a
ring, the columns each shares with its neighbours.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from panovlm.figures.sheets import BACKGROUND, MUTED, TEXT, Colour, font, scaled
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.places import border_places
from panovlm.geometry.sphere import (
    DIRECTIONS,
    Floats,
    Pixels,
    angles_from_rays,
    angles_to_pixels,
    direction_index,
    wrap_deg,
)
from panovlm.geometry.views import AnyView

_GAP_PX = 16
_LABEL_PX = 30
_VIEWS_PER_ROW = 4
_MIN_TILE_PX, _MAX_TILE_PX = 200, 336
_SHADE_ALPHA = 30
_BADGE_PX = 13
_BORDER_POINTS = 96
"""Points along each side of a view's outline, enough to look curved."""


def draw_views_sheet(
    panorama: Pixels, layout: ViewLayout, tokens: int | None = None
) -> Image.Image:
    """Draw a panorama, the outline of each view on it, and the views themselves.

    Each view has its own colour. In a ring the columns shared with the left and the right neighbour
    are shaded in that neighbour's colour and bear its number.

    Args:
        panorama: uint8 RGB [H, W, 3].
        layout: The views to cut and draw.
        tokens: Tokens along a side of each view. Where given, each view of a ring shows the true
            directions of its left neighbour's tokens (dots), and from there a line to the token
            that the pairing by columns takes for it.

    Returns:
        An RGB picture, four views wide.
    """
    tile = min(max(layout.view_size, _MIN_TILE_PX), _MAX_TILE_PX)
    width = _VIEWS_PER_ROW * tile + (_VIEWS_PER_ROW - 1) * _GAP_PX
    top = 2 * _GAP_PX + _LABEL_PX + width // 2
    row_height = _GAP_PX + _LABEL_PX + tile
    num_rows = -(-layout.num_views // _VIEWS_PER_ROW)
    sheet = Image.new("RGB", (width + 2 * _GAP_PX, top + num_rows * row_height), BACKGROUND)
    ImageDraw.Draw(sheet).text((_GAP_PX, _GAP_PX), layout.describe(), MUTED, font())
    drawing = _Drawing(layout, tile)
    sheet.paste(drawing.panorama(panorama, width // 2), (_GAP_PX, _GAP_PX + _LABEL_PX))
    for index, pixels in enumerate(cut_views(panorama, layout)):
        row, column = divmod(index, _VIEWS_PER_ROW)
        place = _GAP_PX + column * (tile + _GAP_PX), top + row * row_height
        sheet.paste(drawing.labelled_view(index, pixels, tokens), place)
    return sheet


@dataclass(frozen=True)
class _Drawing:
    """Draws the parts of the sheet.

    Attributes:
        layout: The views.
        tile: Pixels along a side of a drawn view.
    """

    layout: ViewLayout
    tile: int

    def panorama(self, pixels: Pixels, height: int) -> Image.Image:
        """Draw the panorama, the outlines of the views on it and their numbers."""
        picture = scaled(pixels, height)
        draw = ImageDraw.Draw(picture)
        for index, view in enumerate(self.layout.views):
            for line in _outline(view, picture.size):
                draw.line(line, self._colour(index), width=3, joint="curve")
        for index, view in enumerate(self.layout.views):
            x, y = _on_panorama(view.rays(1, 1)[0, 0], picture.size)
            # A global view's middle belongs to the views in that direction; its corner is free.
            centre = (0.0, 0.0) if view.is_global else (float(x), float(y))
            self._draw_badge(picture, centre, index)
        return picture

    def labelled_view(self, index: int, pixels: Pixels, tokens: int | None) -> Image.Image:
        """Draw one view with its label, its frame, the columns it shares and its partners."""
        picture = Image.new("RGB", (self.tile, _LABEL_PX + self.tile), BACKGROUND)
        draw, colour = ImageDraw.Draw(picture), self._colour(index)
        draw.rounded_rectangle((0, 8, 11, 19), 3, colour)
        draw.text((19, 4), _label(index, self.layout.views[index]), TEXT, font())
        view = Image.fromarray(pixels).resize((self.tile, self.tile), Image.Resampling.LANCZOS)
        ring = self._ring()
        if ring and index < ring.num_views:
            self._shade_overlap(view, ring, index)
            if tokens:
                self._draw_partners(view, ring, index, tokens)
        picture.paste(view, (0, _LABEL_PX))
        frame = (0, _LABEL_PX, self.tile - 1, _LABEL_PX + self.tile - 1)
        draw.rectangle(frame, outline=colour, width=2)
        return picture

    def _ring(self) -> ViewLayout | None:
        """Return the ring that the first views form, None if they form none."""
        ring = self.layout.perspective
        if ring and ring.is_ring and self.layout.views[: ring.num_views] == ring.views:
            return ring
        return None

    def _shade_overlap(self, view: Image.Image, ring: ViewLayout, index: int) -> None:
        """Shade the columns shared with each neighbour in its colour and put its number there."""
        shared = round(self.tile * ring.overlap_ratio)
        if shared == 0:
            return
        draw = ImageDraw.Draw(view)
        for step, left in ((-1, 0), (1, self.tile - shared)):
            neighbour = (index + step) % ring.num_views
            colour = self._colour(neighbour)
            shade = Image.new("RGB", (shared, self.tile), colour)
            view.paste(shade, (left, 0), Image.new("L", shade.size, _SHADE_ALPHA))
            inner = shared - 1 if step < 0 else left
            draw.line((inner, 0, inner, self.tile), colour, width=1)
            self._draw_badge(view, (self.tile * (step + 1) // 2, self.tile), neighbour)

    def _draw_partners(self, view: Image.Image, ring: ViewLayout, index: int, tokens: int) -> None:
        """Mark the true places of the left neighbour's tokens, and what columns pair with them."""
        before = (index - 1) % ring.num_views
        shared = ring.overlap_columns(tokens)
        rays = ring.views[before].rays(tokens, tokens)[:, tokens - shared :]
        across, down = (place * self.tile for place in ring.views[index].places_of(rays))
        centres = (np.arange(tokens) + 0.5) * self.tile / tokens
        draw, colour = ImageDraw.Draw(view), self._colour(before)
        for row, column in np.ndindex(tokens, shared):
            x, y = float(across[row, column]), float(down[row, column])
            draw.line((x, y, float(centres[column]), float(centres[row])), colour, width=1)
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), colour)

    def _draw_badge(self, picture: Image.Image, centre: tuple[float, float], index: int) -> None:
        """Draw a view's number in a disc of its colour, moved inside the picture where needed."""
        margin = _BADGE_PX + 6
        x = min(max(centre[0], margin), picture.width - margin)
        y = min(max(centre[1], margin), picture.height - margin)
        draw = ImageDraw.Draw(picture)
        disc = (x - _BADGE_PX, y - _BADGE_PX, x + _BADGE_PX, y + _BADGE_PX)
        draw.ellipse(disc, BACKGROUND, self._colour(index), 3)
        draw.text((x, y), str(index), TEXT, font(), anchor="mm")

    def _colour(self, index: int) -> Colour:
        """Choose a hue for each view."""
        red, green, blue = colorsys.hsv_to_rgb(index / self.layout.num_views, 0.62, 0.98)
        return round(red * 255), round(green * 255), round(blue * 255)


def _label(index: int, view: AnyView) -> str:
    """Name a view by number and direction, as in "view 3 · 135° · back-right"."""
    place = f"view {index} · {wrap_deg(view.yaw_deg):g}°"
    if view.is_global:
        return f"{place} · global"
    if view.pitch_deg == 0.0:
        return f"{place} · {DIRECTIONS[direction_index(view.yaw_deg)]}"
    return f"{place} · {abs(view.pitch_deg):g}° {'up' if view.pitch_deg > 0 else 'down'}"


def _outline(view: AnyView, size: tuple[int, int]) -> list[list[tuple[float, float]]]:
    """Trace a view's border on the panorama, as lines of points that do not cross the seam."""
    border = view.rays_at(*border_places(_BORDER_POINTS))
    points = _on_panorama(np.concatenate([border, border[:1]]), size)
    jumps = np.flatnonzero(np.abs(np.diff(points[:, 0])) > size[0] / 2) + 1
    return [[(float(x), float(y)) for x, y in line] for line in np.split(points, jumps)]


def _on_panorama(rays: Floats, size: tuple[int, int]) -> Floats:
    """Compute the places (x, y) of rays [..., 3] on a panorama of a given size, [..., 2]."""
    width, height = size
    return np.stack(angles_to_pixels(*angles_from_rays(rays), height, width), axis=-1) + 0.5
