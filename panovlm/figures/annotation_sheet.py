"""A page to check annotations by eye: panoramas with what was seen in them outlined."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image

from panovlm.data.annotations import Annotation, Sighting
from panovlm.errors import PanoVLMError
from panovlm.figures.sheets import as_data_uri
from panovlm.geometry.places import rays_to_panorama
from panovlm.geometry.regions import Region
from panovlm.geometry.sphere import Floats
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.files import write_whole

WIDTH, HEIGHT = 1280, 640
MAX_PICTURES = 200
POINTS_PER_SIDE = 16
NUM_HUES = 12


@dataclass(frozen=True)
class Outline:
    """The border of a thing on the page's picture.

    Attributes:
        path: For the `d` of an SVG path, in pixels; it goes on beyond the picture's edges.
        copies: Pixels by which it is shifted to show on both sides of the seam.
        x: Where its label begins, in pixels.
        y: The label's base line.
        text: Label, score, views and what a sign says.
        hue: Degrees on the colour circle, one for each label.
    """

    path: str
    copies: tuple[int, ...]
    x: float
    y: float
    text: str
    hue: int


@dataclass(frozen=True)
class Sheet:
    """A picture of the page, or why it is missing."""

    annotation: Annotation
    source: str | None
    error: str | None
    outlines: tuple[Outline, ...]


def write_annotation_sheet(annotations: list[Annotation], out: Path) -> int:
    """Write one HTML page, whole or not at all, that needs no other file.

    Args:
        annotations: With paths that do not depend on their file; of more than `MAX_PICTURES` as
            many are shown, evenly spaced.
        out: The page.

    Returns:
        How many pictures are shown.
    """
    places = np.linspace(0, len(annotations) - 1, min(MAX_PICTURES, len(annotations)))
    shown = [annotations[round(place)] for place in places]
    page = _template().render(
        sheets=(_sheet(each) for each in shown),
        num_all=len(annotations),
        num_shown=len(shown),
        width=WIDTH,
        height=HEIGHT,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, lambda partial: partial.write_text(page, encoding="utf-8"))
    return len(shown)


def outline_of(sighting: Sighting, hue: int = 0) -> Outline:
    """Return the border of a sighting on a panorama of `WIDTH` x `HEIGHT` pixels."""
    x, y = _unrolled(sighting.region)
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    copies = tuple(
        k * WIDTH for k in (-1, 0, 1) if x.min() + k * WIDTH < WIDTH and x.max() > -k * WIDTH
    )
    words = [sighting.label, f"{sighting.score:.2f}", f"×{sighting.num_views}"]
    text = " ".join([*words, *([f"“{sighting.text}”"] if sighting.text else [])])
    return Outline(path, copies, float(x.min()), float(max(y.min() - 4, 12)), text, hue)


def _unrolled(region: Region) -> tuple[Floats, Floats]:
    """Return the closed border of a region without jumps: x may lie beyond the picture's edges."""
    rays = region.outline(POINTS_PER_SIDE)
    x, y = rays_to_panorama(np.concatenate([rays, rays[:1]]), HEIGHT, WIDTH)
    # Around a pole it ends a whole width from where it began.
    return np.unwrap(x, period=WIDTH), y


def _sheet(annotation: Annotation) -> Sheet:
    try:
        pixels = load_panorama(annotation.shown, min_width=WIDTH)
    except PanoVLMError as error:
        return Sheet(annotation, None, str(error), ())
    picture = Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    labels = sorted({each.label for each in annotation.sightings})
    hues = {label: index * 360 // NUM_HUES for index, label in enumerate(labels)}
    outlines = tuple(outline_of(each, hues[each.label] % 360) for each in annotation.sightings)
    return Sheet(annotation, as_data_uri(picture), None, outlines)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("annotation_sheet.html.jinja")
