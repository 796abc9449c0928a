"""Questions that are answered without looking: what `panovlm data check --blind` marks.

A question that a model answers without the picture teaches, and tests, less than it seems to. Some
are answered by chance: of yes and no, half.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from panovlm.data.findings import Finding, FindingKind, shown
from panovlm.data.formats.reading import scan
from panovlm.data.record_files import check_records
from panovlm.data.records import Needs
from panovlm.evaluation.answers import Answerer, Prompt, answer_limit
from panovlm.evaluation.asking import ask
from panovlm.evaluation.benchmarks.items import Item
from panovlm.evaluation.benchmarks.records import exact_match, item_of
from panovlm.evaluation.guests.asking import GuestEvaluator
from panovlm.evaluation.guests.models import Guest
from panovlm.evaluation.guests.showing import Showing
from panovlm.evaluation.journal import Journal
from panovlm.evaluation.latents import blank_latents
from panovlm.evaluation.models import guest_limit
from panovlm.inference.loading import load_model
from panovlm.runtime.progress import progress_bar

LABEL = "questions, blind"


@dataclass(frozen=True)
class BlindCheck:
    """What a model answers without the pictures.

    Attributes:
        findings: A warning for each question that it answers correctly.
        asked: Questions by kind.
        answered: Those of them that it answers correctly.
    """

    findings: tuple[Finding, ...]
    asked: Counter[str]
    answered: Counter[str]


def check_blind(files: Sequence[Path], model: Path | Guest) -> BlindCheck:
    """Ask a model the questions of data files about a blank picture.

    Args:
        files: Records, or any other format that `panovlm data convert` reads; what is invalid in
            them is left out.
        model: A folder or a run of ours, or a model of others.

    Raises:
        PanoVLMError: If there is no such model.
    """
    checked = check_records(dict.fromkeys(files, Needs(text=True, image=True)), scan)
    items = [item_of(each.record, number) for number, each in enumerate(checked.records)]
    answers = _answers(model, items) if items else []
    asked, answered, findings = Counter[str](), Counter[str](), list[Finding]()
    for each, item, answer in zip(checked.records, items, answers, strict=True):
        asked[item.kind] += 1
        if exact_match(item, answer).value == 1.0:
            answered[item.kind] += 1
            found = f"a {item.kind} question is answered without looking, by {shown(answer)}"
            findings.append(Finding(FindingKind.BLIND, found, "", each.file, each.place))
    return BlindCheck(tuple(findings), asked, answered)


def _answers(model: Path | Guest, items: Sequence[Item]) -> list[str]:
    if isinstance(model, Path):
        return _answers_of_ours(model, items)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "answers.jsonl", {})
        limit = guest_limit(items)
        evaluator = GuestEvaluator(model, Showing(), max_tokens=limit, journal=journal)
        return ask(evaluator, LABEL, items, "blind")


def _answers_of_ours(path: Path, items: Sequence[Item]) -> list[str]:
    """Ask each distinct question once; no picture is read."""
    model, processor = load_model(path)
    blank, distinct = blank_latents(model), [*dict.fromkeys(item.prompt for item in items)]
    answerer = Answerer(model, processor, answer_limit(processor, items))
    with progress_bar(LABEL, len(distinct)) as advance:
        given = answerer([Prompt(blank, prompt) for prompt in distinct], advance)
    answers = dict(zip(distinct, given, strict=True))
    return [answers[item.prompt] for item in items]
