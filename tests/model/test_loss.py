"""The loss on words is that of its formula, and no language model is run for it."""

import math

import pytest
import torch
from torch import nn

from panovlm.model.loss import TEMPERATURE, words_loss
from panovlm.training.recipe import StageSection

WORDS = torch.tensor([[3, 5, 3], [-100, 1, 5]])


def reference(tokens, words, table, temperature):
    """One word at a time."""
    said = [(token, int(word)) for token, word in zip(tokens, words, strict=True) if word >= 0]
    candidates, total = sorted({word for _, word in said}), 0.0
    for token, word in said:
        cosines = [float(torch.cosine_similarity(token, table[each], dim=0)) for each in candidates]
        own = cosines[candidates.index(word)]
        total += math.log(sum(math.exp((each - own) / temperature) for each in cosines)) + 1 - own
    return total


@pytest.mark.parametrize(("num_items", "temperature"), [(None, TEMPERATURE), (20, 0.1)])
def test_the_loss_on_words_is_that_of_its_formula(num_items, temperature):
    torch.manual_seed(0)
    tokens, embedding = torch.randn(2, 3, 8), nn.Embedding(9, 8)
    found = words_loss(tokens, WORDS, embedding, num_items, temperature)
    expected = reference(tokens.flatten(0, 1), WORDS.flatten(), embedding.weight, temperature)
    assert float(found) == pytest.approx(expected / (num_items or 5), rel=1e-4)


def test_pictures_without_words_cost_nothing():
    tokens = torch.randn(2, 3, 8, requires_grad=True)
    loss = words_loss(tokens, torch.full((2, 3), -100), nn.Embedding(9, 8), None)
    loss.backward()
    assert float(loss) == 0 and (tokens.grad == 0).all()


def test_labels_without_text_are_words_of_image_tokens(generator, monkeypatch):
    monkeypatch.delattr(type(generator.model.language_model), "forward")  # it must not run
    config = generator.config
    views = torch.randn(2, config.num_views, 3, config.view_size, config.view_size)
    tokens = generator.get_image_features(views).pooler_output
    words = torch.randint(0, 50, tokens.shape[:2])
    losses = [
        float(generator(pixel_values=views, labels=words, **more).loss)
        for more in ({}, {"word_temperature": 0.1})
    ]
    expected = [
        float(words_loss(tokens, words, generator.get_input_embeddings(), None, temperature))
        for temperature in (StageSection(data="a.jsonl").word_temperature, 0.1)
    ]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=0.1)
