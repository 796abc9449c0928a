"""Packing of items into bins of about equal size, as examples into sequences."""

from bisect import bisect_left, insort
from collections.abc import Sequence


def fill_bins(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Put items into bins: the longest first, each into the fullest bin that has room for it.

    Args:
        lengths: Of the items.
        budget: Most that a bin holds; a longer item gets a bin of its own.

    Returns:
        The places of the items in each bin.
    """
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # what each bin has left, and its number; sorted
    for item in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        place = bisect_left(rooms, (lengths[item], -1))
        if place == len(rooms):
            bins.append([item])
            insort(rooms, (max(budget - lengths[item], 0), len(bins) - 1))
            continue
        room, number = rooms.pop(place)
        bins[number].append(item)
        insort(rooms, (room - lengths[item], number))
    return bins
