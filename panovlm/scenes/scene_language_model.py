"""A small language model of the scenes' language, trained from text alone in a few minutes.

    python -m panovlm.scenes.scene_language_model panovlm/scenes/scene_lm

makes the weights beside this file again. It stands in for a pretrained LM where a demo must finish
on two cores: a Llama of a million parameters, trained on listings and questions about scenes and
never on a picture. In the place of image tokens it reads words about each direction: the words of
one token are read at once, as the sum of their embeddings ("back", "red", "cone", "3"). A frozen LM
that answers from words in these places can answer from image tokens that learn to mean the same.
"""

import json
import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from panovlm.data.packing import IGNORED, TokenSequence, collate, pack
from panovlm.data.questions.asking import LISTING_REQUEST, PLACES
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import DIRECTIONS, Floats, angles_from_rays, direction_index
from panovlm.metrics.listings import NOTHING
from panovlm.model.masks import attention_masks
from panovlm.model.processing import IMAGE_TOKEN
from panovlm.runtime.arithmetic import uses_bf16
from panovlm.runtime.cached_folders import build_once, sha256
from panovlm.runtime.progress import progress_bar
from panovlm.scenes.language import ask_all, listing
from panovlm.scenes.world import COLOURS, DISTANCES_M, SHAPES, Scene, Solid, sample_scene

logger = logging.getLogger(__name__)

PAD, IMAGE, START, END = "<|pad|>", IMAGE_TOKEN, "<|im_start|>", "<|im_end|>"
TOKEN_ROWS = 3
TOKENS_PER_VIEW = TOKEN_ROWS**2
RAYS_PER_TOKEN = 5
FILLING = 0.5
"""Least share of a solid that a token must cover to stand for it, of what the best token covers."""
MOST_NOISE = 1.5
"""Largest noise on an image token's words, beside a signal of 1; its median is a quarter."""
FEW_COLOURS = 3
"""Colours of every other scene: many of its solids differ in their shape alone."""
ASKED_TWICE = ("colour", "existence", "count")
"""Kinds of questions that take longest to learn."""


@dataclass(frozen=True)
class Settings:
    """What the model is built and trained with; after a change its weights are made again."""

    version: int = 9  # of everything below that no other setting shows
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    steps: int = 1900
    scenes_per_step: int = 4
    learning_rate: float = 2e-3
    seed: int = 0


SETTINGS = Settings()
SCENE_LM = "scene-lm"
WEIGHTS = Path(__file__).with_name("scene_lm")
"""The trained model."""
FACTS = "trained.json"
"""The settings that it was trained with, and the digest of its weights."""


def scene_lm() -> Path:
    """Return the folder with the model and its tokenizer, in the cache from the first call on."""
    facts = json.loads((WEIGHTS / FACTS).read_text(encoding="utf-8"))
    return build_once(
        SCENE_LM, facts, lambda folder: shutil.copytree(WEIGHTS, folder, dirs_exist_ok=True)
    )


def write_scene_lm(folder: Path) -> None:
    """Train the model, and write it, its tokenizer and what they were made of into a folder."""
    torch.set_flush_denormal(True)  # tiny gradients would slow the CPU many times over
    tokenizer = scene_tokenizer()
    torch.manual_seed(SETTINGS.seed)
    model = LlamaForCausalLM(_config(tokenizer))
    train(model, tokenizer, SETTINGS.steps)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = asdict(SETTINGS) | {"source": sha256(folder / "model.safetensors")}
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def scene_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer in which every word of the scenes is one token."""
    inner = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r" ?[\w-]+:?|\n| ?[^\w\s]"), "isolated")
    # A word is the same token at the head of a line and inside one: "red" in a question is "red"
    # in an image token.
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
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
    """Yield every word of the scenes, at the head of a line and inside one."""
    rng = np.random.default_rng(0)
    yield f"user\nassistant\nsystem\n{LISTING_REQUEST}\n"
    for word in (*DIRECTIONS, *COLOURS, *SHAPES, *map(str, DISTANCES_M), NOTHING, *PLACES):
        yield f"{word}\n {word}\n" * 2
    for _ in range(300):
        scene = sample_scene(rng)
        yield listing(scene)
        for question in ask_all(scene, rng):
            yield f"{question.text}\n{question.answer(scene)}"


def _config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    width = SETTINGS.hidden_size
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=SETTINGS.num_layers,
        num_attention_heads=SETTINGS.num_heads,
        num_key_value_heads=SETTINGS.num_heads,
        max_position_embeddings=1024,
        # At 0.02, made for wide models, attention starts flat and learns to look things up late.
        initializer_range=width**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> float:
    """Train on sampled scenes, each with its listing and all its questions in one sequence.

    Args:
        model: Freshly initialised.
        tokenizer: From `scene_tokenizer`.
        steps: Optimiser steps.

    Returns:
        The mean loss of the last tenth of the steps.
    """
    rng = np.random.default_rng(SETTINGS.seed)
    optimizers = _optimizers(model)
    losses: list[float] = []
    with progress_bar("scene-lm: reading", steps) as advance:
        for step in range(steps):
            loss = text_loss(model, tokenizer, rng)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = SETTINGS.learning_rate * _schedule(step / steps)
                optimizer.step()
            model.zero_grad()
            losses.append(loss.item())
            advance(1, f"loss {losses[-1]:.3f}")
    last = losses[-max(steps // 10, 1) :]
    logger.info("scene-lm: loss %.3f at first, %.3f at last", losses[0], sum(last) / len(last))
    return sum(last) / len(last)


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Return Muon for the layers' matrices and AdamW for the rest.

    Muon learns to look things up in about half of AdamW's steps.
    """
    hidden = [p for p in model.model.layers.parameters() if p.ndim == 2]
    known = {id(parameter) for parameter in hidden}
    others = [p for p in model.parameters() if id(p) not in known]
    return [
        torch.optim.Muon(hidden, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _schedule(done: float) -> float:
    """Return the share of the learning rate: it rises over 3 % and falls over the last 20 %."""
    return min(done / 0.03 + 1e-3, 1.0, (1 - done) / 0.2)


def text_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> Tensor:
    """Compute the mean cross entropy of the responses about newly sampled scenes."""
    scenes = [_scene(rng, place) for place in range(SETTINGS.scenes_per_step)]
    sequences = [pack(list(_conversations(scene, tokenizer, rng))) for scene in scenes]
    batch = collate(sequences, tokenizer.pad_token_id)
    words = [words for scene in scenes for words in words_of_tokens(scene)]
    noise = MOST_NOISE * torch.from_numpy(rng.random(len(scenes), dtype=np.float32)) ** 2
    with torch.autocast("cpu", torch.bfloat16, enabled=uses_bf16("auto")):
        embeds = _embed(model, tokenizer, batch["input_ids"], words, noise)
        hidden = model.model(
            inputs_embeds=embeds,
            position_ids=batch["position_ids"],
            attention_mask=attention_masks(
                batch["attention_mask"], batch["position_ids"], model.config, embeds.dtype
            ),
        ).last_hidden_state[:, :-1]
        targets = batch["labels"][:, 1:]
        logits = model.lm_head(hidden[targets != IGNORED])
    return torch.nn.functional.cross_entropy(logits.float(), targets[targets != IGNORED])


def _scene(rng: np.random.Generator, place: int) -> Scene:
    """Sample a scene; at every other place of a batch, one that only whole names tell apart."""
    colours = rng.permutation(list(COLOURS))[: FEW_COLOURS if place % 2 else None]
    return sample_scene(rng, [str(colour) for colour in colours])


def words_of_tokens(scene: Scene) -> list[tuple[str, ...]]:
    """Return the words that each image token of a scene stands for, view after view.

    A token stands for the solid of which it covers most, if that is at least half of what any
    token covers of it, else for nothing in its direction.
    """
    yaw_deg, pitch_deg = _rays_of_tokens()  # [tokens, rays]
    filled = np.stack(
        [_covers(solid, scene.camera_height_m, yaw_deg, pitch_deg) for solid in scene.solids]
    )
    filled /= filled.max(axis=1, keepdims=True)
    fullest, share = filled.argmax(axis=0), filled.max(axis=0)
    tokens: list[tuple[str, ...]] = []
    for yaws, place, filling in zip(yaw_deg, fullest, share, strict=True):
        if filling < FILLING:
            tokens.append((DIRECTIONS[direction_index(yaws[len(yaws) // 2])], NOTHING))
        else:
            solid = scene.solids[place]
            direction = DIRECTIONS[solid.sector]
            tokens.append((direction, solid.colour, solid.shape, str(solid.distance_m)))
    return tokens


@cache
def _rays_of_tokens() -> tuple[Floats, Floats]:
    """Compute yaw and pitch in degrees of a grid of rays through each token, [tokens, rays]."""
    side = RAYS_PER_TOKEN
    rays = ViewLayout.ring(num_views=8).rays(TOKEN_ROWS * side, TOKEN_ROWS * side)
    grouped = rays.reshape(8, TOKEN_ROWS, side, TOKEN_ROWS, side, 3).swapaxes(2, 3)
    yaw_rad, pitch_rad = angles_from_rays(grouped.reshape(8 * TOKENS_PER_VIEW, side * side, 3))
    return np.degrees(yaw_rad), np.degrees(pitch_rad)


def _covers(solid: Solid, camera_m: float, yaw_deg: Floats, pitch_deg: Floats) -> Floats:
    """Compute the share of each token's rays that meet the box around a solid, [tokens]."""
    base, top = (
        np.degrees(np.arctan2(height - camera_m, solid.distance_m))
        for height in (0.0, solid.size_m)
    )
    aside = np.abs((yaw_deg - solid.yaw_deg + 180) % 360 - 180) < solid.half_width_deg
    return (aside & (base < pitch_deg) & (pitch_deg < top)).mean(axis=1)


def _conversations(
    scene: Scene, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> Iterator[TokenSequence]:
    views = "".join(f"{direction}:{IMAGE * TOKENS_PER_VIEW}\n" for direction in DIRECTIONS)
    opening = tokenizer.encode(f"{START}user\n{views}")
    unseen = [IGNORED] * len(opening)
    request = tokenizer.encode(f"{LISTING_REQUEST}{END}\n{START}assistant\n{listing(scene)}{END}")
    # All text of the listing, for the stage that supervises all text; else the responses.
    yield TokenSequence(opening + request, [*unseen[1:], opening[-1], *request])
    again = [question for question in ask_all(scene, rng) if question.kind in ASKED_TWICE]
    for question in ask_all(scene, rng) + again:
        prompt = tokenizer.encode(f"{question.text}{END}\n{START}assistant\n")
        response = tokenizer.encode(question.answer(scene) + END)
        labels = [*unseen, *[IGNORED] * len(prompt), *response]
        yield TokenSequence(opening + prompt + response, labels)


def _embed(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    input_ids: Tensor,
    words: list[tuple[str, ...]],
    noise: Tensor,
) -> Tensor:
    """Embed a batch; an image token is the noisy sum of its words, at the length of one word.

    The noise [B] differs from scene to scene: a model trained on uncertain tokens answers in
    proportion to what they hold, which gives the projection a gradient to learn from.
    """
    table = model.get_input_embeddings()
    width = max(map(len, words))
    padded = [[*token, *[PAD] * (width - len(token))] for token in words]
    known = {word: tokenizer.encode(word)[0] for word in {w for token in padded for w in token}}
    ids = torch.tensor([[known[word] for word in token] for token in padded])
    used = table(ids)
    is_word = (ids != tokenizer.pad_token_id)[..., None]
    length = used[:, 0].detach().pow(2).mean().sqrt()
    sums = torch.nn.functional.rms_norm((used * is_word).sum(1), used.shape[-1:])
    level = noise.repeat_interleave(len(words) // len(noise))[:, None]
    noisy = torch.nn.functional.rms_norm(sums + level * torch.randn_like(sums), sums.shape[-1:])
    embeds: Tensor = table(input_ids)
    is_image = input_ids == tokenizer.convert_tokens_to_ids(IMAGE)
    return embeds.masked_scatter(is_image[..., None], (noisy * length).to(embeds.dtype))


if __name__ == "__main__":
    write_scene_lm(Path(sys.argv[1]))
