"""A panorama with the regions outlined that an answer is about."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from panovlm.figures.sheets import font
from panovlm.geometry.places import rays_to_panorama
from panovlm.geometry.regions import Region
from panovlm.inference.grounding import GroundedRegion
from panovlm.pictures.declaring import PictureFile
from panovlm.pictures.panorama import load_panorama

WIDTH, HEIGHT = 1600, 800
POINTS_PER_SIDE = 32
LINE_PX, HALO_PX, TEXT_PX = 4, 8, 26
MARKED, HALO = (255, 214, 64), (17, 19, 24)


def draw_regions(panorama: PictureFile | Path, regions: Sequence[GroundedRegion]) -> Image.Image:
    """Return the panorama with each region's label and border, which goes on over the seam."""
    pixels = load_panorama(panorama, min_width=WIDTH)
    picture = Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for region in regions:
        x, y = _border(region)
        for shift in (-WIDTH, 0, WIDTH):
            points = [(float(a) + shift, float(b)) for a, b in zip(x, y, strict=True)]
            draw.line(points, HALO, HALO_PX, joint="curve")
            draw.line(points, MARKED, LINE_PX, joint="curve")
        left = float(x.min()) % WIDTH
        place = left + 8, max(float(y.min()) + 6, 0.0)
        text = (region.label or "")[:60]
        draw.text(place, text, MARKED, font(TEXT_PX), stroke_width=3, stroke_fill=HALO)
    return picture


def _border(region: GroundedRegion) -> tuple[np.ndarray, np.ndarray]:
    """Return the closed border in pixels, without jumps: x may lie beyond the edges."""
    bounds = region.yaw_deg, region.pitch_deg, region.width_deg, region.height_deg
    rays = Region(*bounds).outline(POINTS_PER_SIDE)
    x, y = rays_to_panorama(np.concatenate([rays, rays[:1]]), HEIGHT, WIDTH)
    return np.unwrap(x, period=WIDTH), y
