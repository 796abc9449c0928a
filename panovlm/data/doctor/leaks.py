"""Pictures that are there twice, within a data set or in training and test data alike."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from panovlm.data.doctor.copies import FREQUENCIES, ROWS, Spectrum, find_copies
from panovlm.data.doctor.pictures import Picture
from panovlm.data.findings import Finding, FindingKind

COPY_FIX = "keep one name for one panorama, unless what little differs is what is asked about"
Pair = tuple[Path, Path, str]


def copied(pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Find pictures that show the same as another one of the set."""
    for first, second, how in _pairs(pictures, pictures, _same_bytes, _same_content):
        yield Finding(FindingKind.COPY, f"{second}: found {how} {first}", COPY_FIX, field="image")


def leaked(pictures: Sequence[Picture], against: Sequence[Picture]) -> Iterator[Finding]:
    """Find pictures of a data set that show the same as one of the test data."""
    for first, second, how in _pairs(against, pictures, _same_file, _same_bytes, _same_content):
        found, fix = (
            f"{second}: found in the test data {how} {first}",
            "remove it from one of the two",
        )
        yield Finding(FindingKind.LEAK, found, fix, field="image")


def _pairs(
    first: Sequence[Picture],
    second: Sequence[Picture],
    *finders: Callable[[Sequence[Picture], Sequence[Picture]], Iterator[Pair]],
) -> Iterator[Pair]:
    """Pair each picture of `second` at most once, with the first like it."""
    paired: set[Path] = set()
    for finder in finders:
        for pair in finder(first, second):
            if pair[1] not in paired:
                paired.add(pair[1])
                yield pair


def _same_file(first: Sequence[Picture], second: Sequence[Picture]) -> Iterator[Pair]:
    places = {p.path.resolve(): p.path for p in first if p.digest is not None}
    for picture in second:
        if picture.digest is not None and picture.path.resolve() in places:
            yield places[picture.path.resolve()], picture.path, "as the same file,"


def _same_bytes(first: Sequence[Picture], second: Sequence[Picture]) -> Iterator[Pair]:
    """Pair each picture of `second` with the first of `first` of the same bytes, but itself."""
    by_digest: dict[str, Path] = {}
    for picture in first:
        if picture.digest is not None:
            by_digest.setdefault(picture.digest, picture.path)
    for picture in second:
        original = by_digest.get(picture.digest or "")
        if original is not None and original != picture.path:
            yield original, picture.path, "with the same bytes,"


def _same_content(first: Sequence[Picture], second: Sequence[Picture]) -> Iterator[Pair]:
    """Pair pictures that show the same panorama, whatever their yaw rotation."""
    paths, spectra = _with_spectra(first)
    others, other_spectra = (paths, spectra) if first is second else _with_spectra(second)
    for copy in find_copies(spectra, other_spectra):
        how = f"to {min(copy.correlation, 1.0):.1%}, yaw-rotated by {copy.yaw_shift_deg:.0f}°,"
        yield paths[copy.first], others[copy.second], f"the same panorama {how} as"


def _with_spectra(pictures: Sequence[Picture]) -> tuple[list[Path], Spectrum]:
    comparable = [(p.path, p.spectrum) for p in pictures if p.spectrum is not None]
    if not comparable:
        return [], np.zeros((0, ROWS, FREQUENCIES), dtype=np.complex64)
    return [path for path, _ in comparable], np.stack([spectrum for _, spectrum in comparable])
