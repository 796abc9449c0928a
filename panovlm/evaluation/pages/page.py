"""Renders and writes pages: self-contained HTML without scripts or links.

Whatever people read of a report stands in the templates; they are given reports as they are.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.names import RECORDS_NAME
from panovlm.evaluation.pages import charts, scores
from panovlm.evaluation.pages.examples import choose_examples
from panovlm.evaluation.shown import PROBES
from panovlm.figures.sheets import as_data_uri
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.units import DEGREES, NOT_MEASURED, PLAIN, SHARE, UNITS, is_clear
from panovlm.runtime.files import IsOwn, has_mark, write_own

_FOLDER = Path(__file__).parent
EVALUATE, COMPARE = "panovlm evaluate", "panovlm compare"
"""The commands that write pages."""


def render(template: str, **content: Any) -> str:
    """Return what a template of this folder makes of its content; in HTML all of it is escaped."""
    return templates().get_template(template).render(content)


def text_lines(template: str, **content: Any) -> list[str]:
    """Return what a template of this folder says in lines of text."""
    return [line for line in render(template, **content).splitlines() if line.strip()]


def write_page(template: str, out: Path, command: str, **content: Any) -> None:
    """Write a page, whole or not at all.

    Args:
        template: Its template's file in this folder.
        out: The HTML file, replaced if it is such a page.
        command: What writes it, one of the constants above; the page names it.
        **content: What the template shows.

    Raises:
        PanoVLMError: If it cannot be written, something is there that is no page of `command`, or
            a picture that it shows cannot be read.
    """
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    html = render(template, command=command, style=style, **content)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_own(out, lambda part: part.write_text(html, encoding="utf-8"), is_page_of(command))
    except OSError as error:
        raise PanoVLMError(
            f"cannot write the page {out}: {error}; free some space or name another file"
        ) from error


def is_page_of(command: str) -> IsOwn:
    """Return what tells whether a command wrote a page."""
    return lambda path: has_mark(path, f'<meta name="generator" content="{command}">')


@cache
def templates() -> Environment:
    """Return the templates of this folder, with what all of them may call."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=lambda name: name is None or ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters["grouped"] = "{:,}".format
    called = (as_data_uri, choose_examples, flat, is_clear, *charts.IN_PAGES, *scores.IN_PAGES)
    environment.globals |= {each.__name__: each for each in called}
    environment.globals |= {
        "DEGREES": DEGREES,
        "DIRECTIONS": DIRECTIONS,
        "NOT_MEASURED": NOT_MEASURED,
        "PLAIN": PLAIN,
        "PROBES": PROBES,
        "RECORDS_NAME": RECORDS_NAME,
        "SHARE": SHARE,
        "UNITS": UNITS,
    }
    return environment


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested values with their keys joined by dots, leaving out what was not measured."""
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{key}.")
        elif value is not None:
            pairs.append((f"{prefix}{key}", value))
    return pairs
