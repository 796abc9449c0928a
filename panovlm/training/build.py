"""Builds models from a recipe: backbones, configuration, processor, weights of the stage before."""

import logging
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from panovlm.backbones.packaged import PACKAGED, locate
from panovlm.data.conversations import ConversationTokenizer
from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import CHATML, IMAGE_TOKEN, OWN_TEMPLATE, PanoVLMProcessor
from panovlm.model.vision import INTERPOLATING
from panovlm.stages import ABSENT, Objective, Stage, Supervision
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining
from panovlm.training.sections import ModelSection, OverlapSection
from panovlm.training.trainable import module_of

logger = logging.getLogger(__name__)


def build_processor(section: ModelSection) -> PanoVLMProcessor:
    """Build the processor: the encoder's pixel statistics, the language model's tokenizer."""
    config = build_config(section)
    tokenizer = AutoTokenizer.from_pretrained(locate(section.language_model))
    tokenizer.add_special_tokens(
        {"extra_special_tokens": [IMAGE_TOKEN]}, replace_extra_special_tokens=False
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    processor = PanoVLMProcessor(
        image_processor=build_image_processor(section),
        tokenizer=tokenizer,
        image_tokens_per_view=config.image_tokens_per_view,
        global_image_tokens=config.global_image_tokens,
        merges_views=config.pooling == "mean",
        view_words=section.view_words,
        chat_template=_chat_template(section, tokenizer),
        image_token=IMAGE_TOKEN,
    )
    end_token(processor)  # refuses a template in which no answer can be found
    return processor


def check_language_model(section: ModelSection) -> None:
    """Check, without its weights, that the language model's parts are where they are looked for.

    Raises:
        PanoVLMError: If they are not.
    """
    config = _open_config("language_model", section.language_model).get_text_config()
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise PanoVLMError(f"cannot build {section.language_model}: {error}") from error
    head = model.get_output_embeddings()
    has_words = isinstance(getattr(model.base_model, "embed_tokens", None), nn.Embedding)
    if has_words and isinstance(head, nn.Linear) and head.bias is None:
        return
    found = "whose LM head has a bias" if has_words else "whose embeddings are no `embed_tokens`"
    raise PanoVLMError(
        f"found a language model of type {config.model_type!r}, {found}, expected one built as "
        f"Llama, Qwen, Gemma, Phi 3, Mistral and SmolLM are; choose another model.language_model"
    )


def end_token(processor: PanoVLMProcessor) -> int:
    """Return the token by which the assistant ends a message in the chat template.

    Raises:
        PanoVLMError: If the template shows neither the answer nor its end.
    """
    example = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here"}]
    ids, is_answer = processor.tokenize(example)
    return [token for token, carries in zip(ids, is_answer, strict=True) if carries][-1]


def build_tokenizer(section: ModelSection) -> ConversationTokenizer:
    """Build what tokenises conversations, as long as the model of a recipe reads.

    Raises:
        PanoVLMError: If the model cannot be opened.
    """
    longest: int = build_config(section).text_config.max_position_embeddings
    return ConversationTokenizer(build_processor(section), Supervision.RESPONSES, longest)


def build_config(section: ModelSection) -> PanoVLMConfig:
    """Build the model's configuration from those of its backbones.

    Raises:
        PanoVLMError: If the backbones, the views and the resampler do not fit together.
    """
    resampler = section.resampler
    vision = _vision_config(section.vision_encoder)
    text = _open_config("language_model", section.language_model).get_text_config()
    for part in (vision, text):
        part.dtype = torch.float32  # or each part would be built in its checkpoint's own type
    try:
        return PanoVLMConfig(
            vision_config=vision,
            text_config=text,
            **section.views.model_dump(),
            resampler_type=resampler.type,
            resampler_layers=resampler.num_layers,
            **resampler.model_dump(exclude={"type", "num_layers"}),
            pooling=section.pooling,
            slots=section.slots,
            projection_type=section.projection,
        )
    except StrictDataclassClassValidationError as error:
        raise PanoVLMError(str(error.__cause__)) from error


def build_vision_encoder(section: ModelSection) -> PreTrainedModel:
    """Build the pretrained vision encoder alone."""
    config, view_size = build_config(section).vision_config, section.views.view_size
    encoder: PreTrainedModel = AutoModel.from_pretrained(
        locate(section.vision_encoder), config=config, dtype=torch.float32
    )
    kind = config.model_type
    if kind in INTERPOLATING and config.image_size != view_size:
        size = config.image_size
        logger.info("%s has positions for %s pixels: interpolated to %s", kind, size, view_size)
    return encoder.eval()


@torch.no_grad()
def free_vision_encoder(model: PreTrainedModel) -> None:
    """Free the weights of an encoder that will not run any more."""
    for parameter in model.model.vision_encoder.parameters():
        parameter.data = parameter.new_empty(0)  # not on the meta device, which the trainer refuses


def restore_vision_encoder(model: PreTrainedModel, section: ModelSection) -> None:
    """Load the weights of a frozen encoder again, if they were freed."""
    if not any(parameter.numel() for parameter in model.model.vision_encoder.parameters()):
        model.model.vision_encoder = build_vision_encoder(section)


def build_model(
    section: ModelSection,
    stage: Stage,
    overlap: OverlapSection | None = None,
    *,
    pretrained: bool = True,
) -> PreTrainedModel:
    """Build the model of a stage from pretrained backbones and fresh modules between them.

    Args:
        section: The backbones and what connects them.
        stage: The stage to train.
        overlap: What to minimise where the objective is on overlaps; None for the defaults.
        pretrained: False for backbones with fresh weights, as a plan needs: nothing is read.

    Raises:
        PanoVLMError: If the parts do not fit together, or no token has a partner.
    """
    if stage.objective is Objective.VICREG_OVERLAP:
        return _build_overlap_model(section, overlap, pretrained)
    return _build_generator(section, pretrained)


def _build_overlap_model(
    section: ModelSection, overlap: OverlapSection | None, pretrained: bool
) -> PreTrainedModel:
    config = build_config(section)
    if not pretrained:
        return PanoVLMForOverlapPretraining(config, overlap)
    model = fresh_overlap_model(config, overlap)
    model.pairs()  # refuses views that share nothing before anything is read
    model.model.vision_encoder = build_vision_encoder(section)
    return model


def fresh_overlap_model(
    config: PanoVLMConfig, overlap: OverlapSection | None = None
) -> PanoVLMForOverlapPretraining:
    """Build the model that stage 1 starts from, with an encoder that has no weights yet."""
    with no_init_weights():
        model = PanoVLMForOverlapPretraining(config, overlap)
    _initialise(model, model.model.resampler, model.vicreg_projector)
    return model


def _build_generator(section: ModelSection, pretrained: bool) -> PreTrainedModel:
    """Build the answering model; its frozen LM keeps every pretrained weight."""
    config, processor = build_config(section), build_processor(section)
    config.text_config.vocab_size = max(config.text_config.vocab_size, len(processor.tokenizer))
    config.image_token_id = processor.image_token_id
    if not pretrained:
        return PanoVLMForConditionalGeneration(config)
    with no_init_weights():
        model = PanoVLMForConditionalGeneration(config)
    _initialise(model, model.model.resampler, model.model.projection)
    model.model.vision_encoder = build_vision_encoder(section)
    _load_language_model(model, section, processor)
    return model


def _initialise(model: PreTrainedModel, *parts: nn.Module) -> None:
    """Initialise parts without weights; backbones, which are loaded, get none before their own."""
    for part in parts:
        for module in part.modules():
            if reset := getattr(module, "reset_parameters", None):
                reset()
            model._init_weights(module)


def _load_language_model(
    model: PanoVLMForConditionalGeneration, section: ModelSection, processor: PanoVLMProcessor
) -> None:
    pretrained = AutoModelForCausalLM.from_pretrained(
        locate(section.language_model), dtype=torch.float32
    )
    vocab_size = model.config.text_config.vocab_size
    if vocab_size > pretrained.get_input_embeddings().num_embeddings:
        # The row of the image token's placeholder, which is never read or said.
        pretrained.resize_token_embeddings(vocab_size, mean_resizing=False)
    for part, its in (
        (model.model.language_model, pretrained.base_model),
        (model.lm_head, pretrained.get_output_embeddings()),
    ):
        part.load_state_dict(its.state_dict(), assign=True)  # no copy
    model.tie_weights()
    # Words in use, not the whole table: tokens that a small LM never met are much longer.
    words = processor.tokenizer(" ".join(DIRECTIONS), add_special_tokens=False)["input_ids"]
    # As the model reads them: some models (Gemma) scale their embeddings on the way out.
    model.model.projection.match_scale(pretrained.get_input_embeddings()(torch.tensor(words)))
    _check_same_logits(model, pretrained, words)
    model.generation_config = _generation_config(processor, pretrained.generation_config)


@torch.no_grad()
def _check_same_logits(
    model: PanoVLMForConditionalGeneration, pretrained: PreTrainedModel, words: list[int]
) -> None:
    """Check that text gets the pretrained model's logits: nothing comes after our LM head."""
    ids = torch.tensor([words])
    found, expected = (part.eval()(input_ids=ids).logits for part in (model, pretrained))
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
        raise PanoVLMError(
            f"found a language model of type {pretrained.config.model_type!r} that changes its "
            f"scores after the LM head, expected one whose scores are the head's; choose another "
            f"model.language_model"
        )


def load_predecessor(model: PreTrainedModel, stage: Stage, predecessor: Stage, folder: Path) -> int:
    """Continue from the modules that the stage before has trained, key by key.

    Args:
        model: A freshly built model of `stage`.
        stage: The stage about to train.
        predecessor: The stage it starts from.
        folder: The predecessor's output.

    Returns:
        The number of tensors loaded.

    Raises:
        PanoVLMError: If the folder is missing, or a tensor is missing or of another shape.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise PanoVLMError(
            f"stage {stage.name!r} starts from stage {predecessor.name!r}, but {folder} holds no "
            f"finished output of it; run: panovlm train RECIPE --stage {predecessor.name}"
        )
    shared = [m for m in predecessor.changed_modules if stage.role(m) is not ABSENT]
    return _load_modules(model, weights, shared)


def _load_modules(model: PreTrainedModel, weights: Path, modules: list[str]) -> int:
    own = model.state_dict()
    tied = model.all_tied_weights_keys  # stored once, under the other name
    wanted = [key for key in own if module_of(key) in modules and key not in tied]
    with safe_open(weights, framework="pt") as stored:
        present = set(wanted).intersection(stored.keys())
        tensors = {key: stored.get_tensor(key) for key in present}
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    expected = {key: tuple(own[key].shape) for key in wanted}
    if unfitting := [key for key in wanted if found.get(key) != expected[key]]:
        key = unfitting[0]
        raise PanoVLMError(
            f"{weights} is of another architecture: for {key} found {found.get(key, 'nothing')}, "
            f"expected {expected[key]} ({len(unfitting)} such tensors); train the stage before "
            f"with the same model section"
        )
    model.load_state_dict(tensors, strict=False)
    return len(tensors)


def _vision_config(name: str) -> PreTrainedConfig:
    """Return the vision encoder's part of a configuration, without a pooling head."""
    config = _open_config("vision_encoder", name)
    vision = config.to_dict().get("vision_config") and config.vision_config
    config = vision or config
    if config.model_type in ("siglip_vision_model", "siglip2_vision_model"):
        config.vision_use_head = False
    return config


def _open_config(key: str, name: str) -> PreTrainedConfig:
    """Read a backbone's configuration; the first call that fails where the name is wrong."""
    try:
        return AutoConfig.from_pretrained(locate(name))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PanoVLMError(
            f"cannot open model.{key} = {name!r}: {reason}; give a folder, a hub id that this "
            f"machine can reach, or one of: {', '.join(PACKAGED)}"
        ) from error


def build_image_processor(section: ModelSection) -> PanoVLMImageProcessor:
    """Build what cuts the views, with the encoder's pixel statistics."""
    mean, std = _pixel_statistics(section)
    size = section.views.view_size
    return PanoVLMImageProcessor(
        **section.views.model_dump(exclude={"view_size"}),
        size={"height": size, "width": size},
        image_mean=mean,
        image_std=std,
    )


def _pixel_statistics(section: ModelSection) -> tuple[Any, Any]:
    """Return mean and standard deviation of the pixels; timm's models have them in their config."""
    of_timm = getattr(_open_config("vision_encoder", section.vision_encoder), "pretrained_cfg", {})
    if "mean" in of_timm:
        return of_timm["mean"], of_timm["std"]
    stored, _ = PanoVLMImageProcessor.get_image_processor_dict(locate(section.vision_encoder))
    return stored["image_mean"], stored["image_std"]


def _chat_template(section: ModelSection, tokenizer: Any) -> str:
    """Return the chat template: the recipe's, or ChatML where the language model knows it."""
    if section.chat_template == "own":
        return _own_template(section, tokenizer)
    if section.chat_template is not None:
        try:
            return section.chat_template.read_text(encoding="utf-8")
        except OSError as error:
            raise PanoVLMError(
                f"cannot read the chat template {section.chat_template}: {error.strerror}; "
                f"correct model.chat_template"
            ) from error
    if "<|im_start|>" in tokenizer.get_vocab():
        return CHATML.read_text()
    return _own_template(section, tokenizer)


def _own_template(section: ModelSection, tokenizer: Any) -> str:
    """Return the language model's own template, for contents with pictures."""
    if not tokenizer.chat_template:
        raise PanoVLMError(
            f"found neither a chat template nor ChatML's token <|im_start|> in "
            f"{section.language_model}; choose an instruct model, or set model.chat_template to a "
            f"Jinja file"
        )
    return OWN_TEMPLATE.read_text() + tokenizer.get_chat_template()


def _generation_config(
    processor: PanoVLMProcessor, pretrained: GenerationConfig
) -> GenerationConfig:
    tokenizer = processor.tokenizer
    ends = {tokenizer.eos_token_id, tokenizer.get_vocab().get("<|im_end|>")}
    special = {token_id for token_id, t in tokenizer.added_tokens_decoder.items() if t.special}
    ends |= {end_token(processor)} & special
    known = pretrained.eos_token_id
    ends |= set(known) if isinstance(known, list) else {known}
    return GenerationConfig(
        max_new_tokens=128,
        eos_token_id=sorted(ends - {None}),
        pad_token_id=tokenizer.pad_token_id,
        # The placeholder's row of a frozen LM head was never trained: it must not be generated.
        suppress_tokens=[processor.image_token_id],
    )
