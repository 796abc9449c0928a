"""A model of another family, of `transformers`, is asked as it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.run import evaluate
from panovlm.inference.guests import guest_of, weights_of

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
OPTIONS = EvaluationOptions("none", max_tokens=4)


def save_llava(folder: Path, tokens_of: Path, template: str | None) -> Path:
    """A tiny LLaVA with random weights, and the tokenizer of another folder."""
    tokenizer = AutoTokenizer.from_pretrained(tokens_of)
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
        vision_config=CLIPVisionConfig(**TINY, image_size=32, patch_size=8),
        text_config=LlamaConfig(**TINY, vocab_size=len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_another_family_is_asked_with_several_pictures(
    scenes_file: Path, language_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    guest = guest_of(save_llava(tmp_path / "llava", language_model_folder(), TEMPLATE))
    report = evaluate(guest, scenes_file, tmp_path / "r.json", limit=2, options=OPTIONS)
    assert report["usage"]["answers"] == 2
    assert report["usage"]["prompt_tokens"] > 2 * 8 * 16  # eight views of 16 tokens each
    whole = replace(OPTIONS, show="equirectangular")
    less = evaluate(guest, scenes_file, tmp_path / "w.json", limit=2, options=whole)
    assert less["usage"]["prompt_tokens"] < report["usage"]["prompt_tokens"]


def test_other_weights_are_another_model(
    language_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    guest = guest_of(save_llava(tmp_path / "llava", language_model_folder(), TEMPLATE))
    before = weights_of(guest)
    save_llava(tmp_path / "llava", language_model_folder(), TEMPLATE)  # with other random weights
    after = weights_of(guest)
    assert before["config.json"] == after["config.json"] and before != after


def test_a_missing_package_is_named(
    language_model_folder: Callable[..., Path],
    scenes_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*args: object, **kwargs: object) -> None:
        raise ImportError("\nVideoProcessor requires the Torchvision library.\nTry again.")

    monkeypatch.setattr(AutoProcessor, "from_pretrained", load)
    guest = guest_of(save_llava(tmp_path / "llava", language_model_folder(), TEMPLATE))
    with pytest.raises(PanoVLMError, match=r"because VideoProcessor .* library; install what"):
        evaluate(guest, scenes_file, tmp_path / "r.json", limit=2, options=OPTIONS)


def test_what_a_family_cannot_do_is_told_in_a_line(
    scenes_file: Path, language_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    refusing = "{{ raise_exception('One image at most') }}" + TEMPLATE
    guest = guest_of(save_llava(tmp_path / "llava", language_model_folder(), refusing))
    with pytest.raises(PanoVLMError, match=r"because One image at most; show it one picture"):
        evaluate(guest, scenes_file, tmp_path / "r.json", limit=2, options=OPTIONS)


def test_a_model_that_holds_no_conversations_is_named(
    scenes_file: Path, language_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    guest = guest_of(save_llava(tmp_path / "base", language_model_folder(), None))
    with pytest.raises(PanoVLMError, match="found no chat template"):
        evaluate(guest, scenes_file, tmp_path / "r.json", limit=2, options=OPTIONS)
