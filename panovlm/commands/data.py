"""Commands of `panovlm data`: check data sets, and convert them to records."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    json: Annotated[Path | None, typer.Option(help="JSON to write, with every finding.")] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Test data that must share no panorama with FILE.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe whose model the conversations must fit.")
    ] = None,
    without_text: Annotated[
        bool, typer.Option("--without-text", help="Records need no response.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
) -> None:
    """Check data before training: exit code 2 for errors, 0 for a clean set or mere warnings."""
    from panovlm.data.doctor.report import is_examination, show, write_json
    from panovlm.data.doctor.run import examine
    from panovlm.runtime.files import check_output
    from panovlm.training.build import text_limit
    from panovlm.training.recipe import load_recipe

    if json is not None:
        check_output(json, is_examination, [*files, *(against or ())])
    examination = examine(
        files,
        against=against or (),
        limit=text_limit(load_recipe(recipe).model) if recipe else None,
        needs_text=not without_text,
        workers=workers,
    )
    show(examination)
    if json is not None:
        write_json(examination, json)
        typer.echo(f"written to {json}")
    if examination.num_errors:
        raise typer.Exit(2)


def convert_records(
    source: Annotated[Path, typer.Argument(metavar="IN")],
    out: Path,
    source_format: Annotated[
        str | None, typer.Option("--from", help="Format of IN; detected if left out.")
    ] = None,
    out_format: Annotated[
        str | None, typer.Option("--to", help="Format of OUT; by its ending if left out.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder that paths in IN start from; IN's if left out.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over OUT.")] = False,
) -> None:
    """Convert IN to OUT: records, llava, sharegpt, messages, csv, tsv or datasets."""
    from panovlm.data.formats.run import convert_data

    done = convert_data(
        source,
        out,
        source_format=source_format,
        out_format=out_format,
        pictures=pictures,
        overwrite=overwrite,
    )
    formats = f"{done.source_format} → {done.out_format}"
    typer.echo(f"{done.num_records} records, {formats}, written to {out}")
    for field, count in done.lost.items():
        typer.echo(f"not carried: {field!r}, in {count} places", err=True)
    for note in done.notes:
        typer.echo(f"note: {note}", err=True)


def export_benchmark(
    data: Annotated[Path, typer.Argument(help="Records, or a benchmark's file or folder.")],
    out: Annotated[Path, typer.Argument(help="Folder for lmms-eval, .tsv for VLMEvalKit.")],
    target: Annotated[str, typer.Option("--to", help="lmms-eval or vlmevalkit.")],
    benchmark: Annotated[
        str, typer.Option(help="Published benchmark in whose format DATA is.")
    ] = "records",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures, if not beside DATA.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions.")] = None,
) -> None:
    """Write records or a published benchmark in the format of another evaluation tool."""
    from panovlm.evaluation.benchmark_export import export_benchmark as run

    done = run(data, out, target, name=benchmark, images=images, limit=limit)
    typer.echo(f"{done.num_items} questions written to {out}")
    if done.num_without_picture:
        typer.echo(f"{done.num_without_picture} have no picture and were left out")
