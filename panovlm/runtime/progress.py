"""Progress bars and tables on the terminal; plain lines where there is no terminal."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console(soft_wrap=True)
"""A line is left whole: a terminal wraps it, and in a log it can be searched."""


class Advance(Protocol):
    """Moves a progress bar by some steps, and sets the note beside it."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Move the bar."""


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Advance]:
    """Show a bar of `total` steps; yield a function to call with the number of steps just done."""
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
    """Print a table; columns whose first cell is a number are aligned to the right."""
    table = Table(title=title, title_justify="left")
    for column, name in enumerate(header):
        is_number = bool(rows) and rows[0][column].replace(",", "").replace(".", "").isdigit()
        table.add_column(name, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table, soft_wrap=False)


def hide_loading_bars() -> None:
    """Hide the bars of transformers while it loads weights."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide what transformers remarks on a model that is built and checked elsewhere anyway."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(before)
