"""`data check --blind` marks what is answered without the picture, and nothing else."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from stub_endpoint import stub_endpoint

from panovlm.evaluation.blind import check_blind
from panovlm.inference.answerer import Answerer, LatentQuestion
from panovlm.inference.guests import guest_of

Cli = Callable[..., tuple[int, str, str]]


def says_left(self: Answerer, prompts: Sequence[LatentQuestion], progress: Callable) -> list[str]:
    assert len({prompt.messages for prompt in prompts}) == len(prompts)
    assert len({id(prompt.latents) for prompt in prompts}) == 1
    return ["left"] * len(prompts)


@pytest.fixture
def records(scenes_file: Path, tmp_path: Path) -> Path:
    """Three questions, of which "left" is right for two."""
    asked = [("Where is the cone?", "left"), ("Where is the cone?", "right"), ("Where?", "Left.")]
    lines = [
        {
            "image": str(scenes_file.parent / f"{place}.png"),
            "kind": "direction",
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ],
        }
        for place, (question, answer) in enumerate(asked)
    ]
    file = tmp_path / "asked.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return file


def test_questions_answered_without_looking_are_warnings(
    saved_model: Path, records: Path, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answerer, "__call__", says_left)
    out = tmp_path / "check.json"
    code, said, _ = run_cli("data", "check", records, "--blind", saved_model, "--json", out)
    assert code == 0 and "answered without looking" in said and "2 of 3" in said
    found = [each for each in json.loads(out.read_text())["findings"] if "blind" in each["kind"]]
    assert [each["place"] for each in found] == ["line 1", "line 3"]
    assert {each["severity"] for each in found} == {"warning"}


def test_other_models_are_shown_grey(records: Path) -> None:
    with stub_endpoint() as stub:
        found = check_blind([records], guest_of(stub.name()))
    assert (found.answered["direction"], found.asked["direction"]) == (2, 3)
    assert len(stub.bodies) == 2  # equal questions are asked once


def test_other_models_are_told_how_to_answer(records: Path, run_cli: Cli) -> None:
    words = ("--instruction", "Answer with one word.")
    with stub_endpoint() as stub:
        assert run_cli("data", "check", records, "--blind", stub.name(), *words)[0] == 0
    texts = [body["messages"][-1]["content"][-1]["text"] for body in stub.bodies]
    assert texts and all(text.endswith("?\nAnswer with one word.") for text in texts)
