"""A model is scored on a benchmark's own file, beside itself without pictures."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.benchmarks.items import Item
from panovlm.evaluation.benchmarks.names import BENCHMARKS
from panovlm.evaluation.benchmarks.refer360 import REFER_360
from panovlm.evaluation.judge import Judge
from panovlm.evaluation.report import describe
from panovlm.evaluation.run import evaluate
from panovlm.evaluation.scoring import Prediction
from panovlm.inference.answerer import Answerer, LatentQuestion
from panovlm.metrics.scores import NOT_JUDGED, Score
from panovlm.pictures.declaring import Declaration


@pytest.fixture
def table(scenes_file: Path, tmp_path: Path) -> Path:
    shutil.copy(scenes_file.parent / "0.png", tmp_path)
    rows = [("0.png", "sky", "A grey sky."), ("0.png", "cars", "None."), ("9.png", "sky", "Blue.")]
    lines = ["url\tquery\tannotation", *("\t".join(row) for row in rows)]
    (tmp_path / "test.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "test.tsv"


def says(*answers: str) -> Callable[..., list[str]]:
    """In a model's place: gives the answers in turn, at once."""

    def answer(self: Answerer, prompts: Sequence[LatentQuestion], progress: Callable) -> list[str]:
        progress(len(prompts))
        return [answers[place % len(answers)] for place in range(len(prompts))]

    return answer


def test_answers_and_their_scores_are_kept_and_missing_pictures_counted(
    saved_model: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "report.json"
    report = evaluate(saved_model, table, out, "quic-360")
    kept = json.loads(out.read_text())
    assert kept["items_without_picture"] == 1
    assert kept["score"]["count"] == 2
    assert kept["score"] == report["score"]
    assert [each["references"] for each in kept["predictions"]] == [["A grey sky."], ["None."]]
    for each in kept["predictions"]:
        assert (each["score"] is None) == (each["missing"] is not None)
        assert len(each["answer"]) > 32  # longer than the answers to other records may be
    assert kept["baselines"]["blind"]["score"]["count"] == 2
    assert kept["differs"] == BENCHMARKS["quic-360"].differs


def test_strips_are_scored_as_declared(saved_model: Path, table: Path, tmp_path: Path) -> None:
    strip = Image.open(tmp_path / "0.png").resize((960, 60))  # as PanoVQA's, a tenth as large
    strip.save(tmp_path / "0.png")
    with pytest.raises(PanoVLMError, match="found 960x60, expected width = 2 x height"):
        evaluate(saved_model, table, tmp_path / "report.json", "quic-360")
    declared = Declaration(projection="cylindrical", hfov_deg=360.0)
    options = EvaluationOptions("none", declared=declared)
    out = tmp_path / "declared.json"
    report = evaluate(saved_model, table, out, "quic-360", options=options)
    assert report["score"]["count"] == 2
    assert json.loads(out.read_text())["settings"]["declared"]["hfov_deg"] == 360.0


def test_a_judge_is_asked_where_the_published_score_is_one(
    saved_model: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [{"value": "<image>\nWhat is there?"}, {"value": "A sky."}]
    rows = [{"id": f"N{i}_a", "image": "0.png", "conversations": messages} for i in (1, 2)]
    data = tmp_path / "mini.json"
    data.write_text(json.dumps(rows))
    monkeypatch.setattr(Answerer, "__call__", says("Clouds."))
    monkeypatch.setattr(Judge, "_ask", lambda self, rubric, said: 4)
    judge = Judge("http://localhost:1", "some-model")
    report = evaluate(saved_model, data, tmp_path / "r.json", "panovqa", judge=judge)
    assert report["score"]["mean"] == 0.75
    assert report["extras"]["mean_of_categories"]["count"] == 2
    assert report["judge"]["model"] == "some-model"
    report = evaluate(saved_model, data, tmp_path / "r.json", "panovqa", limit=1)
    assert report["score"]["missing"] == {NOT_JUDGED.missing: 1}
    assert report["score"]["mean"] is report["better_than"]["blind"] is report["judge"] is None


EVERYTHING = EvaluationOptions(baselines="all", num_yaw_rotated=2, num_ablated=2, seeds=2)


@pytest.fixture
def search(scenes_file: Path, tmp_path: Path) -> Path:
    """Two tasks about one panorama, as H*Bench has them."""
    (tmp_path / "search" / "a").mkdir(parents=True)
    shutil.copy(scenes_file.parent / "0.png", tmp_path / "search" / "a")
    tasks = [{"task": f"Find {n}.", "yaw": [170, -170], "pitch": [-5, 5]} for n in (1, 2)]
    (tmp_path / "search" / "a" / "annotation.json").write_text(json.dumps(tasks))
    return tmp_path / "search"


def test_yaw_rotated_pictures_are_shown_only_where_it_is_known_what_is_correct_then(
    saved_model: Path, table: Path, search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.json"
    monkeypatch.setattr(Answerer, "__call__", says("submit(180,0)"))
    assert "yaw_rotated" not in evaluate(saved_model, table, out, "quic-360", options=EVERYTHING)
    report = evaluate(saved_model, search, out, "hstar-bench", options=EVERYTHING)
    assert report["score"]["mean"] == 1.0
    rotated = report["yaw_rotated"]
    assert rotated["score"] == rotated["score"] | {"mean": 0.0, "count": 6}
    assert rotated["right_every"]["mean"] == 0.0
    assert [seed["yaw_rotated"]["score"]["count"] for seed in report["seeds"]] == [6, 6]
    row = json.loads(out.read_text())["predictions"][0]
    assert [each["score"] for each in row["yaw_rotated"]] == [1.0, 0.0, 0.0, 0.0]


def test_objects_of_a_benchmark_are_shifted_to_the_seam_and_scored_there(
    saved_model: Path, table: Path, search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, options = tmp_path / "report.json", EvaluationOptions("none", num_seam_shifted=2)
    monkeypatch.setattr(Answerer, "__call__", says("submit(180,0)"))
    report = evaluate(saved_model, search, out, "hstar-bench", options=options)
    facts = report["seam_shifted"]
    assert facts["score"] == facts["as_it_is"] == facts["score"] | {"mean": 1.0, "count": 2}
    assert facts["gain"]["mean"] == 0.0
    row = json.loads(out.read_text())["predictions"][0]
    assert row["seam_shifted"] == {"answer": "submit(180,0)", "score": 1.0, "missing": None}
    with pytest.raises(PanoVLMError, match="leave --seam-shifted out"):
        evaluate(saved_model, table, out, "quic-360", options=options)


def test_a_benchmark_is_compared_with_every_baseline(
    saved_model: Path, search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answerer, "__call__", says("submit(175,0)", "behind me"))
    out = tmp_path / "report.json"
    report = evaluate(saved_model, search, out, "hstar-bench", options=EVERYTHING)
    names = {"blind", "single_view", "low_resolution"}
    assert {*report["baselines"]} == {*report["better_than"]} == names
    assert report["baselines"]["blind"]["score"] == report["score"]
    assert report["better_than"]["low_resolution"]["mean"] == 0.0
    assert (report["view_ablation"]["count"], report["view_ablation"]["changed_by_any"]) == (2, 0.0)
    assert [seed["seed"] for seed in report["seeds"]] == [0, 1]
    assert report["seeds"][0]["interval"] == report["score"]["interval"]
    assert report["settings"]["baselines"] == "all"
    hit, unread = json.loads(out.read_text())["predictions"]
    assert hit["baselines"]["blind"] == {"answer": "submit(175,0)", "score": 1.0, "missing": None}
    assert (unread["score"], unread["missing"]) == (None, "the answer could not be read")


@pytest.mark.parametrize("calls", [1, 4, 9])
def test_a_killed_benchmark_goes_on_and_ends_with_the_same_report(
    saved_model: Path, search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    whole, out = tmp_path / "whole.json", tmp_path / "killed.json"
    asked: list[int] = []

    def counted(self: Answerer, prompts: Sequence[LatentQuestion], progress: Callable) -> list[str]:
        asked.append(len(prompts))
        return says("submit(175,0)", "submit(0,0)")(self, prompts, progress)

    def dies(self: Answerer, prompts: Sequence[LatentQuestion], progress: Callable) -> list[str]:
        if len(asked) == calls:
            raise KeyboardInterrupt
        return counted(self, prompts, progress)

    monkeypatch.setattr(Answerer, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(saved_model, search, out, "hstar-bench", options=EVERYTHING)
    assert not out.exists()
    monkeypatch.setattr(Answerer, "__call__", counted)
    evaluate(saved_model, search, out, "hstar-bench", options=EVERYTHING)
    on_two_starts = len(asked)
    evaluate(saved_model, search, whole, "hstar-bench", options=EVERYTHING)
    assert len(asked) == 2 * on_two_starts  # nothing was asked twice
    first, second = (json.loads(path.read_text()) for path in (whole, out))
    for report in (first, second):
        for key in ("seconds_evaluation", "seconds_total", "peak_memory_mb"):
            del report[key]
    assert first == second
    assert not out.with_suffix(".jsonl").exists()


def test_strata_hold_the_items_whose_place_is_known() -> None:
    places = [(175.0, 80.0), (-100.0, 0.0), (None, None)]
    items = [Item("n", Path("p"), "?", (), "k", yaw, pitch) for yaw, pitch in places]
    scores = [Score(1.0), Score(3.0), Score(5.0)]
    predictions = [*map(Prediction, items, [""] * 3, scores)]
    described = describe(REFER_360, predictions)
    means = {name: each["mean"] for name, each in described["by_distance_from_seam"].items()}
    assert means == {"0-45°": 1.0, "45-90°": 3.0}
    assert {*described["by_distance_from_pole"]} == {"0-30°", "60-90°"}
    assert (described["score"]["mean"], described["score"]["interval"]["count"]) == (3.0, 3)


def test_mistakes_are_named(saved_model: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="found --benchmark vqa, expected one of quic-360"):
        evaluate(saved_model, table, tmp_path / "r.json", "vqa")
    judge = Judge("http://localhost:1", "m")
    with pytest.raises(PanoVLMError, match="quic-360 is scored by rule"):
        evaluate(saved_model, table, tmp_path / "r.json", "quic-360", judge=judge)
    with pytest.raises(PanoVLMError, match="found none of the 3 pictures"):
        evaluate(saved_model, table, tmp_path / "r.json", "quic-360", images=tmp_path / "no")
