"""Pictures are written whole or not at all, and say that they are spheres."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.colour import SRGB_PROFILE, is_srgb
from panovlm.pictures.conversion.pictures import write_picture
from panovlm.pictures.gpano import CroppedArea, PhotoSphere, read_photo_spheres
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.files import write_whole

NAMES = ["p.jpg", "p.jpeg", "p.png", "p.webp", "p.PNG"]


@pytest.mark.parametrize("name", NAMES)
def test_a_sphere_says_so_in_its_metadata(tmp_path: Path, panorama: Pixels, name: str) -> None:
    write_picture(panorama, tmp_path / name, 95, is_sphere=True)
    with Image.open(tmp_path / name) as image:
        (facts,) = read_photo_spheres([image.info["xmp"]], name)
    assert facts == PhotoSphere("equirectangular", CroppedArea(512, 256, 0, 0, 512, 256))
    whole = load_panorama(tmp_path / name)
    assert np.abs(whole.astype(int) - panorama).max() <= 8


@pytest.mark.parametrize("name", NAMES)
def test_the_file_says_that_it_is_srgb(tmp_path: Path, panorama: Pixels, name: str) -> None:
    write_picture(panorama, tmp_path / name, 95)
    with Image.open(tmp_path / name) as image:
        assert image.info["icc_profile"] == SRGB_PROFILE
        assert is_srgb(image, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_face_says_nothing_of_spheres(tmp_path: Path, panorama: Pixels, name: str) -> None:
    write_picture(panorama, tmp_path / name, 95)
    assert b"GPano" not in (tmp_path / name).read_bytes()
    with Image.open(tmp_path / name) as image:
        assert np.abs(np.asarray(image).astype(int) - panorama).max() <= 8


def test_quality_makes_the_file_larger(tmp_path: Path, panorama: Pixels) -> None:
    for name in ("p.jpg", "p.webp"):
        sizes = []
        for quality in (30, 95):
            write_picture(panorama, tmp_path / name, quality)
            sizes.append((tmp_path / name).stat().st_size)
        assert sizes[0] < sizes[1]


def test_too_large_for_a_format_names_another(tmp_path: Path) -> None:
    wide = np.zeros((1, 16384, 3), np.uint8)
    with pytest.raises(PanoVLMError, match=r"16384x1, expected at most 16383 px.*--format png"):
        write_picture(wide, tmp_path / "p.webp", 95)
    write_picture(wide, tmp_path / "p.jpg", 95)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "p.jpg"
    path.write_text("before")

    def fail(partial: Path) -> None:
        partial.write_text("half of")
        raise error

    with pytest.raises(type(error)):
        write_whole(path, fail)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
