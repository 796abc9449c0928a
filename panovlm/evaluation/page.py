"""A self-contained page and its tables: no script, no link, nothing to load."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

NOT_MEASURED = "–"
"""What a cell says for which there is no figure."""
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


def _row(cells: Sequence[str]) -> str:
    rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
    return f'<tr><th scope="row">{escape(cells[0])}</th>{rest}</tr>'
