"""`panovlm card`: a run's README.md as a Hugging Face model card, from what the run left on disk.

Nothing is invented: what was not kept or measured is left out, or said to be missing.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment

from panovlm.backbones.packaged import LICENCES, PACKAGED
from panovlm.data.formats.reading import scan_trained
from panovlm.data.picture_folders import data_digest
from panovlm.data.record_files import check_records
from panovlm.data.records import Needs
from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.loading import model_folder
from panovlm.runtime.files import has_mark, write_own
from panovlm.stages import STAGES
from panovlm.training.outputs import STAGE_FACTS

MARK = "<!-- Written by `panovlm card`. -->"
"""Marks a card that may be replaced, unlike a README that someone wrote."""

_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")

Facts = Mapping[str, Any]


def write_card(run: Path, *, licence: str | None) -> Path:
    """Write the model card of a run.

    Args:
        run: Folder of a run with a stage that answers.
        licence: Identifier of the model's licence, as `apache-2.0`; None leaves it out.

    Returns:
        The file written.

    Raises:
        PanoVLMError: If there is no finished stage that answers, or a README in the way.
    """
    out = run / "README.md"
    text = card_text(run, licence=licence)
    write_own(
        out,
        lambda partial: partial.write_text(text, encoding="utf-8"),
        lambda present: has_mark(present, MARK),
    )
    return out


def card_text(
    run: Path,
    *,
    licence: str | None,
    trained_only: str | None = None,
    dtype: str = "bf16",
    about: str = "",
) -> str:
    """Return the text of a card.

    Args:
        run: As in `write_card`.
        licence: Likewise.
        trained_only: Name of the folder of trained weights alone that the card is for; None for
            the run's own.
        dtype: Of those weights.
        about: What else to say of the data, Markdown.

    Raises:
        PanoVLMError: If there is no finished stage that answers.
    """
    folder, stages, report = model_folder(run), _finished(run), _report(run)
    name, model = trained_only or run.resolve().name, stages[[*stages][-1]]["model"]
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        metadata=_metadata(name, model, report, licence),
        mark=MARK,
        name=name,
        model=model,
        views=ViewLayout.of_settings(**model["views"]).describe(),
        folder=folder.name,
        stages=stages,
        report=report,
        licence=licence,
        recipe=_recipe(stages, name),
        trained_only=trained_only,
        dtype=dtype,
        about=about.strip(),
        named=_named,
        file_name=lambda path: Path(path).name,
        file_names=lambda data: "`, `".join(file.name for file in _files_of(data)),
        data_of=_data_of,
        expected_last=lambda stage: STAGES[stage].expected_last,
        grouped="{:,}".format,
    )


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
                metric_value=report["score"]["mean"],
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


def _named(backbone: str) -> str:
    """Name a backbone without telling the folders of the machine that trained."""
    if backbone in PACKAGED:
        return f"`{backbone}` (packaged with PanoVLM, {LICENCES[backbone]})"
    return f"`{backbone}`" if _is_hub_id(backbone) else f"`{Path(backbone).name}` (a local folder)"


def _data_of(facts: Facts) -> Facts | None:
    """Return what the records of a stage are; None where the file has changed or is gone."""
    files = _files_of(facts["section"]["data"])
    is_there = all(file.exists() for file in files)
    if not is_there or ",".join(map(data_digest, files)) != facts["records"]:
        return None
    needs = Needs(text=False, image=False, one_picture=False)
    records = check_records(dict.fromkeys(files, needs), scan_trained).records
    licences = Counter(each.record.licence or "not stated" for each in records)
    named = ", ".join(f"{licence} ({count:,})" for licence, count in licences.most_common(8))
    return {"count": len(records), "licences": named}


def _files_of(data: str | list[Facts]) -> list[Path]:
    """Return the files that a stage was trained on: one, or those of a list with weights."""
    return [Path(data)] if isinstance(data, str) else [Path(source["path"]) for source in data]


def _named_data(data: str | list[Facts]) -> str | list[Facts]:
    """Name a stage's data without telling the folders of the machine that trained."""
    if isinstance(data, str):
        return _own_path(data)
    return [{**source, "path": _own_path(source["path"])} for source in data]


def _own_path(path: str) -> str:
    """Return a path as the recipe has it if that is relative, else the file's name."""
    return Path(path).name if Path(path).is_absolute() else path


def recipe_text(run: Path, name: str) -> str:
    """Return the recipe of a run as YAML, with an output of another name.

    Raises:
        PanoVLMError: If the run has no finished stage.
    """
    return _recipe(_finished(run), name)


def _recipe(stages: Facts, name: str) -> str:
    last = stages[[*stages][-1]]
    sections = {
        stage: {k: v for k, v in facts["section"].items() if v is not None or k == "lora"}
        | {"data": _named_data(facts["section"]["data"])}
        for stage, facts in stages.items()
    }
    model = dict(last["model"])
    for key in ("vision_encoder", "language_model"):
        model[key] = model[key] if _is_hub_id(model[key]) else Path(model[key]).name
    recipe = {
        "output": f"runs/{name}",
        "seed": last["seed"],
        "dtype": last.get("dtype", "auto"),
        "model": {k: v for k, v in model.items() if v is not None},
        "stages": sections,
    }
    return str(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))


def _finished(run: Path) -> dict[str, Any]:
    """Return the facts of a run's finished stages, by their names."""
    files = {name: run / name / STAGE_FACTS for name in STAGES}
    found = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    if not found:
        raise PanoVLMError(
            f"found no finished stage in {run}, expected the folder of a run; name the folder that "
            "`output` says in its recipe"
        )
    return found


def _report(run: Path) -> dict[str, Any] | None:
    file = run / "report.json"
    if not file.is_file():
        return None
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        return {**report, "settings": report["settings"], "score": report["score"]}
    except (ValueError, KeyError, TypeError) as error:
        raise PanoVLMError(
            f"{file} is no report of `panovlm evaluate` ({error}); move it away, or evaluate again "
            f"with --out {file}"
        ) from error
