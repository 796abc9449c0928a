"""`panovlm card`: a run's README.md as a Hugging Face model card, from what the run left on disk.

Nothing is invented: what was not kept or measured is left out, or said to be missing.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from panovlm.backbones.packaged import PACKAGED
from panovlm.errors import PanoVLMError
from panovlm.inference.loading import model_folder
from panovlm.runtime.cached_folders import sha256
from panovlm.runtime.files import write_whole
from panovlm.stages import STAGES
from panovlm.training.outputs import STAGE_FACTS

MARK = "<!-- Written by `panovlm card`. -->"
"""Tells a card that may be replaced from a README that someone wrote."""

Facts = Mapping[str, Any]


def write_card(run: Path, *, licence: str | None, overwrite: bool) -> Path:
    """Write the model card of a run.

    Args:
        run: Folder of a run with a stage that answers.
        licence: Identifier of the model's licence, as `apache-2.0`; None leaves it out.
        overwrite: Whether to replace a README that is no such card.

    Returns:
        The file written.

    Raises:
        PanoVLMError: If there is no finished stage that answers, or a README in the way.
    """
    folder, stages = model_folder(run), _stages(run)
    if not stages:
        raise PanoVLMError(
            f"found no finished stage in {run}, expected the folder of a run; name the folder that "
            "`output` says in its recipe"
        )
    out = run / "README.md"
    if out.is_file() and MARK not in out.read_text(encoding="utf-8") and not overwrite:
        raise PanoVLMError(
            f"found a README.md in {run} that `panovlm card` did not write; move it away, or "
            "replace it with --overwrite"
        )
    report = _report(run)
    text = "\n\n".join(_parts(run, folder, stages, report, licence)) + "\n"
    write_whole(out, lambda partial: partial.write_text(text, encoding="utf-8"))
    return out


def _parts(
    run: Path, folder: Path, stages: Facts, report: Facts | None, licence: str | None
) -> Iterator[str]:
    model = stages[[*stages][-1]]["model"]
    yield f"---\n{_metadata(run.resolve().name, model, report, licence)}\n---"
    yield MARK
    yield f"# {run.resolve().name}"
    yield _introduction(model)
    yield _usage(folder)
    yield _data_section(stages)
    yield _training_section(stages)
    yield _evaluation_section(report)
    yield _limits_section(model, report, licence)


def _metadata(name: str, model: Facts, report: Facts | None, licence: str | None) -> str:
    backbones = (model["vision_encoder"], model["language_model"])
    results = None
    if report:
        data = Path(report["settings"]["data"])
        results = [
            EvalResult(
                task_type="image-text-to-text",
                dataset_type=data.stem,
                dataset_name=data.name,
                metric_type="exact_match",
                metric_name="exact match",
                metric_value=report["accuracy"]["overall"],
            )
        ]
    data_block = ModelCardData(
        base_model=[each for each in backbones if _is_hub_id(each)] or None,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["panovlm", "panorama", "360"],
        license=licence,
        model_name=name if results else None,
        eval_results=results,
    )
    return str(data_block.to_yaml())


def _is_hub_id(name: str) -> bool:
    """Whether a backbone's name can only be one of the hub's: two words, and no folder here."""
    return bool(re.fullmatch(r"\w[\w.-]*/[\w.-]+", name)) and not Path(name).exists()


def _introduction(model: Facts) -> str:
    views = model["views"]
    encoder, language = (_named(model[key]) for key in ("vision_encoder", "language_model"))
    return (
        f"A vision-language model for 360° panoramas, trained with PanoVLM: {views['num_views']} "
        f"views of {views['fov_deg']:g}° around, {views['view_size']} pixels each, read by "
        f"{encoder} and answered by {language}."
    )


def _named(backbone: str) -> str:
    """Name a backbone without telling the folders of the machine that trained."""
    if backbone in PACKAGED:
        return f"`{backbone}` (packaged with PanoVLM)"
    return f"`{backbone}`" if _is_hub_id(backbone) else f"`{Path(backbone).name}` (a local folder)"


def _usage(folder: Path) -> str:
    return f"""## Use

```python
import panovlm  # registers the Auto classes
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained("{folder.name}")
model = AutoModelForImageTextToText.from_pretrained("{folder.name}").eval()
```"""


def _data_section(stages: Facts) -> str:
    lines = [_data_line(name, facts) for name, facts in stages.items()]
    return "\n".join(["## Data", "", *lines])


def _data_line(name: str, facts: Facts) -> str:
    data = Path(facts["section"]["data"])
    said = f"- `{name}`: `{data.name}`, SHA-256 `{facts['records']}`"
    if not data.is_file() or sha256(data) != facts["records"]:
        return f"{said}; the file is no longer there as it was trained on"
    records = [json.loads(line) for line in data.read_text("utf-8").splitlines() if line.strip()]
    licences = Counter(record.get("licence") or "not stated" for record in records)
    told = ", ".join(f"{licence} ({count:,})" for licence, count in licences.most_common(8))
    return f"{said}, {len(records):,} records; licences of pictures: {told}"


def _training_section(stages: Facts) -> str:
    header = "| stage | loss first | loss last | expected last | seconds | peak memory (MiB) |"
    rows = [header, "|---|---|---|---|---|---|"]
    for name, facts in stages.items():
        result, (low, high) = facts["result"], STAGES[name].expected_last
        rows.append(
            f"| `{name}` | {result['loss_first']:.4g} | {result['loss_last']:.4g} "
            f"| {low:g}–{high:g} | {result['seconds']:.0f} | {result['peak_memory_mb']:.0f} |"
        )
    note = "Expected ranges are those of pretrained backbones on general data."
    return "\n".join(["## Training", "", *rows, "", note, "", _recipe(stages)])


def _recipe(stages: Facts) -> str:
    last = stages[[*stages][-1]]
    sections = {
        name: {k: v for k, v in facts["section"].items() if v is not None}
        | {"data": Path(facts["section"]["data"]).name}
        for name, facts in stages.items()
    }
    model = dict(last["model"])
    for key in ("vision_encoder", "language_model"):
        model[key] = model[key] if _is_hub_id(model[key]) else Path(model[key]).name
    recipe = {
        "seed": last["seed"],
        "precision": last["precision"],
        "model": {k: v for k, v in model.items() if v is not None},
        "stages": sections,
    }
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    return f"<details><summary>Recipe</summary>\n\n```yaml\n{text}```\n\n</details>"


def _evaluation_section(report: Facts | None) -> str:
    if report is None:
        return "## Evaluation\n\nNot evaluated: there is no `report.json` in the run."
    accuracy = report["accuracy"]
    rows = ["| questions | right | 95 % interval | asked |", "|---|---|---|---|"]
    for kind, share in accuracy["by_kind"].items():
        limits = accuracy.get("interval_by_kind", {}).get(kind)
        rows.append(_figure(kind, share, limits, accuracy["count_by_kind"][kind]))
    rows.append(
        _figure("**all**", accuracy["overall"], accuracy.get("interval"), accuracy["count"])
    )
    for name, scores in report.get("baselines", {}).items():
        label = f"baseline: {name.replace('_', ' ')}"
        rows.append(_figure(label, scores["overall"], scores.get("interval"), scores["count"]))
    about = f"Exact match on `{Path(report['settings']['data']).name}`, greedy answers."
    return "\n".join(["## Evaluation", "", about, "", *rows, *_sphere_lines(report)])


def _figure(name: str, share: float, limits: Sequence[float] | None, count: int) -> str:
    interval = f"{100 * limits[0]:.1f}–{100 * limits[1]:.1f}" if limits else "–"
    return f"| {name} | {100 * share:.1f} % | {interval} | {count:,} |"


def _sphere_lines(report: Facts) -> Iterator[str]:
    accuracy = report["accuracy"]
    if "seam" in accuracy:
        seam, others = (100 * accuracy[key] for key in ("seam", "not_seam"))
        yield f"\nObjects that the picture's edge cuts: {seam:.1f} %, all others: {others:.1f} %."
    if rotation := report.get("rotation"):
        yield (
            f"\nRight under all {rotation['rotations']} turns of the camera: "
            f"{100 * rotation['right_every']:.1f} % of {rotation['count']:,} questions."
        )


def _limits_section(model: Facts, report: Facts | None, licence: str | None) -> str:
    lines = [
        "- Made for full equirectangular panoramas (2:1), and for no other pictures.",
        "- Answers were checked by exact match alone, on data like that above." if report else "",
        "- The scenes' language model `scene-lm` answers questions like the drawn scenes' own, and "
        "nothing else."
        if model["language_model"] == "scene-lm"
        else "",
        "" if licence else "- No licence is stated: those of the backbones and of the data apply.",
        "- Biases and safety were not examined.",
    ]
    return "\n".join(["## Limits", "", *filter(None, lines)])


def _stages(run: Path) -> dict[str, Any]:
    files = {name: run / name / STAGE_FACTS for name in STAGES}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}


def _report(run: Path) -> dict[str, Any] | None:
    file = run / "report.json"
    if not file.is_file():
        return None
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        return {**report, "settings": report["settings"], "accuracy": report["accuracy"]}
    except (ValueError, KeyError, TypeError) as error:
        raise PanoVLMError(
            f"{file} is no report of `panovlm evaluate` ({error}); move it away, or evaluate again "
            f"with --out {file}"
        ) from error
