"""What has the shape of a panorama and is something else is told, and no panorama is mistaken."""

import re
import warnings

import cv2
import numpy as np
import pytest
from odd_pictures import WORLD, dual_fisheye, fisheye, saved
from PIL import Image
from xmp_packets import colours, packet, save_with_xmp

from panovlm.data.doctor.pictures import inspect_picture
from panovlm.data.findings import FindingKind
from panovlm.errors import PanoVLMError
from panovlm.pictures.cubemaps import FACES, join_cubemap
from panovlm.pictures.lookalikes import faces_meet, is_doubtful, lookalike
from panovlm.pictures.panorama import as_panorama, panorama_error, read_panorama
from panovlm.scenes.render import render
from panovlm.scenes.world import sample_scene

RNG = np.random.default_rng(0)
FACE_PICTURES = np.stack([colours(face.rays(64, 64)) for face in FACES])


def noisy(pixels, level=6):
    noise = np.random.default_rng(1).normal(0, level, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def scene(number, height=128):
    return np.asarray(render(sample_scene(np.random.default_rng(number)), height))


def eyes(world, axis, shift=2):
    """Panoramas for two eyes at half their height (axis 0) or width (1)."""
    half = (world.shape[1], world.shape[0] // 2) if axis == 0 else (len(world), len(world))
    views = [np.roll(world, side, axis=1) for side in (shift, -shift)]
    small = [cv2.resize(view, half, interpolation=cv2.INTER_AREA) for view in views]
    return np.concatenate(small, axis=axis)


def grid(degrees):
    """A test picture of lines at every so many degrees."""
    picture = np.full((180, 360, 3), 230, np.uint8)
    picture[::degrees] = picture[:, ::degrees] = 20
    picture[:degrees, :degrees] = (200, 30, 30)
    return picture.repeat(2, axis=0).repeat(2, axis=1)


def sectors(period):
    """A picture that repeats every so many columns."""
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, np.arange(128) % period < period // 2] = (200, 80, 40)
    picture[32:] //= 2
    return picture


LOOKALIKES = {
    "a dual fisheye": dual_fisheye(),
    "a dual fisheye of narrow lenses": dual_fisheye(fov_deg=182.0),
    "a dual fisheye on white": dual_fisheye(blank=255),
    "a noisy dual fisheye": noisy(dual_fisheye()),
    "two panoramas, one above the other": eyes(scene(1), 0),
    "two panoramas, side by side": eyes(scene(2), 1),
    "two noisy panoramas, one above the other": noisy(eyes(scene(3, 512), 0)),
    "two noisy panoramas, side by side": noisy(eyes(scene(4, 512), 1)),
}
SPHERES = {
    "smooth": WORLD,
    "a plain room with a thing at one end": scene((1, 0, 1282)),
    **{f"scene {number}": scene(number) for number in range(12)},
    "noise": RNG.integers(0, 256, (64, 128, 3), np.uint8),
    "one colour": np.full((64, 128, 3), 90, np.uint8),
    "black": np.zeros((64, 128, 3), np.uint8),
    "rows": np.repeat(RNG.integers(0, 256, (64, 1, 3), np.uint8), 128, axis=1),
    "columns": np.repeat(RNG.integers(0, 256, (1, 128, 3), np.uint8), 64, axis=0),
    **{f"grid of {degrees}°": grid(degrees) for degrees in (10, 15, 30, 45)},
    **{f"repeating every {period}": sectors(period) for period in (4, 16, 32)},
    "black poles": np.where(np.abs(np.arange(64) - 31.5)[:, None, None] < 18, scene(5, 64), 0),
    "symmetric": np.concatenate([scene(6)[:, :128], scene(6)[:, 127::-1]], axis=1),
    "darker below": np.concatenate([scene(7)[:64], scene(7)[:64] // 2]),
}


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_lookalikes_are_named(kind):
    found = lookalike(LOOKALIKES[kind])
    assert found.startswith("a dual fisheye" if "fisheye" in kind else "two panoramas")
    assert ("side by side" in found) == ("fisheye" in kind or "side" in kind)


@pytest.mark.parametrize("kind", SPHERES)
def test_spheres_are_not_mistaken(kind):
    assert lookalike(SPHERES[kind].astype(np.uint8)) is None


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_lookalikes_are_refused_unless_declared_or_not_strict(tmp_path, kind):
    path = tmp_path / "p.jpg"
    path.write_bytes(saved(Image.fromarray(LOOKALIKES[kind]), "JPEG", quality=90))
    refusal = r"p\.jpg: found (a dual fisheye|two panoramas).*expected a full sphere; stitch or"
    with pytest.raises(PanoVLMError, match=refusal + '.*projection="equirectangular"'):
        read_panorama(path)
    assert re.search(refusal, panorama_error(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_panorama(path, projection="equirectangular")
    with pytest.warns(UserWarning, match="taken as one all the same"):
        read_panorama(path, strict=False)
    with pytest.warns(UserWarning, match="the picture given: found .*expected a full sphere"):
        as_panorama(LOOKALIKES[kind], strict=True)


@pytest.mark.parametrize("tilt", [{}, {"PoseRollDegrees": "5"}])
def test_xmp_that_calls_a_lookalike_a_sphere_is_not_believed(tmp_path, tilt):
    xmp = packet({"ProjectionType": "equirectangular"} | tilt)
    assert "a dual fisheye" in panorama_error(
        save_with_xmp(tmp_path / "p.jpg", dual_fisheye(), xmp)
    )


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ((64, 64), "little planet"),
        ((256, 64), "two eyes, side by side"),
        ((80, 60), "a photograph, or of a cube map as a cross"),
        ((96, 64), "a photograph, or of a cube map of 3 x 2"),
        ((64, 128), "two fisheye circles"),
        ((160, 90), "a frame of a video"),
    ],
)
def test_other_shapes_are_named(tmp_path, size, kind):
    Image.fromarray(RNG.integers(0, 256, (*size[::-1], 3), np.uint8)).save(tmp_path / "p.png")
    assert f"found {size[0]}x{size[1]}, expected width" in panorama_error(tmp_path / "p.png")
    assert re.search(f"It has the shape of .*{kind}", panorama_error(tmp_path / "p.png"))


def test_a_single_fisheye_circle_is_refused():
    with pytest.raises(PanoVLMError, match="a fisheye circle"):
        as_panorama(fisheye(64, 190.0, 0.0), strict=True)


ORDERS = {
    "right first": [1, 0, 2, 3, 4, 5],
    "as engines": [1, 3, 4, 5, 0, 2],
    "up first": [4, 5, 0, 1, 2, 3],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("faces", [FACE_PICTURES, noisy(FACE_PICTURES)], ids=["clean", "noisy"])
def test_faces_in_another_order_do_not_meet(tmp_path, order, faces):
    assert faces_meet(faces)
    assert not faces_meet(faces[ORDERS[order]])
    strip = join_cubemap(faces[ORDERS[order]], "strip")
    Image.fromarray(strip).save(tmp_path / "p.jpg", quality=95)
    assert re.search("found 384x64.*do not meet in the order", panorama_error(tmp_path / "p.jpg"))
    panorama = read_panorama(tmp_path / "p.jpg", projection="cubemap")
    assert panorama.pixels.shape == (128, 256, 3)


@pytest.mark.parametrize("number", range(6))
def test_a_strip_of_a_phone_is_no_cube_map(tmp_path, number):
    strip = cv2.resize(scene(number, 256)[90:170], (480, 80), interpolation=cv2.INTER_AREA)
    Image.fromarray(strip).save(tmp_path / "p.png")
    assert "or of a strip" in panorama_error(tmp_path / "p.png")


@pytest.mark.parametrize("number", range(12))
def test_spheres_are_not_doubtful(number):
    assert not is_doubtful(scene(number))


def test_a_wide_photograph_is_a_finding_of_the_data_check(tmp_path):
    ramp = np.linspace(0, 255, 256)
    left_to_right = np.stack([ramp, 255 - ramp, ramp / 2], axis=-1)[None].repeat(128, axis=0)
    Image.fromarray(left_to_right.astype(np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray(scene(1)).save(tmp_path / "sphere.png")
    (finding,) = inspect_picture(tmp_path / "photo.png").findings
    assert finding.kind is FindingKind.DOUBT
    assert not finding.is_error
    assert "expected a full sphere; look whether it is a photograph" in finding.found
    assert not inspect_picture(tmp_path / "sphere.png").findings


def test_a_lookalike_is_an_error_of_the_data_check(tmp_path):
    Image.fromarray(dual_fisheye()).save(tmp_path / "p.insp", "JPEG")
    (finding,) = inspect_picture(tmp_path / "p.insp").findings
    assert finding.is_error
    assert "a dual fisheye" in finding.found
