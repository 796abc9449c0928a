"""What a stage's model needs in memory, reckoned on the meta device: nothing is loaded or computed.

Shape letters: N panoramas, V views, S patch tokens, B sequences, L their length, D_* widths.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from transformers import PreTrainedModel

from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.vision import token_grid
from panovlm.stages import Objective, Stage
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining
from panovlm.training.recipe import LoraSection
from panovlm.training.trainable import apply_stage

FLOAT_BYTES = 4
ADAM_STATES = 2
LOGIT_COPIES = 3
"""Logits, their log-probabilities and their gradient."""
VICREG_COPIES = 4
"""Partners of both sides, and both sides centred."""

CLASSES: dict[Objective, Callable[[PanoVLMConfig], PreTrainedModel]] = {
    Objective.VICREG_OVERLAP: PanoVLMForOverlapPretraining,
    Objective.NEXT_TOKEN: PanoVLMForConditionalGeneration,
}


@dataclass(frozen=True)
class StepShape:
    """The size of one batch of one process.

    Attributes:
        sequences: B, each with one panorama.
        length: L, tokens of the longest; 0 without text.
        supervised: Tokens of the batch that carry the loss.
    """

    sequences: int
    length: int
    supervised: int


@dataclass(frozen=True)
class Footprint:
    """Bytes of one process in training, by what they hold.

    Attributes:
        weights: All parameters, float32.
        freed: Those of them that go before training: a frozen encoder's, whose outputs are kept.
        loading: What is held beside them while a pretrained language model is copied in.
        gradients: Of the trained parameters.
        optimiser: AdamW's two averages of each trained parameter.
        activations: What the forward pass keeps for the backward pass, scores included.
    """

    weights: int
    freed: int
    loading: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def peak(self) -> int:
        """The most that is held at once."""
        training = self.gradients + self.optimiser + self.activations
        return self.weights + max(training - self.freed, self.loading)


def build_without_weights(
    config: PanoVLMConfig, stage: Stage, lora: LoraSection | None, device: str = "meta"
) -> PreTrainedModel:
    """Build a stage's model with fresh weights, or none on the meta device, ready to train."""
    with torch.device(device):
        model = CLASSES[stage.objective](config)
        apply_stage(model, stage, lora)
    return model.train()


def footprint(
    model: PreTrainedModel, stage: Stage, shape: StepShape, *, frees_encoder: bool
) -> Footprint:
    """Reckon what training a model takes.

    Args:
        model: Of `build_without_weights`, on the meta device.
        stage: The stage it is of.
        shape: Of one batch.
        frees_encoder: Whether the encoder's outputs are all kept before training begins.
    """
    every = {StorageWeakRef(p.untyped_storage()).cdata: p for p in model.parameters()}.values()
    trained = sum(p.numel() for p in every if p.requires_grad) * FLOAT_BYTES
    text = stage.objective is Objective.NEXT_TOKEN
    return Footprint(
        weights=sum(p.numel() for p in every) * FLOAT_BYTES,
        freed=_size(model.model.vision_encoder) if frees_encoder else 0,
        loading=_size(model.model.language_model) if text else 0,
        gradients=trained,
        optimiser=ADAM_STATES * trained,
        activations=_kept_by_text(model, shape) if text else _kept_by_overlap(model, shape),
    )


def patch_tokens_for(config: PanoVLMConfig, sequences: int, device: str = "meta") -> Tensor:
    """Give patch tokens [N, V, S, D_vision] of no picture."""
    rows, columns = token_grid(config.vision_config, config.view_size)
    shape = (sequences, config.num_views, rows * columns, config.vision_config.hidden_size)
    return torch.zeros(shape, device=device)


def _kept_by_overlap(model: PreTrainedModel, shape: StepShape) -> int:
    tokens = patch_tokens_for(model.config, shape.sequences).flatten(0, 1)
    projected: list[Tensor] = []

    def forward() -> None:
        projected.append(model.vicreg_projector(model.model.resampler(tokens)))

    kept = _kept(model, forward, attention=0)
    return kept + VICREG_COPIES * projected[0].numel() * FLOAT_BYTES


def _kept_by_text(model: PreTrainedModel, shape: StepShape) -> int:
    config = model.config
    width, rows = config.text_config.hidden_size, shape.sequences
    mask = torch.zeros(rows, 1, shape.length, shape.length, device="meta")
    positions = torch.zeros(rows, shape.length, dtype=torch.long, device="meta")

    def forward() -> None:
        tokens = patch_tokens_for(config, rows)
        image = model.get_image_features(patch_tokens=tokens).pooler_output
        others = torch.zeros(rows, max(shape.length - image.shape[1], 0), width, device="meta")
        embeds = torch.cat([image, others], dim=1)[:, : shape.length]
        model.model.language_model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
        )

    logits = LOGIT_COPIES * shape.supervised * config.text_config.vocab_size * FLOAT_BYTES
    masks = mask.numel() * FLOAT_BYTES
    return _kept(model, forward, attention=shape.length) + logits + masks


def _kept(model: nn.Module, forward: Callable[[], None], attention: int) -> int:
    """Count the bytes autograd keeps of a forward pass, parameters apart.

    Args:
        model: Whose parameters do not count.
        forward: Runs it.
        attention: Side of the square of attention weights, which the kernels in use never keep.
    """
    own = {StorageWeakRef(p.untyped_storage()).cdata for p in model.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors stay alive, so that no storage's place is reused

    def pack(tensor: Tensor) -> Tensor:
        place = StorageWeakRef(tensor.untyped_storage()).cdata
        is_attention = tensor.dim() == 4 and tensor.shape[-2:] == (attention, attention)
        if place not in own and not is_attention:
            kept[place] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters()) * FLOAT_BYTES
