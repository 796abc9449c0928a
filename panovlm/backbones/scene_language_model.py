"""A small language model of the scenes' language, trained from text alone in a few minutes.

It stands in for a pretrained LM where a demo must finish on two cores: a Llama of a million
parameters that has read listings and questions about scenes, and never seen a picture. Where a
picture's tokens would stand, it reads what can be said of each direction: the words of one token
are read at once, as the sum of their embeddings ("back", "red", "cone", "3"). A frozen LM that
answers from words at these places can answer from image tokens that learn to mean the same.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from panovlm.backbones.folders import build_once
from panovlm.data.packing import IGNORED, TokenSequence, collate, pack
from panovlm.model.modeling import additive_mask
from panovlm.model.sphere import DIRECTIONS
from panovlm.progress import progress_bar
from panovlm.scenes.language import LISTING_REQUEST, NOTHING, PLACES, ask_all, listing
from panovlm.scenes.world import COLOURS, DISTANCES_M, SHAPES, Scene, draw_scene

logger = logging.getLogger(__name__)

PAD, IMAGE, START, END = "<|pad|>", "<image>", "<|im_start|>", "<|im_end|>"
TOKENS_PER_VIEW = 9
SETTINGS = {
    "hidden_size": 128,
    "num_layers": 5,
    "num_heads": 4,
    "steps": 1800,
    "scenes_per_step": 4,
    "learning_rate": 2e-3,
    "seed": 0,
}


def scene_lm() -> Path:
    """Give a folder with the language model and its tokenizer, training it on the first call."""
    return build_once("scene-lm", SETTINGS, _train_into)


def _train_into(folder: Path) -> None:
    torch.manual_seed(SETTINGS["seed"])
    tokenizer = scene_tokenizer()
    model = LlamaForCausalLM(_config(tokenizer))
    train(model, tokenizer, steps=int(SETTINGS["steps"]))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def scene_tokenizer() -> PreTrainedTokenizerFast:
    """Build a byte-level BPE tokenizer in which every word of the scenes is one token."""
    inner = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r" ?[\w-]+|\n| ?[^\w\s]"), "isolated")
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([words, in_bytes])
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=[PAD, IMAGE, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[IMAGE, START],
    )


def _corpus() -> Iterator[str]:
    """Give every word of the scenes, at the head of a line and inside one."""
    rng = np.random.default_rng(0)
    yield f"user\nassistant\nsystem\n{LISTING_REQUEST}\n"
    for word in (*DIRECTIONS, *COLOURS, *SHAPES, *map(str, DISTANCES_M), NOTHING, *PLACES):
        yield f"{word}\n {word}\n" * 2
    for _ in range(300):
        scene = draw_scene(rng)
        yield listing(scene)
        for question in ask_all(scene, rng):
            yield f"{question.text}\n{question.answer(scene)}"


def _config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    width, heads = int(SETTINGS["hidden_size"]), int(SETTINGS["num_heads"])
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=int(SETTINGS["num_layers"]),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        # At 0.02, made for wide models, attention starts flat and learns to look things up late.
        initializer_range=width**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> float:
    """Train on drawn scenes, each with its listing and all its questions in one sequence.

    Args:
        model: Freshly initialised.
        tokenizer: As `scene_tokenizer` gives it.
        steps: Optimiser steps.

    Returns:
        The mean loss of the last tenth of the steps.
    """
    rng = np.random.default_rng(int(SETTINGS["seed"]))
    optimizers = _optimizers(model)
    losses: list[float] = []
    with progress_bar("scene-lm: reading", steps) as advance:
        for step in range(steps):
            loss = text_loss(model, tokenizer, rng)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = float(SETTINGS["learning_rate"]) * _schedule(step / steps)
                optimizer.step()
            model.zero_grad()
            losses.append(loss.item())
            advance(1, f"loss {losses[-1]:.3f}")
    last = losses[-max(steps // 10, 1) :]
    logger.info("scene-lm: loss %.3f at first, %.3f at last", losses[0], sum(last) / len(last))
    return sum(last) / len(last)


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Give Muon for the layers' matrices, AdamW for the rest.

    Muon learns to look things up in about half of AdamW's steps.

    Source:
        Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; step sizes
        matched to AdamW's as in Liu et al., arXiv:2502.16982.
    """
    hidden = [p for p in model.model.layers.parameters() if p.ndim == 2]
    known = {id(parameter) for parameter in hidden}
    others = [p for p in model.parameters() if id(p) not in known]
    return [
        torch.optim.Muon(hidden, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _schedule(done: float) -> float:
    """Rise over the first 3 %, stay, fall to nothing over the last 40 %."""
    return min(done / 0.03 + 1e-3, 1.0, (1 - done) / 0.4)


def text_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> Tensor:
    """Give the mean cross entropy of the responses about freshly drawn scenes."""
    scenes = [draw_scene(rng) for _ in range(int(SETTINGS["scenes_per_step"]))]
    sequences = [pack(list(_conversations(scene, tokenizer, rng))) for scene in scenes]
    batch = collate(sequences, tokenizer.pad_token_id)
    words = [words for scene in scenes for words in sight(scene, rng)]
    with torch.autocast("cpu", torch.bfloat16):
        embeds = _embed(model, tokenizer, batch["input_ids"], words)
        hidden = model.model(
            inputs_embeds=embeds,
            position_ids=batch["position_ids"],
            attention_mask=additive_mask(batch["attention_mask"], embeds.dtype),
        ).last_hidden_state[:, :-1]
        targets = batch["labels"][:, 1:]
        logits = model.lm_head(hidden[targets != IGNORED])
    return torch.nn.functional.cross_entropy(logits.float(), targets[targets != IGNORED])


def sight(scene: Scene, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Give the words that each image token of a scene would stand for, view after view.

    A solid fills a random stretch of its view's tokens, as it would in a picture.
    """
    tokens: list[tuple[str, ...]] = []
    for direction, solid in zip(DIRECTIONS, scene.by_sector(), strict=True):
        view: list[tuple[str, ...]] = [(direction, NOTHING)] * TOKENS_PER_VIEW
        if solid is not None:
            length = int(rng.integers(1, TOKENS_PER_VIEW // 2 + 1))
            start = int(rng.integers(TOKENS_PER_VIEW - length + 1))
            words = (direction, solid.colour, solid.shape, str(solid.distance_m))
            view[start : start + length] = [words] * length
        tokens += view
    return tokens


def _conversations(
    scene: Scene, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> Iterator[TokenSequence]:
    views = "".join(f"{direction}:{IMAGE * TOKENS_PER_VIEW}\n" for direction in DIRECTIONS)
    opening = tokenizer.encode(f"{START}user\n{views}")
    asked = [(question.text, question.answer(scene)) for question in ask_all(scene, rng)]
    for text, answer in [(LISTING_REQUEST, listing(scene)), *asked]:
        prompt = opening + tokenizer.encode(f"{text}{END}\n{START}assistant\n")
        response = tokenizer.encode(answer + END)
        yield TokenSequence(prompt + response, [IGNORED] * len(prompt) + response)


def _embed(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    input_ids: Tensor,
    words: list[tuple[str, ...]],
) -> Tensor:
    """Embed a batch; the words of one image token count as the sum of theirs, at unit scale."""
    table = model.get_input_embeddings()
    width = max(map(len, words))
    padded = [[*token, *[PAD] * (width - len(token))] for token in words]
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(token) for token in padded])
    is_word = (ids != tokenizer.pad_token_id)[..., None]
    sums = (table(ids) * is_word).sum(1) / is_word.sum(1).sqrt()
    embeds: Tensor = table(input_ids)
    is_image = input_ids == tokenizer.convert_tokens_to_ids(IMAGE)
    return embeds.masked_scatter(is_image[..., None], sums)
