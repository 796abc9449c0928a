r"""PanoVLMProcessor: panoramas and chats in, model inputs out.

One `<image>` in a text becomes, for every view in order, a direction word and the view's image
tokens ("front:<image><image>...\n"). The words give the language model handles for directions.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import ProcessorMixin
from transformers.processing_utils import MultiModalData

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import DIRECTIONS, direction_index
from panovlm.geometry.views import AnyView
from panovlm.model.answer_spans import answer_spans
from panovlm.model.image_processing import PanoVLMImageProcessor

CHATML = Path(__file__).with_name("chatml.jinja")
"""The chat template of language models that know ChatML, with the assistant's spans marked."""
OWN_TEMPLATE = Path(__file__).with_name("own_template.jinja")
"""What stands before a language model's own template: contents become texts, with `<image>` for a
picture; thinking is off, and the date that some write is always the same."""
IMAGE_TOKEN = "<image>"
"""Text of the placeholder for one image token, and for a whole panorama in a chat."""
Messages = Sequence[dict[str, Any]]
GLOBAL_WORDS = "all around"
"""What stands before the tokens of a global view, where each other view has its direction."""
GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


class PanoVLMProcessor(ProcessorMixin):
    """Couples the image processor with the language model's tokenizer.

    Args:
        image_processor: Cuts panoramas into views.
        tokenizer: The language model's, with the image token added.
        image_tokens_per_view: Image tokens of each view but the global one, as in `PanoVLMConfig`.
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
            num_views: Views of a level ring; those of the image processor if left out.
        """
        layout = self.layout if num_views is None else ViewLayout.ring(num_views)
        tokens = self.image_token * self.image_tokens_per_view
        around = self.image_token * self.global_image_tokens
        # Every form ends in a line break, so that no question stands right behind an image token.
        if not self.view_words:
            return f"{tokens * (1 if self.merges_views else layout.num_views)}{around}\n"
        words = [""] if self.merges_views else [f"{word}:" for word in view_words(layout)]
        lines = [f"{word}{tokens}\n" for word in words]
        return "".join(lines + [f"{GLOBAL_WORDS}:{around}\n"] * bool(around))

    @property
    def layout(self) -> ViewLayout:
        """The views but the global one."""
        layout = self.image_processor.layout
        return layout.perspective or layout

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
            PanoVLMError: If the chat template refuses the conversation, or the assistant's messages
                cannot be found in what it writes.
        """
        plain = [{**each, "content": self._as_text(each["content"])} for each in messages]
        has_marks = GENERATION_MARK.search(self.chat_template or "") is not None
        tokenize = self._tokenize_marked if has_marks else self._tokenize_unmarked
        try:
            return tokenize(plain, add_generation_prompt)
        except TemplateError as error:
            roles = ", ".join(each["role"] for each in plain)
            raise PanoVLMError(
                f"found a conversation that the chat template refuses ({roles}): {error}; change "
                f"its messages, or set model.chat_template to a template that takes them"
            ) from error

    def _tokenize_marked(
        self, messages: Messages, add_generation_prompt: bool
    ) -> tuple[list[int], list[int]]:
        encoded = self.tokenizer.apply_chat_template(
            messages,
            chat_template=self.chat_template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            add_generation_prompt=add_generation_prompt,
        )
        return list(encoded["input_ids"]), list(encoded["assistant_masks"])

    def _tokenize_unmarked(
        self, messages: Messages, add_generation_prompt: bool
    ) -> tuple[list[int], list[int]]:
        render = partial(
            self.tokenizer.apply_chat_template,
            chat_template=self.chat_template,
            tokenize=False,
        )
        special = [str(t) for t in self.tokenizer.added_tokens_decoder.values() if t.special]
        spans = answer_spans(render, messages, special)
        text = render(messages, add_generation_prompt=add_generation_prompt)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        mask = [
            int(any(begin < last and first < end for first, last in spans))
            for begin, end in encoded["offset_mapping"]
        ]
        return list(encoded["input_ids"]), mask

    def _as_text(self, content: str | Sequence[dict[str, Any]]) -> str:
        if isinstance(content, str):
            return content.replace(self.image_token, self.expand_image())
        parts = (self.expand_image() if p["type"] == "image" else p["text"] for p in content)
        return "".join(parts)

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **_: Any) -> str:
        """Return the expansion of one `<image>` (called by the inherited `__call__`)."""
        num_views = len(image_inputs["pixel_values"][image_idx]) - bool(self.global_image_tokens)
        # A call may ask for another ring than the processor's own.
        return self.expand_image(None if num_views == self.layout.num_views else num_views)

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[Sequence[int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Count the image tokens of pictures of any size (called by vLLM before it runs)."""
        if image_sizes is None:
            return MultiModalData()
        num_views = kwargs.get("num_views", self.layout.num_views)
        groups = 1 if self.merges_views else num_views
        tokens = self.image_tokens_per_view * groups + self.global_image_tokens
        num_pictures = len(image_sizes)
        return MultiModalData(
            num_image_tokens=[tokens] * num_pictures, num_image_patches=[1] * num_pictures
        )


def view_words(layout: ViewLayout) -> list[str]:
    """Name the views of a layout: by direction where each has its own word, else by degrees.

    Views above and below the horizon are those "up" and "down", in degrees where two of them would
    have one name.
    """
    views = layout.perspective.views if layout.perspective else ()
    plain = all(view.yaw_deg % 45 == 0 for view in views if abs(view.pitch_deg) < 90)
    names = [_view_name(view, in_words=plain, degrees_up=False) for view in views]
    if len({*names}) < len(names):
        names = [_view_name(view, in_words=plain, degrees_up=True) for view in views]
    if len({*names}) < len(names):  # some differ in what no direction says
        names = [f"view {place}" for place in range(1, len(names) + 1)]
    return names


def _view_name(view: AnyView, *, in_words: bool, degrees_up: bool) -> str:
    yaw_deg = view.yaw_deg % 360
    around = DIRECTIONS[direction_index(yaw_deg)] if in_words else f"{yaw_deg:.0f} degrees"
    if not view.pitch_deg:
        return around
    upwards = "up" if view.pitch_deg > 0 else "down"
    if abs(view.pitch_deg) == 90:
        return upwards
    return f"{around} {abs(view.pitch_deg):.0f} {upwards}" if degrees_up else f"{around} {upwards}"
