"""The assistant's messages are found in templates of the shape that model families publish."""

import copy
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.model.answer_spans import answer_spans
from panovlm.model.processing import OWN_TEMPLATE, PanoVLMProcessor

LLAMA = """{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = strftime_now("%d %b %Y") %}{% endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{%- if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}
{%- set messages = messages[1:] %}{% endif %}{{ "<|eot_id|>" }}
{%- for message in messages %}
{{- "<|start_header_id|>" + message['role'] + "<|end_header_id|>\\n\\n" }}
{{- message['content'] | trim + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}{% endif %}"""
QWEN2 = """{%- if messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
QWEN3 = """{%- set last = namespace(user=0) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set last.user = loop.index0 %}
{%- endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
{%- if loop.index0 > last.user %}
{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + content }}
{%- else %}{{ '<|im_start|>assistant\\n' + content }}{% endif %}{{ '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"""
GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
{{- raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate') }}{% endif %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
PHI = """{%- for message in messages %}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""
MISTRAL = """{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + '[/INST]' }}
{%- elif message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}
{%- else %}{{ raise_exception('Only user and assistant roles are supported') }}{% endif %}
{%- endfor %}"""
SMOLLM = QWEN2.replace("You are Qwen.", "You are a helpful AI assistant named SmolLM.")
FAMILIES = {
    "llama": (LLAMA, "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "qwen2": (QWEN2, "<|im_end|>", []),
    "qwen3": (QWEN3, "<|im_end|>", []),
    "gemma": (GEMMA, "<end_of_turn>", ["<start_of_turn>", "<end_of_turn>"]),
    "phi": (PHI, "<|end|>", ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]),
    "mistral": (MISTRAL, "</s>", ["<s>", "</s>", "[INST]", "[/INST]"]),
    "smollm": (SMOLLM, "<|im_end|>", []),
}
"""Templates of the shape that the families publish, how an answer ends, and their tokens."""
QUESTION = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where?"}]}]


def answered(text: str) -> list[dict[str, Any]]:
    return [*QUESTION, {"role": "assistant", "content": text}]


def processor_of(processor: PanoVLMProcessor, template: str, tokens: list[str]) -> PanoVLMProcessor:
    """The same processor with a tokenizer and a template of a family."""
    tokenizer = copy.deepcopy(processor.tokenizer)
    added = {"extra_special_tokens": tokens}
    tokenizer.add_special_tokens(added, replace_extra_special_tokens=False)
    tokenizer.bos_token, tokenizer.eos_token = "<|im_start|>", "<|im_end|>"
    if "</s>" in tokens:
        tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    return PanoVLMProcessor(
        image_processor=processor.image_processor,
        tokenizer=tokenizer,
        image_tokens_per_view=processor.image_tokens_per_view,
        chat_template=OWN_TEMPLATE.read_text() + template,
    )


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, processor: PanoVLMProcessor) -> tuple[Any, str, str]:
    template, end, tokens = FAMILIES[request.param]
    return processor_of(processor, template, tokens), end, request.param


def supervised(processor: PanoVLMProcessor, messages: list[dict[str, Any]]) -> list[str]:
    """The texts that carry the loss."""
    ids, mask = processor.tokenize(messages)
    texts: list[list[int]] = [[]]
    for token, carries in zip(ids, mask, strict=True):
        if carries:
            texts[-1].append(token)
        elif texts[-1]:
            texts.append([])
    return [processor.tokenizer.decode(text) for text in texts if text]


def test_answers_are_found_with_their_end_token(family: tuple[Any, str, str]) -> None:
    processor, end, name = family
    space = " " if name == "mistral" else ""  # which its prompts leave to the model
    assert supervised(processor, answered("A red cube, left.")) == [
        f"{space}A red cube, left.{end}"
    ]
    more = [*answered("Left."), {"role": "user", "content": "Sure?"}]
    more.append({"role": "assistant", "content": "Left."})  # the same words twice
    assert supervised(processor, more) == [f"{space}Left.{end}"] * 2


def test_a_prompt_is_what_stands_before_the_answer(family: tuple[Any, str, str]) -> None:
    processor, _, _ = family
    ids, mask = processor.tokenize(answered("Left."))
    prompt, of_prompt = processor.tokenize(QUESTION, add_generation_prompt=True)
    assert prompt == ids[: mask.index(1)]
    assert sum(of_prompt) == 0
    assert prompt.count(processor.image_token_id) == processor.expand_image().count("<image>")


def test_white_space_around_an_answer_is_the_templates_business(
    family: tuple[Any, str, str],
) -> None:
    processor, end, name = family
    [text] = supervised(processor, answered(" Left.\n"))
    assert text.strip() in (f"Left.{end}", f"Left.\n{end}"), name


def test_the_processors_own_call_and_tokenize_agree(
    family: tuple[Any, str, str], panorama: Any
) -> None:
    """Contents with pictures reach templates that know texts alone."""
    processor, _, _ = family
    with_picture = [
        {
            **QUESTION[0],
            "content": [{"type": "image", "image": panorama}, QUESTION[0]["content"][1]],
        }
    ]
    found = processor.apply_chat_template(
        with_picture, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    ids, _ = processor.tokenize(QUESTION, add_generation_prompt=True)
    assert list(found["input_ids"][0]) == ids


def test_the_same_date_is_written_every_day(processor: PanoVLMProcessor) -> None:
    llama = processor_of(processor, LLAMA, FAMILIES["llama"][2])
    ids, _ = llama.tokenize(answered("Left."))
    assert "Today Date: 26 Jul 2024\n" in llama.tokenizer.decode(ids)


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_what_a_template_refuses_is_said_with_the_roles(
    processor: PanoVLMProcessor, name: str
) -> None:
    template, _, tokens = FAMILIES[name]
    messages = [{"role": "system", "content": "Be short."}, *answered("Left.")]
    with pytest.raises(PanoVLMError, match=r"refuses \(system, user, assistant\): .*roles? "):
        processor_of(processor, template, tokens).tokenize(messages)


PLAIN = "{% for m in messages %}{{ m.role }}: SHOWN{{ '\\n' }}{% endfor %}"


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        ("{{ m.content }}", "writes no special token behind an answer"),
        ("{{ m.content | length }}<|im_end|>", "does not write each answer once"),
        ("{{ m.content | upper }}<|im_end|>", "in another form than it was given"),
        ("{{ m.content }}{{ m.content }}<|im_end|>", "does not write each answer once"),
    ],
)
def test_a_template_in_which_no_answer_is_found_names_the_two_lines_to_add(
    processor: PanoVLMProcessor, shown: str, message: str
) -> None:
    unfit = processor_of(processor, PLAIN.replace("SHOWN", shown), [])
    with pytest.raises(PanoVLMError) as caught:
        unfit.tokenize(answered("Left."))
    assert message in str(caught.value)
    for line in ("{%- generation %}", "{%- endgeneration %}", "set model.chat_template"):
        assert line in str(caught.value)


def test_characters_of_the_answer_are_found_in_the_text() -> None:
    def render(messages: Any, *, add_generation_prompt: bool = False) -> str:
        text = "".join(f"<{each['role']}>{each['content']}</s>" for each in messages)
        return text + "<assistant>" * add_generation_prompt

    messages = [{"role": "user", "content": "</s>no</s>"}, {"role": "assistant", "content": "no"}]
    [(start, end)] = answer_spans(render, messages, ["</s>"])
    assert render(messages)[start:end] == "no</s>"
    assert render(messages)[:start].endswith("<assistant>")
