"""The small LM of the scenes' language: its words, its prompts, and that it learns."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from panovlm.data.questions.asking import LISTING_REQUEST
from panovlm.data.questions.surroundings import NOTHING
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.processing import CHATML, PanoVLMProcessor
from panovlm.runtime.cached_folders import sha256
from panovlm.scenes import scene_language_model as slm
from panovlm.scenes.language import listing
from panovlm.scenes.world import COLOURS, DISTANCES_M, SHAPES, sample_scene


@pytest.fixture(scope="module")
def tokenizer():
    return slm.scene_tokenizer()


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return LlamaForCausalLM(slm._config(tokenizer))


def test_every_word_a_token_stands_for_is_one_token(tokenizer):
    words = {*DIRECTIONS, *COLOURS, *SHAPES, *map(str, DISTANCES_M), NOTHING}
    assert all(len(tokenizer.encode(word)) == 1 for word in words)


def test_a_word_is_the_same_token_at_the_head_of_a_line_and_inside_one(tokenizer):
    ids = tokenizer.encode("red\nWhere is the red cone?\nred cone")
    red, cone = tokenizer.encode("red")[0], tokenizer.encode("cone")[0]
    assert ids.count(red) == 3
    assert ids.count(cone) == 2


def test_any_text_survives_the_tokenizer_but_for_spaces(tokenizer):
    text = "Where is the café? → 42°\n"
    assert tokenizer.decode(tokenizer.encode(text)).replace(" ", "") == text.replace(" ", "")


def test_prompts_are_those_of_the_processor(tokenizer):
    processor = PanoVLMProcessor(
        image_processor=PanoVLMImageProcessor(num_views=8),
        tokenizer=tokenizer,
        image_tokens_per_view=slm.TOKENS_PER_VIEW,
        chat_template=CHATML.read_text(),
    )
    scene = sample_scene(np.random.default_rng(0))
    first = next(iter(slm._conversations(scene, tokenizer, np.random.default_rng(0))))
    messages = [
        {"role": "user", "content": f"<image>{LISTING_REQUEST}"},
        {"role": "assistant", "content": listing(scene)},
    ]
    ids, said = processor.tokenize(messages)
    assert first.ids == ids[: len(first.ids)]
    last = max(i for i, token in enumerate(ids) if token == processor.image_token_id)
    assert [label != -100 for label in first.labels] == [i > last for i in range(len(first.ids))]
    second = list(slm._conversations(scene, tokenizer, np.random.default_rng(0)))[1]
    question = tokenizer.decode(second.ids).split("\n")[9].strip().removesuffix("<|im_end|>")
    answer = tokenizer.decode([label for label in second.labels if label != -100])
    messages = [
        {"role": "user", "content": f"<image>{question}"},
        {"role": "assistant", "content": answer.removesuffix("<|im_end|>")},
    ]
    ids, said = processor.tokenize(messages)
    assert second.ids == ids[: len(second.ids)]
    assert [label != -100 for label in second.labels] == [bool(s) for s in said[: len(second.ids)]]


def test_tokens_of_a_view_name_their_direction_and_the_solid_there():
    scene = sample_scene(np.random.default_rng(1))
    tokens = slm.words_of_tokens(scene)
    assert len(tokens) == 8 * slm.TOKENS_PER_VIEW
    for sector, solid in enumerate(scene.by_sector()):
        here = {words[1:] for words in tokens if words[0] == DIRECTIONS[sector]} - {(NOTHING,)}
        expected = {(solid.colour, solid.shape, str(solid.distance_m))} if solid else set()
        assert here == expected


def test_words_of_a_token_count_together_at_the_length_of_one(model, tokenizer):
    image = tokenizer.convert_tokens_to_ids(slm.IMAGE)
    ids = torch.tensor([[image, image]])
    tokens = [("back", "red", "cone", "3"), ("left", NOTHING)]
    embeds = slm._embed(model, tokenizer, ids, tokens, torch.zeros(1))
    table = model.get_input_embeddings()
    words = torch.tensor([tokenizer.encode(word)[0] for word in tokens[0]])
    angle = torch.nn.functional.cosine_similarity(embeds[0, 0], table(words).sum(0), dim=0)
    torch.testing.assert_close(angle, torch.ones(()))
    firsts = table(torch.tensor([tokenizer.encode(word)[0] for word in ("back", "left")]))
    torch.testing.assert_close(embeds[0].pow(2).mean().sqrt(), firsts.pow(2).mean().sqrt())


def test_loss_falls_in_a_few_steps(model, tokenizer, monkeypatch):
    monkeypatch.setattr(slm, "SETTINGS", replace(slm.SETTINGS, scenes_per_step=2))
    first = slm.text_loss(model, tokenizer, np.random.default_rng(0)).item()
    assert slm.train(model, tokenizer, steps=20) < 0.6 * first


def test_the_weights_at_hand_are_those_of_the_settings(tokenizer):
    facts = json.loads((slm.WEIGHTS / slm.FACTS).read_text())
    assert facts == asdict(slm.SETTINGS) | {"source": sha256(slm.WEIGHTS / "model.safetensors")}
    assert AutoTokenizer.from_pretrained(slm.WEIGHTS).get_vocab() == tokenizer.get_vocab()


@torch.no_grad()
def test_the_weights_at_hand_know_the_scenes_language(model, tokenizer):
    trained = AutoModelForCausalLM.from_pretrained(slm.WEIGHTS)
    losses = [
        slm.text_loss(each, tokenizer, np.random.default_rng(1)).item() for each in (trained, model)
    ]
    assert losses[0] < 0.1 * losses[1]


def test_it_is_written_as_it_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = {"steps": 1, "scenes_per_step": 1, "hidden_size": 16, "num_heads": 2}
    monkeypatch.setattr(slm, "SETTINGS", replace(slm.SETTINGS, **small))
    slm.write_scene_lm(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        file.name for file in slm.WEIGHTS.iterdir()
    )
    assert json.loads((tmp_path / slm.FACTS).read_text())["hidden_size"] == 16


def test_it_opens_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path))
    folder = slm.scene_lm()
    assert folder == slm.scene_lm() == tmp_path / "scene-lm"
    assert AutoModelForCausalLM.from_pretrained(folder).config.hidden_size == 128
    assert len(AutoTokenizer.from_pretrained(folder).encode("red")) == 1
