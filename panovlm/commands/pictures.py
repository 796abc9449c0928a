"""Commands on panoramas themselves: their views, other projections, rendered scenes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from panovlm.commands.declared import with_declaration, with_raw_declaration
from panovlm.pictures.declaring import Declaration, declare

NumViews = Annotated[int, typer.Option(help="Views of the ring, or of each row.")]
FovDeg = Annotated[float, typer.Option(help="Field of view of each, in degrees.")]
ViewSize = Annotated[int, typer.Option(help="Pixels along a side of a view.")]
PitchesDeg = Annotated[
    list[float] | None, typer.Option(help="Pitch of a row of views; repeat for several rows.")
]
LensFovDeg = Annotated[
    float | None, typer.Option(help="Angle across each circle of a dual fisheye, in degrees.")
]
Every = Annotated[
    str | None, typer.Option(metavar="SECONDS", help="Take a frame of videos so often, as in 2s.")
]


@with_declaration
def views(
    panorama: Path,
    *,
    declared: Declaration | None,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("views.png"),
    num_views: NumViews = 8,
    fov_deg: FovDeg = 90.0,
    view_size: ViewSize = 224,
    pitch_deg: PitchesDeg = None,
    cubemap: Annotated[
        bool, typer.Option("--cubemap", help="Six faces instead of a ring.")
    ] = False,
    view: Annotated[
        list[str] | None,
        typer.Option(help="yaw,pitch,roll,fov of a view instead of a ring; repeat for several."),
    ] = None,
    with_global: Annotated[
        bool, typer.Option("--global", help="Add the whole panorama as one more view.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print and draw the angles between paired tokens.")
    ] = False,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens along a side, for --explain.")] = 16,
) -> None:
    """Draw the views of a PANORAMA as one sheet, with yaw labels and the overlaps shaded."""
    from panovlm.figures.sheets import check_sheet, save_sheet
    from panovlm.figures.views_explained import explain_overlap
    from panovlm.figures.views_sheet import draw_views_sheet
    from panovlm.geometry.cutting import required_width
    from panovlm.geometry.layout_choice import choose_layout
    from panovlm.pictures.panorama import load_panorama

    layout = choose_layout(
        view_size,
        num_views=num_views,
        fov_deg=fov_deg,
        pitches_deg=pitch_deg or (),
        views=view or (),
        cubemap=cubemap,
        with_global=with_global,
    )
    check_sheet(out, "panovlm views", [panorama])
    pixels = load_panorama(declare(panorama, declared), required_width(layout))
    save_sheet(draw_views_sheet(pixels, layout, tokens if explain else None), out, "panovlm views")
    if explain:
        explain_overlap(layout, tokens)
    by = " by its perspective views" if with_global else ""
    seen = f"{layout.coverage():.0%} of the sphere{by}"
    typer.echo(f"{layout.describe()}, {seen}, written to {out}")


@with_raw_declaration
def convert(
    given: Annotated[Path, typer.Argument(metavar="IN")],
    out: Path,
    *,
    inputs: dict[str, Any],
    to: Annotated[str, typer.Option(help="equirectangular, cubemap or views.")],
    width: Annotated[
        int | None, typer.Option(help="Columns of a panorama; as the input has if left out.")
    ] = None,
    face_size: Annotated[int, typer.Option(help="Pixels along a side of a face.")] = 1024,
    arrangement: Annotated[
        str, typer.Option(help="Of faces: strip (6 x 1), dice (a cross, 4 x 3) or six files.")
    ] = "strip",
    num_views: NumViews = 8,
    fov_deg: FovDeg = 90.0,
    view_size: ViewSize = 512,
    pitch_deg: PitchesDeg = None,
    rotate: Annotated[
        str, typer.Option(metavar="YAW,PITCH,ROLL", help="Rotate the camera first, in degrees.")
    ] = "0,0,0",
    format: Annotated[
        str | None, typer.Option(help="jpg, png or webp; jpg if left out and OUT is a folder.")
    ] = None,
    quality: Annotated[int, typer.Option(help="Of jpg and webp, 1 to 100.")] = 95,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Convert all anew.")] = False,
    lens_fov_deg: LensFovDeg = None,
    every: Every = None,
) -> None:
    """Convert IN, a picture, video or folder of them, to panoramas, cube maps or views in OUT."""
    from panovlm.pictures.conversion.run import convert as run
    from panovlm.pictures.conversion.settings import (
        ConversionSettings,
        parse_rotation,
        parse_seconds,
        split_declaration,
    )

    settings = ConversionSettings(
        to=to,
        width=width,
        face_size=face_size,
        arrangement=arrangement,
        num_views=num_views,
        fov_deg=fov_deg,
        view_size=view_size,
        pitches_deg=tuple(pitch_deg or (0.0,)),
        rotation_deg=parse_rotation(rotate),
        format=format,
        quality=quality,
        **split_declaration(inputs),
        lens_fov_deg=lens_fov_deg,
        every_s=None if every is None else parse_seconds(every),
    )
    try:
        done = run(given, out, settings, workers=workers, overwrite=overwrite)
    except KeyboardInterrupt:
        typer.echo("panovlm: stopped; run the same command again to go on", err=True)
        raise typer.Exit(130) from None
    present = f", {done.num_present} were there already" if done.num_present else ""
    typer.echo(f"{done.num_written} written to {out}{present}")
    if done.errors:
        lines = "\n".join(f"  {error}" for error in done.errors)
        typer.echo(f"panovlm: {len(done.errors)} could not be converted:\n{lines}", err=True)
        raise typer.Exit(2)


def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    count: Annotated[int, typer.Option(min=1, help="Panoramas to train on.")] = 2000,
    test_count: Annotated[int, typer.Option(min=1, help="Held-out panoramas.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenes.")] = 1,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of real panoramas for half of the scenes.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
) -> None:
    """Render panoramas with exactly known content, their listings and their questions."""
    from panovlm.runtime.progress import progress_bar
    from panovlm.scenes.generate import write_scenes

    with progress_bar("rendering scenes", count + test_count) as advance:
        is_new = write_scenes(
            out,
            count,
            seed,
            backgrounds=backgrounds,
            test_count=test_count,
            workers=workers,
            progress=advance,
        )
    typer.echo(f"{'written to' if is_new else 'the same scenes are there already:'} {out}")
