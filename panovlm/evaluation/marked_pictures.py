"""Pictures for the report: a panorama with arrows at the direction meant and the one answered."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from panovlm.evaluation.scoring import normalised
from panovlm.model.panorama import load_panorama
from panovlm.model.sphere import DIRECTIONS

Colour = tuple[int, int, int]

WIDTH = 1024
JPEG_QUALITY = 85
RIGHT: Colour = (34, 160, 84)
WRONG: Colour = (214, 57, 46)
ANSWERED: Colour = (240, 160, 20)
"""Where a wrong answer points."""
_INK: Colour = (255, 255, 255)
_HALO = (0, 0, 0, 150)
_SCALE = 2
"""Marks are drawn so many times larger and then reduced, which smooths their edges."""
_FONT_PX = 17
_TICK_PX = 22
_ARROW_PX = 170
_LABEL_PX = 26
_HEAD_PX = 16


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
    """

    picture: Path
    question: str
    expected: str
    answer: str
    kind: str
    yaw_deg: float | None
    right_turns: tuple[int, int] | None = None
    changed_views: tuple[bool, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether the answer matches as the score demands."""
        return normalised(self.answer) == normalised(self.expected)


def draw_marks(example: Example) -> Image.Image:
    """Draw a panorama with what its question means and what was answered.

    An arrow from above, with a tick at the upper and at the lower edge, points at `yaw_deg`: green
    if the answer is right, red if not. If the answer is a direction word, a bracket at the lower
    edge spans its sector: green if right, amber if not.

    Returns:
        RGB, `WIDTH` columns wide and half as high.

    Raises:
        PanoVLMError: If the picture cannot be read.
    """
    pixels = load_panorama(example.picture, min_width=WIDTH)
    picture = Image.fromarray(pixels).resize((WIDTH, WIDTH // 2), Image.Resampling.LANCZOS)
    marks = Image.new("RGBA", (_SCALE * WIDTH, _SCALE * WIDTH // 2))
    draw = ImageDraw.Draw(marks)
    said = normalised(example.answer)
    if said in DIRECTIONS:
        colour = RIGHT if example.is_right else ANSWERED
        _draw_sector(draw, 45.0 * DIRECTIONS.index(said), colour, f"answered: {said}")
    if example.yaw_deg is not None:
        meant = normalised(example.expected)
        label = f"meant: {meant}" if meant in DIRECTIONS else "meant"
        _draw_arrow(draw, example.yaw_deg, RIGHT if example.is_right else WRONG, label)
    small = marks.resize(picture.size, Image.Resampling.BOX)
    return Image.alpha_composite(picture.convert("RGBA"), small).convert("RGB")


def as_data_uri(picture: Image.Image) -> str:
    """Give a picture as JPEG inside the address of an `img` element."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _column(yaw_deg: float) -> float:
    """Give the column of a yaw on the enlarged picture."""
    return (yaw_deg / 360 + 0.5) % 1.0 * _SCALE * WIDTH


def _draw_arrow(draw: ImageDraw.ImageDraw, yaw_deg: float, colour: Colour, label: str) -> None:
    """Draw ticks at both edges and an arrow down to the horizon; what the seam cuts shows twice."""
    bottom, tick, head = (_SCALE * size for size in (WIDTH // 2, _TICK_PX, _HEAD_PX))
    tip = tick + _SCALE * _ARROW_PX
    for turn in (-1, 0, 1):
        x = _column(yaw_deg) + turn * _SCALE * WIDTH
        for start, stop in ((0, tip - head), (bottom - tick, bottom)):
            draw.line([(x, start), (x, stop)], _HALO, 6 * _SCALE)
            draw.line([(x, start), (x, stop)], colour, 4 * _SCALE)
        triangle = [(x - 0.7 * head, tip - head), (x + 0.7 * head, tip - head), (x, tip)]
        draw.polygon(triangle, fill=colour, outline=_HALO, width=_SCALE)
    _draw_label(draw, _column(yaw_deg), tick, label, colour)


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
