"""The settings of a conversion: what every picture becomes."""

from dataclasses import asdict, dataclass
from typing import Any, get_args

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.rotation import require_width
from panovlm.geometry.views import View
from panovlm.pictures.declaring import (
    AS_FOUND,
    RANGES_DEG,
    Declaration,
    ProjectionName,
)
from panovlm.pictures.stereo import STEREO_PROJECTIONS

TARGETS = ("equirectangular", "cubemap", "views")
ARRANGEMENTS = ("strip", "dice", "files")
FORMATS = ("jpg", "png", "webp")
RAW_PROJECTIONS = ("dual-fisheye", *STEREO_PROJECTIONS)
"""What only a conversion reads."""
PROJECTIONS = (*get_args(ProjectionName), *RAW_PROJECTIONS)
_OF_INPUTS = ("declared", "raw_projection", "lens_fov_deg", "every_s")
"""Settings that concern the inputs, kept only where they say something."""
MAX_SIDE = 4096
"""The largest face or view made: that of a panorama of 16384 columns."""


@dataclass(frozen=True, kw_only=True)
class ConversionSettings:
    """What every picture becomes; only what concerns the target is used.

    Attributes:
        to: One of `TARGETS`.
        width: Columns of an equirectangular panorama, even; None keeps the input's.
        face_size: Pixels along a side of a cube map's face.
        arrangement: One of `ARRANGEMENTS`: a row of six faces, a cross of 4 x 3 cells, or a folder
            of six files.
        num_views: Views of a ring.
        fov_deg: Field of view of each, in (0, 180) degrees.
        view_size: Pixels along a side of each view.
        pitches_deg: Pitch of each row of views, one ring for each, in [-90, 90] degrees.
        rotation_deg: Yaw, pitch and roll by which the camera is rotated first, in degrees.
        format: One of `FORMATS`; None takes that of the name to write, or jpg.
        quality: Of JPEG and WebP, 1 to 100.
        declared: What every input is, or each eye of two; by default each file says it.
        raw_projection: What every input is that only a conversion reads, one of `RAW_PROJECTIONS`.
        lens_fov_deg: Angle across each circle of a dual fisheye, in [180, 360).
        every_s: Seconds between the frames taken of videos, 0.01 or more; None takes no videos.
    """

    to: str
    width: int | None = None
    face_size: int = 1024
    arrangement: str = "strip"
    num_views: int = 8
    fov_deg: float = 90.0
    view_size: int = 512
    pitches_deg: tuple[float, ...] = (0.0,)
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    format: str | None = None
    quality: int = 95
    declared: Declaration = AS_FOUND
    raw_projection: str | None = None
    lens_fov_deg: float | None = None
    every_s: float | None = None

    def __post_init__(self) -> None:
        _check_choice("--to", self.to, TARGETS)
        _check_choice("--arrangement", self.arrangement, ARRANGEMENTS)
        _check_choice("--format", self.format or FORMATS[0], FORMATS)
        _check_range("--face-size", self.face_size, MAX_SIDE)
        _check_range("--view-size", self.view_size, MAX_SIDE)
        _check_range("--quality", self.quality, 100)
        if self.width is not None:
            require_width("--width", self.width)
        if self.raw_projection is not None:
            _check_choice("--projection", self.raw_projection, RAW_PROJECTIONS)
        self._check_lens_fov()
        if self.every_s is not None and not 0.01 <= self.every_s < 1e6:
            raise PanoVLMError(
                f"found --every {self.every_s:g}s, expected 0.01 s or more; change --every"
            )
        _ = self.camera, self.layout  # they refuse angles out of range

    def _check_lens_fov(self) -> None:
        fov_deg, is_dual_fisheye = self.lens_fov_deg, self.raw_projection == "dual-fisheye"
        if is_dual_fisheye and (fov_deg is None or self.declared.projection is not None):
            raise PanoVLMError(
                "found --projection dual-fisheye, expected the angle across each circle with it, "
                "and no --hfov-deg or the like; add --lens-fov-deg, as in the camera's data sheet"
            )
        if fov_deg is not None and not (is_dual_fisheye and 180.0 <= fov_deg < 360.0):
            raise PanoVLMError(
                f"found --lens-fov-deg {fov_deg:g}, expected 180 to below 360 degrees, with "
                "--projection dual-fisheye; change it or leave it out"
            )

    @property
    def camera(self) -> View:
        """The camera after its rotation."""
        return View(*self.rotation_deg)

    @property
    def layout(self) -> ViewLayout:
        """The faces of the cube map or the views, in the rotated panorama."""
        if self.to == "cubemap":
            return ViewLayout.cubemap(self.face_size)
        return ViewLayout.ring(self.num_views, self.fov_deg, self.view_size, self.pitches_deg)

    @property
    def makes_folders(self) -> bool:
        """Whether a picture becomes a folder of pictures."""
        return self.to == "views" or (self.to == "cubemap" and self.arrangement == "files")

    @property
    def ending(self) -> str:
        """How the names of pictures end."""
        return f".{self.format or FORMATS[0]}"

    def to_json(self) -> dict[str, Any]:
        """Return all settings as JSON holds them; of the inputs, what is declared."""
        kept = {key: value for key, value in asdict(self).items() if key not in _OF_INPUTS}
        of_inputs = {key: getattr(self, key) for key in _OF_INPUTS}
        of_inputs["declared"] = self.declared.said
        return (
            kept
            | {key: value for key, value in of_inputs.items() if value}
            | {
                "format": self.ending.removeprefix("."),
                "pitches_deg": list(self.pitches_deg),
                "rotation_deg": list(self.rotation_deg),
            }
        )


def split_declaration(said: dict[str, Any]) -> dict[str, Any]:
    """Split what options say of inputs into the settings `declared` and `raw_projection`.

    Args:
        said: Fields of a `Declaration`; its projection may also be one of `RAW_PROJECTIONS`.

    Raises:
        PanoVLMError: If a value is out of range.
    """
    projection = said["projection"]
    if projection is not None:
        _check_choice("--projection", projection, PROJECTIONS)
    if projection not in RAW_PROJECTIONS:
        return {"declared": Declaration(**said)}
    has_part = projection in STEREO_PROJECTIONS or any(said[name] for name in RANGES_DEG)
    part = "equirectangular" if has_part else None  # of a dual fisheye it is refused with its name
    return {"declared": Declaration(**said | {"projection": part}), "raw_projection": projection}


def parse_rotation(text: str) -> tuple[float, float, float]:
    """Read yaw, pitch and roll in degrees from text like "30,-10,0"; those left out are 0."""
    try:
        angles = [float(part) for part in text.split(",")]
        if len(angles) > 3 or not all(abs(angle) < 1e6 for angle in angles):
            raise ValueError
    except ValueError as error:
        raise PanoVLMError(
            f"found --rotate {text}, expected YAW,PITCH,ROLL in degrees, as in --rotate 30,-10,0; "
            "change --rotate"
        ) from error
    yaw_deg, pitch_deg, roll_deg = [*angles, 0.0, 0.0][:3]
    return yaw_deg, pitch_deg, roll_deg


def parse_seconds(text: str) -> float:
    """Read seconds from text like "2s" or "0.5"."""
    try:
        return float(text.removesuffix("s"))
    except ValueError as error:
        raise PanoVLMError(
            f"found --every {text}, expected seconds, as in --every 2s; change --every"
        ) from error


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise PanoVLMError(
            f"found {option} {value}, expected one of {', '.join(choices)}; change {option}"
        )


def _check_range(option: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise PanoVLMError(f"found {option} {value}, expected 1 to {most}; change {option}")
