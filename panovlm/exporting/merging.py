"""`panovlm merge`: a folder of adapters and the stage before, merged into one model."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from panovlm.errors import PanoVLMError
from panovlm.inference.loading import model_folder
from panovlm.model.vision import patch_token_width, token_grid
from panovlm.runtime.cached_folders import sha256
from panovlm.runtime.files import check_folder, whole_folder
from panovlm.stages import MODULES
from panovlm.training.adapters import read_adapters, read_origin
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.trainable import module_of

TOLERANCE = 1e-5


@dataclass(frozen=True)
class MergeReport:
    """What merging changed."""

    rows: list[list[str]]  # module, its weights, and how many of them changed, as text
    difference: float
    """Largest difference of the logits before and after, as a share of the largest logit."""


def merge(base: Path, adapter: Path, out: Path) -> MergeReport:
    """Merge adapters into the model that they were trained from, in float32.

    Args:
        base: Folder of the stage before, or a run that ends with it.
        adapter: Folder of adapters, as a stage with adapters leaves it.
        out: Folder to write.

    Raises:
        PanoVLMError: If something is at `out`, the adapters are of another base, or merging
            changes the logits.
    """
    check_folder(out)
    folder = model_folder(base)
    _check_base(folder, adapter)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    adapters = read_adapters(model, adapter).eval()
    inputs = _random_inputs(model)
    with torch.no_grad():
        expected = model(**inputs).logits
        adapters.merge_and_unload()
        difference = (model(**inputs).logits - expected).abs().max() / expected.abs().max()
    if not difference <= TOLERANCE:
        raise PanoVLMError(
            f"merging {adapter} into {folder} changes the logits by {difference:.1e} of the "
            f"largest, expected at most {TOLERANCE:.0e}; nothing was written"
        )
    with whole_folder(out) as partial:
        model.save_pretrained(partial)
        AutoProcessor.from_pretrained(folder).save_pretrained(partial)
    return MergeReport(_count_changes(before, model), float(difference))


def _check_base(folder: Path, adapter: Path) -> None:
    """Check that the adapters were trained from this base, if it has a file of facts."""
    facts, wanted = folder / STAGE_FACTS, read_origin(adapter)["base"]
    if facts.is_file() and sha256(facts) != wanted:
        raise PanoVLMError(
            f"the adapters in {adapter} were trained from another model than {folder}; name the "
            f"stage before theirs, of the same run"
        )


def _random_inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return a random prompt: words, one panorama's patch tokens, words."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    words = torch.randint(config.text_config.vocab_size, (2, 8), generator=generator)
    words[words == config.image_token_id] = config.image_token_id - 1
    image = torch.full((config.num_image_tokens,), config.image_token_id)
    rows, columns = token_grid(config.vision_config, config.view_size)
    size = (1, config.layout.num_views, rows * columns, patch_token_width(config.vision_config))
    return {
        "input_ids": torch.cat([words[0], image, words[1]])[None],
        "patch_tokens": torch.randn(size, generator=generator),
    }


def _count_changes(before: dict[str, Tensor], model: PreTrainedModel) -> list[list[str]]:
    weights: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        weights[module_of(name)] += parameter.numel()
        changed[module_of(name)] += int((parameter != before[name]).sum())
    return [[m, f"{weights[m]:,}", f"{changed[m]:,}"] for m in MODULES if weights[m]]
