"""How the layers of a model are computed: which attention is fastest, and what is compiled.

PyTorch's fused attention saves memory everywhere, but its backward pass on CPUs in bf16 can take
several times as long as plain matrix products on short sequences; on long ones it wins. So both are
timed on what is about to be trained on.
"""

import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, Trainer
from transformers.modeling_layers import GradientCheckpointingLayer

from panovlm.model.masks import attention_masks
from panovlm.runtime.files import write_whole
from panovlm.runtime.measure import device_memory_mb
from panovlm.training import ranks
from panovlm.training.disk import disk_errors
from panovlm.training.packed_attention import FUSED, PLAIN, by_example, num_scores, plain_up_to

TIMED_EXAMPLES = 4
NUM_TIMINGS = 2
MOST_TIME = 0.95
"""The plain one, which needs more memory, is used if it takes at most this share of the fused
one's time."""
MOST_SCORE_SHARE = 0.25
"""Of the machine's memory: the plain one keeps the scores of all layers for the backward pass, and
batches where these take more are left to the fused one."""
SCORE_BYTES = 8
"""In float32, and as they were."""
CHOICE_FILE = "attention.txt"
"""Beside a stage's checkpoints."""


def set_attention(
    trainer: Trainer,
    attention: str,
    *,
    can_time: bool,
    is_packed: bool = False,
    resumes: bool = False,
) -> str | None:
    """Set the attention of a trainer's language model, as a recipe names it.

    A choice is kept beside the checkpoints. After a resume, the clock might prefer the other one,
    whose results differ by rounding.

    Args:
        trainer: Ready to train.
        attention: `auto` chooses by the trainer's first examples.
        can_time: Whether they tell the speed. On accelerators, the fused one stays.
        is_packed: Whether several examples of a sequence are to be computed apart.
        resumes: Whether the stage goes on from a checkpoint, with the choice kept there.

    Returns:
        The name of the one chosen by its speed; None if none was to be chosen.
    """
    language_model = trainer.model.model.language_model
    if attention == "auto" and can_time and not torch.cuda.is_available():
        chosen = ranks.run_on_first(lambda: _kept_choice(trainer, is_packed, resumes))
        language_model.set_attn_implementation(_implementations(language_model, is_packed)[chosen])
        return chosen
    name = language_model.config._attn_implementation if attention == "auto" else attention
    language_model.set_attn_implementation(by_example(name) if is_packed else name)
    return None


def _kept_choice(trainer: Trainer, is_packed: bool, resumes: bool) -> str:
    """Return what was chosen when the stage began, or choose now and keep that."""
    file = Path(trainer.args.output_dir) / CHOICE_FILE
    if resumes and file.is_file():
        return file.read_text()
    first = islice(trainer._get_train_sampler(), TIMED_EXAMPLES)
    batch = trainer.data_collator([trainer.train_dataset[key] for key in first])
    language_model = trainer.model.model.language_model
    chosen = use_fastest_attention(language_model, batch, is_packed=is_packed)
    with disk_errors(f"write to {file.parent}"):
        write_whole(file, lambda partial: partial.write_text(chosen))
    return chosen


def kept_score_bytes(
    attention: str, text_config: PreTrainedConfig, num_scores: int, *, can_time: bool
) -> int:
    """Return the most bytes of scores that a batch keeps for the backward pass.

    Args:
        attention: As a recipe names it.
        text_config: Of the language model.
        num_scores: Of one head of a layer.
        can_time: Whether `auto` may choose the plain one; see `set_attention`.
    """
    num_bytes = num_scores * _bytes_per_score(text_config)
    if attention == PLAIN:
        return num_bytes
    is_timed = attention == "auto" and can_time and not torch.cuda.is_available()
    return min(num_bytes, _most_score_bytes()) if is_timed else 0


def compile_layers(model: PreTrainedModel, **options: Any) -> None:
    """Compile the layers of the resampler and the language model, in place.

    Layers of one kind share their compiled code, for any length of a sequence. Names of parameters
    stay, so that checkpoints fit models that are not compiled.

    Args:
        model: Of any stage.
        **options: Of `torch.compile`.
    """
    parts = [model.model.resampler, getattr(model.model, "language_model", None)]
    for layer in (each for part in parts if part is not None for each in layers_of(part)):
        layer.compile(dynamic=True, **options)


def layers_of(part: nn.Module) -> list[nn.Module]:
    """Return the layers that a module repeats: those that can be checkpointed."""
    found = [each for each in part.modules() if isinstance(each, GradientCheckpointingLayer)]
    inner = {child for layer in found for child in layer.modules() if child is not layer}
    return [layer for layer in found if layer not in inner]


def use_fastest_attention(
    language_model: PreTrainedModel, batch: dict[str, Any], *, is_packed: bool = False
) -> str:
    """Choose a language model's attention by timing it on a batch.

    Args:
        language_model: Ready to train.
        batch: `input_ids` [B, L]; with branches also `attention_mask` and `position_ids`.
        is_packed: Whether several examples of a sequence are to be computed apart.

    Returns:
        The name of the implementation, which is set.
    """
    num = num_scores(batch.get("packed_examples"), *batch["input_ids"].shape)
    own = _implementations(language_model, is_packed)
    fits = num <= _most_scores(language_model)
    chosen = _fastest(language_model, batch, own) if fits else FUSED
    language_model.set_attn_implementation(own[chosen])
    return chosen


def _implementations(language_model: PreTrainedModel, is_packed: bool) -> dict[str, str]:
    """Return the names of both to choose from, as the language model's attention takes them."""
    return {
        PLAIN: plain_up_to(_most_scores(language_model), is_packed=is_packed),
        FUSED: by_example(FUSED) if is_packed else FUSED,
    }


def _most_scores(language_model: PreTrainedModel) -> int:
    """Return how many scores of one head of a layer the plain one may keep."""
    return _most_score_bytes() // _bytes_per_score(language_model.config)


def _most_score_bytes() -> int:
    return int(MOST_SCORE_SHARE * device_memory_mb() * 2**20)


def _bytes_per_score(text_config: PreTrainedConfig) -> int:
    """Return the bytes of one score of every head of every layer."""
    return SCORE_BYTES * text_config.num_hidden_layers * text_config.num_attention_heads


def _fastest(language_model: PreTrainedModel, batch: dict[str, Any], own: dict[str, str]) -> str:
    best, num_threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)
    for name, implementation in own.items():
        language_model.set_attn_implementation(implementation)
        best[name] = min(_seconds(language_model, batch) for _ in range(NUM_TIMINGS))
    torch.set_num_threads(num_threads)
    return PLAIN if best[PLAIN] <= MOST_TIME * best[FUSED] else FUSED


def _seconds(language_model: PreTrainedModel, batch: dict[str, Any]) -> float:
    """Time a forward and backward pass; no parameter gets a gradient, no random state changes.

    That is a single thread's own processor time, so that the choice is the same on a busy machine.
    """
    weight = language_model.get_input_embeddings().weight
    embeddings = torch.zeros(*batch["input_ids"].shape, weight.shape[1], dtype=weight.dtype)
    positions, config = batch.get("position_ids"), language_model.config
    mask = attention_masks(batch.get("attention_mask"), positions, config, weight.dtype)
    with torch.random.fork_rng(devices=[]), torch.autocast("cpu", torch.bfloat16):
        started = time.thread_time()
        hidden = language_model(
            inputs_embeds=embeddings.requires_grad_(),
            attention_mask=mask,
            position_ids=positions,
            packed_examples=batch.get("packed_examples"),
            use_cache=False,
        ).last_hidden_state
        torch.autograd.grad(hidden.float().sum(), embeddings)
        return time.thread_time() - started
