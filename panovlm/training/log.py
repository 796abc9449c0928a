"""The log of a stage: a line of JSON for every entry, of training and of validation."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from panovlm.runtime.files import remove_parts, write_whole
from panovlm.training.disk import disk_errors
from panovlm.training.throughput import PER_SECOND

VALIDATION_LOSS, VALIDATION_ACCURACY = "eval_loss", "eval_accuracy"
"""Names by the library's rule; the first tells entries of validation from those of training."""
_BEGINNING = b'{"step": '
"""Of every line of a log."""


class JsonLog(TrainerCallback):
    """Writes every log entry as a line of JSON; a resumed run drops what it will log again.

    For the first rank alone. The entries are those of the library's state, which its checkpoints
    hold, so that the file needs no care of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Write the entries up to the step that training continues from; a new run has none."""
        with disk_errors(f"write {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_parts(self.path)
        self.on_log(args, state, control)

    def on_log(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Write all entries; speeds are left out, so that equal runs write equal logs."""
        logged = [each for each in state.log_history if each.keys() & {"loss", VALIDATION_LOSS}]
        lines = "".join(json.dumps(_without_speeds(each)) + "\n" for each in logged)
        with disk_errors(f"write {self.path}"):
            write_whole(self.path, lambda partial: partial.write_text(lines))


def _without_speeds(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry in one order of keys: checkpoints hold them sorted."""
    kept = {key: entry[key] for key in sorted(entry) if not key.endswith(PER_SECOND)}
    return {"step": entry["step"]} | kept


def is_log(path: Path) -> bool:
    """Return whether `JsonLog` began a file."""
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the entries of training."""
    return [entry for entry in _read_entries(path) if "loss" in entry]


def read_validations(path: Path) -> list[dict[str, Any]]:
    """Read the entries of validation."""
    return [entry for entry in _read_entries(path) if VALIDATION_LOSS in entry]


def _read_entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
