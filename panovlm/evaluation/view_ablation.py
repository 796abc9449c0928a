"""Which view carried an answer: views are blanked one at a time, and the answers that change count.

A change says that the view mattered, not how: the model may look there for the object, or be
led astray by what no view should show. Views overlap, so what one loses its neighbour may see.
How much less likely an answer gets, `panovlm.inference.views_mattered` computes.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from panovlm.evaluation.benchmarks.items import Item
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import DIRECTIONS, wrap_deg
from panovlm.inference.views_mattered import view_shares
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.intervals import share_interval
from panovlm.model.processing import view_words


def changed_by_view(whole: str, ablated: Sequence[str]) -> list[bool]:
    """Return for each view whether the answer without it is another than with all views."""
    return [normalised(answer) != normalised(whole) for answer in ablated]


def view_ablation(
    items: Sequence[Item], changed: Sequence[Sequence[bool]], layout: ViewLayout
) -> dict[str, Any]:
    """Sum up by how far the blanked view looks from what is asked about.

    Args:
        items: Questions.
        changed: For each question, as `changed_by_view` returns it.
        layout: The model's views but a global one.

    Returns:
        `count`; `views`, the names of the views; `changed_by_any`, the share of answers that some
        view changes alone; by the view's offset from the object, rounded to whole strides (of 45
        degrees where no rotation maps the views to each other) and positive to the right,
        `changed_by_offset` (share of answers that change), `interval_by_offset`, and
        `share_by_offset`, the views' shares of the answers that change, which sum to 1. Questions
        without a known direction count in `changed_by_any` alone.
    """
    num_steps = layout.num_strides if layout.num_strides > 1 else len(DIRECTIONS)
    grouped: dict[int, tuple[list[bool], list[str]]] = defaultdict(lambda: ([], []))
    shares: dict[int, float] = defaultdict(float)
    for item, row in zip(items, changed, strict=True):
        if item.yaw_deg is None:
            continue
        parts = view_shares(row) or [0.0] * len(row)
        for view, is_changed in enumerate(row):
            offset = _steps_from(layout.yaws_deg[view], item.yaw_deg, num_steps)
            changes, images = grouped[offset]
            changes.append(is_changed)
            images.append(str(item.image))
            shares[offset] += parts[view]
    names = {offset: f"{offset * 360 / num_steps:+g}°" for offset in sorted(grouped)}
    found = {offset: share_interval(*grouped[offset]) for offset in names}
    total = sum(shares.values())
    return {
        "count": len(items),
        "views": view_words(layout),
        "changed_by_any": sum(map(any, changed)) / len(items),
        "changed_by_offset": {name: found[offset].mean for offset, name in names.items()},
        "interval_by_offset": {name: found[offset].limits for offset, name in names.items()},
        "share_by_offset": {n: shares[o] / total for o, n in names.items()} if total else {},
    }


def _steps_from(view_deg: float, yaw_deg: float, num_steps: int) -> int:
    """Return how many of `num_steps` around the circle a view is to the right, in (-n/2, n/2]."""
    steps = round(wrap_deg(view_deg - yaw_deg) * num_steps / 360)
    return steps + num_steps if 2 * steps <= -num_steps else steps
