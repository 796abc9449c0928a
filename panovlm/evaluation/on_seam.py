"""Objects put on the seam: the picture is turned until its edge cuts what a question is about.

Asked are questions whose right answer is known after any turn. The same questions about the picture
as it is stand beside, so that the difference is the seam's alone.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from panovlm.data.records import Record
from panovlm.evaluation.scoring import Prediction, accuracy, gain_over, interval
from panovlm.geometry.sphere import Pixels


def on_the_edge(pixels: Pixels, yaw_deg: float) -> Pixels:
    """Turn a panorama until a yaw is at its left and right edge, to half a pixel.

    Args:
        pixels: uint8 [H, W, 3], yaw 0 in the middle.
        yaw_deg: Positive to the right.
    """
    column = (yaw_deg / 360 + 0.5) * pixels.shape[1]
    return np.roll(pixels, -round(column), axis=1)


def turn_to_edge_deg(yaw_deg: float) -> float:
    """Give by how much the camera turns right until a yaw is at the edge, in [0, 360) degrees."""
    return (yaw_deg - 180.0) % 360.0


def stays_right(record: Record) -> bool:
    """Say whether a question is about a direction, and has one right answer under every turn."""
    return record.yaw_deg is not None and len(set(record.rolled_responses or ())) == 1


def seam_facts(as_it_is: Sequence[Prediction], on_seam: Sequence[Prediction]) -> dict[str, Any]:
    """Compare answers about objects on the seam with those about the picture as it is.

    Returns:
        Shares right: `overall`, with `count` and `interval`; `as_it_is`; and `gain`, how much more
        often right on the seam, with its paired interval.
    """
    gain = gain_over(as_it_is, on_seam)
    return {
        "overall": accuracy(on_seam),
        "count": len(on_seam),
        "interval": interval(on_seam),
        "as_it_is": accuracy(as_it_is),
        "gain": asdict(gain) if gain else None,
    }
