"""Probes: the target is brought to the seam or near a pole, and what is correct is known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from panovlm.data.record_files import read_records
from panovlm.data.records import Message, Needs
from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import Answers, EvaluationOptions, ask
from panovlm.evaluation.benchmarks.directions import DIRECTION_ERRORS
from panovlm.evaluation.benchmarks.hstar_bench import HSTAR_BENCH
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.benchmarks.labels import LABELS
from panovlm.evaluation.benchmarks.records import RECORDS
from panovlm.evaluation.ours import OurEvaluator
from panovlm.evaluation.report import report_of
from panovlm.evaluation.run import evaluate
from panovlm.evaluation.scoring import score_answers
from panovlm.evaluation.shown import (
    POLE_PITCH_DEG,
    PROBES,
)
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.places import angles_to_panorama
from panovlm.geometry.rotation import roll_to_seam
from panovlm.inference.answerer import Answerer
from panovlm.pictures.panorama import load_panorama

NEEDS = Needs(text=True, image=True)
MESSAGES = (Message(role="user", content="What colour?"), Message(role="assistant", content="red"))


def item(rolled: tuple[str, ...] = (), **fields: Any) -> Item:
    facts = {"rolled_responses": [*rolled], "crosses_seam": None}
    return Item("1", Path("p.png"), "What colour?", ("red",), "k", facts=facts, **fields)


@pytest.fixture
def data(scenes_file: Path) -> Path:
    """Records about a target, with one right answer whichever way the camera looks."""
    known = read_records(scenes_file, NEEDS)
    update = {"messages": MESSAGES, "rolled_responses": ("red",) * 8} | {
        "yaw_deg": 33.75,
        "pitch_deg": -10.0,
    }
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


@pytest.mark.parametrize(
    ("yaw_deg", "pitch_deg"), [(0.0, 0.0), (100.0, 30.0), (-170.0, -40.0), (60.0, 85.0)]
)
def test_a_target_comes_near_its_pole_and_keeps_its_yaw(yaw_deg: float, pitch_deg: float) -> None:
    yaws = np.radians((np.arange(512) + 0.5) / 512 * 360 - 180)
    pitches = np.radians(90 - (np.arange(256) + 0.5) / 256 * 180)[:, None]
    target = np.radians([yaw_deg, pitch_deg])
    near = np.sin(pitches) * np.sin(target[1])
    near = near + np.cos(pitches) * np.cos(target[1]) * np.cos(yaws - target[0])
    disc = (near > np.cos(np.radians(6))).astype(np.uint8) * 255  # of 6° around the target
    move = PROBES["pole_shifted"].move
    tilted = move(disc[..., None].repeat(3, 2), yaw_deg, pitch_deg)[..., 0].astype(float)
    expected = POLE_PITCH_DEG if pitch_deg >= 0 else -POLE_PITCH_DEG
    column, row = angles_to_panorama(yaw_deg, expected, 256, 512)
    assert tilted[int(row), int(column) % 512] > 200
    weights = tilted * np.cos(pitches)
    assert np.degrees((weights * pitches).sum() / weights.sum()) == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("yaw_deg", [180.0, -180.0, 0.0, -90.0, 33.0])
def test_the_camera_turns_right_until_its_back_is_to_the_object(yaw_deg: float) -> None:
    expected = PROBES["seam_shifted"].expect(DIRECTION_ERRORS, replace(DOOR, yaw_deg=yaw_deg))
    assert expected is not None and abs(expected.yaw_deg or 0.0) == 180.0


RED, MIXED = ("red", "red"), ("red", "blue")
DOOR = Item("1", Path("p"), "?", ("yaw 10.0, pitch 5.0",), "k", 10.0, 5.0)
SEARCH = replace(DOOR, facts={"yaw": (0.0, 20.0), "pitch": (0.0, 10.0)})


@pytest.mark.parametrize(
    ("benchmark", "asked", "probes"),
    [
        (RECORDS, item(RED, yaw_deg=10.0, pitch_deg=5.0), {"seam_shifted", "pole_shifted"}),
        (RECORDS, item(RED, yaw_deg=10.0), {"seam_shifted"}),
        (RECORDS, item(RED), set()),
        (RECORDS, item(MIXED, yaw_deg=10.0, pitch_deg=5.0), set()),
        (RECORDS, item(yaw_deg=10.0, pitch_deg=5.0), set()),
        (DIRECTION_ERRORS, DOOR, {"seam_shifted", "pole_shifted"}),
        (DIRECTION_ERRORS, replace(DOOR, pitch_deg=None), {"seam_shifted"}),
        (LABELS, replace(DOOR, yaw_deg=None, pitch_deg=None), {"pole_shifted"}),
        (HSTAR_BENCH, SEARCH, {"seam_shifted"}),
    ],
)
def test_only_questions_whose_answers_are_known_then_are_asked(
    benchmark: Benchmark, asked: Item, probes: set[str]
) -> None:
    known = {name for name, probe in PROBES.items() if probe.expect(benchmark, asked) is not None}
    assert known == probes


def test_a_direction_near_the_pole_keeps_its_yaw_and_has_another_pitch() -> None:
    expected = PROBES["pole_shifted"].expect(DIRECTION_ERRORS, DOOR)
    assert expected is not None and expected.references == ("yaw 10.0, pitch 75.0",)
    below = PROBES["pole_shifted"].expect(DIRECTION_ERRORS, replace(DOOR, pitch_deg=-5.0))
    assert below is not None and below.references == ("yaw 10.0, pitch -75.0",)


def test_answers_of_a_probe_are_compared_with_the_same_questions_as_they_are() -> None:
    asked = [item(RED, yaw_deg=10.0, pitch_deg=0.0)] * 2
    texts = Answers(
        seen=["red", "red"],
        baselines={},
        again={name: {0: ["red"], 1: ["blue"]} for name in PROBES},
        samples=[{name: [0, 1] for name in PROBES}],
    )
    answers = score_answers(RECORDS, asked, texts)
    report = report_of(RECORDS, answers, ViewLayout.ring(4, 120.0, 32))
    for name in PROBES:
        facts = report[name]
        assert (facts["score"]["mean"], facts["as_it_is"]["mean"]) == (0.5, 1.0)
        assert facts["score"]["count"] == 2 and facts["gain"]["mean"] == -0.5
        assert report["seeds"][0][name]["score"]["mean"] == 0.5


@pytest.mark.parametrize("probe", PROBES)
def test_the_model_is_shown_the_picture_moved(
    generator, processor, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe: str
) -> None:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path))
    asked = RECORDS.read(data, data.parent)[:1]
    evaluator = OurEvaluator(generator, processor, [asked[0].picture], use_bf16=False)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        Answerer, "__call__", lambda self, ps, tell: [seen.append(p.latents) or "" for p in ps]
    )
    ask(evaluator, "moved", asked, probe)
    pixels = PROBES[probe].move(load_panorama(asked[0].picture), 33.75, -10.0)
    views = processor.image_processor(pixels, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        latents = generator.model.get_image_features(views).last_hidden_state
    assert torch.allclose(seen[0].flatten(0, 1), latents[0], atol=2e-2)


def test_the_report_has_them_and_refuses_where_nothing_can_be_asked(
    saved_model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    options = EvaluationOptions("none", num_seam_shifted=3, num_pole_shifted=3, seeds=2)
    report = evaluate(saved_model, data, out, options=options)
    rows = [r for r in json.loads(out.read_text())["predictions"] if "pole_shifted" in r]
    assert 3 <= len(rows) == report["pole_shifted"]["score"]["count"] <= 6
    correct = [row["pole_shifted"]["score"] or 0.0 for row in rows]
    assert report["pole_shifted"]["score"]["mean"] == sum(correct) / len(rows)
    section = out.with_suffix(".html").read_text().split("<h2>Seam-shifted panoramas</h2>")[1]
    assert "original" in section.split("<h2>")[0]
    messages = [message.model_dump() for message in MESSAGES]
    plain = [{"image": str(row["image"]), "messages": messages} for row in rows]
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(each) + "\n" for each in plain))
    for probe in ("seam", "pole"):
        asked = EvaluationOptions("none", **{f"num_{probe}_shifted": 3})
        with pytest.raises(PanoVLMError, match=rf"found --{probe}-shifted 3, but no question"):
            evaluate(saved_model, tmp_path / "plain.jsonl", out, options=asked)
