"""`panovlm evaluate`: a model's scores beside its baselines, as JSON and as a page."""

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from panovlm.data.records import read_records
from panovlm.evaluation.evaluate import Evaluator, Prediction, accuracy, score
from panovlm.evaluation.report_page import Example, write_report
from panovlm.files import write_whole
from panovlm.inference import load_model, model_folder
from panovlm.measure import peak_memory_mb
from panovlm.model.panorama import load_panorama
from panovlm.precision import uses_bf16
from panovlm.stages import STAGES
from panovlm.training.outputs import STAGE_FACTS, load_result
from panovlm.training.trainer import read_log
from panovlm.views_sheet import draw_views_sheet

EXAMPLES = 8
"""Right answers shown, and as many wrong ones."""
PACKAGES = ("panovlm", "torch", "transformers", "peft", "accelerate", "numpy", "pillow")


def evaluate(
    path: Path,
    data: Path,
    out: Path,
    *,
    limit: int | None,
    num_turned: int,
    since: float | None,
) -> dict[str, Any]:
    """Score a model and write its report.

    Args:
        path: A model's folder or a run.
        data: Records with right answers.
        out: JSON file; the page is written beside it with the ending `.html`.
        limit: Only the first so many records.
        num_turned: Records asked again under every turn; 0 leaves rotation consistency out.
        since: Unix time at which the whole job began, if this is the end of one.

    Returns:
        The report.
    """
    started = time.perf_counter()
    model, processor = load_model(path)
    records = read_records(data, needs_text=True)[:limit]
    evaluator = Evaluator(model, processor, records, use_bf16=used_bf16(path))
    seen = evaluator.predict("questions")
    blind = evaluator.predict_blind("questions, blind")
    turned = evaluator.predict_turned("questions, turned", num_turned) if num_turned else []
    report: dict[str, Any] = {"accuracy": score(seen), "baselines": {"blind": score(blind)}}
    if turned:
        report["rotation_consistency"] = accuracy(turned)
        report["rotation_count"] = len(turned)
    report |= _stage_facts(path)
    seconds = time.perf_counter() - started
    report["seconds_evaluation"] = seconds
    stages = report["stages"].values()
    in_stages = seconds + sum(stage["seconds"] for stage in stages)
    report["seconds_total"] = time.time() - since if since else in_stages
    report["peak_memory_mb"] = max(peak_memory_mb(), *(s["peak_memory_mb"] for s in stages), 0)
    report["versions"] = versions()
    report["settings"] = {
        "model": str(model_folder(path)),
        "data": str(data),
        "records": len(records),
        "cpus": os.cpu_count(),
        "decoding": "greedy, exact match up to case and a final stop",
    }
    write_json(out, report | {"predictions": [_as_json(p) for p in seen]})
    sheet = draw_views_sheet(load_panorama(records[0].image), model.config.layout)
    write_report(report, _logs(path), _examples(seen), sheet, out.with_suffix(".html"))
    return report


def used_bf16(path: Path) -> bool:
    """Say whether the model was trained on views encoded in bf16; fp32 where nothing tells."""
    facts = model_folder(path) / STAGE_FACTS
    return facts.is_file() and uses_bf16(json.loads(facts.read_text())["precision"])


def versions() -> dict[str, str]:
    """Give the versions that a result rests on."""
    found = {name: version(name) for name in PACKAGES}
    return found | {"python": platform.python_version()}


def _stage_facts(path: Path) -> dict[str, Any]:
    """Collect what the stages of a run reported; a lone model folder has none."""
    stages = {}
    for name, stage in STAGES.items():
        if (path / name / STAGE_FACTS).is_file():
            stages[name] = vars(load_result(path, name)) | {
                "expected_first": stage.expected_first,
                "expected_last": stage.expected_last,
            }
    return {"stages": stages}


def _logs(path: Path) -> dict[str, list[dict[str, Any]]]:
    files = {name: path / "logs" / f"{name}.jsonl" for name in STAGES}
    return {name: read_log(file) for name, file in files.items() if file.is_file()}


def _examples(predictions: Sequence[Prediction]) -> list[Example]:
    """Choose right and wrong answers, each about another picture, the kinds in equal shares."""
    share = -(-EXAMPLES // len({p.record.kind for p in predictions}))
    chosen: list[Prediction] = []
    for is_right in (True, False):
        pictures: set[Path] = set()
        kinds: Counter[str | None] = Counter()
        for p in predictions:
            fresh = p.record.image not in pictures and kinds[p.record.kind] < share
            if p.is_right == is_right and fresh and len(pictures) < EXAMPLES:
                chosen.append(p)
                pictures.add(p.record.image)
                kinds[p.record.kind] += 1
    return [
        Example(
            picture=p.record.image,
            question=p.record.messages[-2].content,
            expected=p.expected,
            answer=p.answer,
            kind=p.record.kind or "all",
            yaw_deg=p.record.yaw_deg,
        )
        for p in chosen
    ]


def _as_json(prediction: Prediction) -> dict[str, Any]:
    record = prediction.record
    return {
        "image": str(record.image),
        "question": record.messages[-2].content,
        "expected": prediction.expected,
        "answer": prediction.answer,
        "right": prediction.is_right,
        "kind": record.kind,
    }


def write_json(out: Path, report: dict[str, Any]) -> None:
    """Write a report, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    write_whole(out, lambda partial: partial.write_text(text))
