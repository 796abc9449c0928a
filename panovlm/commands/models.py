"""Commands on trained models."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from panovlm.commands.declared import with_declaration
from panovlm.commands.model_argument import ModelArgument
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration
from panovlm.runtime.progress import hide_loading_bars

if TYPE_CHECKING:
    from panovlm.inference.assistant import Assistant, OpenedPanorama

DtypeOption = Annotated[
    Literal["auto", "bf16", "fp32"],
    typer.Option(help="Arithmetic of the language model; auto is what the device is faster at."),
]


def features(
    run: Path,
    panorama: Path,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("features.png"),
) -> None:
    """Draw the tokens of a PANORAMA as colours, before and after stage 1 of a RUN."""
    from panovlm.figures.feature_colours import draw_feature_colours
    from panovlm.figures.sheets import check_sheet, save_sheet

    hide_loading_bars()
    check_sheet(out, "panovlm features", [panorama])
    save_sheet(draw_feature_colours(run, panorama), out, "panovlm features")
    typer.echo(f"written to {out}")


def occlude(
    model: ModelArgument,
    panorama: Path,
    question: str,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("occlusion.png"),
    answer: Annotated[
        str | None, typer.Option(help="Answer to explain; the model's own if left out.")
    ] = None,
    radius: Annotated[float, typer.Option(help="Of each cap, in degrees.")] = 20.0,
    step: Annotated[
        float | None, typer.Option(help="From cap to cap, in degrees; half the radius if left out.")
    ] = None,
    numbers: Annotated[Path | None, typer.Option("--json", help="JSON to write as well.")] = None,
) -> None:
    """Draw which places of a PANORAMA a MODEL's answer to a QUESTION rests on."""
    from panovlm.figures.occlusion_map import (
        describe_peak,
        draw_occlusion,
        is_occlusion,
        save_occlusion,
    )
    from panovlm.figures.sheets import check_sheet, require_folder, save_sheet
    from panovlm.geometry.caps import caps_over_views
    from panovlm.inference.assistant import Assistant, Question
    from panovlm.runtime.files import check_output
    from panovlm.runtime.progress import progress_bar

    hide_loading_bars()
    check_sheet(out, "panovlm occlude", [panorama])
    if numbers:
        check_output(numbers, is_occlusion, [panorama])
    require_folder(out, *([numbers] if numbers else []))
    assistant = Assistant.load(model)
    caps = caps_over_views(assistant.model.config.layout, radius, step)
    about = Question.about(assistant.open(panorama), question)
    with progress_bar("covering caps", len(caps)) as advance:
        found = assistant.occlusion(about, answer, caps, progress=advance)
    save_sheet(draw_occlusion(found, question, panorama), out, "panovlm occlude")
    if numbers:
        save_occlusion(found, question, numbers)
    typer.echo(f"{found.answer}: rests most on {describe_peak(found)}")
    typer.echo(f"written to {out}{f' and {numbers}' if numbers else ''}")


@with_declaration
def ask(
    model: ModelArgument,
    panoramas: Annotated[list[Path] | None, typer.Argument()] = None,
    question: Annotated[str | None, typer.Argument()] = None,
    *,
    declared: Declaration | None,
    questions: Annotated[
        Path | None, typer.Option("--in", help="JSON lines of image and question, instead.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON lines to write, for --in.")] = None,
    grounded: Annotated[
        bool, typer.Option("--grounded", help="Add the direction that an answer names.")
    ] = False,
    outlined: Annotated[
        Path | None, typer.Option(help="Picture to write: what the answer is about, outlined.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    dtype: DtypeOption = "auto",
) -> None:
    """Ask a MODEL a QUESTION about PANORAMAS, or all of a file."""
    from panovlm.inference.answers import SamplingParams

    if (questions is None) != (out is None) or (question is None) == (questions is None):
        raise PanoVLMError(
            "found neither one question nor a file of them, expected PANORAMAS and QUESTION, or "
            "--in and --out"
        )
    if panoramas and question:
        if outlined:
            _check_outlined(outlined, panoramas)
        assistant, opened = _open(model, panoramas, declared, grounded, dtype)
        answer = assistant.ask(opened, question, SamplingParams(max_tokens=max_tokens))
        typer.echo(answer)
        if grounded:
            _show_grounding(answer, question)
        if outlined:
            _write_outlined(answer, question, panoramas[0], declared, outlined)
    elif questions and out and not panoramas and not outlined:
        _ask_many(model, questions, out, declared, grounded, max_tokens, dtype)
    else:
        raise PanoVLMError(
            "found a panorama or --outlined beside --in, whose lines name theirs; leave one out"
        )


def _open(
    model: Path,
    panoramas: list[Path],
    declared: Declaration | None,
    grounded: bool,
    dtype: DtypeOption,
) -> "tuple[Assistant, list[OpenedPanorama]]":
    """Load a model and open the panoramas of a conversation."""
    from panovlm.inference.assistant import Assistant
    from panovlm.inference.grounding import check_one_panorama

    hide_loading_bars()
    if grounded:
        check_one_panorama("--grounded", len(panoramas))
    assistant = Assistant.load(model, dtype=dtype)
    return assistant, [assistant.open(panorama, declared) for panorama in panoramas]


def _show_grounding(answer: str, question: str) -> None:
    from panovlm.inference.grounding import ground, grounded_regions, grounding_facts

    grounding, regions = ground(answer), grounded_regions(answer, question)
    typer.echo(grounding.describe() if grounding else "no direction named")
    for region in regions:
        typer.echo(region.describe())
    typer.echo(json.dumps(grounding_facts(answer, question), ensure_ascii=False))


def _check_outlined(out: Path, panoramas: list[Path]) -> None:
    """Refuse a picture that cannot be written before the model is loaded."""
    from panovlm.figures.sheets import check_sheet, require_folder
    from panovlm.inference.grounding import check_one_panorama

    check_one_panorama("--outlined", len(panoramas))
    check_sheet(out, "panovlm ask", panoramas)
    require_folder(out)


def _write_outlined(
    answer: str, question: str, panorama: Path, declared: Declaration | None, out: Path
) -> None:
    from panovlm.figures.grounded_regions import draw_regions
    from panovlm.figures.sheets import save_sheet
    from panovlm.inference.grounding import grounded_regions
    from panovlm.pictures.declaring import declare

    regions = grounded_regions(answer, question)
    save_sheet(draw_regions(declare(panorama, declared), regions), out, "panovlm ask")
    typer.echo(f"{len(regions)} regions outlined in {out}")


def _ask_many(
    model: Path,
    questions: Path,
    out: Path,
    declared: Declaration | None,
    grounded: bool,
    max_tokens: int,
    dtype: DtypeOption,
) -> None:
    from panovlm.inference.answers import SamplingParams
    from panovlm.inference.assistant import Assistant
    from panovlm.inference.bulk import answer_file

    hide_loading_bars()
    sampling = SamplingParams(max_tokens=max_tokens)
    assistant = Assistant.load(model, dtype=dtype)
    done = answer_file(
        assistant, questions, out, grounded=grounded, sampling=sampling, declared=declared
    )
    present = f", {done.num_present} were present" if done.num_present else ""
    typer.echo(f"{done.num_answered} answers written to {out}{present}")
    if done.num_errors:
        typer.echo(f"panovlm: {done.num_errors} lines have an error instead of an answer", err=True)


@with_declaration
def chat(
    model: ModelArgument,
    panoramas: list[Path],
    *,
    declared: Declaration | None,
    grounded: Annotated[
        bool, typer.Option("--grounded", help="Add the direction that an answer names.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    dtype: DtypeOption = "auto",
) -> None:
    """Chat with a MODEL about PANORAMAS; an empty line ends it."""
    from panovlm.inference.answers import SamplingParams
    from panovlm.inference.assistant import Chat

    opened = _open(model, panoramas, declared, grounded, dtype)
    conversation = Chat(*opened, SamplingParams(max_tokens=max_tokens))
    while question := _next_question():
        answer = ""
        try:
            for piece in conversation.ask(question):
                typer.echo(piece, nl=False)
                answer += piece
        except PanoVLMError as error:
            typer.echo(f"panovlm: {error}", err=True)
        typer.echo()
        if grounded:
            _show_grounding(answer, question)


def _next_question() -> str:
    """Read a line from the terminal; empty at the end of it."""
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""
