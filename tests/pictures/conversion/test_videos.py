"""Frames of videos: the right ones, under the name of their time, and read as pictures are."""

import os
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.conversion import videos
from panovlm.pictures.conversion.run import Conversion, convert
from panovlm.pictures.conversion.settings import ConversionSettings
from panovlm.pictures.conversion.videos import frame_times_s, read_frame
from panovlm.pictures.declaring import Declaration

av = pytest.importorskip("av")
FRAMES_PER_S = 10
SPHERICAL_VIDEO = (
    '<rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
    "<GSpherical:Spherical>true</GSpherical:Spherical>"
    "<GSpherical:Stitched>true</GSpherical:Stitched>"
    "<GSpherical:StitchingSoftware>test</GSpherical:StitchingSoftware>"
    "<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
    "<GSpherical:StereoMode>{}</GSpherical:StereoMode></rdf:SphericalVideo>"
)


def settings(**options: object) -> ConversionSettings:
    every = {"to": "equirectangular", "format": "png", "every_s": 0.5}
    return ConversionSettings(**every | options)  # type: ignore[arg-type]


def write_video(path: Path, frames: list[Pixels], **options: str) -> None:
    """Write frames without loss, with a keyframe for every eight."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=FRAMES_PER_S)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24"
        stream.options = {"qp": "0", "g": "8"} | options
        for pixels in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I4s", len(data) + 8, kind) + data


def add_box(path: Path, parents: list[bytes], added: bytes) -> None:
    """Add a box at the end of the innermost of its parents; the outermost is the file's last."""
    data, start = bytearray(path.read_bytes()), 0
    for kind in parents:
        start = data.index(kind, start) - 4
        (size,) = struct.unpack_from(">I", data, start)
        struct.pack_into(">I", data, start, size + len(added))
        start += 4
    end = start - 4 + size
    path.write_bytes(data[:end] + added + data[end:])


def tag(path: Path, stereo: str) -> None:
    """Add the metadata of spherical video, version 1."""
    text = SPHERICAL_VIDEO.format(stereo).encode()
    number = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
    add_box(path, [b"moov", b"trak"], box(b"uuid", number, text))


@pytest.fixture
def frames(panorama: Pixels) -> list[Pixels]:
    """2.5 s of a camera that rotates by four columns from frame to frame."""
    small = cv2.resize(panorama, (128, 64), interpolation=cv2.INTER_AREA)
    return [np.roll(small, -4 * number, axis=1) for number in range(25)]


@pytest.fixture
def video(tmp_path: Path, frames: list[Pixels]) -> Path:
    path = tmp_path / "tour.mp4"
    write_video(path, frames)
    return path


def read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_each_frame_is_the_one_shown_at_its_time(
    tmp_path: Path, frames: list[Pixels], ending: str
) -> None:
    path = tmp_path / f"tour.{ending}"
    write_video(path, frames)
    out = tmp_path / "out"
    assert convert(path, out, settings(every_s=0.45)) == Conversion(6, 0, ())
    shown = {"00.000": 0, "00.450": 4, "00.900": 9, "01.350": 13, "01.800": 18, "02.250": 22}
    assert {path.stem for path in (out / "tour").iterdir()} == {f"00-00-{time}" for time in shown}
    for time, number in shown.items():
        np.testing.assert_array_equal(read(out / "tour" / f"00-00-{time}.png"), frames[number])
    with Image.open(out / "tour" / "00-00-00.000.png") as image:
        assert "GPano:ProjectionType>equirectangular" in image.text["XML:com.adobe.xmp"]


@pytest.mark.parametrize("is_full", [False, True])
def test_colours_are_those_of_the_video(tmp_path: Path, is_full: bool) -> None:
    colour, path = np.array([200, 60, 90]), tmp_path / "tour.mp4"
    # ITU-R BT.709, in the limited range of video or, as many cameras write it, the full one.
    luma = (colour / 255) @ [0.2126, 0.7152, 0.0722]
    blue, red = (colour[2] / 255 - luma) / 1.8556, (colour[0] / 255 - luma) / 1.5748
    black, reach, chroma = (0, 255, 255) if is_full else (16, 219, 224)
    values = np.rint([black + reach * luma, 128 + chroma * blue, 128 + chroma * red])
    planes = np.tile(values.astype(np.uint8)[:, None, None], (1, 32, 64))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuvj444p" if is_full else "yuv444p"
        stream.options = {"qp": "0"}
        frame = av.VideoFrame.from_ndarray(planes, format=stream.pix_fmt)
        container.mux([*stream.encode(frame), *stream.encode()])
    pixels = read_frame(path, 0.0, use_metadata=True).pixels
    assert np.abs(pixels.astype(int) - colour).max() <= 2


def test_what_is_written_is_left_and_the_rest_goes_on(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, chosen = tmp_path / "out", settings()
    save, calls = Image.Image.save, []

    def stopped(image: Image.Image, path: Path, **options: object) -> None:
        save(image, path, **options)
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Image.Image, "save", stopped)
        convert(video, out, chosen, workers=1)
    assert {path.name for path in (out / "tour").iterdir()} == {
        "00-00-00.000.png",
        "00-00-00.500.png",
    }
    assert convert(video, out, chosen, workers=1) == Conversion(3, 2, ())
    assert convert(video, out, chosen, workers=1) == Conversion(0, 5, ())
    # Not now: file systems tell times apart by some milliseconds only.
    later_ns = 1 + max(path.stat().st_mtime_ns for path in (out / "tour").iterdir())
    os.utime(video, ns=(later_ns, later_ns))
    assert convert(video, out, chosen, workers=1) == Conversion(5, 0, ())
    with pytest.raises(PanoVLMError, match=r"outputs of other settings: every_s 0\.5"):
        convert(video, out, settings(every_s=1.0))


def test_videos_and_pictures_of_a_folder_become_views(
    video: Path, tmp_path: Path, picture: Path
) -> None:
    album, out = tmp_path / "album", tmp_path / "out"
    album.mkdir()
    for path in (video, picture):
        path.rename(album / path.name)
    chosen = settings(to="views", num_views=2, view_size=16, every_s=2.0)
    assert convert(album, out, chosen, workers=2) == Conversion(3, 0, ())
    assert (out / "tour" / "00-00-02.000" / "views.json").is_file()
    assert (out / "world" / "views.json").is_file()
    pictures = convert(album, tmp_path / "other", settings(every_s=None), workers=1)
    assert pictures == Conversion(1, 0, ())  # without --every videos are no inputs


def test_two_videos_of_one_name_are_one_error(video: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for ending in ("mov", "mp4"):
        (tmp_path / "in" / f"tour.{ending}").write_bytes(video.read_bytes())
    done = convert(tmp_path / "in", tmp_path / "out", settings(), workers=1)
    assert done.num_written == 5
    assert len(done.errors) == 1 and "tour.mp4: found the same output as for" in done.errors[0]


@pytest.mark.parametrize("stereo", ["top-bottom", "left-right"])
def test_stereo_is_told_by_metadata_of_spherical_video(
    tmp_path: Path, frames: list[Pixels], stereo: str
) -> None:
    axis = ("top-bottom", "left-right").index(stereo)
    path, out = tmp_path / "tour.mp4", tmp_path / "out"
    write_video(path, [np.concatenate([each, 255 - each], axis) for each in frames])
    tag(path, stereo)
    assert convert(path, out, settings(every_s=1.0), workers=1) == Conversion(3, 0, ())
    np.testing.assert_array_equal(read(out / "tour" / "00-00-01.000.png"), frames[10])
    without = convert(
        path, tmp_path / "other", settings(declared=Declaration(use_xmp=False)), workers=1
    )
    assert "found 128x128" in without.errors[0] or "found 256x64" in without.errors[0]


def test_other_spherical_video_is_refused_unless_declared(video: Path, tmp_path: Path) -> None:
    # Spherical Video V2: boxes in the description of the samples.
    layout = box(b"proj", box(b"prhd", bytes(16)), box(b"cbmp", bytes(12)))
    parents = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"]
    add_box(video, parents, box(b"sv3d", box(b"svhd", bytes(5)), layout))
    errors = convert(video, tmp_path / "out", settings(), workers=1).errors
    assert len(errors) == 5
    assert "found spherical video of projection 'cube map'" in errors[0]
    for number, options in enumerate(({"use_xmp": False}, {"projection": "equirectangular"})):
        out = tmp_path / str(number)
        assert (
            convert(video, out, settings(declared=Declaration(**options)), workers=1).num_written
            == 5
        )


def test_hdr_video_is_refused(tmp_path: Path, frames: list[Pixels]) -> None:
    path = tmp_path / "tour.mp4"
    write_video(path, frames[:2], **{"x264-params": "transfer=arib-std-b67"})
    with pytest.raises(PanoVLMError, match=r"tour\.mp4: found HDR video.*tone-map it first"):
        read_frame(path, 0.0, use_metadata=True)


def test_what_frames_are_can_be_declared(video: Path, tmp_path: Path, frames: list[Pixels]) -> None:
    out = tmp_path / "out"
    told = settings(declared=Declaration(projection="equirectangular", hfov_deg=180.0))
    assert convert(video, out, told, workers=1).num_written == 5
    pixels = read(out / "tour" / "00-00-00.500.png")
    assert pixels.shape == (128, 256, 3)
    np.testing.assert_array_equal(pixels[32:96, 64:192], frames[5])


def test_frames_that_are_no_spheres_are_refused(tmp_path: Path, frames: list[Pixels]) -> None:
    path = tmp_path / "flat.mp4"
    write_video(path, [each[:, :96] for each in frames])
    errors = convert(path, tmp_path / "out", settings(), workers=1).errors
    assert len(errors) == 5
    assert "flat.mp4 at 0.5 s: found 96x64, expected width = 2 x height" in errors[1]


def test_times_reach_to_the_end(video: Path) -> None:
    assert frame_times_s(video, 1.0) == [0.0, 1.0, 2.0]
    assert frame_times_s(video, 2.5) == [0.0]
    assert len(frame_times_s(video, 0.1)) == 25
    with pytest.raises(PanoVLMError, match=r"found 249901 frames to take of 2\.5 s"):
        frame_times_s(video, 1e-5)
    with pytest.raises(PanoVLMError, match=r"tour\.mp4: found no frame at 60 s"):
        read_frame(video, 60.0, use_metadata=True)


def test_videos_that_are_cut_off_or_something_else_are_listed(
    video: Path, tmp_path: Path, frames: list[Pixels]
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    whole = video.read_bytes()
    (album / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (album / "list.mkv").write_text(f"ffconcat version 1.0\nfile {video.name}\n")
    (album / "text.mov").write_text("no video")
    (album / "good.MP4").write_bytes(whole)
    done = convert(album, tmp_path / "out", settings(), workers=1)
    assert done.num_written == 5
    assert [error.split(":")[0] for error in done.errors] == [
        str(album / name) for name in ("cut.mp4", "list.mkv", "text.mov")
    ]
    assert all("found a video that cannot be decoded" in error for error in done.errors)


@pytest.mark.parametrize("start", [b"ftyp", b"moov"])
def test_damaged_videos_are_read_or_refused(video: Path, start: bytes) -> None:
    whole, rng = video.read_bytes(), np.random.default_rng(0)
    num_refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(data.index(start), len(data), rng.integers(1, 9)):
            data[place] = rng.integers(256)
        video.write_bytes(data)
        try:
            for time_s in frame_times_s(video, 1.0)[:3]:
                read_frame(video, time_s, use_metadata=True)
        except PanoVLMError as error:
            assert str(error).startswith(f"{video}: found ")
            num_refused += 1
    assert 0 < num_refused < 60


def test_a_video_that_ends_early_repeats_no_frame(tmp_path: Path, frames: list[Pixels]) -> None:
    path = tmp_path / "tour.mkv"
    write_video(path, frames * 4)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    done = convert(path, tmp_path / "out", settings(every_s=1.0), workers=1)
    assert 4 <= done.num_written <= 6
    assert len(done.errors) == 10 - done.num_written
    assert all("found no frame at" in error for error in done.errors)


def test_single_files_need_the_options_of_their_kind(
    video: Path, tmp_path: Path, picture: Path
) -> None:
    with pytest.raises(PanoVLMError, match=r"tour\.mp4: found a video, .*pass --every 2s"):
        convert(video, tmp_path / "out", settings(every_s=None))
    with pytest.raises(PanoVLMError, match=r"world\.png: found a picture and --every"):
        convert(picture, tmp_path / "out", settings())
    assert not (tmp_path / "out").exists()


def test_the_missing_library_is_named(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    errors = convert(video, tmp_path / "out", settings(), workers=1).errors
    assert "install av (the extra `video`)" in errors[0]


def test_frames_too_large_are_refused_before_they_are_decoded(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "MAX_PIXELS", 128 * 64 - 1)
    monkeypatch.setattr(videos, "_frame_shown", None)
    with pytest.raises(PanoVLMError, match="found frames of 128x64, expected at most"):
        read_frame(video, 0.0, use_metadata=True)
