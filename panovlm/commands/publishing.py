"""Commands that write models for others: cards, merged and exported folders."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from panovlm.commands.model_argument import ModelArgument
from panovlm.errors import PanoVLMError
from panovlm.runtime.progress import hide_loading_bars


def card(
    run: Path,
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the model, as apache-2.0.")
    ] = None,
) -> None:
    """Write the README.md of a RUN: a model card of its data, recipe, training and report.json."""
    from panovlm.exporting.card import write_card

    typer.echo(f"written to {write_card(run, licence=licence)}")


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Merge the ADAPTER folder of a stage into its BASE, the stage before, and write OUT."""
    from panovlm.exporting.merging import merge as run
    from panovlm.runtime.progress import show_table

    hide_loading_bars()
    report = run(base, adapter, out)
    show_table("merged", ["module", "weights", "changed"], report.rows)
    typer.echo(f"adapters and merged weights score alike within {report.difference:.0e}")
    typer.echo(f"written to {out}")


def export(
    model: ModelArgument,
    out: Path,
    dtype: Annotated[
        Literal["fp32", "bf16", "int8"] | None,
        typer.Option(help="Of the weights; int8 for --trained-only; fp32 or bf16 if left out."),
    ] = None,
    trained_only: Annotated[
        bool,
        typer.Option("--trained-only", help="Only what a run has trained, with its card."),
    ] = False,
    licence: Annotated[
        str | None, typer.Option("--license", help="For that card, as apache-2.0.")
    ] = None,
    about: Annotated[
        Path | None, typer.Option(help="Markdown for that card: how the data was made.")
    ] = None,
) -> None:
    """Write a MODEL to OUT with the code that loads it anywhere, or --trained-only a small folder.

    The small folder needs panovlm, which fetches the backbones.
    """
    from panovlm.exporting.export import export as run

    hide_loading_bars()
    if trained_only:
        _export_trained_only(model, out, dtype, licence, about)
        return
    if licence or about:
        raise PanoVLMError(
            "found --license or --about, which are for the card of --trained-only; add that"
        )
    if dtype == "int8":
        raise PanoVLMError("found --dtype int8, which is for --trained-only; add that")
    run(model, out, dtype or "fp32")
    typer.echo(f"written to {out}; load it with trust_remote_code=True where panovlm is missing")


def _export_trained_only(
    run: Path,
    out: Path,
    dtype: Literal["fp32", "bf16", "int8"] | None,
    licence: str | None,
    about: Path | None,
) -> None:
    from panovlm.exporting.card import card_text, recipe_text
    from panovlm.exporting.trained_only import export_trained_only

    if dtype == "fp32":
        raise PanoVLMError("found --dtype fp32 with --trained-only, expected bf16 or int8")
    name = out.resolve().name
    text = about.read_text(encoding="utf-8") if about else ""
    dtype = dtype or "bf16"
    card = card_text(run, licence=licence, trained_only=name, dtype=dtype, about=text)
    num_bytes = export_trained_only(run, out, card, recipe_text(run, name), dtype)
    typer.echo(f"{num_bytes / 1e6:.1f} MB written to {out}")
