"""Copies of panoramas, also yaw-rotated, scaled or encoded again.

A yaw rotation rolls the columns of an equirectangular picture. It does not change the magnitudes of
a row's Fourier transform, so those of a small grey picture are a signature that finds candidates
without trying rotations. A pair counts as a copy if also the pictures themselves agree at the best
rotation: their normalised circular cross-correlation reaches `ALIKE`.

The mean of each row (the sky is bright, the floor dark) is removed from both, or all pictures would
be alike; rows are weighted by their share of the sphere.

Shape letters: N panoramas, R rows and F frequencies of the small picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from panovlm.pictures.panorama import Panorama

ROWS, COLUMNS, FREQUENCIES = 16, 128, 24
SIGNATURES_ALIKE = 0.95
"""Least cosine of two signatures for a comparison of the pictures."""
ALIKE = 0.95
"""Least correlation of copies.

Of 108 different real panoramas no two reached more than 0.80 (and 0.92 by their signatures); each
and its copy, rolled at random, scaled to 300 to 900 columns and saved as a JPEG of quality 40,
reached 0.998 or more (and 0.999). The threshold is nearer to the copies, because scenes that share
most of their sphere lie between.
"""
LEAST_CONTRAST = 1.0
"""Grey levels (standard deviation, of 255) below which a picture shows too little to compare."""
COMPARED_AT_ONCE = 1024
_STEPS = 8 * COLUMNS
"""Yaw rotations that the correlation compares."""

Spectrum = NDArray[np.complex64]


@dataclass(frozen=True)
class Copy:
    """Two panoramas that show the same.

    Attributes:
        first: Index of one.
        second: Index of the other.
        yaw_shift_deg: How far the camera is turned right from the first to the second, [0, 360).
        correlation: At that yaw shift, in [`ALIKE`, 1].
    """

    first: int
    second: int
    yaw_shift_deg: float
    correlation: float


def spectrum_of(panorama: Panorama) -> Spectrum | None:
    """Compute the Fourier transform of a panorama's rows, which tells it from others.

    Args:
        panorama: A full sphere of 256 columns or more; masked parts do not count.

    Returns:
        [R, F] of norm 1; None if the picture is nearly blank.
    """
    grey = cv2.cvtColor(panorama.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    known = np.ones_like(grey) if panorama.mask is None else panorama.mask.astype(np.float32)
    size, area = (COLUMNS, ROWS), cv2.INTER_AREA
    total, share = (cv2.resize(each, size, interpolation=area) for each in (grey * known, known))
    mean = total.sum(1, keepdims=True) / np.maximum(share.sum(1, keepdims=True), 1e-6)
    polar = (np.arange(ROWS) + 0.5) / ROWS * np.pi
    rows = (total - mean * share) * np.sqrt(np.sin(polar))[:, None]
    if rows.std() < LEAST_CONTRAST:
        return None
    spectrum = np.fft.rfft(rows, axis=1)[:, 1 : FREQUENCIES + 1]
    return (spectrum / np.linalg.norm(spectrum)).astype(np.complex64)


def find_copies(spectra: NDArray[np.complex64], others: NDArray[np.complex64]) -> Iterator[Copy]:
    """Find the pairs that show the same panorama.

    Args:
        spectra: [N, R, F], each from `spectrum_of`.
        others: [M, R, F].

    Yields:
        A copy for each pair, `first` in `spectra`, `second` in `others`; if both are the same
        array, each pair once and `first` before `second`.
    """
    if not len(spectra) or not len(others):
        return
    among_themselves = spectra is others
    signatures = np.abs(others).reshape(len(others), -1)
    for start in range(0, len(spectra), COMPARED_AT_ONCE):
        block = np.abs(spectra[start : start + COMPARED_AT_ONCE]).reshape(-1, signatures.shape[1])
        for row, second in zip(*np.nonzero(block @ signatures.T >= SIGNATURES_ALIKE), strict=True):
            first = start + int(row)
            if among_themselves and first >= second:
                continue
            correlation, yaw_shift_deg = correlate(spectra[first], others[second])
            if correlation >= ALIKE:
                yield Copy(first, int(second), yaw_shift_deg, correlation)


def correlate(first: Spectrum, second: Spectrum) -> tuple[float, float]:
    """Compare two spectra [R, F] at all yaw shifts, by the cross-correlation theorem.

    Returns:
        The greatest correlation, in [-1, 1], and its yaw shift to the right in degrees.
    """
    product = np.zeros(_STEPS // 2 + 1, dtype=np.complex128)
    product[1 : FREQUENCIES + 1] = (first * second.conj()).sum(axis=0)
    # Undoes the halving and the division by the length in the inverse transform.
    correlation = np.fft.irfft(product, _STEPS) * _STEPS / 2
    best = int(correlation.argmax())
    return float(correlation[best]), 360.0 * best / _STEPS
