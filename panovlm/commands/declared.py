"""The options that declare what pictures are, the same for every command that reads some."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer

from panovlm.pictures.declaring import Declaration

OPTIONS: dict[str, Any] = {
    "projection": Annotated[
        str | None,
        typer.Option(
            "--projection",
            help="What the picture is, whatever its shape and XMP say: equirectangular, "
            "cylindrical or cubemap.",
        ),
    ],
    "hfov_deg": Annotated[
        float | None,
        typer.Option(
            "--hfov-deg",
            help="Angle between its left and right edge, with --projection; in degrees.",
        ),
    ],
    "vfov_deg": Annotated[
        float | None,
        typer.Option(
            "--vfov-deg", help="Angle between its upper and lower edge; square pixels if left out."
        ),
    ],
    "yaw_deg": Annotated[
        float, typer.Option("--declared-yaw-deg", help="Yaw of its middle, with --projection.")
    ],
    "pitch_deg": Annotated[
        float, typer.Option("--declared-pitch-deg", help="Pitch of its middle, likewise.")
    ],
    "roll_deg": Annotated[
        float, typer.Option("--declared-roll-deg", help="Clockwise roll of its camera, likewise.")
    ],
    "use_xmp": Annotated[
        bool, typer.Option("--xmp/--no-xmp", help="Whether its Photo Sphere XMP counts.")
    ],
}
"""By the fields of `Declaration`; views and conversions have a pitch of their own."""


RAW_PROJECTION = Annotated[
    str | None,
    typer.Option(
        "--projection",
        help="What IN is, whatever its shape and XMP say: equirectangular, cylindrical, cubemap, "
        "dual-fisheye, stereo-over-under or stereo-side-by-side (the left eye is taken).",
    ),
]


def with_declaration(command: Callable[..., None]) -> Callable[..., None]:
    """Add to a command the options of a declaration in place of its argument `declared`.

    That is None where none of them says anything.
    """

    def declared(said: dict[str, Any]) -> Declaration | None:
        declaration = Declaration(**said)
        return declaration if declaration.said else None

    return _with_options(command, "declared", OPTIONS, declared)


def with_raw_declaration(command: Callable[..., None]) -> Callable[..., None]:
    """Add the same options in place of the argument `inputs` of a conversion, which gets them all.

    Their projection may also be one that only a conversion reads.
    """
    return _with_options(command, "inputs", OPTIONS | {"projection": RAW_PROJECTION}, dict)


def _with_options(
    command: Callable[..., None],
    argument: str,
    options: dict[str, Any],
    gathered: Callable[[dict[str, Any]], Any],
) -> Callable[..., None]:
    """Add options to a command in place of one argument, which is gathered from them."""

    @wraps(command)
    def declaring(*given: Any, **values: Any) -> None:
        said = {name: values.pop(f"declared_{name}") for name in options}
        command(*given, **values, **{argument: gathered(said)})

    own = [each for each in signature(command).parameters.values() if each.name != argument]
    defaults = Declaration.__dataclass_fields__
    added = [
        Parameter(
            f"declared_{name}",
            Parameter.KEYWORD_ONLY,
            default=defaults[name].default,
            annotation=annotation,
        )
        for name, annotation in options.items()
    ]
    new = signature(command).replace(parameters=[*own, *added])
    declaring.__signature__ = new  # type: ignore[attr-defined]  # typer reads it
    declaring.__annotations__ = {each.name: each.annotation for each in new.parameters.values()}
    return declaring
