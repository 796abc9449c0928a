"""Panoramas made from formulas: smooth in every direction, or noise."""

import numpy as np

from panovlm.geometry.sphere import panorama_rays


def colours(rays):
    """A smooth colour for every direction, 0..255."""
    x, y, z = np.moveaxis(rays, -1, 0)
    return 127.5 + np.stack([100 * x, 60 * y + 50 * z * x, 70 * np.sin(3 * z) + 30 * y], axis=-1)


def smooth_panorama(height, width):
    return np.rint(colours(panorama_rays(height, width))).astype(np.uint8)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
