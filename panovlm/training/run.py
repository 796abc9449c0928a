"""Runs the stages of a recipe, each from the one before, and leaves a folder for each.

output/vision, output/resampler, output/finetune   finished stages, loadable with from_pretrained
output/checkpoints/<stage>/checkpoint-<step>       to resume a stage; removed when it is finished
output/logs/<stage>.jsonl                          every log entry
"""

import json
import shutil
import time
from pathlib import Path

import torch
from transformers import PreTrainedModel, TrainerCallback, set_seed
from transformers.integrations import TensorBoardCallback

from panovlm.data.records import raise_faults, read_records
from panovlm.model.errors import PanoVLMError
from panovlm.progress import console, show_table
from panovlm.stages import STAGES, Stage, Supervision
from panovlm.training import ranks
from panovlm.training.assembly import build_trainer
from panovlm.training.build import build_model, build_processor, load_predecessor
from panovlm.training.checkpoints import checkpoint_folder, checkpoint_to_resume
from panovlm.training.outputs import (
    STAGE_FACTS,
    StageResult,
    finished_result,
    result_of,
    stage_facts,
    write_output,
)
from panovlm.training.progress import TrainingBar
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sources import check_pictures, prepare_pictures
from panovlm.training.trainable import apply_stage, report
from panovlm.training.trainer import JsonLog, read_log


def train(recipe: Recipe, stages: list[str], *, resume: bool) -> list[StageResult]:
    """Train stages in the table's order.

    Args:
        recipe: What to run.
        stages: Names of the stages.
        resume: Whether to skip finished stages and continue an unfinished one.

    Raises:
        PanoVLMError: For every fault a user can cure; outputs of earlier stages stay whole.
    """
    torch.set_flush_denormal(True)  # tiny gradients would slow the CPU many times over
    chosen = [name for name in STAGES if name in stages]
    ranks.join()
    check_data(recipe, chosen)
    return [train_stage(recipe, name, resume=resume) for name in chosen]


def check_data(recipe: Recipe, names: list[str]) -> None:
    """Check the records and pictures of all stages before the first one starts.

    Good pictures are encoded on the way, so that each is decoded once. Where a record is faulty,
    pictures are only decoded, as cheaply as possible: the list of faults shall come soon.

    Raises:
        PanoVLMError: Listing every fault of every file.
    """
    with ranks.together():
        sections = {name: recipe.section(name) for name in names}
        for section in sections.values():
            ranks.part_of_batch(section.batch_size)
    faults: list[str] = []
    pictures: dict[int, dict[Path, None]] = {}
    for name in names:
        needs_text = STAGES[name].supervision is not Supervision.NONE
        section = sections[name]
        try:
            records = read_records(section.data, needs_text=needs_text)
            of_stage = pictures.setdefault(section.vision_layers, {})
            of_stage |= dict.fromkeys(record.image for record in records)
        except PanoVLMError as fault:
            faults.append(str(fault))
    if faults:
        faults += check_pictures([*dict.fromkeys(p for each in pictures.values() for p in each)])
    else:
        faults += prepare_pictures(recipe, pictures)
    with ranks.together():
        raise_faults(f"the data of {', '.join(names)}", dict.fromkeys(faults))


def train_stage(recipe: Recipe, name: str, *, resume: bool) -> StageResult:
    """Train one stage and write its output folder in one step."""
    section, output = recipe.section(name), recipe.output / name
    stage = derive(STAGES[name], section)
    facts = stage_facts(recipe, section, stage)
    finished = ranks.from_first(lambda: finished_result(output, facts) if resume else None)
    if finished is not None:
        console.print(f"{name}: finished before, skipped")
        return finished
    last = ranks.from_first(lambda: checkpoint_to_resume(recipe, name, facts, resume=resume))
    started = time.perf_counter()
    set_seed(recipe.seed)
    with ranks.together():
        model = _prepare(recipe, stage)
    adapters = apply_stage(model, stage, section.lora)
    _show(model, stage)
    processor = build_processor(recipe.model)
    bar = TrainingBar(name)
    callbacks = _callbacks(recipe, stage, bar, resume=resume)
    trainer = build_trainer(recipe, section, stage, model, processor, callbacks)
    with bar, ranks.ends_with_the_others():
        trainer.train(resume_from_checkpoint=last)
    if adapters is not None:
        adapters.merge_and_unload()

    def finish() -> StageResult:
        log = read_log(log_file(recipe, name))
        result = result_of(name, log, time.perf_counter() - started)
        write_output(output, model, processor, facts | {"result": vars(result)})
        shutil.rmtree(checkpoint_folder(recipe, name))
        return result

    return ranks.from_first(finish)


def derive(stage: Stage, section: StageSection) -> Stage:
    """Give the variant of a stage that its section of a recipe asks for."""
    if section.lora is None:
        stage = stage.without_lora()
    return stage.with_last_vision_layers(section.vision_layers)


def _prepare(recipe: Recipe, stage: Stage) -> PreTrainedModel:
    model = build_model(recipe.model, stage)
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


def _callbacks(
    recipe: Recipe, stage: Stage, bar: TrainingBar, *, resume: bool
) -> list[TrainerCallback]:
    if not ranks.is_first():
        return []
    callbacks = [
        JsonLog(log_file(recipe, stage.name), resumes=resume),
        bar,
    ]
    if recipe.tensorboard:
        from torch.utils.tensorboard import SummaryWriter  # of the extra `logs`

        folder = recipe.output / "logs" / "tensorboard" / stage.name
        callbacks.append(TensorBoardCallback(SummaryWriter(str(folder))))
    return callbacks


def log_file(recipe: Recipe, name: str) -> Path:
    """Give the file of a stage's log entries."""
    return recipe.output / "logs" / f"{name}.jsonl"
