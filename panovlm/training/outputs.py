"""The folder of a finished stage: its model, its processor and the facts of its training.

A stage is finished by one rename: that of its checkpoints' folder, once the new output is whole
beside its place. Before it, a resumed run begins from the last checkpoint; after it, it only
completes the moves that are left. An earlier output stays in its place until the new one is there.
"""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.files import check_folder, has_mark, sync, sync_tree
from panovlm.runtime.measure import peak_memory_mb
from panovlm.training.adapters import ADAPTER
from panovlm.training.disk import disk_errors
from panovlm.training.log import VALIDATION_LOSS, read_log, read_validations

STAGE_FACTS = "stage.json"


@dataclass(frozen=True)
class StageResult:
    """What a finished stage reports."""

    stage: str
    loss_first: float
    loss_last: float  # mean of the losses logged in the last tenth of the steps
    seconds: float  # wall time of the stage, encoding included
    peak_memory_mb: float  # the most the process held by its end, in MiB
    kept_step: int | None = None  # whose weights the stage ended with, where it was validated
    validation_loss: float | None = None  # of that step

    @property
    def kept(self) -> str:
        """Which step's weights were kept, to follow the rest; empty without validation."""
        if self.kept_step is None or self.validation_loss is None:
            return ""
        return f"; kept step {self.kept_step}, validation {self.validation_loss:.3f}"


def result_of(name: str, log_file: Path, kept_step: int | None, seconds: float) -> StageResult:
    """Return the result of a stage.

    Args:
        name: Of the stage.
        log_file: Its log.
        kept_step: The step whose weights were kept, or None for the last one.
        seconds: Wall time of the stage.
    """
    log, validations = read_log(log_file), read_validations(log_file)
    last_steps = [entry["loss"] for entry in log if entry["step"] > 0.9 * log[-1]["step"]]
    loss_last = sum(last_steps) / len(last_steps)
    result = StageResult(name, log[0]["loss"], loss_last, seconds, peak_memory_mb())
    if not validations:
        return result
    by_step = {entry["step"]: entry[VALIDATION_LOSS] for entry in validations}
    kept = kept_step or log[-1]["step"]
    return replace(result, kept_step=kept, validation_loss=by_step.get(kept))


def load_result(output: Path, name: str) -> StageResult:
    """Read what a finished stage reported."""
    return StageResult(**json.loads((output / name / STAGE_FACTS).read_text())["result"])


def finished_result(output: Path, facts: dict[str, Any]) -> StageResult | None:
    """Return the result of a stage that was finished with the same settings, if it was."""
    file = output / STAGE_FACTS
    if not file.is_file():
        return None
    stored = json.loads(file.read_text())
    result = StageResult(**stored.pop("result"))
    return result if stored == facts else None


def write_output(
    output: Path,
    model: PreTrainedModel,
    processor: PanoVLMProcessor,
    facts: dict[str, Any],
    adapters: Path | None = None,
) -> None:
    """Write a stage's folder whole, a copy of its `adapters` in it, for `publish_output`.

    Raises:
        PanoVLMError: If the disk fails.
    """
    partial = _beside(output, "part")
    shutil.rmtree(partial, ignore_errors=True)
    with disk_errors(f"write the finished stage to {partial}", incomplete=partial):
        model.save_pretrained(partial, max_shard_size="100GB")
        processor.save_pretrained(partial)
        if adapters is not None:
            shutil.copytree(adapters, partial / ADAPTER)
        (partial / STAGE_FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        sync_tree(partial)


def publish_output(output: Path, checkpoints: Path) -> None:
    """Mark a stage as finished: move what `write_output` wrote, and remove its checkpoints."""
    os.replace(checkpoints, _beside(checkpoints, "done"))
    sync(checkpoints.parent)
    recover_output(output, checkpoints)


def check_own(output: Path, checkpoints: Path) -> None:
    """Refuse to train a stage where finishing it would remove what no stage wrote.

    Raises:
        PanoVLMError: If its output's or its checkpoints' folder holds neither the facts of a stage
            nor a model of ours.
    """
    for folder in (output, checkpoints):
        check_folder(folder, _is_of_stage)


def _is_of_stage(folder: Path) -> bool:
    config = folder / "config.json"
    is_model = config.is_file() and has_mark(config, '"PanoVLM')  # among its `architectures`
    return is_model or (folder / STAGE_FACTS).is_file()


def recover_output(output: Path, checkpoints: Path) -> None:
    """Complete, or undo, what a killed or unfinished stage left at its output and checkpoints."""
    partial, replaced = _beside(output, "part"), _beside(output, "replaced")
    done = _beside(checkpoints, "done")
    if done.exists() and partial.exists():
        if output.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            os.replace(output, replaced)
        os.replace(partial, output)
        sync(output.parent)
    if replaced.exists() and not output.exists():  # someone removed what stood between
        os.replace(replaced, output)
    is_empty = not any(checkpoints.glob("*"))  # not even the facts: it had just been made
    for left in (partial, replaced, done, *([checkpoints] if is_empty else [])):
        if left.exists():
            shutil.rmtree(left)


def _beside(folder: Path, state: str) -> Path:
    return folder.with_name(f".{folder.name}.{state}")
