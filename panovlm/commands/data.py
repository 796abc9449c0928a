"""`panovlm questions`, and the commands of `panovlm data`, which check and convert data sets."""

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from panovlm.data.doctor.run import Examination


def questions(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="ANNOTATIONS...", help="Of one teacher or several, a file each."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    test_share: Annotated[float, typer.Option(help="Share of the pictures to test on.")] = 0.2,
    test_place: Annotated[
        list[str] | None,
        typer.Option(help="Place to test on, in place of a share; may be repeated."),
    ] = None,
    split_by: Annotated[
        str, typer.Option(help="What is a place, never in both splits: group or picture.")
    ] = "group",
    min_score: Annotated[float, typer.Option(help="Things scored lower are in doubt.")] = 0.5,
    doubt_score: Annotated[
        float, typer.Option(help="Things scored lower are taken as not there.")
    ] = 0.0,
    min_views: Annotated[int, typer.Option(help="Things seen in fewer views are in doubt.")] = 1,
    labels: Annotated[
        str | None,
        typer.Option(help="Labels to ask about, as in person,car; others are in doubt."),
    ] = None,
    yaw_steps: Annotated[
        int, typer.Option(help="Rotations with an answer each, a multiple of 8.")
    ] = 24,
    rounds: Annotated[int, typer.Option(help="How often each kind is asked of a picture.")] = 2,
    composites: Annotated[
        int,
        typer.Option(min=0, help="More pictures to train on: annotated things put into others."),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of questions and splits.")] = 0,
) -> None:
    """Write questions and listings about annotated panoramas, split by place."""
    from panovlm.annotating.choosing import named_labels
    from panovlm.annotating.composites import write_composed_questions
    from panovlm.data.questions.evidence import Doubt
    from panovlm.data.questions.run import QuestionSettings, write_questions
    from panovlm.runtime.files import whole_folder
    from panovlm.runtime.progress import progress_bar

    settings = QuestionSettings(
        Doubt(min_score, min_views, named_labels(labels), doubt_score),
        test_share,
        tuple(test_place or ()),
        split_by,
        yaw_steps,
        rounds,
        seed,
    )
    with whole_folder(out) if composites else nullcontext(out) as folder:
        done = write_questions(files, folder, settings)
        if composites:
            with progress_bar("composing", composites) as step:
                things = write_composed_questions(files, folder, composites, settings, step)
            typer.echo(f"{composites} composites of {things.total()} things cut out")
    for split, count in done.places.items():
        typer.echo(f"{split}: {done.pictures[split]} pictures of {count} places")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(done.questions.items()))
    typer.echo(f"questions: {kinds}; written to {out}")
    for reason, count in done.left_out.items():
        typer.echo(f"left out: {count} {reason}", err=True)


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    json: Annotated[Path | None, typer.Option(help="JSON to write, with every finding.")] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Test data that must share no panorama with FILE.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe whose model the conversations must fit.")
    ] = None,
    blind: Annotated[
        str | None,
        typer.Option(help="Model that marks questions it answers without the picture."),
    ] = None,
    instruction: Annotated[
        str, typer.Option(help="With --blind, added to each question to models of others.")
    ] = "",
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the pictures, if not beside FILE.")
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
    from panovlm.training.build import build_tokenizer
    from panovlm.training.recipe_file import load_recipe

    if json is not None:
        check_output(json, is_examination, [*files, *(against or ())])
    examination = examine(
        files,
        against=against or (),
        tokenizer=build_tokenizer(load_recipe(recipe).model) if recipe else None,
        needs_text=not without_text,
        pictures=pictures,
        workers=workers,
    )
    if blind:
        examination = _checked_blind(examination, files, blind, instruction)
    show(examination)
    if json is not None:
        write_json(examination, json)
        typer.echo(f"written to {json}")
    if examination.num_errors:
        raise typer.Exit(2)


def _checked_blind(
    examination: "Examination", files: list[Path], model: str, instruction: str
) -> "Examination":
    """Add what a model answers without looking, and print how much that is by kind."""
    from panovlm.evaluation.blind import check_blind
    from panovlm.inference.guests import guest_of
    from panovlm.runtime.progress import hide_loading_bars, show_table

    hide_loading_bars()
    asked = guest_of(model, os.environ.get("PANOVLM_MODEL_KEY")) or Path(model)
    found = check_blind(files, asked, instruction)
    rows = [
        [kind, f"{found.answered[kind]:,} of {count:,}", f"{found.answered[kind] / count:.1%}"]
        for kind, count in sorted(found.asked.items())
    ]
    show_table("answered without looking", ["kind", "questions", "share"], rows)
    return replace(examination, findings=(*examination.findings, *found.findings))


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
