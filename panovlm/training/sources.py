"""Where a stage's views come from: the frozen encoder's outputs, encoded once, or pixels."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from panovlm.backbones.folders import cache_folder
from panovlm.data.cache import PatchTokenCache, ViewSource
from panovlm.data.records import Record, raise_faults
from panovlm.model.processing import PanoVLMProcessor
from panovlm.progress import console, progress_bar
from panovlm.stages import Stage
from panovlm.training import ranks

ENCODING_BATCH, GPU_ENCODING_BATCH = 1, 16


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
    pictures = list(dict.fromkeys(record.image for record in records if record.image))
    with ranks.together():
        own = fill_cache(cache, ranks.share(pictures))
    with ranks.together():
        faults = [fault for faults in ranks.gathered(own) for fault in faults]
        raise_faults(f"pictures of stage {stage.name}", faults)
    return cache


def fill_cache(cache: PatchTokenCache, pictures: Sequence[Path]) -> list[str]:
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
    with progress_bar("vision encoder: reading panoramas once", len(missing)) as advance:
        is_fast = cache.encoder.device.type != "cpu"
        return cache.fill(missing, GPU_ENCODING_BATCH if is_fast else ENCODING_BATCH, advance)
