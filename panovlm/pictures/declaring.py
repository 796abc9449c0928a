"""What a person declares about a picture, where neither its shape nor its XMP says it.

The same fields are options of commands, and `declared` of a record, of a recipe's stage, of a line
of questions and of a request.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from panovlm.errors import PanoVLMError

ProjectionName = Literal["equirectangular", "cylindrical", "cubemap"]

RANGES_DEG = {
    "hfov_deg": (0.36, 360.0),
    "vfov_deg": (0.18, 180.0),
    "yaw_deg": (-360.0, 360.0),
    "pitch_deg": (-90.0, 90.0),
    "roll_deg": (-360.0, 360.0),
}
"""The least and the most of every angle."""
MAX_CYLINDER_VFOV_DEG = 179.0
"""A cylinder never reaches the poles."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a picture is, whatever its shape and its XMP say.

    Raises:
        PanoVLMError: If a value is out of range, or there are angles without a projection.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }

    projection: ProjectionName | None = None
    """`equirectangular` (all of the sphere, or a part of it), `cylindrical` or `cubemap`. The
    file's XMP counts no more then."""
    hfov_deg: float | None = None
    """Angle between its left and right edge, in [0.36, 360]. Of a part of a sphere and of a
    cylinder either this or `vfov_deg` is needed; the other follows from square pixels."""
    vfov_deg: float | None = None
    """Angle between its upper and lower edge, which are as far from the horizon of a level camera,
    in [0.18, 180], of a cylinder up to 179."""
    yaw_deg: float = 0.0
    """Yaw of its middle, in [-360, 360], positive to the right."""
    pitch_deg: float = 0.0
    """Pitch of its middle, in [-90, 90], positive up."""
    roll_deg: float = 0.0
    """Clockwise rotation of the camera about its optical axis, in [-360, 360]."""
    use_xmp: bool = True
    """Whether its Photo Sphere XMP counts; without it and a projection the shape decides."""

    def __post_init__(self) -> None:
        if self.projection not in (None, *get_args(ProjectionName)):
            raise PanoVLMError(
                f"found the projection {self.projection!r}, expected equirectangular, cylindrical "
                "or cubemap; change projection"
            )
        said = self.said
        for name, (least, most) in RANGES_DEG.items():
            if name in said:
                self._check_angle(name, said[name], least, most)

    def _check_angle(self, name: str, value: float, least: float, most: float) -> None:
        if self.projection is None:
            raise PanoVLMError(
                f"found {name} {value:g} without a projection, expected both; add projection: "
                "cylindrical or equirectangular"
            )
        if self.projection == "cubemap" and name in ("hfov_deg", "vfov_deg"):
            raise PanoVLMError(
                f"found {name} {value:g} beside a cube map, which always shows the full sphere; "
                f"leave out {name}"
            )
        if self.projection == "cylindrical" and name == "vfov_deg":
            most = MAX_CYLINDER_VFOV_DEG
        if not least <= value <= most:  # not a number is out of range, too
            raise PanoVLMError(
                f"found {name} {value:g}, expected {least:g} to {most:g}; change {name}"
            )

    @property
    def said(self) -> dict[str, Any]:
        """The fields that say something, as JSON holds them."""
        default = {name: field.default for name, field in self.__dataclass_fields__.items()}
        said = {key: value for key, value in asdict(self).items() if value != default[key]}
        return {key: float(said[key]) if key in RANGES_DEG else said[key] for key in said}


AS_FOUND = Declaration()
"""Nothing is declared: the file says what it is."""


@dataclass(frozen=True)
class DeclaredPicture(os.PathLike[str]):
    """A picture file of which something is declared; `Path(picture)` is the file.

    Attributes:
        path: The file.
        declared: What it is.
    """

    path: Path
    declared: Declaration

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


PictureFile = Path | DeclaredPicture
"""A picture file, read as it is or as it is declared."""


def declare(path: Path, declared: Declaration | None) -> PictureFile:
    """Return a file as what is declared of it; the path alone where nothing is."""
    return DeclaredPicture(path, declared) if declared and declared.said else path


def declaration_of(picture: str | PictureFile) -> Declaration:
    """Return what is declared of a picture."""
    return picture.declared if isinstance(picture, DeclaredPicture) else AS_FOUND


def declared_key(key: str, declared: Declaration | None) -> str:
    """Extend the key of a picture's bytes by what is declared of it; it stays where nothing is."""
    said = declared.said if declared else {}
    return f"{key} {json.dumps(said, sort_keys=True)}" if said else key
