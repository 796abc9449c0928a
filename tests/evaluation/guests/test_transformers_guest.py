"""A model of another family, of `transformers`, is asked as it is."""

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY, TINY_VISION, byte_tokenizer
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.guests.models import guest_of
from panovlm.evaluation.run import evaluate

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
OPTIONS = EvaluationOptions("none", max_tokens=4)


def save_llava(folder: Path, template: str | None) -> Path:
    """A tiny LLaVA with random weights."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    size = {"height": 32, "width": 32}
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**TINY_VISION),
        text_config=LlamaConfig(**TINY, intermediate_size=64, vocab_size=len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_another_family_is_asked_with_several_pictures(scenes_file: Path, tmp_path: Path) -> None:
    guest = guest_of(save_llava(tmp_path / "llava", TEMPLATE))
    report = evaluate(guest, scenes_file, tmp_path / "r.json", limit=2, options=OPTIONS)
    assert report["usage"]["answers"] == 2
    assert report["usage"]["prompt_tokens"] > 2 * 8 * 16  # eight views of 16 tokens each
    whole = replace(OPTIONS, show="equirectangular")
    less = evaluate(guest, scenes_file, tmp_path / "w.json", limit=2, options=whole)
    assert less["usage"]["prompt_tokens"] < report["usage"]["prompt_tokens"]


def test_a_model_that_holds_no_conversations_is_named(scenes_file: Path, tmp_path: Path) -> None:
    guest = guest_of(save_llava(tmp_path / "base", None))
    with pytest.raises(PanoVLMError, match="found no chat template"):
        evaluate(guest, scenes_file, tmp_path / "r.json", limit=2, options=OPTIONS)
