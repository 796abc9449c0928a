"""Which view carried an answer: views are blanked one at a time, and the answers that change count.

A change says that the view mattered, not how: the model may look there for the object, or be
led astray by what no view should show. Views overlap, so what one loses its neighbour may see.
How much less likely an answer gets, `panovlm.inference.views_mattered` computes.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from panovlm.data.records import Record
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import wrap_deg
from panovlm.inference.views_mattered import view_shares
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.intervals import Interval, share_interval


def changed_by_view(whole: str, ablated: Sequence[str]) -> list[bool]:
    """Return for each view whether the answer without it is another than with all views."""
    return [normalised(answer) != normalised(whole) for answer in ablated]


def view_ablation(
    records: Sequence[Record], changed: Sequence[Sequence[bool]], ring: ViewLayout
) -> dict[str, Any]:
    """Sum up by how far the blanked view looks from what is asked about.

    Args:
        records: Questions.
        changed: For each question, as `changed_by_view` returns it.
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
    for record, row in zip(records, changed, strict=True):
        if record.yaw_deg is None:
            continue
        parts = view_shares(row) or [0.0] * len(row)
        for view, is_changed in enumerate(row):
            offset = _strides_from(ring, view, record.yaw_deg)
            grouped[offset].append((is_changed, str(record.image)))
            shares[offset] += parts[view]
    names = {offset: f"{offset * ring.stride_deg:+g}°" for offset in sorted(grouped)}
    found = {offset: _share(grouped[offset]) for offset in names}
    total = sum(shares.values())
    return {
        "count": len(records),
        "changed_by_any": sum(map(any, changed)) / len(records),
        "changed_by_offset": {name: found[offset].mean for offset, name in names.items()},
        "interval_by_offset": {name: found[offset].limits for offset, name in names.items()},
        "share_by_offset": {n: shares[o] / total for o, n in names.items()} if total else {},
    }


def _share(changes: Sequence[tuple[bool, str]]) -> Interval:
    return share_interval([changed for changed, _ in changes], [image for _, image in changes])


def _strides_from(ring: ViewLayout, view: int, yaw_deg: float) -> int:
    """Return how many strides a view looks to the right of a yaw, in (-V/2, V/2]."""
    strides = round(wrap_deg(ring.yaws_deg[view] - yaw_deg) / ring.stride_deg)
    return strides + ring.num_views if 2 * strides <= -ring.num_views else strides
