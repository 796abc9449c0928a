"""Frames of videos, decoded by PyAV, which is the extra `video`."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.containers import MAX_PIXELS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_ENDINGS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".insv"}
"""How the names of videos end."""
_CONTAINERS = "mov,matroska,webm"
"""The containers opened: playlists, which name other files, are none of them."""
_MAX_FRAMES = 100_000
"""Frames taken of one video: a damaged duration does not ask for millions."""
_ROUNDING_S = 0.001
"""Containers round times, Matroska to milliseconds."""
_MAX_GAP_S = 1.0
"""How much earlier than it says a whole video may end."""
_HDR_TRANSFERS = (16, 18)
"""PQ and HLG, as ISO/IEC 23091-2 numbers them."""
_UNSPECIFIED, _BT_709 = 2, 1
"""Numbers of colour matrices there; what names none counts as BT.709, as HD video is."""
_PROJECTIONS = (
    "equirectangular",
    "cube map",
    "cropped equirectangular",
    "half equirectangular",
    "rectilinear",
    "fisheye",
)
"""What FFmpeg's AVSphericalProjection numbers."""
_STEREO = {1: "stereo-side-by-side", 2: "stereo-over-under"}
"""What FFmpeg's AVStereo3DType numbers; 0 is one picture for both eyes."""


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        pixels: uint8 RGB [H, W, 3].
        projection: What the video's metadata says it is, of the settings' projections; None if it
            says nothing.
    """

    pixels: Pixels
    projection: str | None


def is_video(path: Path) -> bool:
    """Check by its name whether a file is a video."""
    return path.suffix.lower() in VIDEO_ENDINGS and not path.is_dir()


def frame_times_s(path: Path, every_s: float) -> list[float]:
    """Compute the times of the frames to take: from 0, the video's begin, to before its end.

    Raises:
        PanoVLMError: If the video is not read, or that is more than 100,000 frames.
    """
    with _opened(path) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        else:
            duration_s = (container.duration or 0) / 1e6
    if duration_s <= 0:
        raise PanoVLMError(
            f"{path}: found a video of unknown duration, expected a whole one; copy it into a new "
            "container: ffmpeg -i IN -c copy OUT.mp4"
        )
    count = int((duration_s - _ROUNDING_S) / every_s) + 1
    if count > _MAX_FRAMES:
        raise PanoVLMError(
            f"{path}: found {count} frames to take of {duration_s:g} s, expected at most "
            f"{_MAX_FRAMES}; raise --every, or copy the video again if it is not so long"
        )
    return [number * every_s for number in range(count)]


def read_frame(path: Path, time_s: float, *, use_metadata: bool) -> Frame:
    """Decode the frame that a video shows at a time, counted from its begin in seconds.

    Raises:
        PanoVLMError: If the video is not read, ends before, or (use_metadata) says that it is
            something that is not read.
    """
    with _opened(path) as (container, stream):
        size = stream.codec_context.width, stream.codec_context.height
        if size[0] * size[1] > MAX_PIXELS:
            raise PanoVLMError(
                f"{path}: found frames of {size[0]}x{size[1]}, expected at most "
                f"{MAX_PIXELS / 1e6:g} megapixels; scale the video down"
            )
        frame = _frame_shown(container, stream, time_s)
        if frame is None:
            raise PanoVLMError(
                f"{path}: found no frame at {time_s:g} s, expected a video as long as it says; "
                "copy it again"
            )
        if frame.color_trc in _HDR_TRANSFERS:
            raise PanoVLMError(
                f"{path}: found HDR video (PQ or HLG), expected standard range; tone-map it first"
            )
        is_tagged = frame.colorspace != _UNSPECIFIED
        matrix = frame.colorspace if is_tagged else _BT_709
        image = frame.reformat(format="rgb24", src_colorspace=matrix)
        pixels = np.asarray(image.to_ndarray(), np.uint8)
        return Frame(pixels, _described_projection(frame, path) if use_metadata else None)


@contextmanager
def _opened(path: Path) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """Open a video and its first stream of pictures."""
    try:
        import av
    except ImportError as error:
        raise PanoVLMError(
            f"{path}: found a video, expected the library that reads it; install av (the extra "
            "`video`)"
        ) from error
    options = {"format_whitelist": _CONTAINERS}
    try:
        with (
            path.open("rb") as file,
            av.open(file, "r", options=options, metadata_errors="replace") as container,
        ):
            stream = container.streams.best("video")  # the first may be a cover
            if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
                raise PanoVLMError(
                    f"{path}: found no stream of pictures that is decoded, expected a video; "
                    "convert it or name another file"
                )
            yield container, stream
    except (av.error.FFmpegError, OSError) as error:
        raise PanoVLMError(
            f"{path}: found a video that cannot be decoded ({error.strerror}), expected a whole "
            "MP4, MOV, Matroska or WebM file; copy it again or convert it"
        ) from error


def _frame_shown(
    container: "InputContainer", stream: "VideoStream", time_s: float
) -> "VideoFrame | None":
    """Decode from the keyframe before a time to the frame shown then; None behind the last."""
    time_base = float(stream.time_base or 1)
    at_s = time_s + (stream.start_time or 0) * time_base
    container.seek(round(at_s / time_base), stream=stream)
    shown, until_s = None, 0.0
    for frame in container.decode(stream):
        if frame.time is None:
            continue
        if frame.time > at_s + _ROUNDING_S:
            return frame if shown is None else shown
        shown, until_s = frame, frame.time + (frame.duration or 0) * time_base
    return shown if at_s < until_s + _MAX_GAP_S else None


def _described_projection(frame: "VideoFrame", path: Path) -> str | None:
    """Read the projection and the eyes that FFmpeg found in the metadata of spherical video.

    Source:
        FFmpeg's libavutil/spherical.h and stereo3d.h: each structure begins with its number, that
        of stereo goes on with flags, of which 1 says that the right eye comes first.
    """
    found: Any = frame.side_data  # whose annotation is that of something else
    numbers = {
        kind: struct.unpack_from("=ii", bytes(found[kind]))
        for kind in ("SPHERICAL", "STEREO3D")
        if kind in found
    }
    if (projection := numbers.get("SPHERICAL", (0, 0))[0]) != 0:
        is_known = projection < len(_PROJECTIONS)
        kind = _PROJECTIONS[projection] if is_known else f"number {projection}"
        raise PanoVLMError(
            f"{path}: found spherical video of projection {kind!r}, expected equirectangular; "
            "declare what it is by --projection, or pass --no-xmp"
        )
    arrangement, flags = numbers.get("STEREO3D", (0, 0))
    if arrangement in _STEREO and flags & 1:
        raise PanoVLMError(
            f"{path}: found stereo video with the right eye first, expected the left one; declare "
            "its --projection to take the first"
        )
    return _STEREO.get(arrangement)
