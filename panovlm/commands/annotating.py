"""Commands on what is in panoramas that nobody has described."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panovlm.commands.declared import with_declaration
from panovlm.pictures.declaring import Declaration

if TYPE_CHECKING:
    from panovlm.annotating.run import Outcome


@with_declaration
def annotate(
    pictures: Annotated[
        Path, typer.Argument(help="Folder of panoramas, a picture, or JSON Lines that name them.")
    ],
    *,
    declared: Declaration | None,
    teacher: Annotated[
        str, typer.Option(help="packaged, transformers:MODEL (id or folder) or openai:MODEL.")
    ],
    out: Annotated[Path, typer.Option(help="JSON Lines to write, or to go on with.")],
    labels: Annotated[
        str | None, typer.Option(help="What to look for, as in door,window,red car.")
    ] = None,
    min_score: Annotated[
        float, typer.Option(min=0.01, max=1, help="Best score that a thing needs to be reported.")
    ] = 0.5,
    min_views: Annotated[
        int, typer.Option(min=1, help="Overlapping views that have to agree on it.")
    ] = 2,
    signs: Annotated[
        bool, typer.Option("--signs", help="Read signs too (packaged; needs the extra signs).")
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="Address for openai:, as http://localhost:8000/v1.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one answer of it.")] = 120.0,
    num_views: Annotated[int, typer.Option(help="Views in each of three rows.")] = 8,
    fov_deg: Annotated[float, typer.Option(help="Field of view of each, in degrees.")] = 100.0,
    view_size: Annotated[int, typer.Option(help="Pixels along a side of a view.")] = 640,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; for openai:, requests at a time.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="HTML page to write, to check the result by eye.")
    ] = None,
) -> None:
    """Annotate PICTURES: say what is in panoramas and where on the sphere, a line for each.

    Started again after a kill, it goes on where it was. The key for --endpoint is read from
    PANOVLM_TEACHER_KEY.
    """
    from panovlm.annotating.choosing import choose_teacher
    from panovlm.annotating.merging import Acceptance
    from panovlm.annotating.picture import Setup
    from panovlm.annotating.run import annotate as run
    from panovlm.annotating.views import overlapping_views

    chosen = choose_teacher(
        teacher,
        labels=labels,
        min_score=min_score,
        signs=signs,
        endpoint=endpoint,
        key=os.environ.get("PANOVLM_TEACHER_KEY"),
        timeout_s=timeout,
        workers=workers,
    )
    layout = overlapping_views(num_views, fov_deg, view_size)
    setup = Setup(chosen, layout, Acceptance(min_score, min_views))
    try:
        outcome = run(pictures, out, setup, declared=declared, workers=workers)
    except KeyboardInterrupt:
        typer.echo("panovlm: stopped; run the same command again to go on", err=True)
        raise typer.Exit(130) from None
    _report(outcome, out)
    if sheet:
        _write_sheet(out, sheet)
    if not outcome.num_written + outcome.num_present:
        raise typer.Exit(2)


def _report(outcome: "Outcome", out: Path) -> None:
    """Print what was annotated, and name what was not."""
    present = f", {outcome.num_present} were there already" if outcome.num_present else ""
    typer.echo(f"{outcome.num_written} annotated, written to {out}{present}")
    if outcome.num_findings:
        typer.echo(f"{outcome.num_findings} findings about views, under `findings` in {out}")
    if outcome.errors:
        lines = "\n".join(f"  {error}" for error in outcome.errors)
        typer.echo(f"panovlm: {len(outcome.errors)} could not be annotated:\n{lines}", err=True)


def _write_sheet(out: Path, sheet: Path) -> None:
    from panovlm.data.annotations import read_annotations
    from panovlm.figures.annotation_sheet import write_annotation_sheet

    annotations = read_annotations(out)
    num_shown = write_annotation_sheet(annotations, sheet)
    typer.echo(f"{num_shown} of {len(annotations)} pictures drawn in {sheet}")
