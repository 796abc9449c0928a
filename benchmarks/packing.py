"""Tokens a second of training: packed sequences beside batches of single examples, in one run.

    python benchmarks/packing.py --json OUT --docs docs/lab/training_speed.md

Whole steps of stage `finetune` with random models of the size of SigLIP-base, whose outputs are
cached, and SmolLM2-135M. Every way reads the same examples, of lengths as `padding.py` samples
them, and counts their tokens alone, so that padding is no work done. Attention is chosen as
training chooses it.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padding import Lengths, batch_padding, in_batches, sampled_lengths
from panovlm.data.datasets import Example, PanoramaCollator
from panovlm.data.packing import IGNORED, TokenSequence, join, pack
from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.runtime.allocator import keep_freed_memory
from panovlm.runtime.arithmetic import uses_bf16
from panovlm.stages import STAGES
from panovlm.training.adapters import without_input_copies
from panovlm.training.attention import longest_plain, use_plain_up_to
from panovlm.training.packed_attention import FUSED, by_example
from panovlm.training.sampler import SequenceSampler
from panovlm.training.trainable import apply_stage, hold_frozen
from reporting import Table, markdown, print_tables, put_between_markers, software
from training import environment
from training_sides import LORA, built, panovlm_config

SUPERVISED_SHARE = 0.5  # of the text
LEARNING_RATE = 1e-4
FULL_BATCH = 512
"""Tokens that an example of a batch stands for, when sequences of a budget are counted."""


@dataclass
class Way:
    """How examples become batches: the examples of each sequence of each batch, and the figures."""

    name: str
    batches: list[list[tuple[int, ...]]]

    def padding(self, lengths: np.ndarray) -> float:
        """Return the share of padding."""
        sequences = ([lengths[[*each]].sum() for each in batch] for batch in self.batches)
        return batch_padding(iter([[int(length) for length in each] for each in sequences]))


def ways(lengths: np.ndarray, batch_size: int, budgets: Sequence[int]) -> list[Way]:
    """Return all ways to read the same examples once."""
    order = np.random.default_rng(0).permutation(len(lengths))
    singly = [(int(index),) for index in order]
    found = [Way(f"{batch_size} examples at random", [*in_batches(singly, batch_size)])]
    similar = sequences(lengths, batch_size, None)
    name = f"{batch_size} of similar length (the default)"
    found.append(Way(name, [*in_batches(similar, batch_size)]))
    for budget in budgets:
        size = max(batch_size * FULL_BATCH // budget, 1)
        packed = [*in_batches(sequences(lengths, size, budget), size)]
        found.append(Way(f"{size} of `tokens_per_sequence: {budget}`", packed))
    return found


def sequences(lengths: np.ndarray, size: int, budget: int | None) -> list[tuple[int, ...]]:
    """Return the sequences of an epoch in the order of training."""
    keys = SequenceSampler(Lengths(lengths), size, 0, 0, budget).epoch(0)
    return [key.indices for key in keys]


class Examples:
    """Panoramas and texts of given lengths, as a stage's data set returns them.

    Those that are no longer than a panorama's image tokens are texts.

    Args:
        lengths: Tokens of each.
        config: Of the model.
    """

    def __init__(self, lengths: np.ndarray, config: PanoVLMConfig) -> None:
        self.lengths, self.config = lengths, config

    def sequence(self, indices: Sequence[int]) -> Example:
        """Return one sequence of several examples."""
        found = [self.example(index) for index in indices]
        texts = [each["conversations"] for each in found if each["conversations"] is not None]
        return {"views": [v for each in found for v in each["views"]], "conversations": join(texts)}

    def example(self, index: int) -> Example:
        """Return one example: a panorama's patch tokens, if it has one, and random text."""
        config, length = self.config, int(self.lengths[index])
        rng, images = np.random.default_rng(index), config.num_image_tokens
        num_images = images if length > images else 0
        text = rng.integers(0, config.image_token_id, length - num_images).tolist()
        count = max(int(len(text) * SUPERVISED_SHARE), 1)
        ids = [config.image_token_id] * num_images + text
        packed = pack([TokenSequence(ids, [IGNORED] * (length - count) + text[-count:])])
        return {"views": [self.patch_tokens()] if num_images else [], "conversations": packed}

    def patch_tokens(self) -> Tensor:
        """Return what the cache holds of a panorama."""
        vision = self.config.vision_config
        count = (vision.image_size // vision.patch_size) ** 2
        return torch.zeros(self.config.num_views, count, vision.hidden_size, dtype=torch.float16)


@dataclass
class Steps:
    """Does training steps of stage `finetune` on sequences of examples."""

    model: PanoVLMForConditionalGeneration
    examples: Examples
    bf16: bool

    def __post_init__(self) -> None:
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=LEARNING_RATE)
        self.collate = PanoramaCollator("patch_tokens", 0)

    def measure(self, way: Way) -> dict[str, Any]:
        """Return the seconds of all of a way's steps but a first one, and the attention chosen."""
        attention = self.set_attention(way)
        self.step(way.batches[0])
        started = time.perf_counter()
        for batch in way.batches:
            self.step(batch)
        return {"seconds": time.perf_counter() - started, "attention": attention}

    def set_attention(self, way: Way) -> str:
        """Set the attention as training does."""
        language_model = self.model.model.language_model
        is_packed = any(len(each) > 1 for batch in way.batches for each in batch)
        if self.bf16:
            longest = longest_plain(language_model)
            use_plain_up_to(longest, language_model, is_packed=is_packed)
            return f"plain up to {longest}"
        language_model.set_attn_implementation(by_example(FUSED) if is_packed else FUSED)
        return FUSED

    def step(self, batch: Sequence[Sequence[int]]) -> None:
        """Do one step."""
        inputs = self.collate([self.examples.sequence(indices) for indices in batch])
        inputs_of_adapters = without_input_copies(self.model, LORA)
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)
        with autocast, inputs_of_adapters:
            loss = self.model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def build_steps(settings: dict[str, Any], lengths: np.ndarray) -> Steps:
    """Build the model and what trains it."""
    torch.manual_seed(0)
    config = panovlm_config({"size": settings["size"], "tokens": "default"})
    config.global_view = False
    stage, bf16 = STAGES["finetune"], uses_bf16(settings["dtype"])
    model = built(stage.objective, config)
    apply_stage(model, stage, LORA)
    model.model.vision_encoder.to("meta")  # cached
    if bf16:
        hold_frozen(model, torch.bfloat16)
    return Steps(model.train(), Examples(lengths, config), bf16)


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Measure every way, and return the report."""
    torch.set_num_threads(settings["threads"])
    keep_freed_memory()
    lengths = sampled_lengths(settings["examples"]).clip(max=settings["longest"])
    steps, rows = build_steps(settings, lengths), []
    for way in ways(lengths, settings["batch_size"], settings["budgets"]):
        found = {"way": way.name, "padding": way.padding(lengths), **steps.measure(way)}
        rows.append(found | {"tokens_per_second": int(lengths.sum()) / found["seconds"]})
        print(rows[-1], flush=True)
    return {"settings": settings, "environment": environment(settings["threads"]), "rows": rows}


def table(report: dict[str, Any]) -> Table:
    """Return the table, packed ways set against both kinds of batches."""
    at_random, similar = (row["tokens_per_second"] for row in report["rows"][:2])
    header = ["sequences of a batch", "padding", "attention", "tokens/s"]
    rows = [[*header, "× random", "× similar length"]]
    for row in report["rows"]:
        speed = row["tokens_per_second"]
        cells = [row["way"], f"{row['padding']:.1%}", row["attention"], f"{speed:,.0f}"]
        rows.append([*cells, f"{speed / at_random:.2f}", f"{speed / similar:.2f}"])
    return rows


def description(report: dict[str, Any]) -> str:
    """Return a paragraph on what was measured, and with what."""
    made, settings = report["environment"], report["settings"]
    return (
        f"{settings['examples']} examples of at most {settings['longest']} tokens, models of size "
        f"{settings['size']}, dtype {settings['dtype']}; {made['cpu']}, {made['threads']} "
        f"thread(s), with{'' if made['bf16_is_fast'] else 'out'} fast bf16, load average "
        f"{made['load_average_at_end']:.1f}; {software(made)}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, and write its table to a page if one is named."""
    options = _parser().parse_args(arguments)
    names = ("size", "examples", "longest", "batch_size", "budgets", "threads", "dtype")
    report = measured({name: getattr(options, name) for name in names})
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    found = table(report)
    print_tables(description(report), [("packing", found)])
    if options.docs is not None:
        put_between_markers(options.docs, "packing", f"{description(report)}\n\n{markdown(found)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--json", type=Path, required=True, help="where to write the report")
    add("--docs", type=Path, help="page with the markers of `packing`")
    add("--examples", type=int, default=64, help="examples that each way reads once")
    add("--longest", type=int, default=1024, help="tokens of an example at most")
    add("--batch-size", type=int, default=4, help="examples of a batch that is not packed")
    add("--budgets", type=int, nargs="+", default=[1024, 2048], help="tokens of packed sequences")
    add("--threads", type=int, default=os.cpu_count() or 1, help="threads of PyTorch")
    add("--dtype", choices=("auto", "bf16", "fp32"), default="auto")
    add("--size", choices=("siglip-base", "tiny"), default="siglip-base", help="tiny: for tests")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
