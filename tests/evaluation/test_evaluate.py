"""Scores say what they claim, and batched answers equal answers given alone."""

from pathlib import Path

import pytest
import torch
from record_predictions import predict

from panovlm.data.cache import PatchTokenCache
from panovlm.data.records import Message, Record
from panovlm.data.token_shards import ENDING, count_pictures
from panovlm.errors import PanoVLMError
from panovlm.evaluation import ours
from panovlm.evaluation.asking import ask
from panovlm.evaluation.benchmarks.items import Item
from panovlm.evaluation.benchmarks.records import RECORDS, item_of
from panovlm.evaluation.ours import LatentTokens, OurEvaluator, answer_limit
from panovlm.evaluation.report import describe
from panovlm.evaluation.shown import can_be_asked
from panovlm.inference.answerer import MAX_NEW_TOKENS, Answerer, LatentQuestion
from panovlm.metrics.exact_match import normalised
from panovlm.model.vision import encode_views


def record(answer: str = "left", **fields) -> Record:
    messages = (Message(role="user", content="Where?"), Message(role="assistant", content=answer))
    return Record(image=Path("p.png"), messages=messages, **fields)


def test_exact_match_ignores_case_outer_space_and_a_final_stop() -> None:
    assert normalised(" Front-Left. ") == "front-left"
    assert predict(record("left"), "Left.").score.value == 1.0
    assert predict(record("left"), "front-left").score.value != 1.0
    assert predict(record("left"), "").score.value != 1.0


def test_a_yaw_rotated_picture_expects_its_rotated_response() -> None:
    rotated = record(rolled_responses=("left", "back-left", "back", "back-right"))
    assert predict(rotated, "back-left", 90.0).score.value == 1.0
    assert predict(rotated, "left", 90.0).score.value != 1.0
    assert predict(rotated, "left", 360.0).score.value == 1.0


def test_scores_are_means_with_counts_by_kind_and_stratum() -> None:
    predictions = [
        predict(record(kind="direction", yaw_deg=179.0, crosses_seam=True), "left"),
        predict(record(kind="direction", yaw_deg=10.0, crosses_seam=False), "right"),
        predict(record(kind="direction", yaw_deg=20.0, crosses_seam=False), "left"),
        predict(record("3", kind="count"), "3"),
    ]
    scores = describe(RECORDS, predictions)
    assert scores["score"]["mean"] == 0.75
    assert means(scores, "by_kind") == {"count": 1.0, "direction": pytest.approx(2 / 3)}
    assert {kind: each["count"] for kind, each in scores["by_kind"].items()} == {
        "count": 1,
        "direction": 3,
    }
    assert means(scores, "by_seam") == {"cut by the seam": 1.0, "not cut": 0.5}
    assert means(scores, "by_direction") == {"back": 1.0, "front": 0.5}


def means(scores: dict, group: str) -> dict[str, float]:
    return {name: each["mean"] for name, each in scores[group].items()}


def test_coverage_stands_beside_every_share() -> None:
    answers = [("a", "left"), ("a", ""), (None, "up")]
    scores = describe(RECORDS, [predict(record(kind=kind), said) for kind, said in answers])
    assert scores["score"]["coverage"] == pytest.approx(2 / 3)
    assert [each["coverage"] for each in scores["by_kind"].values()] == [0.5, 1.0]
    assert means(scores, "by_kind") == {"a": 0.5, "all": 0.0}  # an empty answer is wrong


def test_listings_are_scored_line_by_line_beside_the_questions() -> None:
    listing = record("front: car\nback: nothing")
    said = [predict(listing, "front: car\nback: car"), predict(record(), "left")]
    scores = describe(RECORDS, said)
    assert scores["score"]["mean"] == 0.5
    assert scores["extras"]["listings"]["count"] == 1
    assert scores["extras"]["listings"]["lines"]["mean"] == 0.5
    assert describe(RECORDS, said[1:])["extras"] == {}


def test_answers_are_cut_off_behind_the_longest_correct_one(processor) -> None:
    long = "front: red cube " * 20
    assert answer_limit(processor, [item_of(record(), 1)]) == MAX_NEW_TOKENS
    records = [record(), record(rolled_responses=("left", None, long))]
    limit = answer_limit(processor, [item_of(each, 1) for each in records])
    assert limit > len(processor.tokenizer(long, add_special_tokens=False)["input_ids"])


def test_scores_are_given_by_distance_from_the_seam_where_directions_are_known() -> None:
    predictions = [
        predict(record(yaw_deg=-170.0), "left"),
        predict(record(yaw_deg=150.0), "right"),
        predict(record(yaw_deg=10.0), "left"),
        predict(record(), "left"),
    ]
    scores = describe(RECORDS, predictions)
    assert means(scores, "by_distance_from_seam") == {"0-45°": 0.5, "135-180°": 1.0}
    assert describe(RECORDS, predictions[3:])["by_distance_from_seam"] == {}


def prompts(generator, num: int) -> list[LatentQuestion]:
    config = generator.config
    shape = (config.num_views, 16, config.vision_config.hidden_size)
    texts = ["Where?", "What is to my left, behind the table?", "How many?", "Is it?", "Or?"]
    views = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    latents = [generator.model.resampler(each).detach() for each in views]
    return [
        LatentQuestion(latents[i % 2], (Message(role="user", content=f"<image>{texts[i]}"),))
        for i in range(num)
    ]


def test_batched_answers_equal_answers_given_alone(generator, processor) -> None:
    answerer = Answerer(generator, processor)
    asked = prompts(generator, 5)
    together = answerer(asked, lambda _: None)
    alone = [answerer([prompt], lambda _: None)[0] for prompt in asked]
    assert together == alone
    assert len(set(together)) > 1


@pytest.fixture
def items(scenes_file: Path) -> list[Item]:
    return RECORDS.read(scenes_file, scenes_file.parent)


@pytest.fixture
def evaluator(generator, processor, items, tmp_path, monkeypatch) -> OurEvaluator:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path))
    return OurEvaluator(generator, processor, [item.picture for item in items], use_bf16=False)


def test_blind_answers_do_not_depend_on_the_picture(evaluator: OurEvaluator, items) -> None:
    given: dict[str, set[str]] = {}
    for item, answer in zip(items, ask(evaluator, "blind", items, "blind"), strict=True):
        given.setdefault(item.question, set()).add(answer)
    assert all(len(answers) == 1 for answers in given.values())


@pytest.fixture
def shown(monkeypatch) -> list[torch.Tensor]:
    """The latent tokens of all questions asked, in place of answers."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        Answerer,
        "__call__",
        lambda self, asked, progress: [seen.append(each.latents) or "" for each in asked],
    )
    return seen


def test_yaw_rotated_questions_meet_rotated_views(evaluator: OurEvaluator, items, shown) -> None:
    chosen = [item for item in items if can_be_asked(RECORDS, item, "yaw_rotated", 4)][:1]
    for strides in range(4):
        ask(evaluator, "rotated", chosen, "yaw_rotated", strides)
    patch_tokens = evaluator.cache.load(chosen[0].picture)
    assert len(shown) == 4
    for strides, seen in enumerate(shown):
        expected = evaluator.latents.resampled(patch_tokens.roll(-strides, dims=0))
        assert torch.allclose(seen, expected, atol=1e-5)


def test_a_blank_view_is_what_the_model_makes_of_a_blank_picture_there(
    evaluator: OurEvaluator, items, shown
) -> None:
    ask(evaluator, "without", items[:1], "without_view", 2)
    ask(evaluator, "single view", items[:1], "single_view")
    picture = evaluator.cache.image_processor(str(items[0].image), return_tensors="pt")
    views = picture["pixel_values"][0].clone()
    views[2] = 0
    encoder, resampler = evaluator.latents.model.model.vision_encoder, evaluator.latents.resampled
    with torch.inference_mode():
        assert torch.allclose(shown[0], resampler(encode_views(encoder, views)), atol=2e-2)
    assert torch.equal(shown[1][0], evaluator.latents.of(items[0].picture)[0])
    assert torch.equal(shown[1][1:], evaluator.latents.blank[1:])


def test_equal_questions_about_equal_pictures_are_asked_once(
    evaluator: OurEvaluator, items, shown
) -> None:
    assert len(ask(evaluator, "blind", items * 2, "blind")) == 2 * len(items)
    assert len(shown) == len({item.prompt for item in items})
    shown.clear()
    ask(evaluator, "seen", items * 2, "original")
    assert len(shown) == len({(item.picture, item.prompt) for item in items})


def test_low_resolution_pictures_are_encoded_once_and_kept_apart(
    evaluator: OurEvaluator, items, monkeypatch
) -> None:
    before = {file: file.read_bytes() for file in evaluator.cache.folder.glob(f"*{ENDING}")}
    first = ask(evaluator, "low", items, "low_resolution")
    kept = evaluator.cache.folder.with_name(f"{evaluator.cache.folder.name}-low_resolution")
    assert count_pictures(kept.glob(f"*{ENDING}")) == count_pictures(before)
    assert {file: file.read_bytes() for file in before} == before
    monkeypatch.setattr(PatchTokenCache, "encode", None)
    assert ask(evaluator, "low", items, "low_resolution") == first


def test_what_is_beyond_memory_is_resampled_again(evaluator: OurEvaluator, monkeypatch) -> None:
    pictures = evaluator.pictures[:2]
    roomy = [evaluator.latents.of(picture) for picture in pictures]
    assert roomy[0] is evaluator.latents.of(pictures[0])
    monkeypatch.setattr(ours, "KEPT_BYTES", 1)
    tight = LatentTokens(evaluator.latents.model, evaluator.cache)
    assert all(torch.equal(tight.of(p), of) for p, of in zip(pictures, roomy, strict=True))
    first = tight.of(pictures[0])
    tight.of(pictures[1])
    assert first is not tight.of(pictures[0])


def test_missing_pictures_are_listed(generator, processor, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path))
    with pytest.raises(PanoVLMError, match=r"p\.png: no such picture"):
        OurEvaluator(generator, processor, [Path("p.png")], use_bf16=False)
