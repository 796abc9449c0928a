"""Splits by place: all pictures of a place are in one split."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from panovlm.data.annotations import Annotation
from panovlm.errors import PanoVLMError


def number_of(seed: int, text: str) -> int:
    """Return a number that depends on a seed and a text alone, in [0, 2^64)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big")


def place_of(annotation: Annotation, file: Path) -> str:
    """Return the place that an annotation of a file shows: its group, or else its folder."""
    return annotation.group or os.path.relpath(annotation.image.parent, file.parent)


def places_to_test(places: Sequence[str], share: float, seed: int) -> set[str]:
    """Choose the places to test on.

    Places are taken in an order by hash, as long as they fit the share: most stay in their split
    when pictures are added.

    Args:
        places: The place of each picture.
        share: Of the pictures, in [0, 1); 0 chooses none.
        seed: Of the order.

    Raises:
        PanoVLMError: If there is only one place.
    """
    sizes = Counter(places)
    if share == 0.0:
        return set()
    if len(sizes) < 2:
        raise PanoVLMError(
            f"found one place, {next(iter(sizes))!r}, for all {len(places)} pictures; expected two "
            "or more, so that none is in train and test; put the pictures of each place in a "
            "folder of its own before you annotate, or set --split-by picture where each shows "
            "another place, or --test-share 0 to test on nothing"
        )
    order = sorted(sizes, key=lambda place: number_of(seed, place))
    chosen: set[str] = set()
    room = share * len(places)
    for place in order:
        if sizes[place] <= room:
            chosen.add(place)
            room -= sizes[place]
    return chosen or {min(order, key=lambda place: sizes[place])}


def named_places(names: Sequence[str], places: Sequence[str]) -> set[str]:
    """Return places that are named to be tested on.

    Raises:
        PanoVLMError: If there is none of a name, or none is left to train on.
    """
    known = set(places)
    unknown = sorted(set(names) - known)
    if unknown or known <= set(names):
        found = f"no place {', '.join(unknown)}" if unknown else "every place"
        raise PanoVLMError(
            f"found {found} in --test-place, expected some of {', '.join(sorted(known))}; name the "
            "groups or folders to test on"
        )
    return set(names)
