"""Copies of panoramas: found at any yaw, size and encoding; different ones never taken for one."""

import os
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from panovlm.data.doctor.copies import ALIKE, SIGNATURES_ALIKE, correlate, find_copies, spectrum_of
from panovlm.data.doctor.leaks import copied
from panovlm.data.doctor.pictures import inspect_picture
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.panorama import Panorama, load_panorama
from panovlm.scenes.render import render
from panovlm.scenes.world import sample_scene

REAL = os.environ.get("PANORAMAS")
"""A folder of different real panoramas, as for `make benchmark`."""


def photo(seed: int, height: int = 256) -> Pixels:
    """Something as rich as a photograph, the same at any height; its left and right edges join."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    wrapped = np.concatenate([coarse, coarse[:, :1]], axis=1)
    smooth = cv2.resize(wrapped, (17 * 32, 256), interpolation=cv2.INTER_CUBIC)[:, 16:-16]
    return cv2.resize(smooth, (2 * height, height), interpolation=cv2.INTER_AREA)


def encoded(pixels: Pixels, quality: int) -> Pixels:
    jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), dtype=np.uint8)


def alike(first: Pixels, second: Pixels) -> tuple[float, float]:
    spectra = [spectrum_of(Panorama(pixels)) for pixels in (first, second)]
    assert spectra[0] is not None and spectra[1] is not None
    return correlate(spectra[0], spectra[1])


@pytest.mark.parametrize("columns", [0, 1, 77, 256, 511])
@pytest.mark.parametrize("height", [128, 200, 256])
def test_a_rolled_scaled_and_encoded_copy_is_found_with_its_yaw_shift(
    columns: int, height: int
) -> None:
    original = photo(0)
    rolled = np.roll(original, -columns, axis=1)
    copy = cv2.resize(rolled, (2 * height, height), interpolation=cv2.INTER_AREA)
    found, yaw_shift_deg = alike(original, encoded(copy, 40))
    assert found > 0.99
    assert abs((yaw_shift_deg - columns / 512 * 360 + 180) % 360 - 180) < 1


@pytest.mark.parametrize("change", [lambda p: p // 2, lambda p: 255 - (255 - p) // 2])
def test_a_darker_or_lighter_copy_is_found(change) -> None:
    assert alike(photo(0), change(photo(0)))[0] > 0.99


def test_mirrored_flipped_and_other_panoramas_are_no_copies() -> None:
    original = photo(0)
    others = [original[:, ::-1], original[::-1], *(photo(seed) for seed in range(1, 20))]
    assert max(alike(original, np.ascontiguousarray(other))[0] for other in others) < 0.9


def test_what_a_partial_panorama_does_not_show_does_not_make_it_a_copy() -> None:
    mask = np.zeros((256, 512), dtype=bool)
    mask[:, 128:384] = True
    halves = [Panorama(photo(seed) * mask[..., None], mask) for seed in (1, 2, 1)]
    spectra = [spectrum_of(half) for half in halves]
    assert correlate(spectra[0], spectra[1])[0] < 0.9
    assert correlate(spectra[0], spectra[2])[0] == pytest.approx(1)


def test_a_picture_that_shows_nearly_nothing_is_not_compared() -> None:
    rows = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[:, None], 128, axis=1)
    assert spectrum_of(Panorama(np.repeat(rows[..., None], 3, axis=2))) is None


def test_rendered_scenes_are_no_copies_of_one_another() -> None:
    rng = np.random.default_rng(0)
    scenes = [render(sample_scene(rng), height=128) for _ in range(12)]
    assert max(alike(*pair)[0] for pair in combinations(scenes, 2)) < ALIKE


def test_pairs_are_found_once_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panovlm.data.doctor.copies.COMPARED_AT_ONCE", 2)
    pictures = [photo(0), photo(1), np.roll(photo(0), 100, axis=1), photo(2), photo(1)]
    spectra = np.stack([spectrum_of(Panorama(picture)) for picture in pictures])
    found = {(copy.first, copy.second) for copy in find_copies(spectra, spectra)}
    assert found == {(0, 2), (1, 4)}
    across = {(copy.first, copy.second) for copy in find_copies(spectra[:2], spectra[2:])}
    assert across == {(0, 0), (1, 2)}


def test_each_copy_is_reported_once(tmp_path: Path) -> None:
    for number, pixels in enumerate([photo(0), photo(0), np.roll(photo(0), 99, axis=1), photo(1)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
    pictures = [inspect_picture(path) for path in sorted(tmp_path.iterdir())]
    lines = [finding.found for finding in copied(pictures)]
    assert [text.split(":")[0][-5:] for text in lines] == ["1.png", "2.png"]
    assert "with the same bytes" in lines[0]
    assert "yaw-rotated by" in lines[1]


@pytest.mark.skipif(REAL is None, reason="PANORAMAS names no folder of real panoramas")
def test_real_panoramas_are_distinguished_and_their_copies_found() -> None:
    paths = sorted(path for path in Path(str(REAL)).rglob("*") if path.suffix in (".jpg", ".png"))
    rng = np.random.default_rng(0)
    spectra, copies = [], []
    for path in paths[::2]:
        spectra.append(spectrum_of(Panorama(load_panorama(path, 256))))
        pixels = load_panorama(path, 512)
        rolled = np.roll(pixels, int(rng.integers(pixels.shape[1])), axis=1)
        small = cv2.resize(rolled, (400, 200), interpolation=cv2.INTER_AREA)
        copies.append(spectrum_of(Panorama(encoded(small, 40))))
    stacked, others = np.stack(spectra), np.stack(copies)
    assert not list(find_copies(stacked, stacked))
    found = list(find_copies(stacked, others))
    assert [(copy.first, copy.second) for copy in found] == [(n, n) for n in range(len(spectra))]
    cosines = [np.sum(np.abs(a) * np.abs(b)) for a, b in zip(spectra, copies, strict=True)]
    assert min(cosines) > (1 + SIGNATURES_ALIKE) / 2
    between = max(correlate(a, b)[0] for a, b in combinations(spectra, 2))
    assert between < 0.85
