"""Files, training, data check, conversion and server read a picture alike, or all refuse it."""

import base64
import re
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from odd_pictures import (
    PROPHOTO,
    WORLD,
    dual_fisheye,
    encoded_in,
    jpeg_with,
    png_chunk,
    png_with,
    saved,
    xmp_chunk,
    xmp_segment,
)
from PIL import Image
from xmp_packets import AREA, PART, packet

from panovlm.data.cache import ViewSource
from panovlm.data.doctor.pictures import inspect_picture
from panovlm.data.stream_features import StreamEncoder
from panovlm.errors import PanoVLMError
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.pictures.conversion.run import convert
from panovlm.pictures.conversion.settings import ConversionSettings
from panovlm.pictures.panorama import load_panorama, panorama_error

PROCESSOR = PanoVLMImageProcessor(num_views=4, fov_deg=90.0, size={"height": 32, "width": 32})
SMALL = Image.fromarray(np.ascontiguousarray(WORLD[::8, ::8]))
SPHERE = Image.fromarray(WORLD)


def mpo() -> bytes:
    return saved(SPHERE, "MPO", save_all=True, append_images=[SMALL.copy()], quality=95)


def radiance() -> bytes:
    return bytes(cv2.imencode(".hdr", WORLD.astype(np.float32) / 255)[1])


TAKEN = {
    "JPEG": lambda: saved(SPHERE, "JPEG"),
    "JPEG with a second picture": mpo,
    "JPEG of a part": lambda: jpeg_with(PART, xmp_segment(packet(AREA))),
    "JPEG of wide gamut": lambda: saved(
        encoded_in(WORLD, PROPHOTO), "JPEG", icc_profile=PROPHOTO, quality=95
    ),
    "JPEG of grey": lambda: saved(SPHERE.convert("L"), "JPEG"),
    "JPEG of CMYK": lambda: saved(SPHERE.convert("CMYK"), "JPEG"),
    "PNG with a long text": lambda: png_with(
        WORLD, png_chunk(b"tEXt", b"Comment\0" + b"x" * (3 << 20))
    ),
    "PNG with long XMP": lambda: png_with(
        PART, xmp_chunk(packet(AREA).replace(b"image/jpeg", b"long " * 400_000), packed=True)
    ),
    "TIFF with a thumbnail": lambda: saved(
        SPHERE.copy(), "TIFF", save_all=True, append_images=[SMALL.copy()]
    ),
    "WebP": lambda: saved(SPHERE, "WEBP"),
    "AVIF": lambda: saved(SPHERE, "AVIF"),
    "Radiance HDR": radiance,
}
REFUSED = {
    "a dual fisheye": lambda: saved(Image.fromarray(dual_fisheye()), "JPEG"),
    "a moving picture": lambda: saved(SPHERE, "PNG", save_all=True, append_images=[SMALL.copy()]),
    "an OpenEXR file": lambda: b"v/1\x01\x02\0\0\0",
    "a GIF": lambda: saved(SPHERE, "GIF"),
    "60x40": lambda: saved(Image.fromarray(PART), "PNG"),
    "a truncated or damaged file": lambda: saved(SPHERE, "PNG")[:-500],
    "no readable picture": lambda: b"<html>",
}


def through_convert(path: Path) -> None:
    settings = ConversionSettings(to="equirectangular", format="png")
    done = convert(path, path.parent / "out", settings, workers=1)
    if done.errors:
        raise PanoVLMError(done.errors[0])


def through_data_check(path: Path) -> None:
    for finding in inspect_picture(path).findings:
        if finding.is_error:
            raise PanoVLMError(finding.found)


def through_panorama_error(path: Path) -> None:
    if error := panorama_error(path):
        raise PanoVLMError(error)


def through_stream(path: Path) -> np.ndarray:
    encoder = StreamEncoder(ViewSource(PROCESSOR))
    return encoder.prepare(path.read_bytes(), "shard").states.numpy()


DOORS = {
    "Python": load_panorama,
    "the check of a run": through_panorama_error,
    "training": ViewSource(PROCESSOR).load,
    "a stream": through_stream,
    "the data check": through_data_check,
    "conversion": through_convert,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", TAKEN)
def test_what_is_a_picture_is_taken_at_every_door(tmp_path: Path, kind: str, door: str) -> None:
    path = tmp_path / "picture.jpg"  # whatever its name says
    path.write_bytes(TAKEN[kind]())
    DOORS[door](path)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_none_is_refused_alike_at_every_door(tmp_path: Path, kind: str, door: str) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(REFUSED[kind]())
    with pytest.raises(PanoVLMError, match=rf"found {kind}.*expected"):
        DOORS[door](path)


@pytest.mark.parametrize("kind", TAKEN)
def test_all_doors_see_the_same_colours_at_the_same_places(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(TAKEN[kind]())
    views = ViewSource(PROCESSOR).load(path).numpy()
    np.testing.assert_array_equal(views, through_stream(path))
    through_convert(path)
    converted = ViewSource(PROCESSOR).load(tmp_path / "out" / "picture.png").numpy()
    assert np.abs(views - converted).mean() < 0.02


@pytest.mark.skipif(find_spec("fastapi") is None, reason="needs the extra `serve`")
@pytest.mark.parametrize("kind", [*TAKEN, *REFUSED])
def test_the_server_takes_and_refuses_what_files_do(kind: str) -> None:
    from panovlm.serving.errors import RequestError
    from panovlm.serving.pictures import check_picture, decode_data_url

    data = {**TAKEN, **REFUSED}[kind]()
    data = decode_data_url("data:image/jpeg;base64," + base64.b64encode(data).decode())
    if kind in TAKEN:
        check_picture(data, len(WORLD) * WORLD.shape[1])
        with pytest.raises(
            RequestError, match=r"the picture: found \d+x\d+, too large.*megapixels"
        ):
            check_picture(data, 100)
        return
    try:
        check_picture(data, 10**7)
    except RequestError as error:
        assert re.search(f"the picture: found {kind}", error.message)
