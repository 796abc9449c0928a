"""Runs the stages of a recipe, each from the one before, and leaves a folder for each.

output/vision, output/resampler, output/finetune   finished stages, loadable with from_pretrained
output/finetune/adapter                            what the stage with adapters trained, alone
output/checkpoints/<stage>/checkpoint-<step>       to resume a stage; removed when it is finished
output/logs/<stage>.jsonl                          every log entry

A run may be killed at any moment and goes on with `resume`: docs/resuming.md lists the moments.
"""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, set_seed
from transformers.integrations import TensorBoardCallback

from panovlm.data.records import Needs, check_records, raise_errors
from panovlm.data.shards import is_stream
from panovlm.errors import PanoVLMError
from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.progress import console, show_table
from panovlm.stages import STAGES, Stage
from panovlm.training import ranks
from panovlm.training.adapters import (
    ADAPTER,
    check_installed,
    read_adapters,
    write_adapters,
)
from panovlm.training.assembly import build_trainer
from panovlm.training.build import (
    build_model,
    build_processor,
    load_predecessor,
    restore_vision_encoder,
)
from panovlm.training.checkpoints import (
    checkpoint_folder,
    checkpoint_to_resume,
    is_begun,
)
from panovlm.training.disk import alone_in
from panovlm.training.outputs import (
    STAGE_FACTS,
    StageResult,
    finish,
    finished_result,
    recover_output,
    result_of,
    stage_facts,
    write_output,
)
from panovlm.training.progress import TrainingBar
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.saving import SavePoints, StopSignals
from panovlm.training.sharded import is_sharded, load_trained, trained_weights
from panovlm.training.sources import check_pictures, prepare_pictures
from panovlm.training.streams import check_streams
from panovlm.training.trainable import apply_stage, report
from panovlm.training.trainer import JsonLog, read_log


def train(recipe: Recipe, stages: list[str], *, resume: bool) -> list[StageResult]:
    """Train stages in the table's order.

    Args:
        recipe: What to run.
        stages: Names of the stages.
        resume: Whether to skip finished stages and continue an unfinished one.

    Raises:
        PanoVLMError: For every error a user can fix; outputs of earlier stages stay whole.
        Stopped: If a signal ended it; training is saved up to then.
    """
    torch.set_flush_denormal(True)  # tiny gradients would slow the CPU many times over
    chosen = [name for name in STAGES if name in stages]
    ranks.join()
    with StopSignals() as signals, ExitStack() as held:
        check_data(recipe, chosen)
        ranks.from_first(lambda: _take_over(recipe, held))
        return [train_stage(recipe, name, signals, resume=resume) for name in chosen]


def _take_over(recipe: Recipe, held: ExitStack) -> None:
    """Keep other runs out of the output and complete what a killed one left there."""
    held.enter_context(alone_in(recipe.output))
    for name in STAGES:
        recover_output(recipe.output / name, checkpoint_folder(recipe, name))


def check_data(recipe: Recipe, names: list[str]) -> None:
    """Check the records and pictures of all stages before the first one starts.

    Of a stream the first examples alone are looked at.

    Good pictures are encoded on the way, so that each is decoded once. Where a record is invalid,
    pictures are only decoded, as cheaply as possible: the list of errors shall come soon.

    Raises:
        PanoVLMError: Listing every error of every file.
    """
    with ranks.synchronized():
        sections = {name: recipe.section(name) for name in names}
        for section in sections.values():
            ranks.part_of_batch(section.batch_size)
            check_installed(section.lora)
    streamed = {name: each for name, each in sections.items() if is_stream(each.data)}
    sections = {name: each for name, each in sections.items() if name not in streamed}
    files: dict[Path, Needs] = {}
    for name, section in sections.items():
        needs = Needs.of(STAGES[name].supervision)
        files[section.data] = files.get(section.data, needs) | needs
    checked = check_records(files)
    pictures: dict[int, dict[Path, None]] = {}
    for section in sections.values():
        of_stage = pictures.setdefault(section.vision_layers, {})
        of_stage |= dict.fromkeys(checked.pictures_of(section.data))
    errors = [str(finding) for finding in checked.findings]
    if errors:
        errors += check_pictures(checked.pictures)
    elif pictures:
        errors += prepare_pictures(recipe, pictures)
    with ranks.synchronized():
        errors += check_streams(streamed)
        raise_errors(f"the data of {', '.join(names)}", dict.fromkeys(errors))


@dataclass(frozen=True)
class StageRun:
    """A stage of a recipe, and what identifies its outputs."""

    recipe: Recipe
    section: StageSection
    stage: Stage
    facts: dict[str, Any]

    @classmethod
    def of(cls, recipe: Recipe, name: str) -> Self:
        """Give the run of the stage of that name, as the recipe varies it."""
        section = recipe.section(name)
        stage = derive(STAGES[name], section)
        return cls(recipe, section, stage, stage_facts(recipe, section, stage))

    @property
    def output(self) -> Path:
        """The folder of the finished stage."""
        return self.recipe.output / self.stage.name

    @property
    def checkpoints(self) -> Path:
        """The folder of what it goes on from."""
        return checkpoint_folder(self.recipe, self.stage.name)

    def finished(self) -> StageResult | None:
        """Give the result of this very stage, if it was finished and not begun anew since."""
        begun = is_begun(self.checkpoints, self.facts)
        return None if begun else finished_result(self.output, self.facts)


def train_stage(recipe: Recipe, name: str, signals: StopSignals, *, resume: bool) -> StageResult:
    """Train one stage and write its output folder in one step."""
    run = StageRun.of(recipe, name)
    finished = ranks.from_first(lambda: run.finished() if resume else None)
    if finished is not None:
        console.print(f"{name}: finished before, skipped")
        return finished
    last = ranks.from_first(lambda: checkpoint_to_resume(run.checkpoints, run.facts, resume=resume))
    return _train_from(run, last, signals)


def _train_from(run: StageRun, last: Path | None, signals: StopSignals) -> StageResult:
    started = time.perf_counter()
    set_seed(run.recipe.seed)
    with ranks.synchronized():
        model = _prepare(run)
    adapters = apply_stage(model, run.stage, run.section.lora)
    _show(model, run.stage)
    processor = build_processor(run.recipe.model)
    bar = TrainingBar(run.stage.name)
    saves = SavePoints(signals, run.recipe.save_minutes, run.section.save_steps)
    callbacks = [*_callbacks(run, bar), saves]
    trainer = build_trainer(run.recipe, run.section, run.stage, model, processor, callbacks)
    with bar, ranks.ends_with_the_others():
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        weights = trained_weights(trainer.model) if is_sharded(trainer.model) else None

    def hand_over() -> StageResult:
        # Where ranks hold shards of the model, the first one builds it anew to write it alone.
        whole = (model, adapters) if weights is None else _prepare_with(run, weights)
        return _hand_over(run, *whole, processor, started)

    return ranks.from_first(hand_over)


def _prepare_with(
    run: StageRun, weights: dict[str, Tensor]
) -> tuple[PreTrainedModel, PeftModel | None]:
    model = _prepare(run)
    adapters = apply_stage(model, run.stage, run.section.lora)
    load_trained(model, weights)
    return model, adapters


def _hand_over(
    run: StageRun,
    model: PreTrainedModel,
    adapters: PeftModel | None,
    processor: PanoVLMProcessor,
    started: float,
) -> StageResult:
    """Write what a stage has trained, whole and, where it has adapters, these alone too."""
    restore_vision_encoder(model, run.recipe.model)
    log = read_log(log_file(run.recipe, run.stage.name))
    result = result_of(run.stage.name, log, time.perf_counter() - started)
    kept = None
    if adapters is not None:
        kept = run.checkpoints / ADAPTER
        language_model = run.recipe.model.language_model
        origin = {"language_model": language_model, "base": run.facts["starts_from"]}
        write_adapters(adapters, model, kept, origin)
        model = _merged(run, model, adapters, kept)
    write_output(run.output, model, processor, run.facts | {"result": vars(result)}, kept)
    finish(run.output, run.checkpoints)
    return result


def _merged(
    run: StageRun, model: PreTrainedModel, adapters: PeftModel, kept: Path
) -> PreTrainedModel:
    """Merge adapters into the language model's weights as they were, whatever held them since."""
    if run.section.lora is not None and run.section.lora.quantization is not None:
        model = _prepare(run)
        adapters = read_adapters(model, kept)
    adapters.merge_and_unload()
    return model


def derive(stage: Stage, section: StageSection) -> Stage:
    """Give the variant of a stage that its section of a recipe asks for."""
    if section.lora is None:
        stage = stage.without_lora()
    if section.from_backbones:
        stage = stage.from_backbones()
    return stage.with_last_vision_layers(section.vision_layers)


def _prepare(run: StageRun) -> PreTrainedModel:
    """Build the model of a stage with what the stage before hands over."""
    recipe, stage = run.recipe, run.stage
    model = build_model(recipe.model, stage, run.section.overlap)
    if stage.starts_from is not None:
        folder = recipe.output / stage.starts_from
        _check_same_eyes(recipe, folder)
        count = load_predecessor(model, stage, STAGES[stage.starts_from], folder)
        console.print(f"{stage.name}: {count} tensors handed over from {folder}")
    return model


def _check_same_eyes(recipe: Recipe, folder: Path) -> None:
    """Check that the stage before read the same views with the same encoder."""
    if not (folder / STAGE_FACTS).is_file():
        return  # `load_predecessor` says that it is missing
    before = json.loads((folder / STAGE_FACTS).read_text())["model"]
    now = recipe.model.model_dump(mode="json")
    for key in ("vision_encoder", "views", "resampler"):
        if before[key] != now[key]:
            raise PanoVLMError(
                f"{folder} was trained with model.{key} = {before[key]}, this recipe has "
                f"{now[key]}; train that stage again, or go back to its settings"
            )


def _show(model: PreTrainedModel, stage: Stage) -> None:
    rows = [
        [entry.module, entry.role_text, f"{entry.num_parameters:,}", f"{entry.num_trained:,}"]
        for entry in report(model, stage)
    ]
    header = ["module", "role", "parameters", "trained"]
    show_table(f"stage {stage.name}: {stage.objective.value}", header, rows)


def _callbacks(run: StageRun, bar: TrainingBar) -> list[TrainerCallback]:
    if not ranks.is_first():
        return []
    recipe, name = run.recipe, run.stage.name
    callbacks: list[TrainerCallback] = [JsonLog(log_file(recipe, name)), bar]
    if recipe.tensorboard:
        from torch.utils.tensorboard import SummaryWriter  # of the extra `logs`

        folder = recipe.output / "logs" / "tensorboard" / name
        callbacks.append(TensorBoardCallback(SummaryWriter(str(folder))))
    return callbacks


def log_file(recipe: Recipe, name: str) -> Path:
    """Give the file of a stage's log entries."""
    return recipe.output / "logs" / f"{name}.jsonl"
