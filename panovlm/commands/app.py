"""The command line: `panovlm` and its commands."""

import logging
import sys

import typer

from panovlm.commands import (
    annotating,
    data,
    evaluating,
    models,
    pictures,
    publishing,
    serving,
    training,
)
from panovlm.errors import PanoVLMError
from panovlm.runtime.allocator import keep_freed_memory

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, evaluate and ask vision-language models that understand 360° panoramas.",
)
for command in (
    training.stages,
    pictures.views,
    pictures.convert,
    pictures.scenes,
    annotating.annotate,
    data.questions,
    training.backbones,
    training.plan,
    training.train,
    training.cache,
    evaluating.evaluate,
    evaluating.compare,
    publishing.card,
    models.features,
    models.occlude,
    models.ask,
    models.chat,
    serving.serve,
    publishing.merge,
    publishing.export,
):
    app.command()(command)

data_app = typer.Typer(no_args_is_help=True, help="Check data sets, and convert them to records.")
data_app.command("check")(data.check)
data_app.command("convert")(data.convert_records)
data_app.command("export")(data.export_benchmark)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line: a user's mistake gives one message and exit code 2."""
    keep_freed_memory()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("panovlm").setLevel(logging.INFO)
    try:
        app()
    except PanoVLMError as error:
        typer.echo(f"panovlm: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        typer.echo(f"panovlm: the disk or a file failed: {error}; nothing was lost", err=True)
        sys.exit(2)
