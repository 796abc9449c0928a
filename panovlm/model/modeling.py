"""The composite model: vision encoder, resampler, projection, language model.

Shape letters: N panoramas (all of the batch, in reading order), B sequences, L text length,
V views, S patch tokens, T latent tokens of a view, D_* the width of each part.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, Cache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from panovlm.errors import PanoVLMError
from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.encoders import build_encoder
from panovlm.model.loss import TEMPERATURE, supervised_loss, words_loss
from panovlm.model.masks import attention_masks
from panovlm.model.projection import Projection
from panovlm.model.resampler import PerceiverLayer, PerceiverResampler, build_resampler
from panovlm.model.vision import patch_token_width, patch_tokens_of
from panovlm.model.vision_layers import num_trained_layers, tokens_of_states

ImageOutputs = dict[str, BaseModelOutputWithPooling]


@dataclass
class PanoVLMOutput(ModelOutput):
    """The output of the models.

    Attributes:
        loss: Mean cross entropy of the supervised tokens, if `labels` were given.
        logits: [B, kept positions, vocabulary]; with `labels`, [supervised tokens, vocabulary], or
            None while a model trains whose LM head is frozen.
        last_hidden_state: [B, L, D_lm] (base model only).
        past_key_values: The language model's cache.
        hidden_states: Of the language model, on request.
        attentions: Of the language model, on request.
        image_hidden_states: Image tokens [N, image tokens, D_lm].
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    image_hidden_states: Tensor | None = None


class PanoVLMPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of all PanoVLM models."""

    config: PanoVLMConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _no_split_modules = ["ConvLayer", "MlpLayer", "PerceiverLayer"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Keep the size of signals through the modules between the backbones.

        They are narrow: the library's fixed deviation of 0.02 is made for wide language models, and
        would start the sphere position at a hundredth of what it is added to.
        """
        super()._init_weights(module)
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight[0].numel()
            init.normal_(module.weight, std=fan_in**-0.5)
        elif isinstance(module, Projection):
            init.ones_(module.scale)
            init.copy_(module.positions, module.position_table())
        elif isinstance(module, PerceiverLayer):
            init.zeros_(module.log_slope)
        elif isinstance(module, PerceiverResampler):
            init.normal_(module.queries, std=1.0)
            init.copy_(module.distances, module.distance_table())

    def train(self, mode: bool = True) -> "PanoVLMPreTrainedModel":
        """Switch to training, but leave modules in which nothing is trained in eval mode."""
        super().train(mode)
        for module in self.children():
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.eval()
                _keep_checkpointing(module, mode)
        return self


class PanoVLMModel(PanoVLMPreTrainedModel):
    """Vision encoder, resampler, projection and language model, without the LM head."""

    _keys_to_ignore_on_load_unexpected = [r"^lm_head", r"^vicreg_projector"]  # noqa: RUF012

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__(config)
        self.vision_encoder = build_encoder(config.vision_config)
        self.resampler = build_resampler(config)
        self.projection = Projection(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: Tensor | None = None,
        patch_tokens: Tensor | None = None,
        lower_states: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode panoramas as image tokens.

        Args:
            pixel_values: Normalised views [N, V, 3, H, W].
            patch_tokens: Instead, what the frozen encoder made of them, [N, V, S, D_vision].
            lower_states: Instead, what the frozen layers below the encoder's trained ones made of
                them, [N, V, P + S, D_vision] with P class and register tokens.
            **kwargs: Of the library's protocol; unused.

        Returns:
            `pooler_output`: image tokens [N, image tokens, D_lm]; `last_hidden_state`: latent
            tokens [N, V·T, D_latent].
        """
        if lower_states is not None:
            states = lower_states.flatten(0, 1).to(self.vision_encoder.dtype)
            num_layers = num_trained_layers(self.vision_encoder)
            size = self.config.view_size
            tokens = tokens_of_states(self.vision_encoder, states, num_layers, size)
            patch_tokens = tokens.unflatten(0, lower_states.shape[:2])
        tokens = patch_tokens_of(self.vision_encoder, pixel_values, patch_tokens)
        latents = self.resampler(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        return BaseModelOutputWithPooling(
            last_hidden_state=latents.flatten(1, 2), pooler_output=self.projection(latents)
        )

    def get_placeholder_mask(
        self, input_ids: Tensor | None, inputs_embeds: Tensor, image_features: Tensor
    ) -> Tensor:
        """Find the places of the image tokens.

        Args:
            input_ids: [B, L], or None if only embeddings are at hand.
            inputs_embeds: [B, L, D_lm].
            image_features: [N, image tokens, D_lm].

        Returns:
            [B, L, 1] bool.

        Raises:
            PanoVLMError: If the numbers of placeholders and image tokens differ.
        """
        if input_ids is None:
            token = torch.tensor(self.config.image_token_id, device=inputs_embeds.device)
            mask = (inputs_embeds == self.get_input_embeddings()(token)).all(-1)
        else:
            mask = input_ids == self.config.image_token_id
        expected, found = image_features.shape[0] * image_features.shape[1], int(mask.sum())
        if found != expected:
            raise PanoVLMError(
                f"found {found} image placeholders in the text, expected {expected} for "
                f"{image_features.shape[0]} panorama(s); let the processor expand <image>, once "
                f"for each picture"
            )
        return mask[..., None]

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        mm_encoder_outputs: ImageOutputs | None = None,
        patch_tokens: Tensor | None = None,
        lower_states: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PanoVLMOutput:
        """Put the image tokens at their placeholders and run the language model.

        Args:
            input_ids: [B, L]; exactly one of these and `inputs_embeds`.
            pixel_values: Normalised views [N, V, 3, H, W] of all panoramas, in reading order.
            attention_mask: [B, L] of 0 and 1, or [B, 1, L, L] bool, True where row sees column.
            position_ids: [B, L].
            past_key_values: Cache to continue.
            inputs_embeds: [B, L, D_lm].
            mm_encoder_outputs: Under "image", what `get_image_features` returned.
            patch_tokens: What the frozen encoder made of the panoramas, [N, V, S, D_vision].
            lower_states: What its frozen lower layers made of them; see `get_image_features`.
            **kwargs: Passed to the language model untouched.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        given = (pixel_values, patch_tokens, lower_states)
        image_features = self._image_features(*given, mm_encoder_outputs)
        if image_features is not None:
            image_features = image_features.to(inputs_embeds.device, inputs_embeds.dtype)
            mask = self.get_placeholder_mask(input_ids, inputs_embeds, image_features)
            inputs_embeds = inputs_embeds.masked_scatter(mask, image_features)
        else:
            self._check_no_placeholders(input_ids, past_key_values)
            if self.training:
                inputs_embeds = inputs_embeds + self._zero_from_trained_modules()
        outputs = self.language_model(
            attention_mask=attention_masks(
                attention_mask, position_ids, self.config.text_config, inputs_embeds.dtype
            ),
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return PanoVLMOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=image_features,
        )

    def _image_features(
        self,
        pixel_values: Tensor | None,
        patch_tokens: Tensor | None,
        lower_states: Tensor | None,
        mm_encoder_outputs: ImageOutputs | None,
    ) -> Tensor | None:
        if mm_encoder_outputs and mm_encoder_outputs.get("image") is not None:
            ready: Tensor | list[Tensor] = mm_encoder_outputs["image"].pooler_output
            return torch.stack(list(ready)) if isinstance(ready, list | tuple) else ready
        if pixel_values is None and patch_tokens is None and lower_states is None:
            return None
        features = self.get_image_features(pixel_values, patch_tokens, lower_states)
        image_tokens: Tensor = features.pooler_output
        return image_tokens

    def _check_no_placeholders(self, input_ids: Tensor | None, cache: Cache | None) -> None:
        """Refuse to answer blindly about a picture that the text has and the call has not.

        Later steps of a generation have no pictures, but may guess ahead with the prompt's tokens.
        """
        if input_ids is None or input_ids.shape[1] == 1:
            return
        if cache is None or cache.get_seq_length() == 0:
            found = int((input_ids == self.config.image_token_id).sum())
            if found:
                raise PanoVLMError(
                    f"found {found} image placeholders in the text, but no panorama; give "
                    f"pixel_values (when generating, or mm_encoder_outputs)"
                )

    def _zero_from_trained_modules(self) -> Tensor:
        """Let a batch without pictures touch the trained modules, so that no other rank waits."""
        config, (rows, columns) = self.config, self.resampler.grid_in
        device, views = self.projection.positions.device, (1, config.layout.num_views)
        if any(parameter.requires_grad for parameter in self.vision_encoder.parameters()):
            pixels = torch.zeros(*views, 3, config.view_size, config.view_size, device=device)
            features = self.get_image_features(pixel_values=pixels)
        else:
            width = patch_token_width(config.vision_config)
            tokens = torch.zeros(*views, rows * columns, width, device=device)
            features = self.get_image_features(patch_tokens=tokens)
        return 0.0 * features.pooler_output.sum()


class PanoVLMForConditionalGeneration(PanoVLMPreTrainedModel, GenerationMixin):
    """PanoVLM with its LM head: answers questions about panoramas, and trains to."""

    _tied_weights_keys = {  # noqa: RUF012
        "lm_head.weight": "model.language_model.embed_tokens.weight"
    }
    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012
    _fsdp_plan = {"lm_head": "keep_full_weight"}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"^vicreg_projector\."]  # noqa: RUF012

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__(config)
        self.model = PanoVLMModel(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the LM head."""
        return self.lm_head

    def get_image_features(
        self,
        pixel_values: Tensor | None = None,
        patch_tokens: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode panoramas as image tokens; see `PanoVLMModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, patch_tokens, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        mm_encoder_outputs: ImageOutputs | None = None,
        patch_tokens: Tensor | None = None,
        lower_states: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> PanoVLMOutput:
        """Run the model and its LM head; the other arguments are those of `PanoVLMModel.forward`.

        `labels` [B, L] hold the token itself where it is supervised, else -100: the LM head runs on
        the positions that predict a supervised token, and nowhere else; a frozen one then returns
        no logits in training, or where `returns_logits` is False. Without labels it scores
        `logits_to_keep`, a number of last positions or the positions themselves. Labels of pictures
        without text, [N, image tokens], are the words that each image token is to stand for, or
        -100, told apart at `word_temperature`; the language model is not run.
        """
        num_items = kwargs.pop("num_items_in_batch", None)
        returns_logits = kwargs.pop("returns_logits", not self.training)
        temperature = kwargs.pop("word_temperature", TEMPERATURE)
        if labels is not None and input_ids is None and inputs_embeds is None:
            tokens = self.get_image_features(pixel_values, patch_tokens).pooler_output
            words = self.get_input_embeddings()
            told = words_loss(tokens, labels, words, num_items, temperature)
            return PanoVLMOutput(loss=told, image_hidden_states=tokens)
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            patch_tokens=patch_tokens,
            lower_states=lower_states,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        logits: Tensor | None
        loss: Tensor | None = None
        if labels is None:
            keep = (
                slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            )
            logits = self.lm_head(hidden[:, keep])
        else:
            logits, loss = supervised_loss(
                self, hidden, labels, num_items, returns_logits=returns_logits
            )
        return PanoVLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )


def _keep_checkpointing(module: nn.Module, mode: bool) -> None:
    """Let layers of a frozen module save activations where their own flag demands it.

    What is inside them stays in eval mode, so that nothing is dropped out.
    """
    for layer in module.modules():
        if isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing:
            layer.training = mode
