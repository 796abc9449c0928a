r"""PanoVLMProcessor: panoramas and chats in, model inputs out.

One `<image>` in a text becomes, for every view in order, a direction word and the view's image
tokens ("front:<image><image>...\n"). The words give the language model handles for directions.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import ProcessorMixin
from transformers.processing_utils import MultiModalData

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import DIRECTIONS, direction_index
from panovlm.model.image_processing import PanoVLMImageProcessor

CHATML = Path(__file__).with_name("chatml.jinja")
"""The chat template of language models that know ChatML, with the assistant's spans marked."""
IMAGE_TOKEN = "<image>"
"""Text of the placeholder for one image token, and for a whole panorama in a chat."""
Messages = Sequence[dict[str, Any]]
GLOBAL_WORDS = "all around"
"""What stands before the tokens of a global view, where each view of the ring has its direction."""
GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


class PanoVLMProcessor(ProcessorMixin):
    """Couples the image processor with the language model's tokenizer.

    Args:
        image_processor: Cuts panoramas into views.
        tokenizer: The language model's, with the image token added.
        image_tokens_per_view: Image tokens of each view of the ring, as in `PanoVLMConfig`.
        global_image_tokens: Image tokens of the global view, 0 if there is none.
        merges_views: Whether the model averages all views into one group of tokens.
        view_words: Whether a direction word stands before each view's tokens.
        chat_template: Jinja template of a conversation.
        image_token: Text of the placeholder.
    """

    # The chat template writes every special token: a start token that the tokenizer adds by itself
    # would come twice, or only where a picture is loaded.
    text_kwargs = {"add_special_tokens": False}  # noqa: RUF012  # transformers' protocol

    def __init__(
        self,
        image_processor: PanoVLMImageProcessor | None = None,
        tokenizer: Any = None,
        image_tokens_per_view: int = 49,
        global_image_tokens: int = 0,
        merges_views: bool = False,
        view_words: bool = True,
        chat_template: str | None = None,
        image_token: str = IMAGE_TOKEN,
        **kwargs: Any,
    ) -> None:
        self.image_tokens_per_view = image_tokens_per_view
        self.global_image_tokens = global_image_tokens
        self.merges_views = merges_views
        self.view_words = view_words
        self.image_token = image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)

    def expand_image(self, num_views: int | None = None) -> str:
        """Return the text that stands for one panorama: image tokens with their direction words.

        Args:
            num_views: Views of the ring, those of the image processor if left out.
        """
        num_views = self.image_processor.num_views if num_views is None else num_views
        tokens = self.image_token * self.image_tokens_per_view
        around = self.image_token * self.global_image_tokens
        # Every form ends in a line break, so that no question stands right behind an image token.
        if not self.view_words:
            return f"{tokens * (1 if self.merges_views else num_views)}{around}\n"
        words = [""] if self.merges_views else [f"{word}:" for word in view_words(num_views)]
        lines = [f"{word}{tokens}\n" for word in words]
        return "".join(lines + [f"{GLOBAL_WORDS}:{around}\n"] * bool(around))

    def tokenize(
        self, messages: Messages, *, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[int]]:
        """Tokenise a whole conversation without loading its pictures.

        Args:
            messages: Messages whose content is a string or a list of text and image entries.
            add_generation_prompt: Whether to end with the assistant's opening words.

        Returns:
            Token ids as `apply_chat_template` returns them with the pictures, and 1 for each token
            of the assistant's messages (its end token included), else 0.

        Raises:
            PanoVLMError: If the chat template does not mark the assistant's messages.
        """
        plain = [{**each, "content": self._as_text(each["content"])} for each in messages]
        if not GENERATION_MARK.search(self.chat_template or ""):
            raise PanoVLMError(
                "found a chat template without {% generation %} around the assistant's messages, "
                "expected one; set model.chat_template in the recipe to a template that has it"
            )
        encoded = self.tokenizer.apply_chat_template(
            plain,
            chat_template=self.chat_template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            add_generation_prompt=add_generation_prompt,
        )
        return list(encoded["input_ids"]), list(encoded["assistant_masks"])

    def _as_text(self, content: str | Sequence[dict[str, Any]]) -> str:
        if isinstance(content, str):
            return content.replace(self.image_token, self.expand_image())
        parts = (self.expand_image() if p["type"] == "image" else p["text"] for p in content)
        return "".join(parts)

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **_: Any) -> str:
        """Return the expansion of one `<image>` (called by the inherited `__call__`)."""
        num_views = len(image_inputs["pixel_values"][image_idx])
        return self.expand_image(num_views - bool(self.global_image_tokens))

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[Sequence[int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Count the image tokens of pictures of any size (called by vLLM before it runs)."""
        if image_sizes is None:
            return MultiModalData()
        num_views = kwargs.get("num_views", self.image_processor.num_views)
        groups = 1 if self.merges_views else num_views
        tokens = self.image_tokens_per_view * groups + self.global_image_tokens
        num_pictures = len(image_sizes)
        return MultiModalData(
            num_image_tokens=[tokens] * num_pictures, num_image_patches=[1] * num_pictures
        )


def view_words(num_views: int) -> list[str]:
    """Name the views of a ring: by direction where each has its own word, else by degrees."""
    yaws_deg = [view * 360 / num_views for view in range(num_views)]
    if 8 % num_views == 0:
        return [DIRECTIONS[direction_index(yaw)] for yaw in yaws_deg]
    return [f"{yaw:.0f} degrees" for yaw in yaws_deg]
