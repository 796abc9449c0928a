"""Runs the stages of a recipe, each from the one before, and leaves a folder for each.

output/vision, output/resampler, output/finetune   finished stages, loadable with from_pretrained
output/checkpoints/<stage>/checkpoint-<step>       to resume a stage; removed when it is finished
output/logs/<stage>.jsonl                          every log entry
"""

import json
import logging
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from panovlm.backbones.folders import cache_folder, sha256
from panovlm.data.cache import PatchTokenCache, ViewSource
from panovlm.data.datasets import PanoramaCollator, PanoramaDataset
from panovlm.data.records import Record, raise_faults, read_records
from panovlm.measure import peak_memory_mb
from panovlm.model.errors import PanoVLMError
from panovlm.model.panorama import panorama_fault
from panovlm.model.processing import PanoVLMProcessor
from panovlm.precision import uses_bf16
from panovlm.progress import console, progress_bar, show_table
from panovlm.stages import STAGES, Objective, Stage, Supervision
from panovlm.training.build import build_model, build_processor, load_predecessor
from panovlm.training.diagnosing import Diagnosis, hold_out
from panovlm.training.progress import TrainingBar
from panovlm.training.recipe import OverlapSection, Recipe, StageSection
from panovlm.training.trainable import apply_stage, report
from panovlm.training.trainer import JsonLog, StageTrainer, read_log

logger = logging.getLogger(__name__)

STAGE_FACTS = "stage.json"
ENCODING_BATCH, GPU_ENCODING_BATCH = 1, 16


@dataclass(frozen=True)
class StageResult:
    """What a finished stage reports.

    Attributes:
        stage: Its name.
        loss_first: The first logged loss.
        loss_last: Mean of the losses logged in the last tenth of the steps.
        seconds: Wall time of the stage, encoding included.
        peak_memory_mb: The most memory the process held by its end, in MiB.
    """

    stage: str
    loss_first: float
    loss_last: float
    seconds: float
    peak_memory_mb: float


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
    check_data(recipe, chosen)
    return [train_stage(recipe, name, resume=resume) for name in chosen]


def check_data(recipe: Recipe, names: list[str]) -> None:
    """Check the records and pictures of all stages before the first one starts.

    Raises:
        PanoVLMError: Listing every fault of every file.
    """
    faults: list[str] = []
    pictures: dict[Path, None] = {}
    for name in names:
        needs_text = STAGES[name].supervision is not Supervision.NONE
        try:
            records = read_records(recipe.section(name).data, needs_text=needs_text)
            pictures |= dict.fromkeys(record.image for record in records)
        except PanoVLMError as fault:
            faults.append(str(fault))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        faults += [fault for fault in pool.map(panorama_fault, pictures) if fault]
    raise_faults(f"the data of {', '.join(names)}", dict.fromkeys(faults))


def train_stage(recipe: Recipe, name: str, *, resume: bool) -> StageResult:
    """Train one stage and write its output folder in one step."""
    section, output = recipe.section(name), recipe.output / name
    stage = derive(STAGES[name], section)
    facts = _resolved(recipe, section, stage)
    if resume and (finished := _finished(output, facts)):
        console.print(f"{name}: finished before, skipped")
        return finished
    last = _checkpoint_to_resume(recipe, name, facts, resume=resume)
    started = time.perf_counter()
    set_seed(recipe.seed)
    model = _prepare(recipe, stage)
    adapters = apply_stage(model, stage, section.lora)
    _show(model, stage)
    processor = build_processor(recipe.model)
    bar = TrainingBar(name)
    callbacks = _callbacks(recipe, stage, bar, resume=resume)
    trainer = _trainer(recipe, section, stage, model, processor, callbacks)
    with bar:
        trainer.train(resume_from_checkpoint=last)
    if adapters is not None:
        adapters.merge_and_unload()
    log = read_log(_log_file(recipe, name))
    result = _result(name, log, time.perf_counter() - started)
    _write_output(output, model, processor, facts | {"result": vars(result)})
    shutil.rmtree(_checkpoints(recipe, name))
    return result


def derive(stage: Stage, section: StageSection) -> Stage:
    """Give the variant of a stage that its section of a recipe asks for."""
    if section.lora is None:
        stage = stage.without_lora()
    return stage.with_last_vision_layers(section.vision_layers)


def load_result(output: Path, name: str) -> StageResult:
    """Read what a finished stage reported."""
    return StageResult(**json.loads((output / name / STAGE_FACTS).read_text())["result"])


def _checkpoints(recipe: Recipe, name: str) -> Path:
    return recipe.output / "checkpoints" / name


def _last_whole_checkpoint(folder: Path) -> str | None:
    """Give the newest checkpoint whose last file is there: a kill may have cut one short."""
    steps = {
        int(path.parent.name.split("-")[-1]): path.parent
        for path in folder.glob("checkpoint-*/trainer_state.json")
    }
    return str(steps[max(steps)]) if steps else None


def _checkpoint_to_resume(
    recipe: Recipe, name: str, facts: dict[str, Any], *, resume: bool
) -> str | None:
    """Find the checkpoint to continue; never mix an unfinished run with another."""
    folder = _checkpoints(recipe, name)
    last = _last_whole_checkpoint(folder)
    if last and not resume:
        raise PanoVLMError(
            f"found an unfinished run of stage {name!r} in {folder}; add --resume to continue it, "
            f"or remove that folder to begin anew"
        )
    settings = folder / STAGE_FACTS
    if last and json.loads(settings.read_text()) != facts:
        raise PanoVLMError(
            f"the unfinished run in {folder} was started with other settings; continue with the "
            f"same recipe, or remove that folder to begin anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(facts, indent=2) + "\n")
    return last


def _prepare(recipe: Recipe, stage: Stage) -> PreTrainedModel:
    model = build_model(recipe.model, stage, recipe.section(stage.name).overlap)
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


def _trainer(
    recipe: Recipe,
    section: StageSection,
    stage: Stage,
    model: PreTrainedModel,
    processor: PanoVLMProcessor,
    callbacks: list[TrainerCallback],
) -> StageTrainer:
    bf16 = uses_bf16(recipe.precision)
    records = read_records(section.data, needs_text=stage.supervision is not Supervision.NONE)
    source = _view_source(model, processor, records, stage, bf16=bf16)
    overlap = section.overlap or OverlapSection()
    share = overlap.held_out if stage.objective is Objective.VICREG_OVERLAP else 0.0
    held_out, records = hold_out(records, share, recipe.seed)
    dataset = PanoramaDataset(
        records,
        source,
        processor,
        stage.supervision,
        section.questions_per_panorama,
        roll=section.roll,
        seed=recipe.seed,
    )
    dataset.check_lengths(_longest(model))
    trainer = StageTrainer(
        model=model,
        args=_arguments(recipe, section, stage, bf16=bf16),
        train_dataset=dataset,
        data_collator=PanoramaCollator(source.key, processor.tokenizer.pad_token_id),
        learning_rates=section.learning_rate,
        callbacks=callbacks,
    )
    if held_out:
        trainer.add_callback(Diagnosis(trainer.scalars, held_out, source, overlap.diagnose_every))
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    return trainer


def _callbacks(
    recipe: Recipe, stage: Stage, bar: TrainingBar, *, resume: bool
) -> list[TrainerCallback]:
    callbacks = [
        JsonLog(_log_file(recipe, stage.name), resumes=resume),
        bar,
    ]
    if recipe.tensorboard:
        from torch.utils.tensorboard import SummaryWriter  # of the extra `logs`

        folder = recipe.output / "logs" / "tensorboard" / stage.name
        callbacks.append(TensorBoardCallback(SummaryWriter(str(folder))))
    return callbacks


def _view_source(
    model: PreTrainedModel,
    processor: PanoVLMProcessor,
    records: list[Record],
    stage: Stage,
    *,
    bf16: bool,
) -> PatchTokenCache | ViewSource:
    """Encode every picture once, unless the encoder itself trains."""
    if stage.num_vision_layers:
        console.print(f"{stage.name}: the vision encoder trains, so its outputs are not cached")
        return ViewSource(processor.image_processor)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = PatchTokenCache(
        cache_folder() / "patch-tokens",
        model.model.vision_encoder.to(device),
        processor.image_processor,
        use_bf16=bf16,
    )
    faults = fill_cache(cache, [record.image for record in records])
    raise_faults(f"pictures of stage {stage.name}", faults)
    return cache


def fill_cache(cache: PatchTokenCache, pictures: list[Path]) -> list[str]:
    """Encode what is missing from a cache under a progress bar; give the faulty pictures."""
    absent = [picture for picture in dict.fromkeys(pictures) if not picture.is_file()]
    faults = [
        f"{picture}: no such picture; correct `image` or restore the file" for picture in absent
    ]
    if faults:
        return faults
    missing = cache.missing(pictures)
    if not missing:
        return []
    with progress_bar("vision encoder: reading panoramas once", len(missing)) as advance:
        is_fast = cache.encoder.device.type != "cpu"
        return cache.fill(missing, GPU_ENCODING_BATCH if is_fast else ENCODING_BATCH, advance)


def _longest(model: PreTrainedModel) -> int:
    """Give the longest sequence the language model reads; stage 1 has none."""
    text: int = model.config.text_config.max_position_embeddings
    return text


def _arguments(
    recipe: Recipe, section: StageSection, stage: Stage, *, bf16: bool
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(_checkpoints(recipe, stage.name)),
        max_steps=section.steps,
        per_device_train_batch_size=section.batch_size,
        gradient_accumulation_steps=section.accumulation,
        warmup_steps=round(section.warmup * section.steps),
        weight_decay=section.weight_decay,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        bf16=bf16,
        seed=recipe.seed,
        save_steps=section.save_steps or max(section.steps // 2, 1),
        save_total_limit=2,
        logging_steps=max(section.steps // 50, 1),
        logging_first_step=True,
        remove_unused_columns=False,  # the collator needs fields that no `forward` takes
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _log_file(recipe: Recipe, name: str) -> Path:
    return recipe.output / "logs" / f"{name}.jsonl"


def _result(name: str, log: list[dict[str, Any]], seconds: float) -> StageResult:
    last_steps = [entry["loss"] for entry in log if entry["step"] > 0.9 * log[-1]["step"]]
    loss_last = sum(last_steps) / len(last_steps)
    return StageResult(name, log[0]["loss"], loss_last, seconds, peak_memory_mb())


def _resolved(recipe: Recipe, section: StageSection, stage: Stage) -> dict[str, Any]:
    """Give what fixes a stage's outcome, as plain data: settings, records and the stage before."""
    before = recipe.output / (stage.starts_from or "") / STAGE_FACTS
    return {
        "records": sha256(section.data),
        "starts_from": sha256(before) if stage.starts_from and before.is_file() else None,
        "model": recipe.model.model_dump(mode="json"),
        "section": section.model_dump(mode="json"),
        "seed": recipe.seed,
        "precision": recipe.precision,
    }


def _finished(output: Path, facts: dict[str, Any]) -> StageResult | None:
    """Give the result of a stage that was finished with the same settings."""
    file = output / STAGE_FACTS
    if not file.is_file():
        return None
    stored = json.loads(file.read_text())
    result = StageResult(**stored.pop("result"))
    return result if stored == facts else None


def _write_output(
    output: Path, model: PreTrainedModel, processor: PanoVLMProcessor, facts: dict[str, Any]
) -> None:
    """Write a stage's folder beside its place, then move it there."""
    partial = output.with_name(f".{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial, max_shard_size="100GB")
    processor.save_pretrained(partial)
    (partial / STAGE_FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    if output.exists():
        replaced = output.with_name(f".{output.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(output, replaced)
        os.replace(partial, output)
        shutil.rmtree(replaced)
    else:
        os.replace(partial, output)
