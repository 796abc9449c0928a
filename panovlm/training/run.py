"""Runs the stages of a recipe, each from the one before, and leaves a folder for each.

output/vision, output/resampler, output/finetune   finished stages, loadable with from_pretrained
output/finetune/adapter                            what the stage with adapters trained, alone
output/checkpoints/<stage>/checkpoint-<step>       to resume a stage; removed when it is finished
output/logs/<stage>.jsonl                          every log entry

A run may be killed at any moment and continues with `resume`: docs/concepts/resuming.md lists the
moments.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, set_seed
from transformers.integrations.fsdp import is_fsdp_enabled

from panovlm.errors import PanoVLMError
from panovlm.runtime.allocator import release_freed_memory
from panovlm.runtime.files import check_output
from panovlm.runtime.progress import console, show_table
from panovlm.stages import STAGES, Stage
from panovlm.training import ranks
from panovlm.training.adapters import (
    ADAPTER,
    read_adapters,
    without_input_copies,
    write_adapters,
)
from panovlm.training.assembly import build_trainer
from panovlm.training.attention import compile_layers, set_attention
from panovlm.training.build import (
    build_model,
    load_predecessor,
    restore_vision_encoder,
)
from panovlm.training.checkpoints import (
    check_unfinished,
    checkpoint_folder,
    checkpoint_to_resume,
    is_begun,
)
from panovlm.training.checks import check_data, check_schedule
from panovlm.training.disk import exclusive_lock
from panovlm.training.log import JsonLog, is_log
from panovlm.training.outputs import (
    STAGE_FACTS,
    StageResult,
    check_own,
    finished_result,
    publish_output,
    recover_output,
    result_of,
    write_output,
)
from panovlm.training.progress import TrainingBar
from panovlm.training.pushing import prepare_repositories, push_stage
from panovlm.training.recipe import Recipe
from panovlm.training.saving import SavePoints, StopSignals
from panovlm.training.sharded import is_sharded, load_trained, trained_weights
from panovlm.training.stage_data import resolve_steps
from panovlm.training.stage_run import StageRun
from panovlm.training.trackers import trackers
from panovlm.training.trainable import apply_stage, hold_frozen, report


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
    ranks.initialize()
    ranks.check_devices()
    with StopSignals() as signals, ExitStack() as stack:
        ranks.run_on_first(lambda: _check_outputs(recipe, chosen))
        recipe = check_data(recipe, chosen)
        with ranks.synchronized():
            recipe = resolve_steps(recipe, chosen)
            for run in (StageRun(recipe, name) for name in chosen):
                check_schedule(run)
                # The stage before, which may train now, is not compared yet.
                facts = run.facts
                check_unfinished(run.checkpoints, facts, resume=resume, but=["starts_from"])
        ranks.run_on_first(lambda: _prepare_output(recipe, stack))
        ranks.run_on_first(lambda: prepare_repositories(recipe, chosen))
        return [train_stage(recipe, name, signals, resume=resume) for name in chosen]


def _check_outputs(recipe: Recipe, names: Sequence[str]) -> None:
    """Refuse to train stages that would replace what no run wrote."""
    for name in names:
        check_own(recipe.output / name, checkpoint_folder(recipe, name))
        check_output(log_file(recipe, name), is_log)


def _prepare_output(recipe: Recipe, stack: ExitStack) -> None:
    """Lock the output against other runs, and complete what a killed one left there."""
    stack.enter_context(exclusive_lock(recipe.output))
    for name in STAGES:
        recover_output(recipe.output / name, checkpoint_folder(recipe, name))


def train_stage(recipe: Recipe, name: str, signals: StopSignals, *, resume: bool) -> StageResult:
    """Train one stage and write its output folder atomically."""
    run = StageRun(recipe, name)
    finished = ranks.run_on_first(lambda: _finished(run) if resume else None)
    if finished is not None:
        console.print(f"{name}: finished before, skipped")
    else:
        checkpoint = ranks.run_on_first(
            lambda: checkpoint_to_resume(run.checkpoints, run.facts, resume=resume)
        )
        finished = _train_from(run, checkpoint, signals)
        release_freed_memory()
    ranks.run_on_first(lambda: push_stage(recipe, name))
    return finished


def _finished(run: StageRun) -> StageResult | None:
    """Return the result, if the stage was finished with these facts and not begun again."""
    begun = is_begun(run.checkpoints, run.facts)
    return None if begun else finished_result(run.output, run.facts)


def _train_from(run: StageRun, checkpoint: Path | None, signals: StopSignals) -> StageResult:
    started = time.perf_counter()
    set_seed(run.recipe.seed)
    with ranks.synchronized():
        model, adapters = _build(run)
    _show(model, run.stage)
    # Sharding wants all weights of a layer in one type, trained adapters among them.
    is_held_in_bf16 = run.bf16 and not is_fsdp_enabled()
    if is_held_in_bf16:
        hold_frozen(model, torch.bfloat16)
    bar = TrainingBar(run.name)
    saves = SavePoints(signals, run.recipe.save_minutes, run.section.save_steps)
    callbacks = [*_callbacks(run, bar), saves]
    trainer = build_trainer(run, model, callbacks)
    can_time = is_held_in_bf16 and not run.is_stream
    longest_plain = None
    if not run.is_on_overlaps:
        longest_plain = set_attention(
            trainer,
            run.recipe.attention,
            can_time=can_time,
            is_packed=run.section.tokens_per_sequence is not None and not run.recipe.compile,
            resumes=checkpoint is not None,
        )
    if longest_plain:
        console.print(f"{run.name}: attention is plain up to {longest_plain} tokens, faster here")
    if run.recipe.compile:
        compile_layers(model)
    # Without autocast, the inputs would not be of the adapters' type.
    inputs = without_input_copies(model, run.lora) if run.bf16 else nullcontext()
    with bar, ranks.quiet_after_others(), inputs:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        is_whole = not is_held_in_bf16 and not is_sharded(trainer.model)
        weights = None if is_whole else trained_weights(trainer.model)

    def write() -> StageResult:
        # Of shards and of frozen weights in bf16, the first rank builds the whole model again.
        whole = (model, adapters) if weights is None else _build(run, weights)
        return _write_stage(run, *whole, (trainer.kept_step, started))

    return ranks.run_on_first(write)


def _build(
    run: StageRun, weights: Mapping[str, Tensor] | None = None
) -> tuple[PreTrainedModel, PeftModel | None]:
    """Build a stage's model, ready to train, with trained weights if there are any."""
    model = _load_model(run)
    adapters = apply_stage(model, run.stage, run.lora)
    if weights is not None:
        load_trained(model, weights)
    return model, adapters


def _write_stage(
    run: StageRun,
    model: PreTrainedModel,
    adapters: PeftModel | None,
    trained: tuple[int | None, float],
) -> StageResult:
    """Write what a stage has trained: the whole model, and its adapters alone, if it has any.

    `trained` is the step whose weights are kept, and when the stage was started.
    """
    kept_step, started = trained
    restore_vision_encoder(model, run.recipe.model)
    log = log_file(run.recipe, run.name)
    result = result_of(run.name, log, kept_step, time.perf_counter() - started)
    folder = None
    if adapters is not None:
        folder = run.checkpoints / ADAPTER
        language_model = run.recipe.model.language_model
        origin = {"language_model": language_model, "base": run.facts["starts_from"] or ""}
        write_adapters(adapters, model, folder, origin)
        model = _merged(run, model, adapters, folder)
    write_output(run.output, model, run.processor, run.facts | {"result": vars(result)}, folder)
    publish_output(run.output, run.checkpoints)
    return result


def _merged(
    run: StageRun, model: PreTrainedModel, adapters: PeftModel, folder: Path
) -> PreTrainedModel:
    """Merge adapters into the language model's weights, in full precision if it was quantised."""
    if run.lora is not None and run.lora.quantization is not None:
        model = _load_model(run)
        adapters = read_adapters(model, folder)
    adapters.merge_and_unload()
    return model


def _load_model(run: StageRun) -> PreTrainedModel:
    """Build the model of a stage with the weights of the stage before."""
    recipe, stage, folder = run.recipe, run.stage, run.predecessor
    model = build_model(recipe.model, stage, run.section.overlap)
    if stage.starts_from is not None and folder is not None:
        facts = _facts_of_predecessor(recipe, folder)
        has_lora = facts is not None and facts["section"]["lora"] is not None
        before = STAGES[stage.starts_from]
        before = before.with_lora() if has_lora else before.without_lora()
        count = load_predecessor(model, stage, before, folder)
        console.print(f"{stage.name}: {count} tensors loaded from {folder}")
    return model


def _facts_of_predecessor(recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """Return what the stage before was trained with; it had the same encoder, views and resampler.

    None where the facts are missing: `load_predecessor` reports that.
    """
    if not (folder / STAGE_FACTS).is_file():
        return None
    facts: dict[str, Any] = json.loads((folder / STAGE_FACTS).read_text())
    now = recipe.model.model_dump(mode="json")
    for key in ("vision_encoder", "views", "resampler"):
        if facts["model"][key] != now[key]:
            raise PanoVLMError(
                f"{folder} was trained with model.{key} = {facts['model'][key]}, this recipe has "
                f"{now[key]}; train that stage again, or go back to its settings"
            )
    return facts


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
    return [JsonLog(log_file(run.recipe, run.name)), bar, *trackers(run)]


def log_file(recipe: Recipe, name: str) -> Path:
    """Return the file of a stage's log entries."""
    return recipe.output / "logs" / f"{name}.jsonl"
