"""The views sheet: one picture that shows how a panorama is cut, for eyes to check.

On top the panorama with the outline of every view, below the views with their directions and, in a
ring, the columns each shares with its neighbours.
"""

import colorsys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.places import border_places
from panovlm.geometry.sphere import DIRECTIONS, Pixels, angles_from_rays, direction_index, wrap_deg
from panovlm.geometry.views import AnyView
from panovlm.runtime.files import write_whole

Colour = tuple[int, int, int]

_BACKGROUND: Colour = (17, 19, 24)
_TEXT: Colour = (226, 229, 235)
_MUTED: Colour = (140, 147, 160)
_GAP_PX = 16
_LABEL_PX = 30
_FONT_PX = 15
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
        tokens: Tokens along a side of each view. Where given, each view of a ring shows where the
            tokens of its left neighbour truly look (dots), and from there a line to the token that
            the pairing by columns takes for it.

    Returns:
        An RGB picture, four views wide.
    """
    sheet = _Sheet.blank(layout)
    sheet.draw_panorama(panorama)
    for index, pixels in enumerate(cut_views(panorama, layout)):
        sheet.draw_view(index, pixels, tokens)
    return sheet.picture


def save_sheet(picture: Image.Image, out: Path) -> None:
    """Write a picture, whole or not at all, in the format that its name ends in.

    Raises:
        PanoVLMError: If no format has that ending.
    """
    format = picture_format(out)
    write_whole(out, lambda path: picture.save(path, format))


def picture_format(out: Path) -> str:
    """Give the format that a picture's name ends in.

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


@dataclass(frozen=True)
class _Sheet:
    """The sheet being drawn.

    Attributes:
        picture: What has been drawn so far.
        layout: The views.
        tile: Pixels along a side of a drawn view.
        strip: Width and height of the drawn panorama.
    """

    picture: Image.Image
    layout: ViewLayout
    tile: int
    strip: tuple[int, int]

    @classmethod
    def blank(cls, layout: ViewLayout) -> "_Sheet":
        """Make an empty sheet with a heading."""
        tile = min(max(layout.view_size, _MIN_TILE_PX), _MAX_TILE_PX)
        width = _VIEWS_PER_ROW * tile + (_VIEWS_PER_ROW - 1) * _GAP_PX
        strip = (width, width // 2)
        num_rows = -(-layout.num_views // _VIEWS_PER_ROW)
        height = 2 * _GAP_PX + _LABEL_PX + strip[1] + num_rows * (_GAP_PX + _LABEL_PX + tile)
        picture = Image.new("RGB", (width + 2 * _GAP_PX, height), _BACKGROUND)
        heading = ImageDraw.Draw(picture)
        heading.text((_GAP_PX, _GAP_PX), layout.describe(), _MUTED, _font())
        return cls(picture, layout, tile, strip)

    def draw_panorama(self, panorama: Pixels) -> None:
        """Draw the panorama, the outlines of the views on it and their numbers."""
        strip = Image.fromarray(panorama).resize(self.strip, Image.Resampling.BOX)
        draw = ImageDraw.Draw(strip)
        for index, view in enumerate(self.layout.views):
            for line in _outline(view, self.strip):
                draw.line(line, self._colour(index), width=3, joint="curve")
        for index, view in enumerate(self.layout.views):
            centre = _on_panorama(view.rays(1, 1)[0], self.strip)[0]
            # A global view's middle belongs to the views that look there; its corner is free.
            x, y = (0.0, 0.0) if view.is_global else (float(centre[0]), float(centre[1]))
            self._draw_badge(strip, (x, y), index)
        self.picture.paste(strip, (_GAP_PX, _GAP_PX + _LABEL_PX))

    def draw_view(self, index: int, pixels: Pixels, tokens: int | None) -> None:
        """Draw one view with its label, its frame, the columns it shares and its partners."""
        row, column = divmod(index, _VIEWS_PER_ROW)
        left = _GAP_PX + column * (self.tile + _GAP_PX)
        top = 2 * _GAP_PX + _LABEL_PX + self.strip[1] + row * (_GAP_PX + _LABEL_PX + self.tile)
        draw = ImageDraw.Draw(self.picture)
        swatch = (left, top + 8, left + 11, top + 19)
        draw.rounded_rectangle(swatch, 3, self._colour(index))
        draw.text((left + 19, top + 4), _label(index, self.layout.views[index]), _TEXT, _font())
        view = Image.fromarray(pixels).resize((self.tile, self.tile), Image.Resampling.LANCZOS)
        ring = self._ring()
        if ring and index < ring.num_views:
            self._shade_overlap(view, ring, index)
            if tokens:
                self._draw_partners(view, ring, index, tokens)
        self.picture.paste(view, (left, top + _LABEL_PX))
        frame = (left, top + _LABEL_PX, left + self.tile - 1, top + _LABEL_PX + self.tile - 1)
        draw.rectangle(frame, outline=self._colour(index), width=2)

    def _ring(self) -> ViewLayout | None:
        """Give the ring that the first views form, None if they form none."""
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
        """Mark where the left neighbour's tokens look, and what columns pair with them."""
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
        draw.ellipse(disc, _BACKGROUND, self._colour(index), 3)
        draw.text((x, y), str(index), _TEXT, _font(), anchor="mm")

    def _colour(self, index: int) -> Colour:
        """Give each view a hue of its own."""
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


def _on_panorama(rays: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Give the places (x, y) of rays [..., 3] on a drawn panorama of a given size, [..., 2]."""
    yaw_rad, pitch_rad = angles_from_rays(rays)
    x = (yaw_rad / (2 * np.pi) + 0.5) * size[0]
    y = (0.5 - pitch_rad / np.pi) * size[1]
    return np.stack([x, y], axis=-1)


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Give Pillow's own font at the sheet's size."""
    return ImageFont.load_default(_FONT_PX)
