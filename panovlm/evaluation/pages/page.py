"""Renders and writes pages: self-contained HTML without scripts or links."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from panovlm.errors import PanoVLMError
from panovlm.evaluation.pages import charts, scores
from panovlm.evaluation.units import NOT_MEASURED, SHARE
from panovlm.runtime.files import IsOwn, has_mark, write_own

_FOLDER = Path(__file__).parent
EVALUATE, COMPARE = "panovlm evaluate", "panovlm compare"
"""The commands that write pages."""


def render(template: str, command: str, **content: Any) -> str:
    """Return a page.

    Args:
        template: Its template's file in this folder.
        command: What writes it, as "panovlm evaluate"; the page names it.
        **content: What the template shows; all of it is escaped.
    """
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    return templates().get_template(template).render(content, command=command, style=style)


def write_page(html: str, out: Path, command: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        PanoVLMError: If it cannot be written, or something is there that is no page of `command`.
    """
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
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters["grouped"] = "{:,}".format
    environment.globals |= {
        "Bar": charts.Bar,
        "NOT_MEASURED": NOT_MEASURED,
        "SHARE": SHARE,
        "angle_deg": charts.angle_deg,
        "bar_axis": charts.bar_axis,
        "difference_axis": charts.difference_axis,
        "duration": scores.duration,
        "flat": flat,
        "most_asked": scores.most_asked,
        "limits_of": scores.limits_of,
        "petal": charts.petal,
        "radius": charts.radius,
        "round_up": charts.round_up,
        "row": scores.row,
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
