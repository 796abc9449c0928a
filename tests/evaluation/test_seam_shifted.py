"""Seam-shifted pictures: the edge cuts what is asked about, and what is correct is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from record_predictions import predict

from panovlm.data.record_files import read_records
from panovlm.data.records import Message, Needs, Record
from panovlm.errors import PanoVLMError
from panovlm.evaluation.answers import Answerer
from panovlm.evaluation.asking import Answers, EvaluationOptions, Sample, seam_shiftable
from panovlm.evaluation.evaluate import Evaluator
from panovlm.evaluation.records_report import records_report
from panovlm.evaluation.run import evaluate
from panovlm.evaluation.seam_shifted import roll_to_seam, yaw_shift_to_seam_deg
from panovlm.geometry.layouts import ViewLayout
from panovlm.pictures.panorama import load_panorama

NEEDS = Needs(text=True, image=True)
MESSAGES = (Message(role="user", content="What colour?"), Message(role="assistant", content="red"))


def record(**fields) -> Record:
    return Record(image=Path("p.png"), messages=MESSAGES, **fields)


@pytest.fixture
def data(scenes_file: Path) -> Path:
    """Records about a direction, with one right answer whichever way the camera looks."""
    known = read_records(scenes_file, NEEDS)
    update = {"messages": MESSAGES, "rolled_responses": ("red",) * 8, "yaw_deg": 33.75}
    file = scenes_file.with_name("colours.jsonl")
    lines = [each.model_copy(update=update).model_dump_json(exclude_none=True) for each in known]
    file.write_text("\n".join(lines))
    return file


@pytest.mark.parametrize("yaw_deg", [-180.0, -90.0, 0.0, 33.75, 179.0])
def test_a_yaw_comes_to_the_edge_and_nothing_is_lost(yaw_deg: float) -> None:
    pixels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(128, 0).repeat(3, 2)
    rolled = roll_to_seam(pixels, yaw_deg)
    column = int((yaw_deg / 360 + 0.5) * 256) % 256
    assert {int(rolled[0, 0, 0]), int(rolled[0, -1, 0])} & {column, (column + 1) % 256}
    assert np.array_equal(np.sort(rolled, axis=1), pixels)


def test_the_camera_turns_right_until_its_back_is_to_the_object() -> None:
    assert yaw_shift_to_seam_deg(180.0) == yaw_shift_to_seam_deg(-180.0) == 0.0
    assert yaw_shift_to_seam_deg(0.0) == 180.0
    assert yaw_shift_to_seam_deg(-90.0) == 90.0  # at -90 - 90 = -180 then


def test_only_questions_with_a_direction_and_one_answer_under_all_rotations_are_asked() -> None:
    asked = [
        record(yaw_deg=10.0, rolled_responses=("red", "red")),
        record(yaw_deg=10.0, rolled_responses=("red", "blue")),
        record(yaw_deg=10.0),
        record(rolled_responses=("red", "red")),
    ]
    assert seam_shiftable(asked, None) == [0]
    assert seam_shiftable(asked, [2, 3]) == [2]


def test_answers_on_the_seam_are_compared_with_the_same_questions_as_they_are() -> None:
    asked = record(yaw_deg=10.0)
    answers = Answers(
        seen=[predict(asked, "red"), predict(asked, "red")],
        baselines={},
        yaw_rotated={},
        changed={},
        seam_shifted={0: predict(asked, "red"), 1: predict(asked, "blue")},
        samples=[Sample([], [], [0, 1])],
    )
    facts = records_report(answers, ViewLayout.ring(4, 120.0, 32))["seam_shifted"]
    assert (facts["overall"], facts["as_it_is"], facts["count"]) == (0.5, 1.0, 2)
    assert facts["gain"]["mean"] == -0.5


def test_the_model_is_shown_the_seam_shifted_picture(
    generator, processor, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path))
    asked = read_records(data, NEEDS)[0]
    evaluator = Evaluator(generator, processor, [asked], use_bf16=False)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        Answerer, "__call__", lambda self, ps, tell: [seen.append(p.latents) or "" for p in ps]
    )
    evaluator.predict_seam_shifted("seam", [asked])
    pixels = roll_to_seam(load_panorama(asked.picture), asked.yaw_deg)
    views = processor.image_processor(pixels, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        latents = generator.model.get_image_features(views).last_hidden_state
    assert torch.allclose(seen[0].flatten(0, 1), latents[0], atol=2e-2)
    with pytest.raises(ValueError, match="found no direction"):
        evaluator.predict_seam_shifted("seam", [asked.model_copy(update={"yaw_deg": None})])


def test_the_report_has_them_and_refuses_where_nothing_can_be_asked(
    saved_model: Path, data: Path, tmp_path: Path
) -> None:
    out, options = tmp_path / "report.json", EvaluationOptions("none", num_seam_shifted=3, seeds=2)
    report = evaluate(saved_model, data, out, options=options)
    rows = [r for r in json.loads(out.read_text())["predictions"] if "seam_shifted" in r]
    assert 3 <= len(rows) == report["seam_shifted"]["count"] <= 6
    correct = [row["seam_shifted"]["right"] for row in rows]
    assert report["seam_shifted"]["overall"] == sum(correct) / len(rows)
    assert [0.0 <= seed["seam_shifted"] <= 1.0 for seed in report["seeds"]] == [True, True]
    section = out.with_suffix(".html").read_text().split("<h2>Seam-shifted panoramas</h2>")[1]
    assert "original" in section.split("<h2>")[0]
    messages = [message.model_dump() for message in MESSAGES]
    plain = [{"image": str(row["image"]), "messages": messages} for row in rows]
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(each) + "\n" for each in plain))
    with pytest.raises(PanoVLMError, match=r"found --seam-shifted 3, but no question"):
        evaluate(saved_model, tmp_path / "plain.jsonl", out, options=options)
