"""Pictures for pages: a panorama with marks at the direction meant and the one answered."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.exact_match import normalised
from panovlm.pictures.panorama import load_panorama

Colour = tuple[int, int, int]
Place = tuple[float, float | None]
"""Yaw, and pitch where it is known, in degrees."""

WIDTH = 1024
JPEG_QUALITY = 85
RIGHT: Colour = (34, 160, 84)
WRONG: Colour = (214, 57, 46)
ANSWERED: Colour = (240, 160, 20)
"""Where an answer points that is not right."""
MEANT: Colour = (43, 98, 196)
"""What a question is about whose answer is neither right nor wrong."""
_TONES = {True: RIGHT, False: WRONG, None: MEANT}
_INK: Colour = (255, 255, 255)
_HALO = (0, 0, 0, 150)
_SCALE = 2
"""Marks are drawn so many times larger and then reduced, which smooths their edges."""
_FONT_PX = 17
_TICK_PX = 22
_ARROW_PX = 170
_LABEL_PX = 26
_HEAD_PX = 16
_RING_PX = 9


@dataclass(frozen=True)
class Worth:
    """What a benchmark says of an answer.

    Attributes:
        said: Its score, or why there is none.
        is_right: Whether it is fully right, or worth nothing; None if it is in between, an error
            in degrees, or not scored.
    """

    said: str
    is_right: bool | None


@dataclass(frozen=True)
class Example:
    """A question that was asked of a panorama.

    Attributes:
        picture: The panorama's file.
        question: As asked.
        expected: The right answer.
        answer: The answer given.
        kind: What the question tests.
        yaw_deg: Direction the question is about; None if there is none.
        right_turns: Turns of the picture under which it was answered right, of how many; None if
            it was not turned.
        changed_views: For each view of the ring, whether the answer changes without it; empty if
            that was not asked.
        pitch_deg: How far up what the question is about is, where known.
        answered_deg: Yaw, and pitch where one was said, that the answer was read as; None if it
            was not, or is no direction.
        worth: What the answer is worth where exact match does not say.
    """

    picture: Path
    question: str
    expected: str
    answer: str
    kind: str
    yaw_deg: float | None
    right_turns: tuple[int, int] | None = None
    changed_views: tuple[bool, ...] = ()
    pitch_deg: float | None = None
    answered_deg: Place | None = None
    worth: Worth | None = None

    @property
    def is_right(self) -> bool | None:
        """Whether the answer is right, by exact match where nothing else says."""
        if self.worth is not None:
            return self.worth.is_right
        return normalised(self.answer) == normalised(self.expected)


def draw_marks(example: Example) -> Image.Image:
    """Draw a panorama with what its question means and what was answered.

    An arrow from above, with a tick at the upper and at the lower edge, points at `yaw_deg`, and at
    `pitch_deg` with a ring where it is known: green if the answer is right, red if wrong, blue if
    neither. An arrow from below points at `answered_deg`. Without it and a `worth`, an answer that
    is a direction word has a bracket at the lower edge that spans its sector. Both are green if
    the answer is right, amber if not.

    Returns:
        RGB, `WIDTH` columns wide and half as high.

    Raises:
        PanoVLMError: If the picture cannot be read.
    """
    pixels = load_panorama(example.picture, min_width=WIDTH)
    picture = Image.fromarray(pixels).resize((WIDTH, WIDTH // 2), Image.Resampling.LANCZOS)
    marks = Image.new("RGBA", (_SCALE * WIDTH, _SCALE * WIDTH // 2))
    draw = ImageDraw.Draw(marks)
    _draw_answered(draw, example)
    if example.yaw_deg is not None:
        meant = normalised(example.expected)
        label = f"meant: {meant}" if meant in DIRECTIONS else "meant"
        place = (example.yaw_deg, example.pitch_deg)
        _draw_arrow(draw, place, _TONES[example.is_right], label)
    small = marks.resize(picture.size, Image.Resampling.BOX)
    return Image.alpha_composite(picture.convert("RGBA"), small).convert("RGB")


def _draw_answered(draw: ImageDraw.ImageDraw, example: Example) -> None:
    colour, said = RIGHT if example.is_right else ANSWERED, normalised(example.answer)
    if example.answered_deg is not None:
        _draw_arrow_up(draw, example.answered_deg, colour, "answered")
    elif example.worth is None and said in DIRECTIONS:
        _draw_sector(draw, 45.0 * DIRECTIONS.index(said), colour, f"answered: {said}")


def as_data_uri(picture: Image.Image) -> str:
    """Give a picture as JPEG inside the address of an `img` element."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _column(yaw_deg: float) -> float:
    """Give the column of a yaw on the enlarged picture."""
    return (yaw_deg / 360 + 0.5) % 1.0 * _SCALE * WIDTH


def _row(pitch_deg: float) -> float:
    """Give the row of a pitch on the enlarged picture."""
    return (0.5 - pitch_deg / 180) * _SCALE * WIDTH / 2


def _draw_arrow(draw: ImageDraw.ImageDraw, place: Place, colour: Colour, label: str) -> None:
    """Draw ticks at both edges and an arrow down to a place; what the seam cuts shows twice."""
    bottom, tick, ring = (_SCALE * size for size in (WIDTH // 2, _TICK_PX, _RING_PX))
    yaw_deg, pitch_deg = place
    tip = tick + _SCALE * _ARROW_PX if pitch_deg is None else _row(pitch_deg) - ring
    for x in _columns(yaw_deg):
        _draw_shaft(draw, x, (bottom - tick, bottom), colour)
        _draw_pointer(draw, x, (0, tip), colour)
        if pitch_deg is not None:
            _draw_ring(draw, x, _row(pitch_deg), colour)
    _draw_label(draw, _column(yaw_deg), tick, label, colour)


def _draw_arrow_up(draw: ImageDraw.ImageDraw, place: Place, colour: Colour, label: str) -> None:
    """Draw an arrow from the lower edge up to a place, or to below the horizon without a pitch."""
    bottom, ring = _SCALE * WIDTH // 2, _SCALE * _RING_PX
    yaw_deg, pitch_deg = place
    tip = bottom - _SCALE * _ARROW_PX if pitch_deg is None else _row(pitch_deg) + ring
    for x in _columns(yaw_deg):
        _draw_pointer(draw, x, (bottom, tip), colour)
        if pitch_deg is not None:
            _draw_ring(draw, x, _row(pitch_deg), colour)
    top = bottom - _SCALE * (_TICK_PX + _LABEL_PX + 6)
    _draw_label(draw, _column(yaw_deg), top, label, colour)


def _columns(yaw_deg: float) -> list[float]:
    """Give the column of a yaw, and those at which the seam shows it again."""
    return [_column(yaw_deg) + turn * _SCALE * WIDTH for turn in (-1, 0, 1)]


def _draw_pointer(
    draw: ImageDraw.ImageDraw, x: float, ends: tuple[float, float], colour: Colour
) -> None:
    """Draw a shaft from one row to another with a head at the other, as far as there is room."""
    start, tip = ends
    down = 1 if tip > start else -1
    back = tip - down * _SCALE * _HEAD_PX
    half = 0.7 * _SCALE * _HEAD_PX
    if (back - start) * down > 0:
        _draw_shaft(draw, x, (min(start, back), max(start, back)), colour)
    triangle = [(x - half, back), (x + half, back), (x, tip)]
    draw.polygon(triangle, fill=colour, outline=_HALO, width=_SCALE)


def _draw_shaft(
    draw: ImageDraw.ImageDraw, x: float, rows: tuple[float, float], colour: Colour
) -> None:
    for paint, width in ((_HALO, 6), (colour, 4)):
        draw.line([(x, rows[0]), (x, rows[1])], paint, width * _SCALE)


def _draw_ring(draw: ImageDraw.ImageDraw, x: float, y: float, colour: Colour) -> None:
    radius = _SCALE * _RING_PX
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(box, outline=_HALO, width=5 * _SCALE)
    draw.ellipse(box, outline=colour, width=3 * _SCALE)


def _draw_sector(draw: ImageDraw.ImageDraw, yaw_deg: float, colour: Colour, label: str) -> None:
    """Draw a bracket over 45° of the lower edge; behind, it shows at both ends of the picture."""
    width, bottom = _SCALE * WIDTH, _SCALE * WIDTH // 2
    rise, half = _SCALE * _TICK_PX, width / 16
    for x in (_column(yaw_deg), _column(yaw_deg) + width):
        corners = [(x - half, bottom - rise), (x + half, bottom - 2 * _SCALE)]
        draw.rectangle(corners, fill=(*colour, 120), outline=colour, width=2 * _SCALE)
    _draw_label(draw, _column(yaw_deg), bottom - rise - _SCALE * (_LABEL_PX + 6), label, colour)


def _draw_label(
    draw: ImageDraw.ImageDraw, x: float, top: float, label: str, colour: Colour
) -> None:
    """Draw a label centred at x as far as the picture allows."""
    font = ImageFont.load_default(_SCALE * _FONT_PX)
    width, height, pad = draw.textlength(label, font), _SCALE * _LABEL_PX, _SCALE * 9
    left = min(max(x - width / 2 - pad, 0), _SCALE * WIDTH - width - 2 * pad)
    box = (left, top, left + width + 2 * pad, top + height)
    draw.rounded_rectangle(box, _SCALE * 6, fill=colour, outline=_HALO, width=_SCALE)
    draw.text((left + pad, top + height / 2), label, _INK, font, anchor="lm")
