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
from panovlm.data.records import Needs, Record
from panovlm.evaluation.answers import Answerer, Prompt, answer_limit
from panovlm.evaluation.benchmarks.records import exact_match, item_of
from panovlm.evaluation.guests.asking import GuestEvaluator
from panovlm.evaluation.guests.models import Guest
from panovlm.evaluation.guests.showing import Showing
from panovlm.evaluation.journal import Journal
from panovlm.evaluation.latents import blank_latents
from panovlm.evaluation.run import guest_limit
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
    records = [each.record for each in checked.records]
    answers = _answers(model, records) if records else []
    asked, answered, findings = Counter[str](), Counter[str](), list[Finding]()
    for number, (each, answer) in enumerate(zip(checked.records, answers, strict=True)):
        item = item_of(each.record, number)
        asked[item.kind] += 1
        if exact_match(item, answer).value == 1.0:
            answered[item.kind] += 1
            found = f"a {item.kind} question is answered without looking, by {shown(answer)}"
            findings.append(Finding(FindingKind.BLIND, found, "", each.file, each.place))
    return BlindCheck(tuple(findings), asked, answered)


def _answers(model: Path | Guest, records: Sequence[Record]) -> list[str]:
    if isinstance(model, Path):
        return _answers_of_ours(model, records)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "answers.jsonl", {})
        limit = guest_limit(records)
        evaluator = GuestEvaluator(model, Showing(), records, max_tokens=limit, journal=journal)
        return evaluator.predict_blind(LABEL)


def _answers_of_ours(path: Path, records: Sequence[Record]) -> list[str]:
    """Ask each distinct question once; no picture is read."""
    model, processor = load_model(path)
    blank, distinct = blank_latents(model), [*dict.fromkeys(each.prompt for each in records)]
    answerer = Answerer(model, processor, answer_limit(processor, records))
    with progress_bar(LABEL, len(distinct)) as advance:
        given = answerer([Prompt(blank, prompt) for prompt in distinct], advance)
    answers = dict(zip(distinct, given, strict=True))
    return [answers[record.prompt] for record in records]
