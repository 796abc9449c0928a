"""The occlusion map as a picture: how much an answer rests on each place, over the dimmed panorama.

Above it the question and the answer, below it directions, the colours' scale and the peak. What no
view of the model shows is hatched.

Shapes: H x W pixels.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from panovlm.figures.sheets import BACKGROUND, MUTED, TEXT, font, scaled
from panovlm.geometry.places import angles_to_panorama
from panovlm.geometry.sphere import DIRECTIONS, Floats, Pixels, direction_index, panorama_rays
from panovlm.inference.likelihood import NEGLIGIBLE
from panovlm.inference.occlusion import Occlusion
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.files import has_keys, write_own

_WIDTH_PX, _HEIGHT_PX = 1200, 600
_MARGIN_PX, _HEAD_PX, _FOOT_PX = 24, 84, 108
_LARGE_PX = 20
_DIMMED, _COLOURED = 0.55, 0.45
"""Of a place's brightness, and of its colour, where an answer does not rest on it."""
_MOST_OPAQUE, _SOFTNESS = 0.78, 0.6
"""How much of a place its colour hides at the largest drop, and how fast less at smaller ones."""
_FIRST_COLOUR = 0.3
"""Where on the colours' table drops begin: what is before it is as dark as the panorama."""
_HATCH_PX = 12
_SCALE_PX, _SCALE_GREY = (300, 14), 60
_PEAK_PX = 13


def draw_occlusion(found: Occlusion, question: str, panorama: Path) -> Image.Image:
    """Draw an occlusion map over its panorama.

    Colours go from none, where the mean drop is 0 or less, to the brightest at the largest mean
    drop; a map that is negligible everywhere stays dark.
    """
    drops = found.mean_drop(panorama_rays(_HEIGHT_PX, _WIDTH_PX))
    largest = max(float(np.nanmax(drops)), NEGLIGIBLE)
    picture = Image.fromarray(_over_dimmed(drops / largest, panorama))
    if found.peak_deg:
        _mark(ImageDraw.Draw(picture), found.peak_deg)
    size = (_WIDTH_PX + 2 * _MARGIN_PX, _HEIGHT_PX + _HEAD_PX + _FOOT_PX)
    sheet = Image.new("RGB", size, BACKGROUND)
    sheet.paste(picture, (_MARGIN_PX, _HEAD_PX))
    _write_head(ImageDraw.Draw(sheet), question, found.answer)
    _write_foot(sheet, found, largest, unseen=bool(np.isnan(drops).any()))
    return sheet


def save_occlusion(found: Occlusion, question: str, out: Path) -> None:
    """Write an occlusion map's numbers as JSON: angles in degrees, drops in nats."""
    numbers = {
        "question": question,
        "answer": found.answer,
        "log_probability": found.log_probability,
        "peak_deg": found.peak_deg,
        "radius_deg": found.caps.radius_deg,
        "centres_deg": found.caps.centres_deg.tolist(),
        "drops": found.drops.tolist(),
    }
    write_own(out, lambda path: path.write_text(json.dumps(numbers) + "\n"), is_occlusion)


def is_occlusion(path: Path) -> bool:
    """Return whether `save_occlusion` wrote a file."""
    return has_keys(path, ("question", "answer", "peak_deg", "radius_deg", "centres_deg", "drops"))


def describe_peak(found: Occlusion) -> str:
    """Describe where an answer rests most, as in "yaw 48°, pitch -16° (front-right)"."""
    if found.peak_deg is None:
        return f"nowhere: no cap makes it less likely by {NEGLIGIBLE:g} nats on average"
    yaw_deg, pitch_deg = found.peak_deg
    word = DIRECTIONS[direction_index(yaw_deg)]
    return f"yaw {yaw_deg:.0f}°, pitch {pitch_deg:.0f}° ({word})"


def _over_dimmed(shares: Floats, panorama: Path) -> Pixels:
    """Colour shares of the largest drop [H, W] over a grey, dim panorama; hatch where NaN."""
    dim = _dimmed(panorama)
    unseen = np.isnan(shares)
    picture = _coloured(dim, np.nan_to_num(shares).astype(np.float32))
    picture[unseen] = _hatched(dim)[unseen]
    limit = cv2.morphologyEx(unseen.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    picture[limit > 0] = MUTED
    return picture.round().astype(np.uint8)


def _dimmed(panorama: Path) -> NDArray[np.float32]:
    """Read a panorama, darker and greyer than it is, [H, W, 3]."""
    small = scaled(load_panorama(panorama, _WIDTH_PX), _HEIGHT_PX)
    grey = np.asarray(small.convert("L"), np.float32)[..., None]
    dimmed = _DIMMED * (grey + _COLOURED * (np.asarray(small, np.float32) - grey))
    return dimmed.astype(np.float32)


def _coloured(below: NDArray[np.float32], shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay the colours of shares [h, w] of the largest drop over a picture [h, w, 3]."""
    shares = np.clip(shares, 0, 1)
    places = (255 * (_FIRST_COLOUR + (1 - _FIRST_COLOUR) * shares)).round().astype(np.uint8)
    colours = cv2.applyColorMap(places, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    opaque = (_MOST_OPAQUE * shares**_SOFTNESS)[..., None]
    return below * (1 - opaque) + colours * opaque


def _hatched(dim: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw slanted lines over a picture that is dimmed once more, [h, w, 3]."""
    rows, columns = (np.arange(length) for length in dim.shape[:2])
    on_line = np.add.outer(rows, columns) % _HATCH_PX == 0
    return np.where(on_line[..., None], np.float32(72), dim * np.float32(_DIMMED))


def _mark(draw: ImageDraw.ImageDraw, peak_deg: tuple[float, float]) -> None:
    """Mark the peak with a ring, on both sides of the seam where it lies there."""
    x, y = (float(p) for p in angles_to_panorama(*peak_deg, _HEIGHT_PX, _WIDTH_PX))
    for centre in (x - _WIDTH_PX, x, x + _WIDTH_PX):
        for radius, colour, width in ((_PEAK_PX + 1, BACKGROUND, 5), (_PEAK_PX, (255,) * 3, 3)):
            box = (centre - radius, y - radius, centre + radius, y + radius)
            draw.ellipse(box, outline=colour, width=width)


def _write_head(draw: ImageDraw.ImageDraw, question: str, answer: str) -> None:
    """Write the question and the answer, each cut to one line."""
    for top, text, colour in ((16, question, MUTED), (45, answer, TEXT)):
        draw.text((_MARGIN_PX, top), _one_line(text), colour, font(_LARGE_PX))


def _one_line(text: str) -> str:
    """Cut a text to what fits beside the panorama's edges."""
    text = " ".join(text.split())
    length = font(_LARGE_PX).getlength
    if length(text) <= _WIDTH_PX:
        return text
    while text and length(f"{text}…") > _WIDTH_PX:
        text = text[:-1]
    return f"{text}…"


def _write_foot(sheet: Image.Image, found: Occlusion, largest: float, *, unseen: bool) -> None:
    """Write directions below the panorama, then the colours' scale and what marks mean."""
    draw, top = ImageDraw.Draw(sheet), _HEAD_PX + _HEIGHT_PX + 8
    for number, word in enumerate(("back", "left", "front", "right", "back")):
        place = (_MARGIN_PX + number * _WIDTH_PX // 4, top)
        draw.text(place, word, MUTED, font(), anchor=("la", "ma", "ma", "ma", "ra")[number])
    top += 38
    _draw_scale(sheet, (_MARGIN_PX, top), largest)
    left = _MARGIN_PX + _SCALE_PX[0] + 64
    lines = [f"rests most on {describe_peak(found)}"]
    if unseen:
        lines.append("hatched: no view shows it, or no cap lies there")
    for number, line in enumerate(lines):
        draw.text((left, top - 4 + 24 * number), line, TEXT, font())


def _draw_scale(sheet: Image.Image, place: tuple[int, int], largest: float) -> None:
    """Draw the colours from no drop to the largest, with their numbers."""
    width, height = _SCALE_PX
    shares = np.linspace(0, 1, width, dtype=np.float32)[None].repeat(height, axis=0)
    grey = np.full((height, width, 3), _SCALE_GREY, np.float32)
    colours = Image.fromarray(_coloured(grey, shares).round().astype(np.uint8))
    sheet.paste(colours, place)
    draw, (left, top) = ImageDraw.Draw(sheet), place
    below = top + height + 5
    draw.text((left, below), "0", MUTED, font())
    middle = "drop in log-probability, nats"
    draw.text((left + width // 2, below), middle, MUTED, font(), anchor="ma")
    draw.text((left + width, below), f"{largest:.2g}", MUTED, font(), anchor="ra")
