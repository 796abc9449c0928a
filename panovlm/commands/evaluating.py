"""Commands that score models: on records, on benchmarks, and beside one another."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panovlm.commands.declared import with_declaration
from panovlm.commands.models import DtypeOption
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration
from panovlm.runtime.progress import hide_loading_bars

if TYPE_CHECKING:
    from panovlm.evaluation.judge import Judge
    from panovlm.evaluation.outcomes import Requirement

AGAIN = {"yaw_rotated": 400, "ablated": 100}
"""Questions asked again of our models; other models are asked only where told, since it costs."""

PRICE = "Dollars for a million tokens read and written, as 2.5,10."
SHOW = "To other models: views, equirectangular, sheet or view."
INSTRUCTION = "Added to each question to other models, as how to answer."
YAW_ROTATED = "Questions asked again under every yaw rotation; 400, of other models 0."
ABLATED = "Questions asked again with each view blank; 100, of other models 0."
SEAM_SHIFTED = "Questions asked again with their target at the seam."
POLE_SHIFTED = "Questions asked again with their target near a pole."
BASELINES = "What to compare with: all, blind or none."
SEEDS = "Samples of the questions that are asked again."
SINCE = "Unix time when the whole job began, for its total."
BENCHMARK = "What DATA is: records, or a benchmark in its published format."
IMAGES = "Folder of a benchmark's pictures, if not beside DATA."
JUDGE = "Address of a judge, as http://localhost:8000/v1."
FAIL_UNDER = "Exit with code 1 if a figure is worse, as accuracy=0.9."
RESULTS = "JSON of the main figures to write, as lm-eval's."


@with_declaration
def evaluate(
    model: str,
    *,
    declared: Declaration | None,
    data: Annotated[Path, typer.Option(help="Records with correct answers.")],
    out: Annotated[Path, typer.Option(help="JSON to write; a page goes beside it.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first records.")] = None,
    show: Annotated[str, typer.Option(help=SHOW)] = "views",
    instruction: Annotated[str, typer.Option(help=INSTRUCTION)] = "",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Requests at a time to an endpoint.")] = 16,
    price: Annotated[str | None, typer.Option(help=PRICE)] = None,
    yaw_rotated: Annotated[int | None, typer.Option(min=0, help=YAW_ROTATED)] = None,
    ablated: Annotated[int | None, typer.Option(min=0, help=ABLATED)] = None,
    seam_shifted: Annotated[int, typer.Option(min=0, help=SEAM_SHIFTED)] = 0,
    pole_shifted: Annotated[int, typer.Option(min=0, help=POLE_SHIFTED)] = 0,
    baselines: Annotated[str, typer.Option(help=BASELINES)] = "blind",
    seeds: Annotated[int, typer.Option(min=1, help=SEEDS)] = 1,
    since: Annotated[float | None, typer.Option(help=SINCE)] = None,
    benchmark: Annotated[str, typer.Option(help=BENCHMARK)] = "records",
    images: Annotated[Path | None, typer.Option(help=IMAGES)] = None,
    judge: Annotated[str | None, typer.Option(help=JUDGE)] = None,
    judge_model: Annotated[str, typer.Option(help="Model the judge is asked for.")] = "default",
    fail_under: Annotated[list[str] | None, typer.Option(help=FAIL_UNDER)] = None,
    results: Annotated[Path | None, typer.Option(help=RESULTS)] = None,
    dtype: DtypeOption = "auto",
) -> None:
    """Score a MODEL on records or a benchmark, beside the blind baseline.

    MODEL is ours (a folder, run or name), an image-text-to-text model of transformers (its id or
    folder), or a model behind an OpenAI-compatible endpoint: openai:http://localhost:8000/v1#NAME,
    whose key PANOVLM_MODEL_KEY may hold. Started again after a kill, it goes on where it was. Under
    torchrun, processes share the work.
    """
    from panovlm.evaluation import outcomes
    from panovlm.evaluation.asking import EvaluationOptions
    from panovlm.evaluation.run import evaluate as run
    from panovlm.inference.guests import guest_of
    from panovlm.runtime.files import check_output
    from panovlm.training import ranks

    hide_loading_bars()
    guest = guest_of(model, os.environ.get("PANOVLM_MODEL_KEY"), at_once, price)
    again = dict.fromkeys(AGAIN, 0) if guest else AGAIN
    options = EvaluationOptions(
        baselines=baselines,
        num_yaw_rotated=again["yaw_rotated"] if yaw_rotated is None else yaw_rotated,
        num_ablated=again["ablated"] if ablated is None else ablated,
        num_seam_shifted=seam_shifted,
        num_pole_shifted=pole_shifted,
        seeds=seeds,
        dtype=dtype,
        declared=declared,
        show=show,
        instruction=instruction,
        max_tokens=max_tokens,
    )
    required = outcomes.requirements_of(fail_under or (), benchmark, options)
    if results:
        check_output(results, outcomes.is_lm_eval_results, [data, out])
    if (images or judge) and benchmark == "records":
        raise PanoVLMError("found --images or --judge without --benchmark; name the benchmark")
    try:
        report = run(
            guest or Path(model),
            data,
            out,
            benchmark,
            images=images,
            limit=limit,
            since=since,
            judge=_judge(judge, judge_model) if judge else None,
            options=options,
        )
    except ranks.RaisedElsewhereError:
        raise typer.Exit(2) from None
    _finish(report, required, out, results)


def _judge(address: str, model: str) -> "Judge":
    from panovlm.evaluation.judge import Judge

    return Judge(address, model, os.environ.get("PANOVLM_JUDGE_KEY"))


def _finish(
    report: Mapping[str, Any],
    required: "Sequence[Requirement]",
    out: Path,
    results: Path | None,
) -> None:
    """Print the main figures; end with exit code 1 where one is worse than required."""
    from panovlm.evaluation.outcomes import shortfalls
    from panovlm.training import ranks

    if ranks.is_first():
        _show(report, out, results)
    ranks.finalize()
    if missed := [*shortfalls(report, required)]:
        typer.echo(f"panovlm: {'; '.join(missed)}", err=True)
        raise typer.Exit(1)


def _show(report: Mapping[str, Any], out: Path, results: Path | None) -> None:
    """Print the main figures, and write them for other tools."""
    from panovlm.evaluation import outcomes
    from panovlm.evaluation.pages.page import text_lines

    for line in text_lines("summary.txt.jinja", report=report):
        typer.echo(line)
    typer.echo(f"written to {out} and {out.with_suffix('.html')}")
    if results:
        outcomes.write_lm_eval_results(report, results)
        typer.echo(f"written to {results}")


def compare(
    first: Path,
    second: Path,
    out: Annotated[Path | None, typer.Option(help="Page to write (HTML).")] = None,
) -> None:
    """Compare the reports (JSON) of a FIRST and a SECOND model on the questions they share."""
    from panovlm.evaluation.compare import compare as run
    from panovlm.evaluation.compare import write_comparison
    from panovlm.evaluation.pages.page import COMPARE, is_page_of, text_lines
    from panovlm.runtime.files import check_output

    if out:
        check_output(out, is_page_of(COMPARE), [first, second])
    comparison = run(first, second)
    for line in text_lines("comparison.txt.jinja", comparison=comparison):
        typer.echo(line)
    if out:
        write_comparison(comparison, out)
        typer.echo(f"written to {out}")
