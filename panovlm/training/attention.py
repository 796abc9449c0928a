"""How the layers of a model are computed: which attention is fastest, and what is compiled.

PyTorch's fused attention saves memory everywhere, but its backward pass on CPUs in bf16 can take
several times as long as plain matrix products on short sequences; on long ones it wins. So both are
timed at several lengths, and each batch has the faster one for its own.
"""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, Trainer
from transformers.modeling_layers import GradientCheckpointingLayer

from panovlm.runtime.files import write_whole
from panovlm.runtime.measure import device_memory_mb
from panovlm.training import ranks
from panovlm.training.disk import disk_errors
from panovlm.training.packed_attention import (
    FUSED,
    PLAIN,
    by_example,
    library_attention,
    plain_up_to,
)

TIMED_LENGTHS = (128, 256, 384, 512, 640, 768, 1024)
TIMED_ROWS, NUM_TIMINGS = 4, 3
MOST_TIME = 0.95
"""The plain one, which needs more memory, is used if it takes at most this share of the fused
one's time."""
MOST_SCORE_SHARE = 0.25
"""Of the machine's memory: the plain one keeps the scores of all layers for the backward pass, and
batches where these take more are left to the fused one."""
SCORE_BYTES = 8
"""In float32, and as they were."""
LENGTH_FILE = "plain_attention_up_to.txt"
"""Beside a stage's checkpoints."""


def set_attention(
    trainer: Trainer,
    attention: str,
    *,
    can_time: bool,
    is_packed: bool = False,
    resumes: bool = False,
) -> int | None:
    """Set the attention of a trainer's language model, as a recipe names it.

    What was found by the clock is kept beside the checkpoints. After a resume, it might find
    another length, and where the attention changes, results differ by rounding.

    Args:
        trainer: Ready to train.
        attention: `auto` is the faster one for each length.
        can_time: Whether that is to be found. On accelerators, the fused one stays.
        is_packed: Whether several examples of a sequence are to be computed apart.
        resumes: Whether the stage goes on from a checkpoint, with what was kept there.

    Returns:
        The tokens up to which attention is plain; None if that was not to be found.
    """
    language_model = trainer.model.model.language_model
    if _is_timed(attention, can_time):
        longest = ranks.run_on_first(lambda: _kept_length(trainer, resumes))
        use_plain_up_to(longest, language_model, is_packed=is_packed)
        return longest
    name = language_model.config._attn_implementation if attention == "auto" else attention
    language_model.set_attn_implementation(by_example(name) if is_packed else name)
    return None


def _kept_length(trainer: Trainer, resumes: bool) -> int:
    """Return what was found when the stage began, or find it now and keep it."""
    file = Path(trainer.args.output_dir) / LENGTH_FILE
    if resumes and file.is_file():
        return int(file.read_text())
    longest = longest_plain(trainer.model.model.language_model)
    with disk_errors(f"write to {file.parent}"):
        write_whole(file, lambda partial: partial.write_text(str(longest)))
    return longest


def use_plain_up_to(
    longest: int, language_model: PreTrainedModel, *, is_packed: bool = False
) -> None:
    """Set an attention that is plain up to a number of tokens, where memory allows, then fused."""
    name = by_example(FUSED) if is_packed else FUSED
    if longest:  # or the fused one needs no mask where each row is one example
        most_scores = _most_score_bytes() // _bytes_per_score(language_model.config)
        name = plain_up_to(longest, most_scores, is_packed=is_packed)
    language_model.set_attn_implementation(name)


def kept_score_bytes(
    attention: str, text_config: PreTrainedConfig, num_scores: int, *, can_time: bool
) -> int:
    """Return the most bytes of scores that a batch keeps for the backward pass.

    Args:
        attention: As a recipe names it.
        text_config: Of the language model.
        num_scores: Of one head of a layer.
        can_time: Whether `auto` may be plain; see `set_attention`.
    """
    num_bytes = num_scores * _bytes_per_score(text_config)
    if attention == PLAIN:
        return num_bytes
    return min(num_bytes, _most_score_bytes()) if _is_timed(attention, can_time) else 0


def _is_timed(attention: str, can_time: bool) -> bool:
    return attention == "auto" and can_time and not torch.cuda.is_available()


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


def _most_score_bytes() -> int:
    return int(MOST_SCORE_SHARE * device_memory_mb() * 2**20)


def _bytes_per_score(text_config: PreTrainedConfig) -> int:
    """Return the bytes of one score of every head of every layer."""
    return SCORE_BYTES * text_config.num_hidden_layers * text_config.num_attention_heads


def longest_plain(language_model: PreTrainedModel) -> int:
    """Return the tokens up to which plain attention is clearly faster here; 0 if it never is."""
    longest = 0
    for length in TIMED_LENGTHS:
        plain, fused = (seconds(language_model, name, length) for name in (PLAIN, FUSED))
        if plain > MOST_TIME * fused:
            break
        longest = length
    return longest


def seconds(language_model: PreTrainedModel, name: str, length: int) -> float:
    """Time the attention of one layer, forward and backward, in bf16; the best of some times."""
    config, module = language_model.config, _attention_of(language_model)
    heads, width = config.num_attention_heads, module.head_dim
    query, *others = (
        torch.zeros(TIMED_ROWS, count, length, width, dtype=torch.bfloat16, requires_grad=True)
        for count in (heads, config.num_key_value_heads, config.num_key_value_heads)
    )
    mask = torch.full((1, 1, length, length), torch.finfo(query.dtype).min, dtype=query.dtype)
    given, found = (query, *others, mask.triu(1)), []
    for _ in range(NUM_TIMINGS):
        started = time.perf_counter()
        output = library_attention(name, module)(module, *given, scaling=width**-0.5)[0]
        torch.autograd.grad(output.sum(), (query, *others))
        found.append(time.perf_counter() - started)
    return min(found)


def _attention_of(language_model: PreTrainedModel) -> Any:
    """Return the attention of the first layer."""
    layer = layers_of(language_model)[0]
    return next(each for each in layer.modules() if hasattr(each, "num_key_value_groups"))
