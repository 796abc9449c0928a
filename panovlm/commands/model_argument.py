"""The argument that names a model, the same for every command that takes one."""

from pathlib import Path
from typing import Annotated

import typer

from panovlm.inference.names import pretrained_names

_NAMES = ", ".join(pretrained_names())

ModelArgument = Annotated[
    Path,
    typer.Argument(
        help=f"A folder or a run{f', or a pretrained model by its name: {_NAMES}' * bool(_NAMES)}."
    ),
]
