"""A self-contained page and its parts: no script, no link, nothing to load."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.units import NOT_MEASURED
from panovlm.runtime.files import write_whole

_STYLE = Path(__file__).with_name("report.css")


def page(title: str, body: str) -> str:
    """Give a whole page; `body` is HTML."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def write_page(text: str, out: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        PanoVLMError: If it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, lambda partial: partial.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise PanoVLMError(
            f"cannot write the page {out}: {error}; free some space or name another file"
        ) from error


def headline(title: str, verdict: str, tiles: Iterable[tuple[str, str, str]]) -> str:
    """Give the head of a page: what it is, one sentence, and (name, value, note) of each number."""
    cells = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in tiles
    )
    return (
        f'<h1>{escape(title)}</h1>\n<p class="verdict">{escape(verdict)}</p>\n'
        f'<dl class="tiles">\n{cells}\n</dl>'
    )


def data_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a table that screen readers can walk: a caption, and a header for each row and column.

    A column in which every cell says `NOT_MEASURED` is left out.

    Args:
        caption: What the table holds.
        header: Of the columns, that of the rows' names first.
        rows: Cells of each row, its name first.
    """
    kept = [place for place in range(len(header)) if any(r[place] != NOT_MEASURED for r in rows)]
    head = "".join(f'<th scope="col">{escape(header[place])}</th>' for place in kept)
    lines = "\n".join(_row([row[place] for place in kept]) for row in rows)
    return (
        f'<div class="scroll"><table class="data"><caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>"
    )


def folded(summary: str, content: str) -> str:
    """Fold HTML away under a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def figure(chart: str, caption: str) -> str:
    """Give a chart with the words below it."""
    return f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def grid(figures: Iterable[str]) -> str:
    """Give figures beside one another."""
    return '<div class="roses">\n' + "\n".join(figures) + "\n</div>\n"


def beside(chart: str, table: str) -> str:
    """Give a figure with a table to its right, or below it where there is no room."""
    return f'<div class="beside">{chart}{table}</div>'


def values_section(title: str, values: Mapping[str, Any]) -> str:
    """Give nested values under a heading; empty if there are none."""
    return f"<h2>{escape(title)}</h2>\n{_values(values)}" if values else ""


def all_values(report: Mapping[str, Any]) -> str:
    """List every value of a report under its keys in the JSON file."""
    measured = {key: value for key, value in report.items() if key not in ("versions", "settings")}
    table = folded("Every value under its keys in the JSON report", _values(measured))
    return f"<h2>All numbers</h2>\n{table}"


def _values(values: Mapping[str, Any]) -> str:
    cells = "\n".join(
        f"<tr><td><code>{escape(key)}</code></td><td>{escape(str(value))}</td></tr>"
        for key, value in _flat(values)
    )
    return f"<table>\n{cells}\n</table>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Give nested values as (keys joined by dots, value), leaving out what was not measured."""
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _row(cells: Sequence[str]) -> str:
    rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
    return f'<tr><th scope="row">{escape(cells[0])}</th>{rest}</tr>'
