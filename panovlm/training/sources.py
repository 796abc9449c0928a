"""Where a stage's views come from: the frozen encoder's outputs, encoded once, or pixels."""

import time
from pathlib import Path

import torch
from transformers import PreTrainedModel

from panovlm.backbones.folders import cache_folder
from panovlm.data.cache import PatchTokenCache, ViewSource
from panovlm.data.records import Record, raise_faults
from panovlm.model.processing import PanoVLMProcessor
from panovlm.progress import console, progress_bar
from panovlm.stages import Stage
from panovlm.training.disk import disk_faults

ENCODING_BATCH, GPU_ENCODING_BATCH = 1, 16
ABANDONED_SECONDS = 24 * 3600


def view_source(
    model: PreTrainedModel,
    processor: PanoVLMProcessor,
    records: list[Record],
    stage: Stage,
    *,
    bf16: bool,
) -> PatchTokenCache | ViewSource:
    """Encode every picture once, unless the encoder itself trains."""
    if stage.num_vision_layers:
        console.print(f"{stage.name}: the vision encoder trains, so its outputs are not cached")
        return ViewSource(processor.image_processor)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = PatchTokenCache(
        cache_folder() / "patch-tokens",
        model.model.vision_encoder.to(device),
        processor.image_processor,
        use_bf16=bf16,
    )
    sweep_cache(cache.folder)
    faults = fill_cache(cache, [record.image for record in records])
    raise_faults(f"pictures of stage {stage.name}", faults)
    return cache


def sweep_cache(folder: Path) -> None:
    """Remove what killed processes left half-written, long enough ago that none is at it."""
    for partial in folder.glob("*.part"):
        if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
            partial.unlink(missing_ok=True)


def fill_cache(cache: PatchTokenCache, pictures: list[Path]) -> list[str]:
    """Encode what is missing from a cache under a progress bar; give the faulty pictures."""
    absent = [picture for picture in dict.fromkeys(pictures) if not picture.is_file()]
    faults = [
        f"{picture}: no such picture; correct `image` or restore the file" for picture in absent
    ]
    if faults:
        return faults
    missing = cache.missing(pictures)
    if not missing:
        return []
    label = "vision encoder: reading panoramas once"
    with disk_faults(f"fill {cache.folder}"), progress_bar(label, len(missing)) as advance:
        is_fast = cache.encoder.device.type != "cpu"
        return cache.fill(missing, GPU_ENCODING_BATCH if is_fast else ENCODING_BATCH, advance)
