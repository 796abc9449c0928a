"""Progress bars and tables on the terminal; plain lines where there is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console()


class Advance(Protocol):
    """Tells a progress bar how many steps were just done, and what to say beside it."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Move the bar."""


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Advance]:
    """Show a bar while work goes on.

    Args:
        label: What is going on.
        total: Steps in all.

    Yields:
        A function to call with the number of steps just done.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total, note="")

        def advance(steps: int, note: str = "") -> None:
            progress.advance(task, steps)
            if note:
                progress.update(task, note=note)

        yield advance


def show_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a table; columns whose first cell is a number are set to the right."""
    table = Table(title=title, title_justify="left")
    for column, name in enumerate(header):
        is_number = bool(rows) and rows[0][column].replace(",", "").replace(".", "").isdigit()
        table.add_column(name, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def hide_loading_bars() -> None:
    """Leave the terminal to our own bars: the library shows none while it loads weights."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
