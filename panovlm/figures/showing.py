"""How a panorama is shown to a model that takes pictures: views, the whole, a contact sheet."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from panovlm.errors import PanoVLMError
from panovlm.figures.sheets import BACKGROUND, TEXT, font
from panovlm.geometry.cutting import cut_views, required_width, resize_by_area
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels
from panovlm.model.processing import view_words

Part = str | Pixels
"""A text, or a picture, uint8 RGB [H, W, 3]."""

GREY = 128
_PER_ROW = 4
_LABEL_PX = 28
_HEADS = {
    "views": (
        "These {count} pictures are views of one 360° panorama, each {fov:g}° wide, from the front "
        "on to the right; neighbours overlap, and the last is beside the first."
    ),
    "sheet": (
        "This contact sheet shows {count} views of one 360° panorama, each {fov:g}° wide and under "
        "its direction, from the front on to the right; neighbours overlap, and the last is beside "
        "the first."
    ),
    "equirectangular": (
        "This picture is a 360° panorama in equirectangular projection: the front is in its "
        "middle, and its left and right edge meet behind the camera."
    ),
    "view": "This picture is the front view, {fov:g}° wide, of a 360° panorama.",
}
"""What is said before the pictures, by the way they are shown."""
WAYS = (*_HEADS,)
"""What `--show` may say."""


@dataclass(frozen=True)
class Showing:
    """A way to show panoramas.

    Attributes:
        way: One of `WAYS`.
        num_views: Views around the horizon.
        fov_deg: Field of view of each, in degrees.
        view_size: Pixels along a side of each.
        width: Pixels across a panorama shown whole, if it has as many.

    Raises:
        PanoVLMError: If the way is unknown.
    """

    way: str = "views"
    num_views: int = 8
    fov_deg: float = 90.0
    view_size: int = 448
    width: int = 2048

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise PanoVLMError(f"found --show {self.way}, expected {', '.join(WAYS)}")

    @cached_property
    def ring(self) -> ViewLayout:
        """The views."""
        return ViewLayout.ring(self.num_views, self.fov_deg, self.view_size)

    @property
    def shows_views(self) -> bool:
        """Whether several views are told apart."""
        return self.way in ("views", "sheet")

    @property
    def needed_width(self) -> int:
        """Columns of a panorama beyond which more would not be seen."""
        return self.width if self.way == "equirectangular" else required_width(self.ring)

    def parts(self, panorama: Pixels, without: int | None = None) -> list[Part]:
        """Return what is shown of a panorama, uint8 RGB [H, 2H, 3].

        Args:
            panorama: Its pixels.
            without: A view to blank.
        """
        head = _HEADS[self.way].format(count=self.num_views, fov=self.fov_deg)
        if self.way == "equirectangular":
            return [head, self._narrowed(panorama)]
        views = cut_views(panorama, self.ring)
        if without is not None:
            views[without] = GREY
        if self.way == "view":
            return [head, views[0]]
        if self.way == "sheet":
            return [head, self._sheet(views)]
        named = zip(view_words(self.ring), views, strict=True)
        return [head, *(part for word, view in named for part in (f"{word}:", view))]

    def _narrowed(self, panorama: Pixels) -> Pixels:
        if panorama.shape[1] <= self.width:
            return panorama
        return resize_by_area(panorama, self.width // 2, self.width)

    def _sheet(self, views: Pixels) -> Pixels:
        """Draw views in rows, each under its direction."""
        size, num_rows = self.view_size, -(-len(views) // _PER_ROW)
        sheet = Image.new("RGB", (_PER_ROW * size, num_rows * (size + _LABEL_PX)), BACKGROUND)
        draw = ImageDraw.Draw(sheet)
        for place, (word, view) in enumerate(zip(view_words(self.ring), views, strict=True)):
            x, y = place % _PER_ROW * size, place // _PER_ROW * (size + _LABEL_PX)
            draw.text((x + size // 2, y + _LABEL_PX // 2), word, TEXT, font(20), anchor="mm")
            sheet.paste(Image.fromarray(view), (x, y + _LABEL_PX))
        return np.asarray(sheet)
