"""One side of the training benchmark, in a process of its own: it prints its figures as JSON.

    python benchmarks/training_sides.py '{"side": "ours", "stage": "finetune", ...}'

Ours is the package as `panovlm train` puts it together. The reference is written the way trainers
of the LLaVA kind are: the encoder runs in every step, everything is float32, each view keeps all
its patch tokens through a two-layer projector, and logits are made for every position.

Shape letters: N panoramas, V views, S patch tokens, L text and image tokens of a sequence.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    TrainerCallback,
)

from panovlm.data.cache import PatchTokenCache, ViewSource
from panovlm.data.datasets import Example, PanoramaCollator, SequenceKey
from panovlm.data.filling import fill
from panovlm.data.packing import IGNORED, TokenSequence, pack
from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.runtime.allocator import keep_freed_memory
from panovlm.runtime.arithmetic import uses_bf16
from panovlm.stages import STAGES, TRAINED, Objective, Supervision
from panovlm.training.adapters import without_input_copies
from panovlm.training.assembly import training_arguments
from panovlm.training.attention import set_attention
from panovlm.training.build import free_vision_encoder
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sections import LoraSection, ModelSection, OverlapSection
from panovlm.training.stage_run import StageRun
from panovlm.training.trainable import apply_stage, hold_frozen
from panovlm.training.trainer import StageTrainer

RING_VIEWS = 8
"""The whole panorama follows the ring as one more view; both sides see the same nine."""
ENCODERS: dict[str, dict[str, int]] = {
    "siglip-base": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                    "num_attention_heads": 12, "image_size": 224, "patch_size": 16},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 2, "image_size": 56, "patch_size": 4},
}  # fmt: skip
ENCODERS["siglip2-qwen3"] = ENCODERS["siglip-base"]
LANGUAGE_MODELS: dict[str, dict[str, int]] = {
    "siglip-base": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
                    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152},
    "siglip2-qwen3": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
                      "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
                      "vocab_size": 151936},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 512},
}  # fmt: skip
GRIDS = {"equal": 14, "default": 7}
"""Rows and columns of the tokens that ours keeps of a view; the reference keeps 14 x 14."""
LATENT_SIZES = {"siglip-base": 512, "siglip2-qwen3": 768, "tiny": 16}
"""Widths of the resampler: the recipes', and one for tests."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TEXT_TOKENS, RESPONSE_TOKENS = 96, 48
PANORAMA_SIZE = (2048, 1024)
LORA = LoraSection()
ON_RAYS = OverlapSection(pairing="rays")
"""A global view has no columns in common with the others."""


def main() -> None:
    """Measure the way that the argument describes."""
    print(json.dumps(measure(json.loads(sys.argv[1]))))


def measure(wanted: dict[str, Any]) -> dict[str, Any]:
    """Train a few steps; return the seconds of each and the process's peak memory in MiB."""
    torch.set_num_threads(wanted["threads"])
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        pictures = draw_pictures(Path(place), wanted["steps"] * wanted["batch_size"])
        marks = SIDES[wanted["side"]](wanted, pictures, Path(place))
    # the first step also builds what later ones reuse; in a cold run each step counts
    steps = np.diff(marks) if wanted["cache"] == "cold" else np.diff(marks)[1:]
    return {"seconds": [float(step) for step in steps], "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Return the peak memory of the process so far, in MiB; of its GPU where it has one."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def now() -> float:
    """Return the time, once all that was asked of the device is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def draw_pictures(folder: Path, count: int) -> list[Path]:
    """Write panoramas of smooth colours as JPEG."""
    rng, files = np.random.default_rng(0), []
    for number in range(count):
        coarse = rng.integers(0, 256, (8, 16, 3), dtype=np.uint8)
        file = folder / f"{number}.jpg"
        Image.fromarray(coarse).resize(PANORAMA_SIZE, Image.Resampling.BICUBIC).save(file)
        files.append(file)
    return files


def run_ours(wanted: dict[str, Any], pictures: list[Path], place: Path) -> list[float]:
    """Train with the package; return the time before the first and after every step.

    All pictures are encoded before the first step, in the time of a cold run and before that of a
    warm one; one without a cache has the encoder in its steps.
    """
    keep_freed_memory()
    config = panovlm_config(wanted)
    stage = STAGES[wanted["stage"]]
    model = built(stage.objective, config)
    bf16 = uses_bf16(wanted["dtype"])
    source: ViewSource | PatchTokenCache = ViewSource(image_processor(config))
    began = now()
    if wanted["cache"] != "off":
        encoder = model.model.vision_encoder.to(DEVICE).eval()
        source = PatchTokenCache(place / "cache", encoder, source.image_processor, use_bf16=bf16)
        fill(source, pictures, 1, lambda count: None)
        free_vision_encoder(model)
    encoding_s = now() - began
    apply_stage(model, stage, LORA)
    if bf16:
        hold_frozen(model, torch.bfloat16)
    section = StageSection(data=place, steps=wanted["steps"], batch_size=wanted["batch_size"])
    unused = ModelSection(vision_encoder="", language_model="")
    stages = {wanted["stage"]: section}
    recipe = Recipe(output=place, model=unused, stages=stages, dtype=wanted["dtype"])
    arguments = training_arguments(StageRun(recipe, wanted["stage"]))
    arguments.save_strategy = "no"
    clock = StepClock()
    examples = PixelExamples(source, pictures, config, stage.supervision)
    trainer = StageTrainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=PanoramaCollator(source.key, 0),
        section=section,
        callbacks=[clock],
    )
    if bf16 and stage.supervision is not Supervision.NONE:
        set_attention(trainer, "auto", can_time=True)
    with without_input_copies(model, LORA) if bf16 else nullcontext():
        trainer.train()
    if wanted["cache"] == "cold":
        clock.marks[0] -= encoding_s
    return clock.marks


def run_reference(wanted: dict[str, Any], pictures: list[Path], place: Path) -> list[float]:
    """Train the plain way; return the time before the first and after every step."""
    config = panovlm_config({**wanted, "tokens": "equal"})
    stage = STAGES[wanted["stage"]]
    model: nn.Module
    if stage.objective is Objective.VICREG_OVERLAP:
        model = built(stage.objective, config)
        apply_stage(model, stage, None)
    else:
        model = Reference(config, with_lora=stage.role("lora") is TRAINED)
    model.to(DEVICE).train()
    examples = PixelExamples(
        ViewSource(image_processor(config)), pictures, config, stage.supervision
    )
    loader = DataLoader(
        examples,
        wanted["batch_size"],
        sampler=[SequenceKey(0, (index,)) for index in range(len(examples))],
        collate_fn=PanoramaCollator("pixel_values", 0),
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    marks = [now()]
    for batch in loader:
        model(**{name: tensor.to(DEVICE) for name, tensor in batch.items()}).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        marks.append(now())
    return marks


class Reference(nn.Module):
    """Frozen encoder, two-layer projector, causal LM: image tokens stand before the text."""

    def __init__(self, config: PanoVLMConfig, *, with_lora: bool) -> None:
        super().__init__()
        self.vision_encoder = SiglipVisionModel(config.vision_config).requires_grad_(False)
        self.language_model = LlamaForCausalLM(config.text_config).requires_grad_(False)
        if with_lora:
            add_lora(self.language_model)
        width = config.text_config.hidden_size
        self.projector = nn.Sequential(
            nn.Linear(config.vision_config.hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )
        self.image_token_id = config.image_token_id

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, labels: Tensor, **others: Tensor
    ) -> Any:
        """Encode, project, put in place, predict every position."""
        with torch.no_grad():
            tokens = self.vision_encoder(pixel_values.flatten(0, 1)).last_hidden_state
        image_tokens = self.projector(tokens)
        embeddings = self.language_model.get_input_embeddings()(input_ids)
        places = (input_ids == self.image_token_id)[..., None]
        return self.language_model(
            inputs_embeds=embeddings.masked_scatter(places, image_tokens),
            attention_mask=others.get("attention_mask"),
            labels=labels,
            use_cache=False,
        )


def add_lora(language_model: nn.Module) -> None:
    """Add the adapters that ours has, with the library that most trainers use."""
    from peft import LoraConfig, get_peft_model

    adapters = LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules="all-linear")
    get_peft_model(language_model.model, adapters)


def panovlm_config(wanted: dict[str, Any]) -> PanoVLMConfig:
    """Return the configuration of either side."""
    encoder, text = ENCODERS[wanted["size"]], LANGUAGE_MODELS[wanted["size"]]
    grid = GRIDS[wanted["tokens"]]
    return PanoVLMConfig(
        vision_config=SiglipVisionConfig(**encoder, vision_use_head=False),
        text_config=LlamaConfig(**text, max_position_embeddings=8192, tie_word_embeddings=True),
        image_token_id=text["vocab_size"] - 1,
        num_views=RING_VIEWS,
        global_view=True,
        view_size=encoder["image_size"],
        token_rows=grid,
        token_columns=grid,
        latent_size=LATENT_SIZES[wanted["size"]],
        vicreg_size=LATENT_SIZES[wanted["size"]],
    )


def image_processor(config: PanoVLMConfig) -> PanoVLMImageProcessor:
    """Return the image processor of both sides."""
    size = {"height": config.view_size, "width": config.view_size}
    return PanoVLMImageProcessor(
        num_views=config.num_views,
        fov_deg=config.fov_deg,
        global_view=config.global_view,
        size=size,
    )


def built(objective: Objective, config: PanoVLMConfig) -> PreTrainedModel:
    """Build our model with random weights; those of the language model are bf16 numbers.

    So are those of the checkpoints that people start from (SmolLM2, Qwen): they were saved in bf16.
    """
    if objective is Objective.VICREG_OVERLAP:
        return PanoVLMForOverlapPretraining(config, ON_RAYS)
    model = PanoVLMForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.model.language_model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model


class PixelExamples(Dataset[Example]):
    """Panoramas with a random text of a fixed length behind each.

    Args:
        source: Gives the views of a picture, or what is kept of them.
        pictures: One for each example.
        config: Says how many placeholders stand in front of the text.
        supervision: Which of the text's tokens carry the loss.
    """

    def __init__(
        self,
        source: ViewSource | PatchTokenCache,
        pictures: list[Path],
        config: PanoVLMConfig,
        supervision: Supervision,
    ) -> None:
        self.source = source
        self.pictures = pictures
        self.config = config
        self.supervision = supervision

    def __len__(self) -> int:
        return len(self.pictures)

    def examples(self, epoch: int) -> np.ndarray:
        """Return the indices of all examples."""
        return np.arange(len(self))

    def estimated_tokens(self, index: int, epoch: int) -> float:
        """Return the one length of all texts."""
        return TEXT_TOKENS

    def __getitem__(self, key: SequenceKey) -> Example:
        [index] = key.indices
        views = self.source.load(self.pictures[index])
        if self.supervision is Supervision.NONE:
            return {"views": [views], "conversations": None}
        image = self.config.image_token_id
        text = np.random.default_rng(index).integers(0, image, TEXT_TOKENS).tolist()
        count = TEXT_TOKENS if self.supervision is Supervision.ALL_TEXT else RESPONSE_TOKENS
        ids = [image] * self.config.num_image_tokens + text
        labels = [IGNORED] * (len(ids) - count) + text[-count:]
        return {"views": [views], "conversations": pack([TokenSequence(ids, labels)])}


class StepClock(TrainerCallback):
    """Records when training began and when each step ended."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Record the beginning."""
        self.marks.append(now())

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Record the end of a step."""
        self.marks.append(now())


SIDES: dict[str, Callable[[dict[str, Any], list[Path], Path], list[float]]] = {
    "ours": run_ours,
    "reference": run_reference,
}

if __name__ == "__main__":
    main()
