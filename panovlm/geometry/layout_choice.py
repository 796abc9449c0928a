"""Which view layout the options of the command line ask for."""

from collections.abc import Sequence

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout


def choose_layout(
    view_size: int,
    *,
    num_views: int,
    fov_deg: float,
    pitches_deg: Sequence[float],
    views: Sequence[str],
    cubemap: bool,
    with_global: bool,
) -> ViewLayout:
    """Return a ring, rows of them, a cube map or free views, on request with a global view.

    Free `views` are texts "yaw,pitch,roll,fov" in degrees; without `pitches_deg` a ring has one
    level row.

    Raises:
        PanoVLMError: If two layouts are asked for at once, a text does not hold four numbers, or a
            number is out of its range.
    """
    options = {"--cubemap": cubemap, "--view": views, "--pitch-deg": pitches_deg}
    given = [option for option, value in options.items() if value]
    if len(given) > 1:
        raise PanoVLMError(
            f"found {' and '.join(given)} together, expected one of them at most; leave out "
            f"{' or '.join(given)}"
        )
    return ViewLayout.of_settings(
        num_views,
        fov_deg,
        view_size,
        pitches_deg=pitches_deg,
        cubemap=cubemap,
        angles_deg=[_parse_view(text) for text in views],
        global_view=with_global,
    )


def _parse_view(text: str) -> tuple[float, float, float, float]:
    """Read the angles of a view from text such as "30,-10,0,90"."""
    try:
        yaw_deg, pitch_deg, roll_deg, fov_deg = map(float, text.split(","))
    except ValueError as error:
        raise PanoVLMError(
            f"found --view {text}, expected four numbers in degrees as in --view 30,-10,0,90: yaw, "
            "pitch, roll and field of view"
        ) from error
    return yaw_deg, pitch_deg, roll_deg, fov_deg
