"""Questions that are answered without looking: what `panovlm data check --blind` marks.

A question that a model answers without the picture teaches, and tests, less than it seems to. Some
are answered by chance: of yes and no, half.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from panovlm.data.findings import Finding, FindingKind, shown
from panovlm.data.formats.reading import scan
from panovlm.data.record_files import check_records
from panovlm.data.records import Needs
from panovlm.evaluation.asking import EvaluationOptions, Evaluator, ask
from panovlm.evaluation.benchmarks.items import Item
from panovlm.evaluation.benchmarks.records import RECORDS, exact_match, item_of
from panovlm.evaluation.guests import GuestEvaluator
from panovlm.evaluation.ours import OurEvaluator, answer_limit
from panovlm.inference.guests import Guest
from panovlm.inference.loading import load_model


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


def check_blind(files: Sequence[Path], model: Path | Guest, instruction: str = "") -> BlindCheck:
    """Ask a model the questions of data files about a blank picture.

    Args:
        files: Records, or any other format that `panovlm data convert` reads; what is invalid in
            them is left out.
        model: A folder or a run of ours, or a model of others.
        instruction: Added to each question to these.

    Raises:
        PanoVLMError: If there is no such model.
    """
    checked = check_records(dict.fromkeys(files, Needs(text=True, image=True)), scan)
    items = [item_of(each.record, number) for number, each in enumerate(checked.records)]
    options, label = EvaluationOptions(instruction=instruction), "questions, blind"
    answers = ask(_evaluator(model, items, options), label, items, "blind") if items else []
    asked, answered, findings = Counter[str](), Counter[str](), list[Finding]()
    for each, item, answer in zip(checked.records, items, answers, strict=True):
        asked[item.kind] += 1
        if exact_match(item, answer).value == 1.0:
            answered[item.kind] += 1
            found = f"a {item.kind} question is answered without looking, by {shown(answer)}"
            findings.append(Finding(FindingKind.BLIND, found, "", each.file, each.place))
    return BlindCheck(tuple(findings), asked, answered)


def _evaluator(model: Path | Guest, items: Sequence[Item], options: EvaluationOptions) -> Evaluator:
    """Return what asks a model; no picture is read."""
    if not isinstance(model, Path):
        return GuestEvaluator(model, RECORDS, items, options)
    loaded, processor = load_model(model)
    limit = answer_limit(processor, items)
    return OurEvaluator(loaded, processor, (), use_bf16=False, max_new_tokens=limit)
