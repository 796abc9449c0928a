"""Strata of questions: how far what they are about is from the seam and from the poles."""

from panovlm.metrics.angles import yaw_error_deg

SEAM_EDGES_DEG = (0, 45, 90, 135, 180)
POLE_EDGES_DEG = (0, 30, 60, 90)


def seam_distance_deg(yaw_deg: float) -> float:
    """Compute how far a yaw is from the panorama's left and right edge, in [0, 180] degrees."""
    return yaw_error_deg(yaw_deg, 180.0)


def seam_stratum(yaw_deg: float | None) -> str | None:
    """Name the stratum of a yaw by its distance from the seam, as in "0-45°"."""
    return None if yaw_deg is None else _stratum(seam_distance_deg(yaw_deg), SEAM_EDGES_DEG)


def pole_stratum(pitch_deg: float | None) -> str | None:
    """Name the stratum of a pitch by its distance from the nearest pole, as in "0-30°"."""
    return None if pitch_deg is None else _stratum(90.0 - abs(pitch_deg), POLE_EDGES_DEG)


def _stratum(distance_deg: float, edges_deg: tuple[int, ...]) -> str:
    """Name the interval that holds a distance; an edge belongs to the interval above it."""
    last = len(edges_deg) - 2
    place = min(sum(distance_deg >= edge for edge in edges_deg[1:]), last)
    return f"{edges_deg[place]}-{edges_deg[place + 1]}°"
