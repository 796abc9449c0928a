"""Folders of trained weights alone: what training changed, put onto the backbones in memory.

stage.json              facts of the stage that trained last; its model section builds the model
trained.safetensors     trained modules as a whole, and rows that the vocabulary was extended by
                        (bf16, or 8 bits a number with a scale for each row)
adapters/<stage>        adapters of each stage that trained some, in PEFT's own format
SHA256SUMS              digests of all files but the card, as `sha256sum -c` reads them
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from panovlm.backbones.packaged import PACKAGED, locate
from panovlm.errors import PanoVLMError
from panovlm.inference.names import DIGESTS
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.cached_folders import Facts, built_from, sha256
from panovlm.runtime.progress import quiet_transformers
from panovlm.stages import STAGES
from panovlm.training.build import build_model, build_processor
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.sections import ModelSection

WEIGHTS, ADAPTERS, CHAT_TEMPLATE = "trained.safetensors", "adapters", "chat_template.jinja"
CARD = "README.md"
BACKBONES = ("vision_encoder", "language_model")
ROW_SCALE = ".row_scale"


def is_trained_only(folder: Path) -> bool:
    """Return whether a folder holds trained weights alone."""
    return (folder / DIGESTS).is_file() and not (folder / "config.json").exists()


def load_trained_only(folder: Path) -> tuple[PanoVLMForConditionalGeneration, PanoVLMProcessor]:
    """Build a model from its backbones, which are fetched if missing, and put the weights onto it.

    Raises:
        PanoVLMError: If a file is damaged, or the backbones are not those of the training.
    """
    check_digests(folder)
    facts = json.loads((folder / STAGE_FACTS).read_text(encoding="utf-8"))
    section = _model_section(folder, facts)
    _check_backbones(folder, facts["backbones"], section)
    with quiet_transformers():
        model = build_model(section, STAGES[facts["result"]["stage"]])
        _put_weights(model, folder / WEIGHTS)
        for name in STAGES:
            if (adapter := folder / ADAPTERS / name).is_dir():
                adapters = PeftModel.from_pretrained(model.model.language_model, str(adapter))
                adapters.merge_and_unload()
    return model, build_processor(section)


def write_digests(folder: Path) -> None:
    """Write the digests of all files of a folder into it."""
    lines = (f"{sha256(folder / name)}  {name}\n" for name in _files(folder))
    (folder / DIGESTS).write_text("".join(lines), encoding="utf-8")


def check_digests(folder: Path) -> None:
    """Compare the files of a folder with the digests in it.

    Raises:
        PanoVLMError: If a file differs, is missing, or is not among them.
    """
    lines = (folder / DIGESTS).read_text(encoding="utf-8").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {name: sha256(folder / name) for name in _files(folder)}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise PanoVLMError(
                f"{folder / name} has SHA-256 {found.get(name, 'none: it is missing')}, expected "
                f"{expected.get(name, 'no such file')} by {DIGESTS}: it was damaged or changed; "
                f"take the folder again from where it came from"
            )


def backbone_facts(name: str) -> Facts | None:
    """Return what a packaged backbone was built from; None of a folder or a hub id."""
    return built_from(Path(locate(name))) if name in PACKAGED else None


def to_8_bits(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round matrices to 8 bits a number, with a scale for each row beside them."""
    rounded = dict(tensors)
    for key, tensor in tensors.items():
        if tensor.dim() > 1:
            scale = tensor.float().flatten(1).abs().amax(dim=1).clamp(min=1e-30) / 127
            rounded[key] = (tensor.float() / _for_rows(scale, tensor)).round().to(torch.int8)
            rounded[key + ROW_SCALE] = scale
    return rounded


def _from_8_bits(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with their scales multiplied in, where they have some."""
    scales = {key: tensor for key, tensor in tensors.items() if key.endswith(ROW_SCALE)}
    plain = {key: tensor for key, tensor in tensors.items() if key not in scales}
    for key, scale in scales.items():
        name = key.removesuffix(ROW_SCALE)
        plain[name] = plain[name] * _for_rows(scale, plain[name])
    return plain


def _for_rows(scale: Tensor, tensor: Tensor) -> Tensor:
    """Return a number for each row in the shape that a tensor is multiplied with."""
    return scale.view(-1, *[1] * (tensor.dim() - 1))


def _files(folder: Path) -> list[str]:
    """Return the names of all files that have digests: a card may be written on."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted({path.as_posix() for path in paths} - {CARD, DIGESTS})


def _model_section(folder: Path, facts: Mapping[str, Any]) -> ModelSection:
    template = folder / CHAT_TEMPLATE
    own = {"chat_template": template} if template.is_file() else {}
    try:
        return ModelSection.model_validate(facts["model"] | own)
    except ValidationError as error:
        raise PanoVLMError(
            f"{folder / STAGE_FACTS} is of another version of PanoVLM: {error}; export the run "
            "again with this one"
        ) from error


def _check_backbones(folder: Path, expected: Mapping[str, Any], section: ModelSection) -> None:
    for part in BACKBONES:
        name = getattr(section, part)
        if (found := backbone_facts(name)) != expected[part]:
            raise PanoVLMError(
                f"{folder} was trained with {name} built from {expected[part]}, this version of "
                f"PanoVLM has one built from {found}; train on that one, or use the version of then"
            )


@torch.no_grad()
def _put_weights(model: PanoVLMForConditionalGeneration, file: Path) -> None:
    """Copy trained tensors into a model; those with fewer rows into the last ones."""
    own: dict[str, Tensor] = model.state_dict()
    for key, tensor in _from_8_bits(load_file(file)).items():
        place = own.get(key)
        if place is not None and place.shape != tensor.shape:
            place = place[-len(tensor) :]
        if place is None or place.shape != tensor.shape:
            raise PanoVLMError(
                f"{file} is of another architecture: {key} does not fit; export the run again"
            )
        place.copy_(tensor)
