"""Which view carried an answer: views are blanked one at a time, and the answers that change count.

A change says that the view mattered, not how: the model may look there for the object, or be
led astray by what no view should show. Views overlap, so what one loses its neighbour may see.
How much less likely an answer gets, `panovlm.inference.views_mattered` tells.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from panovlm.evaluation.scoring import Prediction, normalised, share_interval
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import wrap_deg
from panovlm.inference.views_mattered import view_shares


def changes(
    whole: Sequence[Prediction], ablated: Sequence[Sequence[Prediction]]
) -> list[list[bool]]:
    """Tell which blanked views change which answers.

    Args:
        whole: Answers with all views.
        ablated: For each view, the answers to the same questions without it.

    Returns:
        For each question and each view, whether the answer without it is another one.
    """
    return [
        [normalised(seen.answer) != normalised(each.answer) for each in others]
        for seen, others in zip(whole, zip(*ablated, strict=True), strict=True)
    ]


def view_ablation(
    whole: Sequence[Prediction], changed: Sequence[Sequence[bool]], ring: ViewLayout
) -> dict[str, Any]:
    """Sum up by how far the blanked view looks from what is asked about.

    Args:
        whole: Answers with all views.
        changed: As `changes` gives it.
        ring: The model's views.

    Returns:
        `count`; `changed_by_any`, the share of answers that some view changes alone; by the
        view's offset from the object, rounded to whole strides and positive to the right,
        `changed_by_offset` (share of answers that change), `interval_by_offset`, and
        `share_by_offset`, the views' shares of the answers that change, which sum to 1. Questions
        without a known direction count in `changed_by_any` alone.
    """
    grouped: dict[int, list[tuple[bool, str]]] = defaultdict(list)
    shares: dict[int, float] = defaultdict(float)
    for prediction, row in zip(whole, changed, strict=True):
        yaw_deg, parts = prediction.record.yaw_deg, view_shares(row)
        if yaw_deg is None:
            continue
        for view, is_changed in enumerate(row):
            offset = _strides_from(ring, view, yaw_deg)
            grouped[offset].append((is_changed, str(prediction.record.image)))
            shares[offset] += parts[view] if parts else 0.0
    result: dict[str, Any] = {
        "count": len(whole),
        "changed_by_any": sum(map(any, changed)) / len(whole),
    }
    names = {offset: f"{offset * ring.stride_deg:+g}°" for offset in sorted(grouped)}
    total = sum(shares.values())
    return result | {
        "changed_by_offset": {n: _share(grouped[o]) for o, n in names.items()},
        "interval_by_offset": {n: _interval(grouped[o]) for o, n in names.items()},
        "share_by_offset": {n: shares[o] / total for o, n in names.items()} if total else {},
    }


def _share(pairs: Sequence[tuple[bool, str]]) -> float:
    return sum(value for value, _ in pairs) / len(pairs)


def _interval(pairs: Sequence[tuple[bool, str]]) -> tuple[float, float]:
    return share_interval([value for value, _ in pairs], [picture for _, picture in pairs])


def _strides_from(ring: ViewLayout, view: int, yaw_deg: float) -> int:
    """Give how many strides a view looks to the right of a yaw, in (-V/2, V/2]."""
    strides = round(wrap_deg(ring.yaws_deg[view] - yaw_deg) / ring.stride_deg)
    return strides + ring.num_views if 2 * strides <= -ring.num_views else strides
