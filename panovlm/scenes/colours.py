"""Colours by hue, saturation and value, sampled from ranges of them."""

from colorsys import hsv_to_rgb

import numpy as np

RGB = tuple[float, float, float]
Span = tuple[float, float]
"""Least and largest value of a range."""


def rgb_from_hsv(hue_deg: float, saturation: float, value: float) -> RGB:
    """Convert a colour to sRGB in [0, 255].

    Args:
        hue_deg: Any angle, in degrees.
        saturation: In [0, 1].
        value: In [0, 1].
    """
    red, green, blue = hsv_to_rgb(hue_deg / 360 % 1.0, saturation, value)
    return 255 * red, 255 * green, 255 * blue


def sample_hsv(rng: np.random.Generator, hue_deg: Span, saturation: Span, value: Span) -> RGB:
    """Sample a colour, sRGB in [0, 255], from ranges as in `rgb_from_hsv`."""
    return rgb_from_hsv(
        float(rng.uniform(*hue_deg)),
        float(rng.uniform(*saturation)),
        float(rng.uniform(*value)),
    )
