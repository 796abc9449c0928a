"""Asks a model about panoramas: each is read once, for any number of questions."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from torch import Tensor

from panovlm.errors import PanoVLMError
from panovlm.geometry.caps import Caps, caps_over_views
from panovlm.inference.answers import GREEDY, Answer, SamplingParams, end_tokens
from panovlm.inference.batches import Row, generate, keeps_states, pieces
from panovlm.inference.grammars import Grammars
from panovlm.inference.likelihood import Likelihood
from panovlm.inference.loading import load_model
from panovlm.inference.occlusion import Occlusion, log_probabilities_under
from panovlm.inference.prefixes import Key, Prefix, PrefixStore, read_pieces, read_views
from panovlm.inference.prompts import (
    Conversation,
    Prompt,
    about_panorama,
    plain_ids,
    texts_of,
    write_prompt,
)
from panovlm.inference.views_mattered import ViewsMattered, neighbours, views_mattered
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.declaring import Declaration, declare, declared_key
from panovlm.runtime.arithmetic import Dtype
from panovlm.runtime.cached_folders import sha256


@dataclass(frozen=True)
class OpenedPanorama:
    """A panorama to ask about.

    Attributes:
        key: Of its file and of what is declared of it.
        views: Its normalised views [1, V, 3, H, W].
    """

    key: str
    views: Tensor = field(repr=False)


_SLICE = 20_000
"""Characters of a long text that are tokenised at once while it may be too long."""
Panoramas = OpenedPanorama | Sequence[OpenedPanorama]


@dataclass(frozen=True)
class Question:
    """A conversation to answer, with the panoramas in it, in their order."""

    conversation: Conversation
    panoramas: Sequence[OpenedPanorama] = ()
    sampling: SamplingParams = GREEDY

    @classmethod
    def about(
        cls, panoramas: Panoramas, question: str, sampling: SamplingParams = GREEDY
    ) -> "Question":
        """Make a question about a panorama or several."""
        several = [panoramas] if isinstance(panoramas, OpenedPanorama) else panoramas
        return cls(about_panorama(question, len(several)), several, sampling)


class Assistant:
    """A loaded model, and the prefixes of the last panoramas. For one thread.

        assistant = Assistant.load(Path("runs/demo"))
        panorama = assistant.open(Path("panorama.jpg"))
        assistant.ask(panorama, "What is behind me?")
        assistant.ask(panorama, "And to the left?")  # the panorama is not read again
        assistant.ask([panorama, another], "What differs?")  # only the other is read

    Args:
        model: In eval mode.
        processor: The model's.
        prefixes: Store of the panoramas' prefixes.

    Raises:
        PanoVLMError: If the language model has recurrent layers.
    """

    def __init__(
        self,
        model: PanoVLMForConditionalGeneration,
        processor: PanoVLMProcessor,
        prefixes: PrefixStore | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self.prefixes = PrefixStore() if prefixes is None else prefixes
        self._image_processor = copy.copy(processor.image_processor)
        self._image_processor.strict_aspect = True
        self._tokenizing = Lock()
        text_config = model.config.text_config
        if not keeps_states(model):
            raise PanoVLMError(
                f"found recurrent layers in the language model ({text_config.model_type}), "
                "expected attention alone, whose state can be cut back; use model.generate"
            )
        self.max_length: int | None = getattr(text_config, "max_position_embeddings", None)
        self._end_ids = end_tokens(model)
        self.grammars = Grammars(processor.tokenizer, text_config.vocab_size, self._end_ids)

    @classmethod
    def load(
        cls, path: Path | str, prefixes: PrefixStore | None = None, dtype: Dtype = "auto"
    ) -> "Assistant":
        """Load a model from its folder, a run or a pretrained name, as `load_model` does."""
        return cls(*load_model(path, dtype), prefixes)

    def open(self, panorama: Path, declared: Declaration | None = None) -> OpenedPanorama:
        """Read a panorama's file and cut its views. Any thread may call this.

        Args:
            panorama: The file.
            declared: What it is, where it does not say so itself.

        Raises:
            PanoVLMError: If the file is not a valid panorama.
        """
        processed = self._image_processor(images=[declare(panorama, declared)], return_tensors="pt")
        key = declared_key(sha256(panorama), declared)
        return OpenedPanorama(key, processed["pixel_values"])

    def ask(self, panoramas: Panoramas, question: str, sampling: SamplingParams = GREEDY) -> str:
        """Answer one question about a panorama or several."""
        return self.answer([Question.about(panoramas, question, sampling)])[0].text

    def stream(
        self, panoramas: Panoramas, question: str, sampling: SamplingParams = GREEDY
    ) -> Iterator[str]:
        """Answer one question piece by piece; together they are `ask`'s answer."""
        return self.stream_conversation(Question.about(panoramas, question, sampling))

    def stream_conversation(self, question: Question) -> Iterator[str]:
        """Answer the last message of a conversation piece by piece."""
        return pieces(self.model, [self.row(question)])

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions in one batch, each as if alone."""
        rows = [self.row(question) for question in questions]
        generate(self.model, rows)
        return [row.answer for row in rows]

    def views_mattered(self, question: Question, answer: str, batch_size: int = 8) -> ViewsMattered:
        """Compute how much each view, and each two neighbours, mattered to an answer (any text).

        Raises:
            PanoVLMError: If there is not one panorama, or no text, or they are too long together.
        """
        study = self.view_study(question, *self.scored(question, answer), batch_size)
        (found,) = filter(None, study)
        return found

    def view_study(
        self, question: Question, prompt: Prompt, answer: Sequence[int], batch_size: int
    ) -> Iterator[ViewsMattered | None]:
        """Compute `views_mattered` of what `scored` prepared; None after each batch before it."""
        likelihood = self._likelihood(question, prompt, answer)
        pairs = neighbours(self.processor.image_processor.layout)
        return views_mattered(likelihood, question.panoramas[0].views, batch_size, pairs)

    def occlusion(
        self,
        question: Question,
        answer: str | None = None,
        caps: Caps | None = None,
        batch_size: int = 8,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Occlusion:
        """Compute which places on the sphere an answer to a question rests on.

        Args:
            question: About a panorama.
            answer: Any text; the model's own if left out.
            caps: What to cover, one cap at a time; `caps_over_views` of the model's if left out.
            batch_size: Covered panoramas that are read at the same time.
            progress: Called with the number of caps done since the last call.

        Raises:
            PanoVLMError: If there is not one panorama, or no text, or they are too long together.
        """
        layout = self.model.config.layout
        caps = caps_over_views(layout) if caps is None else caps
        answer = self.answer([question])[0].text if answer is None else answer
        likelihood = self._likelihood(question, *self.scored(question, answer))
        views = question.panoramas[0].views
        whole, under = log_probabilities_under(caps, likelihood, views, batch_size, progress)
        return Occlusion(answer, whole, caps, whole - under, layout)

    def scored(self, question: Question, answer: str) -> tuple[Prompt, list[int]]:
        """Tokenise a question and its answer, without an end, to score it. For any thread."""
        self._check_characters([answer])
        with self._tokenizing:
            ids = plain_ids(self.processor.tokenizer, answer)
        if len(question.panoramas) != 1 or not answer.strip():
            raise PanoVLMError(
                f"found {len(question.panoramas)} panoramas and an answer of {len(ids)} tokens, "
                "expected one panorama and some text; ask about one at a time"
            )
        sampling = SamplingParams(max_tokens=len(ids))
        return self.prompt(replace(question, sampling=sampling)), ids

    def _likelihood(self, question: Question, prompt: Prompt, answer: Sequence[int]) -> Likelihood:
        return Likelihood(self.model, prompt, self._prefix(prompt, question.panoramas), answer)

    def prompt(self, question: Question) -> Prompt:
        """Tokenise a question. Any thread may call this.

        Raises:
            PanoVLMError: If it and its answer are longer than the language model reads, or
                there are other panoramas than places for them.
        """
        self._check_characters(texts_of(question.conversation))
        with self._tokenizing:  # it switches special tokens off and on
            prompt = write_prompt(self.processor, question.conversation)
        if len(prompt.ends) != len(question.panoramas):
            raise PanoVLMError(
                f"found {len(question.panoramas)} panorama(s) and {len(prompt.ends)} place(s) for "
                "them in the conversation, expected as many; add or remove places"
            )
        length = len(prompt.ids) + question.sampling.max_tokens
        if self.max_length is not None and length > self.max_length:
            raise PanoVLMError(
                f"found {len(prompt.ids)} tokens and up to {question.sampling.max_tokens} of "
                f"answer, expected at most {self.max_length} together; shorten the text, leave out "
                "pictures or lower max_tokens"
            )
        return prompt

    def _check_characters(self, texts: Sequence[str]) -> None:
        """Refuse long texts without tokenising more of them than the language model reads."""
        if self.max_length is None or sum(map(len, texts)) <= _SLICE:
            return
        num_tokens = 0
        for text in texts:
            for start in range(0, len(text), _SLICE):
                with self._tokenizing:
                    ids = plain_ids(self.processor.tokenizer, text[start : start + _SLICE])
                num_tokens += len(ids) - 1  # a token may lie over the cut
                if num_tokens > self.max_length:
                    raise PanoVLMError(
                        f"found {sum(map(len, texts))} characters of text, over {self.max_length} "
                        f"tokens, expected at most {self.max_length} tokens; shorten the text"
                    )

    def row(self, question: Question, prompt: Prompt | None = None) -> Row:
        """Prepare a question, and maybe its prompt, for a batch: its prefix is read, or held."""
        prompt = prompt or self.prompt(question)
        schema = question.sampling.json_schema
        constraint = None if schema is None else self.grammars.constraint(schema)
        answer = Answer(
            self.processor.tokenizer, self._end_ids, question.sampling, constraint, prompt.ids
        )
        prefix = self._prefix(prompt, question.panoramas) if question.panoramas else None
        return Row(prompt, prefix, answer)

    def _prefix(self, prompt: Prompt, panoramas: Sequence[OpenedPanorama]) -> Prefix:
        def read(key: Key, before: Prefix | None) -> Prefix:
            panorama, ids = key[-1]
            image_tokens = self.prefixes.image_tokens(panorama)
            if image_tokens is None:
                image_tokens = read_views(self.model, panoramas[len(key) - 1].views)
            return read_pieces(self.model, [ids], image_tokens, before)[0]

        names = [panorama.key for panorama in panoramas]
        return self.prefixes.get(tuple(zip(names, prompt.pieces, strict=True)), read)


class Chat:
    """A conversation about panoramas; each question is asked with all messages before it."""

    def __init__(
        self, assistant: Assistant, panoramas: Sequence[OpenedPanorama], sampling: SamplingParams
    ) -> None:
        self._assistant, self._panoramas, self._sampling = assistant, panoramas, sampling
        self._messages: list[Mapping[str, Any]] = []

    def ask(self, question: str) -> Iterator[str]:
        """Answer the next question piece by piece; one that fails or is too long is forgotten."""
        asked = about_panorama(question, 0 if self._messages else len(self._panoramas))
        conversation = [*self._messages, *asked]
        answer = ""
        whole = Question(conversation, self._panoramas, self._sampling)
        for piece in self._assistant.stream_conversation(whole):
            answer += piece
            yield piece
        self._messages = [*conversation, {"role": "assistant", "content": answer}]
