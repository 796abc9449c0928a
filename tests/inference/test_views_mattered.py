"""A view's drop is what blanking it truly costs the answer, however it is computed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plain_pass import plain_log_probability

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.assistant import Assistant, OpenedPanorama, Question
from panovlm.inference.likelihood import NEGLIGIBLE
from panovlm.inference.prompts import about_panorama
from panovlm.inference.views_mattered import PairDrop, ViewsMattered, neighbours, view_shares

ANSWER = "a blue cube, <|im_end|> to the left"
"""A special token in an answer is text."""
TEXT = "What is behind me?"


def question(panorama: OpenedPanorama | None, text: str = TEXT) -> Question:
    return Question(about_panorama(text), [panorama] if panorama else ())


def pair_drops(found: ViewsMattered) -> list[float]:
    return [pair.drop for pair in found.pair_drops]


def without(views: torch.Tensor, *lost: int) -> torch.Tensor:
    blanked = views.clone()
    blanked[:, list(lost)] = 0
    return blanked


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "qwen3_sliding", "smollm3"])
@pytest.mark.parametrize("pooling", ["concat", "mean"])
def test_drops_equal_differences_of_plain_forward_passes(
    kind: str,
    pooling: str,
    assistant_of: Callable[..., Assistant],
    pictures: list[Path],
) -> None:
    assistant = assistant_of(kind, pooling=pooling)
    panorama = assistant.open(pictures[0])
    found = assistant.views_mattered(question(panorama), ANSWER)
    whole = plain_log_probability(assistant, pictures[0], panorama.views, TEXT, ANSWER)

    def drop(*lost: int) -> float:
        blanked = without(panorama.views, *lost)
        return whole - plain_log_probability(assistant, pictures[0], blanked, TEXT, ANSWER)

    plain = [drop(view) for view in range(4)]
    assert found.log_probability == pytest.approx(whole, abs=1e-3)
    assert found.drops == pytest.approx(plain, abs=1e-3)
    assert max(map(abs, plain)) > 0.05
    assert [pair.views for pair in found.pair_drops] == [(0, 1), (1, 2), (2, 3), (3, 0)]
    together = [drop(*pair.views) for pair in found.pair_drops]
    assert pair_drops(found) == pytest.approx(together, abs=1e-3)
    assert max(abs(both - one) for both, one in zip(together, plain, strict=True)) > 0.01


def test_batches_equal_one_at_a_time(assistant: Assistant, pictures: list[Path]) -> None:
    asked = question(assistant.open(pictures[0]))
    alone = assistant.views_mattered(asked, ANSWER, batch_size=1)
    for batch_size in (3, 4, 8):
        together = assistant.views_mattered(asked, ANSWER, batch_size)
        assert together.drops == pytest.approx(alone.drops, abs=1e-4)
        assert pair_drops(together) == pytest.approx(pair_drops(alone), abs=1e-4)


def test_a_view_that_is_blank_anyway_changes_nothing(
    assistant: Assistant, pictures: list[Path]
) -> None:
    panorama = assistant.open(pictures[0])
    blank = replace(panorama, key="blanked", views=without(panorama.views, 2))
    drops = assistant.views_mattered(question(blank), ANSWER).drops
    assert drops[2] == pytest.approx(0, abs=1e-4)
    assert all(abs(drops[view]) > 1e-3 for view in (0, 1, 3))


def test_the_prefix_is_not_read_again_and_later_answers_stay_the_same(
    assistant: Assistant, pictures: list[Path]
) -> None:
    panorama = assistant.open(pictures[0])
    before = assistant.ask(panorama, TEXT)
    held = assistant.prefixes.num_bytes
    first = assistant.views_mattered(question(panorama), before)
    assert assistant.views_mattered(question(panorama), before) == first
    assert assistant.prefixes.num_bytes == held
    assert len(assistant.prefixes) == 1
    assert assistant.ask(panorama, TEXT) == before


def test_no_text_no_panorama_and_too_long_a_text_are_refused(
    assistant: Assistant, pictures: list[Path]
) -> None:
    panorama = assistant.open(pictures[0])
    with pytest.raises(PanoVLMError, match="an answer of 0 tokens"):
        assistant.views_mattered(question(panorama), "")
    with pytest.raises(PanoVLMError, match="found 0 panoramas"):
        assistant.views_mattered(Question([{"role": "user", "content": "Hello"}]), "Hello")
    two = Question.about([panorama, panorama], "What differs?")
    with pytest.raises(PanoVLMError, match="found 2 panoramas"):
        assistant.views_mattered(two, "Nothing")
    with pytest.raises(PanoVLMError, match="expected at most 1024 together"):
        assistant.views_mattered(question(panorama), "long " * 300)


def test_shares_are_of_the_drops_alone_and_none_where_all_are_negligible() -> None:
    assert view_shares([0.3, -0.5, 0.1, 0.0]) == pytest.approx([0.75, 0, 0.25, 0])
    assert ViewsMattered(-1.0, (NEGLIGIBLE / 2, -3.0)).shares is None
    assert ViewsMattered(-1.0, (NEGLIGIBLE, -3.0)).shares == [1.0, 0.0]


def test_a_pair_is_named_only_where_no_view_mattered_alone() -> None:
    def together(drops: tuple[float, ...], *of_pairs: float) -> PairDrop | None:
        pairs = zip([(0, 1), (1, 0)], of_pairs, strict=False)
        return ViewsMattered(-1.0, drops, tuple(PairDrop(*pair) for pair in pairs)).together

    little = (NEGLIGIBLE / 2, 0.0)
    assert together(little, NEGLIGIBLE, 2.0) == PairDrop((1, 0), 2.0)
    assert together(little, 0.0, NEGLIGIBLE / 2) is None
    assert together((NEGLIGIBLE, 0.0), 2.0, 2.0) is None
    assert together(little) is None


def test_neighbours_go_round_a_ring_and_other_layouts_have_none() -> None:
    ring = ViewLayout.ring(3, view_size=8)
    assert neighbours(ring) == neighbours(ring.with_global()) == [(0, 1), (1, 2), (2, 0)]
    assert neighbours(ViewLayout.ring(2, view_size=8)) == [(0, 1)]
    assert neighbours(ViewLayout.cubemap(8)) == []
    assert neighbours(ViewLayout.equirectangular(8)) == []
