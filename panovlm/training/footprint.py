"""What a stage's model needs in memory, computed on the meta device: no weights are read.

Shape letters: N panoramas, V views, S patch tokens, B sequences, L their length, D_* widths.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from transformers import PreTrainedModel

from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.loss import CHUNK
from panovlm.model.vision import patch_token_width, token_grid
from panovlm.training.trainable import module_of

FLOAT_BYTES = 4
FOUR_BITS_BYTES = 0.5625  # of a number, its part of the scale of 64 among them
ADAM_STATES = 2
LOGIT_COPIES = 3  # logits, their log-probabilities and their gradient
VICREG_COPIES = 4  # partners of both sides, and both sides centred


@dataclass(frozen=True)
class BatchShape:
    """The size of one batch of one process."""

    sequences: int  # B, each with one panorama
    length: int  # L, tokens of the longest; 0 without text
    supervised: int  # tokens of the batch that carry the loss


@dataclass(frozen=True)
class Footprint:
    """Bytes of one process in training, by what they hold."""

    weights: int  # all parameters, float32
    freed: (
        int  # what goes before training: an encoder whose outputs are cached, bits of a frozen LM
    )
    loading: int  # held beside them while a pretrained language model is copied in
    gradients: int  # of the trained parameters
    optimiser: int  # AdamW's two averages of each trained parameter
    activations: int  # kept for the backward pass, logits included, but the attention's scores
    scores: int  # those, where attention may be plain

    @property
    def peak(self) -> int:
        """The most that is held at once."""
        training = self.gradients + self.optimiser + self.activations + self.scores
        return self.weights + max(training - self.freed, self.loading)


def footprint(
    model: PreTrainedModel,
    batch: BatchShape,
    *,
    frees_encoder: bool,
    bf16: bool = False,
    four_bits: bool = False,
    score_bytes: int = 0,
) -> Footprint:
    """Compute what training a model takes.

    Args:
        model: Ready to train, on the meta device; computed in bfloat16, it is left in that.
        batch: Its size.
        frees_encoder: Whether the encoder's outputs are all cached before training begins.
        bf16: Whether it is computed in bfloat16, and the frozen language model held in it.
        four_bits: Whether the matrices of its layers are held in 4 bits.
        score_bytes: What plain attention keeps of a batch; the fused one keeps none.
    """
    trunk, trained = model.model, FLOAT_BYTES * model.num_parameters(only_trainable=True)
    return Footprint(
        weights=FLOAT_BYTES * model.num_parameters(),
        freed=(FLOAT_BYTES * trunk.vision_encoder.num_parameters() if frees_encoder else 0)
        + _narrowed_bytes(model, bf16, four_bits),
        loading=FLOAT_BYTES * trunk.language_model.num_parameters() if batch.length else 0,
        gradients=trained,
        optimiser=ADAM_STATES * trained,
        activations=_activation_bytes(model.to(torch.bfloat16) if bf16 else model, batch),
        scores=score_bytes,
    )


def _narrowed_bytes(model: PreTrainedModel, bf16: bool, four_bits: bool) -> int:
    """Count the bytes that go where frozen weights of the language model are held in fewer bits."""
    saved = 0.0
    for name, parameter in model.named_parameters():
        if module_of(name) == "language_model" and not parameter.requires_grad:
            is_matrix = four_bits and parameter.dim() == 2 and ".layers." in name
            held = FOUR_BITS_BYTES if is_matrix else 2 if bf16 else FLOAT_BYTES
            saved += parameter.numel() * (FLOAT_BYTES - held)
    return int(saved)


def blank_patch_tokens(config: PanoVLMConfig, sequences: int, device: str = "meta") -> Tensor:
    """Return patch tokens [N, V, S, D_vision] of no picture."""
    rows, columns = token_grid(config.vision_config, config.view_size)
    width = patch_token_width(config.vision_config)
    shape = (sequences, config.layout.num_views, rows * columns, width)
    return torch.zeros(shape, device=device)


def _activation_bytes(model: PreTrainedModel, batch: BatchShape) -> int:
    """Count the bytes that autograd keeps of a forward pass, parameters apart."""
    parameters = {_storage(parameter) for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors stay alive, so that no storage's place is reused

    def keep(tensor: Tensor) -> Tensor:
        # Scores are counted apart: on the meta device every attention keeps them.
        is_scores = tensor.dim() > 2 and tensor.shape[-2:] == (batch.length, batch.length)
        if _storage(tensor) not in parameters and not is_scores:
            kept[_storage(tensor)] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_numbers = _forward(model, batch)
    bytes_kept = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return bytes_kept + FLOAT_BYTES * loss_numbers


def _forward(model: PreTrainedModel, batch: BatchShape) -> int:
    """Run a model up to its loss, and return how many numbers the loss keeps."""
    config, length = model.config, batch.length
    tokens = blank_patch_tokens(config, batch.sequences)
    if not length:
        projected = model.vicreg_projector(model.latents(patch_tokens=tokens))
        return VICREG_COPIES * projected.numel()
    image = model.get_image_features(patch_tokens=tokens).pooler_output
    mask = torch.zeros(batch.sequences, 1, length, length, device="meta")
    model.model.language_model(
        inputs_embeds=nn.functional.pad(image, (0, 0, 0, length - image.shape[1])),
        attention_mask=mask,
        position_ids=torch.zeros(batch.sequences, length, dtype=torch.long, device="meta"),
        use_cache=False,
    )
    is_frozen = not any(parameter.requires_grad for parameter in model.lm_head.parameters())
    scored = min(batch.supervised, CHUNK) if is_frozen else batch.supervised
    return LOGIT_COPIES * scored * config.text_config.vocab_size + mask.numel()


def _storage(tensor: Tensor) -> int:
    return StorageWeakRef(tensor.untyped_storage()).cdata
