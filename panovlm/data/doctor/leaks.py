"""Pictures that are there twice, within a data set or in training and test data alike."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from panovlm.data.doctor.copies import FREQUENCIES, ROWS, Spectrum, find_copies
from panovlm.data.doctor.pictures import Picture
from panovlm.data.findings import Finding, FindingKind


def copied(pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Find pictures that show the same as another one of the set.

    Each is told once, beside the first like it.
    """
    told: set[Path] = set()
    for first, second, how in _same_bytes(pictures, pictures):
        told.add(second)
        yield _copy(first, second, how)
    for first, second, how in _same_sight(pictures, pictures):
        if second not in told:
            told.add(second)
            yield _copy(first, second, how)


def leaked(pictures: Sequence[Picture], against: Sequence[Picture]) -> Iterator[Finding]:
    """Find pictures of a data set that show the same as one of the test data.

    Each is told once, beside the first test picture like it.
    """
    told: set[Path] = set()
    for finder in (_same_file, _same_bytes, _same_sight):
        for first, second, how in list(finder(against, pictures)):
            if second not in told:
                told.add(second)
                found = f"{second}: found in the test data {how} {first}"
                yield Finding(
                    FindingKind.LEAK, found, "remove it from one of the two", field="image"
                )


Pair = tuple[Path, Path, str]


def _copy(first: Path, second: Path, how: str) -> Finding:
    fix = "keep one name for one panorama, unless what little differs is what is asked about"
    return Finding(FindingKind.COPY, f"{second}: found {how} {first}", fix, field="image")


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


def _same_sight(first: Sequence[Picture], second: Sequence[Picture]) -> Iterator[Pair]:
    """Pair pictures that show the same panorama, from whatever turn of the camera."""
    seen, spectra = _with_spectra(first)
    others, other_spectra = (seen, spectra) if first is second else _with_spectra(second)
    by_second = defaultdict(list)
    for copy in find_copies(spectra, other_spectra):
        by_second[copy.second].append(copy)
    for index, copies in by_second.items():
        copy = copies[0]
        alike = f"to {min(copy.alike, 1.0):.1%}, the camera turned by {copy.turn_deg:.0f}°,"
        yield seen[copy.first], others[index], f"the same panorama {alike} as"


def _with_spectra(pictures: Sequence[Picture]) -> tuple[list[Path], Spectrum]:
    able = [(p.path, p.spectrum) for p in pictures if p.spectrum is not None]
    if not able:
        return [], np.zeros((0, ROWS, FREQUENCIES), dtype=np.complex64)
    return [path for path, _ in able], np.stack([spectrum for _, spectrum in able])
