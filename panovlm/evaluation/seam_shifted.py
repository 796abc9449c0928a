"""Seam-shifted panoramas: their left and right edge cuts what a question is about."""

import numpy as np

from panovlm.geometry.sphere import Pixels


def roll_to_seam(pixels: Pixels, yaw_deg: float) -> Pixels:
    """Roll the columns of a panorama until a yaw is at its left and right edge, to half a pixel.

    Args:
        pixels: uint8 [H, W, 3], yaw 0 in the middle.
        yaw_deg: Positive to the right.
    """
    column = (yaw_deg / 360 + 0.5) * pixels.shape[1]
    return np.roll(pixels, -round(column), axis=1)


def yaw_shift_to_seam_deg(yaw_deg: float) -> float:
    """Return by how much the camera turns right until a yaw is at the edge, in [0, 360) degrees."""
    return (yaw_deg - 180.0) % 360.0
