"""Scores say what they claim, and batched answers equal answers given alone."""

from pathlib import Path

import pytest
import torch
from record_predictions import predict

from panovlm.data.cache import PatchTokenCache
from panovlm.data.record_files import read_records
from panovlm.data.records import Message, Needs, Record
from panovlm.errors import PanoVLMError
from panovlm.evaluation import latents
from panovlm.evaluation.answers import MAX_NEW_TOKENS, Answerer, Prompt, answer_limit
from panovlm.evaluation.evaluate import Evaluator
from panovlm.evaluation.latents import LatentTokens
from panovlm.evaluation.records_report import describe
from panovlm.evaluation.scoring import accuracy
from panovlm.metrics.exact_match import normalised
from panovlm.model.vision import encode_views


def record(answer: str = "left", **fields) -> Record:
    messages = (Message(role="user", content="Where?"), Message(role="assistant", content=answer))
    return Record(image=Path("p.png"), messages=messages, **fields)


def test_exact_match_ignores_case_outer_space_and_a_final_stop() -> None:
    assert normalised(" Front-Left. ") == "front-left"
    assert predict(record("left"), "Left.").is_right
    assert not predict(record("left"), "front-left").is_right
    assert not predict(record("left"), "").is_right


def test_a_yaw_rotated_picture_expects_its_rotated_response() -> None:
    rotated = record(rolled_responses=("left", "back-left", "back", "back-right"))
    assert predict(rotated, "back-left", 90.0).is_right
    assert not predict(rotated, "left", 90.0).is_right
    assert predict(rotated, "left", 360.0).is_right


def test_scores_are_means_with_counts_by_kind_and_stratum() -> None:
    predictions = [
        predict(record(kind="direction", yaw_deg=179.0, crosses_seam=True), "left"),
        predict(record(kind="direction", yaw_deg=10.0, crosses_seam=False), "right"),
        predict(record(kind="direction", yaw_deg=20.0, crosses_seam=False), "left"),
        predict(record("3", kind="count"), "3"),
    ]
    scores = describe(predictions)
    assert scores["overall"] == 0.75
    assert scores["by_kind"] == {"count": 1.0, "direction": pytest.approx(2 / 3)}
    assert scores["count_by_kind"] == {"count": 1, "direction": 3}
    assert (scores["seam"], scores["not_seam"]) == (1.0, 0.5)
    assert (scores["count_seam"], scores["count_not_seam"]) == (1, 2)


def test_coverage_stands_beside_every_share() -> None:
    scores = describe(
        [predict(record(kind="a"), "left"), predict(record(kind="a"), ""), predict(record(), "up")]
    )
    assert scores["coverage"] == pytest.approx(2 / 3)
    assert scores["coverage_by_kind"] == {"a": 0.5, "all": 1.0}
    assert scores["by_kind"] == {"a": 0.5, "all": 0.0}  # an empty answer is wrong


def test_listings_are_scored_line_by_line_beside_the_questions() -> None:
    listing = record("front: car\nback: nothing")
    scores = describe([predict(listing, "front: car\nback: car"), predict(record(), "left")])
    assert scores["overall"] == 0.5
    assert scores["listings"]["count"] == 1
    assert scores["listings"]["lines"]["mean"] == 0.5
    assert "listings" not in describe([predict(record(), "left")])


def test_answers_are_cut_off_behind_the_longest_correct_one(processor) -> None:
    long = "front: red cube " * 20
    assert answer_limit(processor, [record()]) == MAX_NEW_TOKENS
    limit = answer_limit(processor, [record(), record(rolled_responses=("left", None, long))])
    assert limit > len(processor.tokenizer(long, add_special_tokens=False)["input_ids"])


def test_scores_are_given_by_distance_from_the_seam_where_directions_are_known() -> None:
    predictions = [
        predict(record(yaw_deg=-170.0), "left"),
        predict(record(yaw_deg=150.0), "right"),
        predict(record(yaw_deg=10.0), "left"),
        predict(record(), "left"),
    ]
    scores = describe(predictions)
    assert scores["by_seam_distance"] == {"0-45°": 0.5, "135-180°": 1.0}
    assert scores["count_by_seam_distance"] == {"0-45°": 2, "135-180°": 1}
    assert "by_seam_distance" not in describe(predictions[3:])


def test_no_stratum_is_reported_where_nothing_crosses_the_seam() -> None:
    assert "seam" not in describe([predict(record(yaw_deg=3.0, crosses_seam=False), "left")])
    assert accuracy([predict(record(), "left")]).mean == 1.0


def prompts(generator, num: int) -> list[Prompt]:
    config = generator.config
    shape = (config.num_views, 16, config.vision_config.hidden_size)
    texts = ["Where?", "What is to my left, behind the table?", "How many?", "Is it?", "Or?"]
    views = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    latents = [generator.model.resampler(each).detach() for each in views]
    return [
        Prompt(latents[i % 2], (Message(role="user", content=f"<image>{texts[i]}"),))
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
def evaluator(generator, processor, scenes_file, tmp_path, monkeypatch) -> Evaluator:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path))
    return Evaluator(
        generator,
        processor,
        read_records(scenes_file, Needs(text=True, image=True)),
        use_bf16=False,
    )


def test_blind_answers_do_not_depend_on_the_picture(evaluator: Evaluator) -> None:
    blind = evaluator.predict_blind("blind")
    given: dict[str, set[str]] = {}
    for asked, answer in zip(evaluator.records, blind, strict=True):
        given.setdefault(asked.messages[0].content, set()).add(answer)
    assert all(len(answers) == 1 for answers in given.values())


def test_yaw_rotated_questions_meet_rotated_views(evaluator: Evaluator, monkeypatch) -> None:
    seen: list[torch.Tensor] = []
    original = evaluator.answerer.__class__.__call__

    def spy(self, asked, progress):
        seen.extend(prompt.latents for prompt in asked)
        return original(self, asked, progress)

    monkeypatch.setattr(evaluator.answerer.__class__, "__call__", spy)
    records = [record for record in evaluator.records if record.can_rotate(4)][:1]
    for strides in range(4):
        evaluator.predict_yaw_rotated("rotated", records, strides)
    patch_tokens = evaluator.cache.load(records[0].image)
    assert len(seen) == 4
    for strides, shown in enumerate(seen):
        expected = evaluator.latents.resampled(patch_tokens.roll(-strides, dims=0))
        assert torch.allclose(shown, expected, atol=1e-5)


def test_a_blank_view_is_what_the_model_makes_of_a_blank_picture_there(
    evaluator: Evaluator, monkeypatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        evaluator.answerer.__class__,
        "__call__",
        lambda self, asked, progress: [seen.append(each.latents) or "" for each in asked],
    )
    records = evaluator.records[:1]
    evaluator.predict_without_view("without", records, 2)
    evaluator.predict_single_view("single view")
    picture = evaluator.cache.image_processor(str(records[0].image), return_tensors="pt")
    views = picture["pixel_values"][0].clone()
    views[2] = 0
    encoder, resampler = evaluator.latents.model.model.vision_encoder, evaluator.latents.resampled
    with torch.inference_mode():
        assert torch.allclose(seen[0], resampler(encode_views(encoder, views)), atol=2e-2)
    assert torch.equal(seen[1][0], evaluator.latents.of(records[0].picture)[0])
    assert torch.equal(seen[1][1:], evaluator.latents.blank[1:])


def test_equal_questions_about_a_blank_picture_are_asked_once(
    evaluator: Evaluator, monkeypatch
) -> None:
    asked: list[tuple[Message, ...]] = []
    original = evaluator.answerer.__class__.__call__

    def spy(self, prompts, progress):
        asked.extend(prompt.messages for prompt in prompts)
        return original(self, prompts, progress)

    monkeypatch.setattr(evaluator.answerer.__class__, "__call__", spy)
    evaluator.records *= 2
    assert len(evaluator.predict_blind("blind")) == len(evaluator.records)
    assert len(asked) == len(set(asked)) == len({each.prompt for each in evaluator.records})


def test_low_resolution_pictures_are_encoded_once_and_kept_apart(
    evaluator: Evaluator, monkeypatch
) -> None:
    before = {file: file.read_bytes() for file in evaluator.cache.folder.glob("*.npy")}
    first = evaluator.predict_low_resolution("low")
    kept = evaluator.cache.folder.with_name(f"{evaluator.cache.folder.name}-low_resolution")
    assert len([*kept.glob("*.npy")]) == len(before)
    assert {file: file.read_bytes() for file in before} == before
    monkeypatch.setattr(PatchTokenCache, "encode", None)
    assert evaluator.predict_low_resolution("low") == first


def test_what_is_beyond_memory_is_resampled_again(evaluator: Evaluator, monkeypatch) -> None:
    pictures = [*dict.fromkeys(record.picture for record in evaluator.records)][:2]
    roomy = [evaluator.latents.of(picture) for picture in pictures]
    assert roomy[0] is evaluator.latents.of(pictures[0])
    monkeypatch.setattr(latents, "KEPT_BYTES", 1)
    tight = LatentTokens(evaluator.latents.model, evaluator.cache)
    assert all(torch.equal(tight.of(p), of) for p, of in zip(pictures, roomy, strict=True))
    first = tight.of(pictures[0])
    tight.of(pictures[1])
    assert first is not tight.of(pictures[0])


def test_missing_pictures_are_listed(generator, processor, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path))
    with pytest.raises(PanoVLMError, match=r"p\.png: no such picture"):
        Evaluator(generator, processor, [record()], use_bf16=False)
