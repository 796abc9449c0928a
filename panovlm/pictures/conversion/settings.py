"""The settings of a conversion: what every picture becomes."""

from dataclasses import asdict, dataclass
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.rotation import require_width
from panovlm.geometry.views import View
from panovlm.pictures.declaring import AS_FOUND, Declaration

TARGETS = ("equirectangular", "cubemap", "views")
ARRANGEMENTS = ("strip", "dice", "files")
FORMATS = ("jpg", "png", "webp")
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
        declared: What every input is; by default each file says it.
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

    def __post_init__(self) -> None:
        _check_choice("--to", self.to, TARGETS)
        _check_choice("--arrangement", self.arrangement, ARRANGEMENTS)
        _check_choice("--format", self.format or FORMATS[0], FORMATS)
        _check_range("--face-size", self.face_size, MAX_SIDE)
        _check_range("--view-size", self.view_size, MAX_SIDE)
        _check_range("--quality", self.quality, 100)
        if self.width is not None:
            require_width("--width", self.width)
        _ = self.camera, self.layout  # they refuse angles out of range

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
        said = {"declared": self.declared.said} if self.declared.said else {}
        kept = {key: value for key, value in asdict(self).items() if key != "declared"}
        return (
            kept
            | said
            | {
                "format": self.ending.removeprefix("."),
                "pitches_deg": list(self.pitches_deg),
                "rotation_deg": list(self.rotation_deg),
            }
        )


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


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise PanoVLMError(
            f"found {option} {value}, expected one of {', '.join(choices)}; change {option}"
        )


def _check_range(option: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise PanoVLMError(f"found {option} {value}, expected 1 to {most}; change {option}")
