"""Which tokens of neighbouring views look at the same stretch of the world.

Shape letters: B panoramas, V views, h x w token grid, D width, k overlap columns,
P = B·V pairs, L = h·k tokens of a pair.
"""

from torch import Tensor


def overlap_pairs(latents: Tensor, shared_columns: int) -> tuple[Tensor, Tensor]:
    """Pair the token columns that neighbouring views see in common.

    View v's rightmost columns look where view v+1's leftmost columns look; the last view's right
    neighbour is view 0, because a panorama closes on itself.

    Args:
        latents: Tokens on their grid, [B, V, h, w, D].
        shared_columns: k, as `ViewLayout.overlap_columns` gives it.

    Returns:
        (current, following), both [P, L, D]. Token i of one and token i of the other are partners.
    """
    current = latents[:, :, :, -shared_columns:]
    following = latents.roll(-1, dims=1)[:, :, :, :shared_columns]
    return current.flatten(0, 1).flatten(1, 2), following.flatten(0, 1).flatten(1, 2)
