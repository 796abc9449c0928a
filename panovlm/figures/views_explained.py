"""A table of how well the tokens of neighbouring views are paired."""

from panovlm.geometry.layouts import ViewLayout
from panovlm.runtime.progress import show_table
from panovlm.training.overlap.partners import TokenPairs, column_pairs, ray_pairs

HEADER = ["pairing", "pairs of views", "pairs of tokens", "mean angle", "largest angle"]


def explain_overlap(layout: ViewLayout, tokens: int) -> None:
    """Print the pairs of each pairing and the angles between partners; `columns` needs a ring."""
    pairings = {"columns": column_pairs} if layout.is_ring else {}
    pairings |= {"rays": ray_pairs}
    rows = [_row(name, pair(layout, tokens, tokens)) for name, pair in pairings.items()]
    show_table(f"{layout.describe()}, {tokens}x{tokens} tokens each", HEADER, rows)


def _row(name: str, pairs: TokenPairs) -> list[str]:
    angles = pairs.angles_deg
    return [
        name,
        str(pairs.num_view_pairs),
        str(len(angles)),
        f"{angles.mean():.2f}°" if len(angles) else "-",
        f"{angles.max():.2f}°" if len(angles) else "-",
    ]
