"""The log of a stage: a line of JSON for every entry, of training and of validation."""

import json
import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from panovlm.runtime.files import remove_parts, sync, write_whole
from panovlm.training.disk import disk_errors
from panovlm.training.throughput import PER_SECOND

VALIDATION_LOSS, VALIDATION_ACCURACY = "eval_loss", "eval_accuracy"
"""Names by the library's rule; the first tells entries of validation from those of training."""
_BEGINNING = b'{"step": '
"""Of every line of a log."""


class JsonLog(TrainerCallback):
    """Appends every log entry as a line of JSON; a resumed run drops what it will log again.

    For the first rank alone. An entry is on the disk before a checkpoint of its step is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Keep the lines up to the step that training continues from; a new run keeps none."""
        found = _read_entries(self.path) if self.path.exists() else []
        kept = [entry for entry in found if entry["step"] <= state.global_step]
        lines = "".join(json.dumps(entry) + "\n" for entry in kept)
        with disk_errors(f"write {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_parts(self.path)
            write_whole(self.path, lambda partial: partial.write_text(lines))
            sync(self.path.parent)

    def on_log(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Append an entry; speeds are left out, so that equal runs write equal logs."""
        found = kwargs.get("logs") or {}
        logs = {key: each for key, each in found.items() if not key.endswith(PER_SECOND)}
        if logs.keys() & {"loss", VALIDATION_LOSS}:
            with disk_errors(f"write {self.path}"), self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
                file.flush()
                os.fsync(file.fileno())


def is_log(path: Path) -> bool:
    """Return whether `JsonLog` began a file."""
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the entries of training; a last line that a kill cut short is left out."""
    return [entry for entry in _read_entries(path) if "loss" in entry]


def read_validations(path: Path) -> list[dict[str, Any]]:
    """Read the entries of validation, as `read_log` reads those of training."""
    return [entry for entry in _read_entries(path) if VALIDATION_LOSS in entry]


def _read_entries(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
