"""`panovlm export --trained-only`: what training changed, in bf16, without the backbones."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from panovlm.errors import PanoVLMError
from panovlm.inference.loading import model_folder
from panovlm.inference.trained_only import (
    ADAPTERS,
    BACKBONES,
    CARD,
    CHAT_TEMPLATE,
    WEIGHTS,
    backbone_facts,
    load_trained_only,
    to_8_bits,
    write_digests,
)
from panovlm.model.configuration import PanoVLMConfig
from panovlm.runtime.files import check_folder, whole_folder
from panovlm.runtime.progress import quiet_transformers
from panovlm.stages import STAGES
from panovlm.training.adapters import ADAPTER, ADAPTER_CONFIG
from panovlm.training.build import build_config, build_model
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.sections import ModelSection
from panovlm.training.trainable import module_of

RECIPE = "recipe.yaml"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOLERANCE = 0.02
"""Largest error of a tensor that is read again, as a share of it or of what adapters changed in it;
bf16 rounds to within 0.004, 8 bits usually to 0.008."""


def export_trained_only(
    run: Path, out: Path, card: str, recipe: str, dtype: Literal["bf16", "int8"] = "bf16"
) -> int:
    """Write the weights that a run has trained, and check that the model is made of them again.

    Args:
        run: A run, or one of its stages.
        out: Folder to write.
        card: Its `README.md`.
        recipe: Its `recipe.yaml`.
        dtype: Of trained modules; adapters are in bf16.

    Returns:
        The bytes of the folder.

    Raises:
        PanoVLMError: If there is no finished stage, something in the way, or the model has changed
            in a way that no file of the run explains.
    """
    check_folder(out)
    folder = model_folder(run)
    facts = _facts(folder)
    section = ModelSection.model_validate(facts["model"])
    with whole_folder(out) as partial:
        known = build_config(section).text_config.vocab_size
        before = _weights_before(section, facts["result"]["stage"], known)
        weights = folder / "model.safetensors"
        changed = dict(_changed(weights, before, known))
        rounded = to_8_bits(changed) if dtype == "int8" else _to_bf16(changed)
        save_file(rounded, partial / WEIGHTS)
        _copy_adapters(folder, facts, partial)
        _write_texts(partial, facts, section, card, recipe)
        write_digests(partial)
        _check(weights, before, load_trained_only(partial)[0].state_dict())
        return sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())


def _facts(folder: Path) -> dict[str, Any]:
    file = folder / STAGE_FACTS
    if not (folder / "model.safetensors").is_file() or not file.is_file():
        raise PanoVLMError(
            f"found no {STAGE_FACTS} and model.safetensors in {folder}, expected a finished stage "
            "as panovlm train leaves it; name a run"
        )
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    facts["model"]["projection"] = PanoVLMConfig.from_pretrained(folder).projection_type
    for part in BACKBONES:
        facts.setdefault("backbones", {})[part] = backbone_facts(facts["model"][part])
    return facts


def _weights_before(section: ModelSection, stage: str, known: int) -> dict[str, Tensor]:
    """Return the weights of both backbones before training, by their names in the model.

    Args:
        section: What the model is built of.
        stage: The stage that trained last.
        known: Words of the pretrained language model. Rows behind them are 0 here: they extend its
            vocabulary, with fresh weights.
    """
    with quiet_transformers():
        weights = build_model(section, STAGES[stage]).state_dict()
    for key in weights:
        if _is_of_words(key, weights):
            weights[key][known:] = 0
    return {key: tensor for key, tensor in weights.items() if module_of(key) in BACKBONES}


def _is_of_words(key: str, weights: Mapping[str, Tensor]) -> bool:
    """Return whether a tensor of a model has a row for each word."""
    is_language = module_of(key) == "language_model"
    return is_language and weights[key].shape == weights["lm_head.weight"].shape


def _changed(
    weights: Path, before: Mapping[str, Tensor], known: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield what training changed but for adapters, and rows that extend the vocabulary."""
    with safe_open(weights, framework="pt") as trained:
        for key in trained.keys():  # noqa: SIM118  # it is no mapping
            tensor = trained.get_tensor(key)
            if _is_of_words(key, before):
                tensor = tensor[known:]
            elif key in before and (
                module_of(key) == "language_model" or torch.equal(tensor, before[key])
            ):
                continue
            if tensor.numel():
                yield key, tensor.contiguous()


def _to_bf16(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round matrices to bf16; vectors, few and often lengths of large weights, stay float32."""
    return {key: t.bfloat16() if t.dim() > 1 else t for key, t in tensors.items()}


def _copy_adapters(folder: Path, facts: Mapping[str, Any], out: Path) -> None:
    """Copy the adapters of a stage and of those before it in its run, in bf16."""
    last = facts["result"]["stage"]
    for name in [*STAGES][: [*STAGES].index(last) + 1]:
        stage = folder if name == last else folder.parent / name
        if (stage / ADAPTER).is_dir():
            place = out / ADAPTERS / name
            place.mkdir(parents=True)
            shutil.copy(stage / ADAPTER / ADAPTER_CONFIG, place)
            tensors = load_file(stage / ADAPTER / ADAPTER_WEIGHTS)
            save_file(_to_bf16(tensors), place / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _write_texts(
    out: Path, facts: Mapping[str, Any], section: ModelSection, card: str, recipe: str
) -> None:
    model = facts["model"]
    if isinstance(section.chat_template, Path):
        shutil.copy(section.chat_template, out / CHAT_TEMPLATE)
        model = model | {"chat_template": None}  # the copy beside it counts
    text = json.dumps({**facts, "model": model}, indent=2) + "\n"
    for name, content in ((STAGE_FACTS, text), (CARD, card), (RECIPE, recipe)):
        (out / name).write_text(content, encoding="utf-8")


def _check(weights: Path, before: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Check that the model made of what was written is the trained one, up to rounding."""
    with safe_open(weights, framework="pt") as trained:
        for key in trained.keys():  # noqa: SIM118  # it is no mapping
            expected = trained.get_tensor(key)
            has_adapters = module_of(key) == "language_model"
            change = expected - before[key] if has_adapters else expected
            error = (found[key] - expected).norm()
            if not error <= TOLERANCE * change.norm() + 1e-6 * expected.norm():
                raise PanoVLMError(
                    f"{weights} has a {key} that the backbones and the adapters of this run do not "
                    f"make (off by {error:.1e}); nothing was written. If an earlier stage with "
                    "adapters is in another run, train from the backbones in this one"
                )
