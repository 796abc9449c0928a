"""Models of others: behind an endpoint that speaks OpenAI's protocol, or of `transformers`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Pixels
from panovlm.inference.loading import is_ours
from panovlm.pictures.messages import image_part
from panovlm.runtime.cached_folders import digests_of
from panovlm.runtime.endpoints import Endpoint, Reply

OPENAI, TRANSFORMERS = "openai:", "transformers:"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

Messages = Sequence[Mapping[str, Any]]


class Price(NamedTuple):
    """What tokens cost: US dollars for a million of them, read and written."""

    read: float
    written: float

    @classmethod
    def of(cls, text: str) -> "Price":
        """Read a price, as `2.5,10`.

        Raises:
            PanoVLMError: If it is none.
        """
        try:
            read, written = map(float, text.split(","))
        except ValueError as error:
            raise PanoVLMError(
                f"found --price {text}, expected dollars for a million tokens read and written, "
                "as in 2.5,10"
            ) from error
        return cls(read, written)

    def total(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return dollars for some tokens read and written."""
        return (self.read * prompt_tokens + self.written * completion_tokens) / 1e6


class Guest(Protocol):
    """A model that answers conversations with pictures."""

    @property
    def name(self) -> str:
        """As one names it to the command."""

    @property
    def at_once(self) -> int:
        """Questions that it may be asked at a time."""

    @property
    def price(self) -> Price | None:
        """What its tokens cost, where that is known."""

    def picture(self, pixels: Pixels) -> dict[str, Any]:
        """Return a picture, uint8 RGB [H, W, 3], as a part of a message."""

    def answer(self, messages: Messages, max_tokens: int) -> Reply:
        """Answer a conversation; an EndpointError if the model cannot be asked or refuses."""


@dataclass(frozen=True)
class _Asked(Endpoint):
    """An endpoint whose model is evaluated."""

    option: ClassVar[str] = "MODEL"


@dataclass(frozen=True)
class EndpointGuest:
    """A model behind an endpoint.

    Attributes:
        endpoint: Where, which model, and how patiently.
        at_once: Requests at a time.
        price: Of its tokens, where it is known.
    """

    endpoint: Endpoint
    at_once: int
    price: Price | None = None

    @property
    def name(self) -> str:
        """As one names it to the command."""
        return f"{OPENAI}{self.endpoint.url}#{self.endpoint.model}"

    def picture(self, pixels: Pixels) -> dict[str, Any]:
        """Return a picture as a part of a message."""
        return image_part(pixels)

    def answer(self, messages: Messages, max_tokens: int) -> Reply:
        """Ask, again where a failure may pass."""
        return self.endpoint.patiently(lambda: self.endpoint.reply(messages, max_tokens))


@dataclass(frozen=True)
class TransformersGuest:
    """An image-text-to-text model of `transformers`, run here without code of its own.

    Attributes:
        model: Its id on the hub, or its folder.
    """

    model: str
    at_once: ClassVar[int] = 1
    price: ClassVar[Price | None] = None

    @property
    def name(self) -> str:
        """As one names it to the command."""
        return f"{TRANSFORMERS}{self.model}"

    def picture(self, pixels: Pixels) -> dict[str, Any]:
        """Return a picture as a part of a message."""
        return {"type": "image", "image": Image.fromarray(pixels)}

    def answer(self, messages: Messages, max_tokens: int) -> Reply:
        """Generate greedily; a PanoVLMError if there is no model or it cannot."""
        processor, model = self._loaded
        try:
            return _generated(processor, model, messages, max_tokens)
        except Exception as error:  # each family has its own code and its own errors
            raise PanoVLMError(
                f"found no answer of {self.model}, because {_in_a_line(error)}; show it one "
                "picture (--show equirectangular), or serve it and name openai:URL#NAME"
            ) from error

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The processor and the model; a PanoVLMError if there are none."""
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        options: dict[str, Any] = {"trust_remote_code": False}
        try:
            processor = AutoProcessor.from_pretrained(self.model, **options)
            model = AutoModelForImageTextToText.from_pretrained(
                self.model, dtype="auto", use_safetensors=True, **options
            )
        except (OSError, ValueError, ImportError) as error:
            raise PanoVLMError(
                f"cannot load {self.model}, because {_in_a_line(error)}; install what it needs, "
                "or name the id or folder of an image-text-to-text model of transformers"
            ) from error
        if not getattr(processor, "chat_template", None):
            raise PanoVLMError(
                f"found no chat template in {self.model}, expected a model that holds "
                "conversations; name its instruction-tuned version"
            )
        return processor, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _generated(processor: Any, model: Any, messages: Messages, max_tokens: int) -> Reply:
    inputs = processor.apply_chat_template(
        [*messages],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device, model.dtype)
    output = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
    length = inputs["input_ids"].shape[1]
    (text,) = processor.batch_decode(output[:, length:], skip_special_tokens=True)
    return Reply(text, length, output.shape[1] - length)


def _in_a_line(error: Exception) -> str:
    """Return the first line that an error says anything in; its name where there is none."""
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def guest_of(
    model: str | Path, key: str | None = None, at_once: int = 16, price: str | None = None
) -> Guest | None:
    """Return a model of others by its name; None for a folder of ours.

    Args:
        model: `openai:URL#NAME`, `transformers:MODEL`, a folder, or an id on the hub.
        key: Of an endpoint.
        at_once: Requests at a time to an endpoint.
        price: Of an endpoint's tokens, as `Price.of` reads it.

    Raises:
        PanoVLMError: If the name is no such one, or the price none.
    """
    name = str(model)
    if name.startswith(OPENAI):
        url, _, served = name.removeprefix(OPENAI).partition("#")
        if not served:
            raise PanoVLMError(
                f"found the model {name}, expected openai:URL#NAME, as in "
                "openai:http://localhost:8000/v1#qwen"
            )
        endpoint = _Asked(url, served, key, timeout_s=300.0, tries=5)
        return EndpointGuest(endpoint, at_once, Price.of(price) if price else None)
    if name.startswith(TRANSFORMERS):
        return TransformersGuest(name.removeprefix(TRANSFORMERS))
    is_folder = (Path(name) / "config.json").is_file() and not is_ours(Path(name))
    # Of a folder that is there, "runs/dem" is a slip of the pen and no id to ask the hub for.
    is_id = _HUB_ID.fullmatch(name) is not None and not Path(name).parent.exists()
    return TransformersGuest(name) if is_folder or is_id else None


def weights_of(guest: Guest) -> dict[str, str]:
    """Return the digests of the files of a guest that is a folder; of others nothing is known."""
    folder = Path(guest.name.removeprefix(TRANSFORMERS))
    return digests_of(folder) if folder.is_dir() else {}
