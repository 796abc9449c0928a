"""The processor: expansion of `<image>`, tokens of conversations, and what survives saving."""

import json

import pytest
from tokenizers.processors import TemplateProcessing

from panovlm.geometry.layouts import ViewLayout
from panovlm.model.processing import CHATML, PanoVLMProcessor, view_words
from panovlm.training.build import build_config, build_processor

PER_VIEW = 8
CONVERSATION = [
    {"role": "system", "content": "You see all around."},
    {"role": "user", "content": "<image>\nWhere is the cone?"},
    {"role": "assistant", "content": "left"},
    {"role": "user", "content": "And the cube?"},
    {"role": "assistant", "content": "behind you"},
]


def with_picture(conversation, panorama):
    """The same conversation with lists of entries, the picture among them."""
    messages = []
    for message in conversation:
        before, mark, after = message["content"].partition("<image>")
        texts = [before, after] if mark else [before]
        entries = [{"type": "text", "text": text} for text in texts]
        if mark:
            entries.insert(1, {"type": "image", "image": panorama})
        messages.append({"role": message["role"], "content": entries})
    return messages


@pytest.fixture
def fresh_processor(model_section):
    return build_processor(model_section)


def test_an_image_becomes_direction_words_and_tokens(processor):
    tokens = "<image>" * PER_VIEW
    expected = f"front:{tokens}\nright:{tokens}\nback:{tokens}\nleft:{tokens}\n"
    assert processor.expand_image() == expected
    assert processor.expand_image(2) == f"front:{tokens}\nback:{tokens}\n"


def test_direction_words_can_be_left_out(fresh_processor):
    fresh_processor.view_words = False
    assert fresh_processor.expand_image() == "<image>" * PER_VIEW * 4 + "\n"


def test_averaged_views_have_one_group_of_tokens(fresh_processor):
    fresh_processor.merges_views = True
    assert fresh_processor.expand_image() == "<image>" * PER_VIEW + "\n"


@pytest.mark.parametrize("pooling", ["concat", "mean", "stitch", "slots"])
def test_processor_and_configuration_count_the_same(model_section, pooling, panorama):
    section = model_section.model_copy(update={"pooling": pooling})
    pooled, config = build_processor(section), build_config(section)
    inputs = pooled(images=panorama, text="<image>?")
    assert inputs["input_ids"][0].count(pooled.image_token_id) == config.num_image_tokens
    counted = pooled._get_num_multimodal_tokens(image_sizes=[(100, 200)])
    assert counted["num_image_tokens"] == [config.num_image_tokens]


def test_views_are_named_by_direction_or_by_degrees():
    ring = ViewLayout.ring
    assert view_words(ring(4)) == ["front", "right", "back", "left"]
    assert view_words(ring(8))[1::2] == ["front-right", "back-right", "back-left", "front-left"]
    assert view_words(ring(5)) == [f"{yaw} degrees" for yaw in (0, 72, 144, 216, 288)]
    assert len(set(view_words(ring(64)))) == 64


def test_views_above_and_below_the_horizon_are_named_up_and_down():
    assert view_words(ViewLayout.cubemap())[3:] == ["left", "up", "down"]
    rows = ViewLayout.ring(4, pitches_deg=(0, 60, -60))
    assert view_words(rows)[3:6] == ["left", "front up", "right up"]
    assert view_words(rows)[-1] == "left down"
    steep = ViewLayout.ring(4, pitches_deg=(0, 30, 60))
    assert view_words(steep)[4::4] == ["front 30 up", "front 60 up"]
    assert view_words(ViewLayout.ring(6, pitches_deg=(0, -50)))[-1] == "300 degrees down"
    twins = ViewLayout.free([(0, 0, 0, 90), (0, 0, 0, 40)])
    assert view_words(twins) == ["view 1", "view 2"]


@pytest.mark.parametrize("as_list", [False, True])
def test_tokens_without_the_picture_are_those_with_it(processor, panorama, as_list):
    messages = with_picture(CONVERSATION, panorama)
    expected = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, said = processor.tokenize(messages if as_list else CONVERSATION)
    assert ids == list(expected["input_ids"][0])
    assert said == list(expected["assistant_masks"][0])
    assert ids.count(processor.image_token_id) == 4 * PER_VIEW


def test_a_prompt_ends_with_the_assistants_opening(processor, panorama):
    ids, said = processor.tokenize(CONVERSATION[:2], add_generation_prompt=True)
    messages = with_picture(CONVERSATION[:2], panorama)
    expected = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    assert ids == list(expected["input_ids"][0])
    assert sum(said) == 0
    assert processor.tokenizer.decode(ids).endswith("cone?<|im_end|>\n<|im_start|>assistant\n")


def test_the_assistant_says_its_words_and_their_end(processor):
    ids, said = processor.tokenize(CONVERSATION)
    words = processor.tokenizer.decode([i for i, by in zip(ids, said, strict=True) if by])
    assert words == "left<|im_end|>behind you<|im_end|>"


def test_text_alone_is_tokenised(processor):
    ids, said = processor.tokenize([CONVERSATION[3], CONVERSATION[4]])
    text = (
        "<|im_start|>user\nAnd the cube?<|im_end|>\n<|im_start|>assistant\nbehind you<|im_end|>\n"
    )
    assert processor.tokenizer.decode(ids) == text
    assert sum(said) == len("behind you") + 1


def test_a_tokenizer_that_adds_its_own_start_changes_nothing(fresh_processor, panorama):
    """A language model's start token stands where its chat template says, and nowhere else."""
    plain, _ = fresh_processor.tokenize(CONVERSATION)
    tokenizer = fresh_processor.tokenizer
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert tokenizer("a")["input_ids"][0] == 0
    messages = with_picture(CONVERSATION, panorama)
    found = fresh_processor.apply_chat_template(messages, tokenize=True, return_dict=True)
    assert fresh_processor.tokenize(CONVERSATION)[0] == plain == list(found["input_ids"][0])


@pytest.mark.parametrize("mark", ["{% generation %}", "{%- generation -%}"])
def test_every_spelling_of_the_generation_mark_counts(fresh_processor, mark):
    template = CHATML.read_text()
    assert template.count("{% generation %}") == 1
    fresh_processor.chat_template = template.replace("{% generation %}", mark)
    _, said = fresh_processor.tokenize(CONVERSATION)
    assert 0 < sum(said) < len(said)


def test_a_template_without_generation_marks_supervises_the_same_tokens(fresh_processor):
    template = CHATML.read_text()
    marked = fresh_processor.tokenize(CONVERSATION)
    for mark in ("{% generation %}", "{% endgeneration %}"):
        template = template.replace(mark, "")
    fresh_processor.chat_template = template
    assert fresh_processor.tokenize(CONVERSATION) == marked


def test_pictures_of_any_size_are_counted(processor):
    counted = processor._get_num_multimodal_tokens(image_sizes=[(100, 200), (10_000, 10_000)])
    assert counted["num_image_tokens"] == [4 * PER_VIEW] * 2
    assert counted["num_image_patches"] == [1, 1]
    more = processor._get_num_multimodal_tokens(image_sizes=[(100, 200)], num_views=6)
    assert more["num_image_tokens"] == [6 * PER_VIEW]


def test_another_number_of_views_expands_to_as_many_groups(processor, panorama):
    inputs = processor(images=panorama, text="<image>", images_kwargs={"num_views": 2})
    assert inputs["input_ids"][0].count(processor.image_token_id) == 2 * PER_VIEW


def test_marks_and_pictures_must_agree(processor, panorama):
    with pytest.raises(ValueError, match=r"(?i)image"):
        processor(images=[panorama], text=["no mark at all"])


def test_a_saved_processor_comes_back_whole(model_section, fresh_processor, panorama, tmp_path):
    fresh_processor.view_words = False
    fresh_processor.merges_views = True
    fresh_processor.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "processor_config.json").read_text())
    assert stored["image_tokens_per_view"] == PER_VIEW
    assert (tmp_path / "chat_template.jinja").read_text() == CHATML.read_text()
    read = PanoVLMProcessor.from_pretrained(tmp_path)
    assert (read.view_words, read.merges_views) == (False, True)
    assert read.image_token_id == fresh_processor.image_token_id
    assert read.image_processor.to_dict() == fresh_processor.image_processor.to_dict()
    assert read.tokenize(CONVERSATION) == fresh_processor.tokenize(CONVERSATION)
    text = "<image>and more"
    expected = fresh_processor(images=panorama, text=text, return_tensors="pt")
    for key, value in read(images=panorama, text=text, return_tensors="pt").items():
        assert value.equal(expected[key]), key
