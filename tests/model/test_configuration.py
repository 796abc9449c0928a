"""PanoVLMConfig: counts of tokens, what it inherits from its parts, and what it refuses."""

import pytest
from huggingface_hub.errors import (
    StrictDataclassClassValidationError,
    StrictDataclassFieldValidationError,
)
from transformers import AutoConfig, LlamaConfig, SiglipVisionConfig

from panovlm.errors import PanoVLMError
from panovlm.model.configuration import PanoVLMConfig

VISION = SiglipVisionConfig(image_size=32, patch_size=4, hidden_size=32).to_dict()
TEXT = LlamaConfig(hidden_size=32, vocab_size=300).to_dict()


def config(**changes):
    parts = {"vision_config": VISION, "text_config": TEXT}
    sizes = {"num_views": 8, "fov_deg": 90.0, "view_size": 32, "token_rows": 4, "token_columns": 8}
    return PanoVLMConfig(**parts | sizes | changes)


def test_defaults_are_a_whole_configuration():
    default = PanoVLMConfig()
    assert default.vision_config.model_type == "siglip_vision_model"
    assert default.vision_config.vision_use_head is False
    assert default.get_text_config() is default.text_config
    assert default.num_image_tokens == 8 * 7 * 7


@pytest.mark.parametrize(
    ("pooling", "groups", "per_view"),
    [("concat", 8, 32), ("mean", 1, 32), ("stitch", 8, 16), ("slots", 8, 4)],
)
def test_pooling_sets_the_number_of_image_tokens(pooling, groups, per_view):
    pooled = config(pooling=pooling)
    assert pooled.tokens_per_view == 32
    assert pooled.image_tokens_per_view == per_view
    assert pooled.num_image_tokens == groups * per_view


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_are_tied_as_the_language_model_says(tied):
    assert config(text_config={**TEXT, "tie_word_embeddings": tied}).tie_word_embeddings is tied


def test_a_saved_configuration_comes_back_whole(tmp_path):
    written = config(pooling="stitch", image_token_id=7, resampler_type="mlp")
    written.save_pretrained(tmp_path)
    read = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(read, PanoVLMConfig)
    assert read.to_diff_dict() == written.to_diff_dict()
    assert read.layout == written.layout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_columns": 3}, "4 x 3, expected divisors of the vision encoder's 8 x 8"),
        ({"token_rows": 5}, "change token_rows, token_columns or view_size"),
        ({"view_size": 70}, "found view_size 70, expected a multiple of 4"),
        ({"resampler_type": "perceiver", "latent_size": 20}, "expected a multiple of 8"),
        ({"vision_config": LlamaConfig().to_dict()}, "found a vision encoder of type 'llama'"),
        ({"num_views": 1}, "found a ring of 1 views"),
        ({"num_views": 4, "pooling": "stitch"}, "no whole column of 8"),
    ],
)
def test_what_cannot_work_is_refused_at_once(changes, message):
    with pytest.raises(StrictDataclassClassValidationError) as caught:
        config(**changes)
    assert isinstance(caught.value.__cause__, PanoVLMError)
    assert message in str(caught.value.__cause__)


def test_values_of_the_wrong_type_are_refused():
    with pytest.raises(StrictDataclassFieldValidationError, match="pooling"):
        config(pooling="max")
