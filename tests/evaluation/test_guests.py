"""Other people's models stand in the same evaluation: same questions, same scores, same report."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stub_endpoint import Stub, stub_endpoint

from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.errors import PanoVLMError
from panovlm.evaluation import guests
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.compare import compare
from panovlm.evaluation.run import evaluate
from panovlm.inference.guests import EndpointGuest, Price, TransformersGuest, guest_of

PLAIN = EvaluationOptions("none")
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stub() -> Iterator[Stub]:
    with stub_endpoint() as running:
        yield running


@pytest.fixture
def guest(stub: Stub) -> EndpointGuest:
    made = guest_of(stub.name(), at_once=4)
    assert isinstance(made, EndpointGuest)
    return replace(made, endpoint=replace(made.endpoint, wait_s=0.0))


def num_questions(file: Path) -> int:
    records = read_records(file, Needs(text=True, image=True))
    return len({(record.picture, record.prompt) for record in records})


def kept(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(out.read_text())
    return report


def test_the_report_is_that_of_our_models_and_tokens_are_counted(
    guest: EndpointGuest, stub: Stub, saved_model: Path, scenes_file: Path, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    evaluate(saved_model, scenes_file, ours, options=EvaluationOptions())
    evaluate(guest, scenes_file, theirs, options=EvaluationOptions())
    assert kept(theirs).keys() - {"usage"} == kept(ours).keys()
    rows = kept(theirs)["predictions"]
    asked = [(row["image"], row["question"], row["references"]) for row in rows]
    own = kept(ours)["predictions"]
    assert asked == [(row["image"], row["question"], row["references"]) for row in own]
    assert {row["answer"] for row in rows} == {"left"}
    assert all(row["score"] == (row["references"] == ["left"]) for row in rows)
    usage, count = kept(theirs)["usage"], len(stub.bodies)
    tokens = {"prompt_tokens": 100 * count, "completion_tokens": 2 * count}
    assert usage == {"answers": count, "refused": 0, **tokens}
    assert kept(theirs)["settings"]["model"] == stub.name()
    assert compare(ours, theirs)["shared"] == len(rows)


@pytest.mark.parametrize(("show", "num_pictures"), [("views", 8), ("sheet", 1), ("view", 1)])
def test_pictures_stand_where_the_records_have_their_mark(
    guest: EndpointGuest,
    stub: Stub,
    scenes_file: Path,
    tmp_path: Path,
    show: str,
    num_pictures: int,
) -> None:
    options = replace(PLAIN, show=show, instruction="Answer in a word.")
    evaluate(guest, scenes_file, tmp_path / "r.json", options=options)
    assert len(stub.bodies) == num_questions(scenes_file)
    for body in stub.bodies:
        (message,) = body["messages"]
        *before, text = message["content"]
        assert text["text"].endswith("?\nAnswer in a word.")
        assert sum(part["type"] == "image_url" for part in before) == num_pictures
        assert (body["model"], body["temperature"]) == ("seer", 0)


def picture_of(body: dict[str, Any]) -> np.ndarray:
    (part,) = [p for p in body["messages"][0]["content"] if p["type"] == "image_url"]
    data = base64.b64decode(part["image_url"]["url"].split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_changed_pictures_are_rotated_greyed_and_reduced(
    guest: EndpointGuest, stub: Stub, scenes_file: Path, tmp_path: Path
) -> None:
    options = EvaluationOptions("all", num_yaw_rotated=1, show="equirectangular")
    report = evaluate(guest, scenes_file, tmp_path / "r.json", limit=1, options=options)
    seen, blind, front, low, *rotated = map(picture_of, stub.bodies)
    assert len(report["yaw_rotated"]["by_rotation"]) == 8 == len(rotated) + 1
    assert np.ptp(blind) <= 2 and front.shape[0] == front.shape[1] and low.shape == (317, 634, 3)
    width = seen.shape[1]
    errors = [
        [np.abs(np.roll(seen, -turn * width // 8, axis=1) - each).mean() for turn in range(8)]
        for each in rotated
    ]
    assert [int(np.argmin(row)) for row in errors] == sorted(int(np.argmin(row)) for row in errors)
    assert {int(np.argmin(row)) for row in errors} == {*range(1, 8)}


def test_requests_run_side_by_side(
    guest: EndpointGuest, stub: Stub, scenes_file: Path, tmp_path: Path
) -> None:
    stub.meeting = threading.Barrier(4)  # breaks unless four are there at a time
    options = replace(PLAIN, show="view")
    report = evaluate(guest, scenes_file, tmp_path / "r.json", limit=8, options=options)
    assert report["usage"]["answers"] == len(stub.bodies) == 8


@pytest.mark.parametrize("answers", [1, 5, 9])
def test_a_killed_run_goes_on_and_asks_nothing_twice(
    guest: EndpointGuest, stub: Stub, scenes_file: Path, tmp_path: Path, answers: int
) -> None:
    whole, out = tmp_path / "whole.json", tmp_path / "killed.json"
    options = EvaluationOptions(show="view")
    stub.answer = lambda number, text: (200, text[:5]) if number <= answers else (401, "no")
    with pytest.raises(PanoVLMError, match="HTTP 401: no; answers so far are kept"):
        evaluate(guest, scenes_file, out, options=options)
    assert not out.exists()
    stub.answer = lambda number, text: (200, text[:5])
    evaluate(guest, scenes_file, out, options=options)
    assert {*stub.answered.values()} == {1}
    evaluate(guest, scenes_file, whole, options=options)
    assert {*stub.answered.values()} == {2}
    for key in ("score", "predictions", "usage", "baselines"):
        assert kept(out)[key] == kept(whole)[key]


def test_failures_that_pass_are_tried_again(
    guest: EndpointGuest, stub: Stub, scenes_file: Path, tmp_path: Path
) -> None:
    stub.answer = lambda number, text: (503 if number % 2 else 200, "left")
    report = evaluate(replace(guest, at_once=1), scenes_file, tmp_path / "r.json", options=PLAIN)
    assert report["score"]["coverage"] == 1.0
    assert len(stub.bodies) == 2 * num_questions(scenes_file)


def test_a_refused_question_is_wrong_and_counted(
    guest: EndpointGuest, stub: Stub, scenes_file: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    stub.answer = lambda number, text: (400, "filtered") if number == 2 else (200, "left")
    out = tmp_path / "r.json"
    report = evaluate(replace(guest, at_once=1), scenes_file, out, options=PLAIN)
    assert report["usage"]["refused"] == 1
    (refused,) = [row for row in kept(out)["predictions"] if not row["answer"]]
    assert refused["score"] is None and report["score"]["coverage"] < 1
    monkeypatch.setattr(guests, "ALL_REFUSED", 3)
    stub.answer = lambda number, text: (400, "too long")
    with pytest.raises(PanoVLMError, match=r"first 3 questions refused .*HTTP 400: too long"):
        evaluate(guest, scenes_file, tmp_path / "other.json", options=PLAIN)


def test_what_a_model_says_to_itself_is_no_answer(
    guest: EndpointGuest, stub: Stub, scenes_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.json"
    stub.answer = lambda number, text: (200, "<think>Left, or right?</think>\n\nleft")
    evaluate(guest, scenes_file, out, limit=2, options=PLAIN)
    assert {row["answer"] for row in kept(out)["predictions"]} == {"left"}


def test_models_that_take_no_max_tokens_are_asked_in_their_way(
    guest: EndpointGuest, stub: Stub, scenes_file: Path, tmp_path: Path
) -> None:
    refusal = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    stub.answer = lambda number, text: (
        (400, refusal) if "max_tokens" in stub.bodies[-1] else (200, "left")
    )
    one = replace(guest, at_once=1)
    report = evaluate(one, scenes_file, tmp_path / "r.json", limit=4, options=PLAIN)
    assert report["usage"] == {"answers": 4, "refused": 0, "prompt_tokens": 400} | {
        "completion_tokens": 8
    }
    refused, *taken = stub.bodies
    assert refused["max_tokens"] == 256 and len(taken) == 4
    assert all(body["max_completion_tokens"] == 256 for body in taken)
    assert all("temperature" not in body for body in taken)


def test_views_that_a_model_never_saw_are_not_drawn(
    guest: EndpointGuest, scenes_file: Path, tmp_path: Path
) -> None:
    for show, is_drawn in (("sheet", True), ("equirectangular", False)):
        out = tmp_path / f"{show}.json"
        evaluate(guest, scenes_file, out, limit=1, options=replace(PLAIN, show=show))
        assert ("View overlap" in out.with_suffix(".html").read_text()) is is_drawn


def test_a_price_is_dollars_for_tokens_read_and_written() -> None:
    assert Price.of("2.5,10").total(2_000_000, 100_000) == pytest.approx(6.0)
    with pytest.raises(PanoVLMError, match=r"found --price 2\.5, expected dollars"):
        Price.of("2.5")


def test_a_benchmark_is_asked_in_its_words_and_scored_by_its_rule(
    guest: EndpointGuest, stub: Stub, scenes_file: Path, tmp_path: Path
) -> None:
    rows = [
        {"image": f"{place}.png", "label": label, "options": ["hall", "street", "attic"]}
        for place, label in enumerate(["hall", "street", "attic"])
    ]
    data = tmp_path / "labels.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    stub.answer = lambda number, text: (200, "The answer is **B**.")
    images = scenes_file.parent
    report = evaluate(guest, data, tmp_path / "r.json", "labels", images=images, options=PLAIN)
    assert report["score"]["mean"] == pytest.approx(1 / 3)
    assert all("A. hall\nB. street" in b["messages"][0]["content"][-1]["text"] for b in stub.bodies)
    assert all(body["max_tokens"] == 64 for body in stub.bodies)
    again = replace(PLAIN, num_yaw_rotated=2)
    report = evaluate(guest, data, tmp_path / "r.json", "labels", images=images, options=again)
    rotated = report["yaw_rotated"]  # what a place is does not depend on the camera's direction
    assert (rotated["score"]["count"], rotated["right_every"]["count"]) == (2 * 7, 2)


def test_a_model_of_transformers_is_run_here(
    saved_model: Path, scenes_file: Path, tmp_path: Path
) -> None:
    guest = guest_of(f"transformers:{saved_model}")  # ours is one as well
    assert isinstance(guest, TransformersGuest)
    options = replace(PLAIN, max_tokens=6, show="equirectangular")
    report = evaluate(guest, scenes_file, tmp_path / "r.json", limit=4, options=options)
    assert 0 < report["usage"]["completion_tokens"] <= 4 * 6 < report["usage"]["prompt_tokens"]
    rows = kept(tmp_path / "r.json")["predictions"]
    assert len(rows) == 4 and all(row["answer"] for row in rows)
    assert len({row["answer"] for row in rows}) > 1


def test_names_are_told_apart(
    saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guest_of(saved_model) is guest_of(tmp_path / "runs" / "none") is None
    assert guest_of("Qwen/Qwen2.5-VL-3B-Instruct") == TransformersGuest(
        "Qwen/Qwen2.5-VL-3B-Instruct"
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"architectures": ["LlavaFor"]}')
    assert guest_of(tmp_path / "other") == TransformersGuest(str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path)
    assert guest_of("other/mistyped") is None  # not asked of the hub: the folder is here
    with pytest.raises(PanoVLMError, match="expected openai:URL#NAME"):
        guest_of("openai:http://localhost:8000/v1")
    with pytest.raises(PanoVLMError, match="change MODEL"):
        guest_of("openai:localhost#seer")


def test_a_model_that_is_none_is_named(scenes_file: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "config.json").write_text("{}")
    with pytest.raises(PanoVLMError, match=r"cannot load .*none, because .*image-text-to-text"):
        evaluate(guest_of(tmp_path / "none"), scenes_file, tmp_path / "r.json", options=PLAIN)


def test_our_models_see_their_own_views(
    saved_model: Path, scenes_file: Path, guest: EndpointGuest, tmp_path: Path
) -> None:
    with pytest.raises(PanoVLMError, match="found --show sheet or --instruction"):
        evaluate(
            saved_model, scenes_file, tmp_path / "r.json", options=replace(PLAIN, show="sheet")
        )
    blanked = replace(PLAIN, show="equirectangular", num_ablated=2)
    with pytest.raises(PanoVLMError, match="of which no view can be blanked"):
        evaluate(guest, scenes_file, tmp_path / "r.json", options=blanked)


def test_the_command_takes_an_endpoint_and_its_key_from_the_environment_alone(
    stub: Stub, scenes_file: Path, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANOVLM_MODEL_KEY", "secret")
    out = tmp_path / "r.json"
    code, said, errors = run_cli(
        "evaluate",
        stub.name(),
        "--data",
        scenes_file,
        "--out",
        out,
        "--show",
        "sheet",
        "--baselines",
        "none",
        "--price",
        "1000,10000",
        "--limit",
        3,
    )
    assert (code, errors) == (0, "")
    assert "3 answers took 300 tokens read and 6 written, 0.36 dollars" in said
    page = out.with_suffix(".html").read_text()
    assert f"{stub.name()} (--show sheet) on {scenes_file}" in page
    assert "300 read, 6 written, 0 questions refused, 0.36 dollars" in page
    assert "records, share of exact matches" in said and stub.keys == {"Bearer secret"}
    assert "secret" not in out.read_text() + out.with_suffix(".html").read_text()
    assert "yaw_rotated" not in kept(out) and "view_ablation" not in kept(out)


def test_the_command_fails_below_what_is_required_and_writes_results(
    stub: Stub, scenes_file: Path, tmp_path: Path, run_cli: Cli
) -> None:
    out, results = tmp_path / "r.json", tmp_path / "results.json"
    words = ["evaluate", stub.name(), "--data", scenes_file, "--out", out, "--show", "view"]
    words += ["--baselines", "none", "--results", results, "--fail-under", "coverage=1"]
    assert run_cli(*words)[0] == 0
    code, _, errors = run_cli(*words, "--fail-under", "accuracy=0.99")
    assert code == 1 and errors.startswith("panovlm: accuracy is 0.")
    asked = len(stub.bodies)
    code, _, errors = run_cli(*words, "--fail-under", "accuracies=0.99")
    assert code == 2 and "expected one of accuracy, coverage" in errors
    assert len(stub.bodies) == asked
    assert "accuracy,none" in json.loads(results.read_text())["results"]["panovlm_records"]


@pytest.mark.skipif(not find_spec("uvicorn"), reason="needs the extra serve")
def test_our_own_server_stands_in_it(
    generator: Any, processor: Any, scenes_file: Path, tmp_path: Path
) -> None:
    import threading
    import time

    import uvicorn

    from panovlm.inference.assistant import Assistant
    from panovlm.serving.app import create_app

    app = create_app(Assistant(generator, processor))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        guest = guest_of(f"openai:http://127.0.0.1:{port}/v1#panovlm")
        options = replace(PLAIN, show="equirectangular", max_tokens=6)
        report = evaluate(guest, scenes_file, tmp_path / "r.json", options=options)
    finally:
        server.should_exit = True
        thread.join()
    assert report["usage"]["answers"] == num_questions(scenes_file)
    assert report["usage"]["completion_tokens"] > 0 == report["usage"]["refused"]
