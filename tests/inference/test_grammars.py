"""Constrained answers are JSON of their schema with every kind of tokenizer, or clear errors."""

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import Answer, SamplingParams
from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.batches import generate
from panovlm.inference.grammars import MAX_CHARACTERS, MAX_DEPTH, Grammars
from panovlm.runtime.cached_folders import cache_folder
from panovlm.scenes.scene_language_model import scene_tokenizer

pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema_rs")

NUM_SCHEMAS = 200
PIECES = ["▁", *map(chr, range(33, 127)), '{"', '":', '",', "▁the", "true", "▁blue", "é", "12"]


def smollm2() -> Any:
    folder = cache_folder() / "smollm2-135m-instruct"
    if not folder.is_dir():
        pytest.skip("SmolLM2 is not in the cache")
    return AutoTokenizer.from_pretrained(folder)


def sentence_pieces(normalizer: Any, pre_tokenizer: Any = None) -> PreTrainedTokenizerFast:
    """As Llama 2, Mistral, Phi 3 and Gemma have: pieces with a mark for spaces, and bytes."""
    tokens = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
    merges = [("{", '"'), ('"', ":"), ('"', ","), ("1", "2")]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    inner = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    inner.normalizer = normalizer
    if pre_tokenizer:
        inner.pre_tokenizer = pre_tokenizer
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>")


SPACES = normalizers.Replace(" ", "▁")
TOKENIZERS: dict[str, Callable[[], Any]] = {
    "the demo's": scene_tokenizer,
    "smollm2": smollm2,
    "llama": lambda: sentence_pieces(normalizers.Sequence([normalizers.Prepend("▁"), SPACES])),
    "metaspace": lambda: sentence_pieces(
        None, pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    ),
    "gemma": lambda: sentence_pieces(SPACES),
}


@cache
def grammars_of(kind: str) -> tuple[Any, Grammars]:
    tokenizer = TOKENIZERS[kind]()
    # Scores are often wider than the tokenizer.
    return tokenizer, Grammars(tokenizer, len(tokenizer) + 5, [tokenizer.eos_token_id])


def random_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A schema whose texts all end."""
    simple: list[dict[str, Any]] = [
        {"type": "boolean"},
        {"type": "null"},
        {"const": rng.choice([1, "é", None, [True], {"a": "b c"}])},
        {"enum": rng.sample(["front", "back left", "", "ß", 1, -2.5, None, '"', "\n"], 3)},
        {"type": "string", "maxLength": rng.randrange(1, 9)},
        {"type": "string", "pattern": "^[a-z]{2,5}( [A-Z]{1,3})?$"},
        {"type": "integer", "minimum": -180, "maximum": rng.randrange(200)},
    ]
    if depth == 3 or rng.random() < 0.3:
        return rng.choice(simple)
    inner = [random_schema(rng, depth + 1) for _ in range(rng.randrange(1, 4))]
    names = rng.sample(["yaw", "what is it", "größe", "_", "a-b", "x1"], len(inner))
    properties = dict(zip(names, inner, strict=True))
    return rng.choice(
        [
            {
                "type": "object",
                "properties": properties,
                "required": names[: rng.randrange(len(names) + 1)],
                "additionalProperties": False,
            },
            {"type": "array", "items": inner[0], "maxItems": rng.randrange(1, 4)},
            {"anyOf": inner},
        ]
    )


def random_answer(kind: str, schema: Any, rng: torch.Generator, max_tokens: int = 5000) -> Answer:
    """The answer of a model whose scores are noise."""
    tokenizer, grammars = grammars_of(kind)
    sampling = SamplingParams(max_tokens=max_tokens)
    constraint = grammars.constraint(json.dumps(schema))
    answer = Answer(tokenizer, [tokenizer.eos_token_id], sampling, constraint)
    while not answer.finish_reason:
        answer.add(answer.choose(torch.randn(len(tokenizer) + 5, generator=rng)))
    return answer


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_answers_are_json_of_two_hundred_schemas(kind: str) -> None:
    rng, noise = random.Random(0), torch.Generator().manual_seed(0)
    for _ in range(NUM_SCHEMAS):
        schema = random_schema(rng)
        answer = random_answer(kind, schema, noise)
        assert answer.finish_reason == "stop"
        jsonschema.validate(schema, json.loads(answer.text))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_any_object_begins_as_one_and_is_whole_or_cut_off(kind: str) -> None:
    noise = torch.Generator().manual_seed(0)
    answer = random_answer(kind, {"type": "object"}, noise, max_tokens=30)
    assert answer.text.startswith("{")
    assert answer.finish_reason == "stop" or answer.num_tokens == 30


def nested(levels: int) -> dict[str, Any]:
    return {"type": "array", "items": nested(levels - 1)} if levels else {"type": "null"}


MANY = [{"type": "object", "properties": {f"k{i}": {"type": "null"}}} for i in range(900)]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"if": {}, "contains": {}}, '"contains", "if"'),
        ({"type": "no such"}, "invalid"),
        ({"type": "string", "pattern": "(a"}, "invalid"),
        ({"$ref": "http://127.0.0.1/x"}, "invalid"),
        ({"anyOf": MANY}, "too large"),
        ({"description": "x" * MAX_CHARACTERS}, f"at most {MAX_CHARACTERS}"),
        (nested(MAX_DEPTH), f"{MAX_DEPTH + 1} levels, expected at most"),
        (False, "no object"),
    ],
)
def test_schemas_are_refused_before_their_answer(schema: Any, words: str) -> None:
    _, grammars = grammars_of("the demo's")
    with pytest.raises(PanoVLMError) as refused:
        grammars.constraint(json.dumps(schema))
    assert words in str(refused.value)


def test_a_tokenizer_without_bytes_is_refused() -> None:
    tokenizer = scene_tokenizer()
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    inner.decoder = decoders.WordPiece()
    plain = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>")
    with pytest.raises(PanoVLMError, match="tokens have no bytes"):
        Grammars(plain, len(plain), [plain.eos_token_id]).constraint('{"type": "null"}')


class Failing:
    """A grammar that fails behind its first token, and calls that its end, as llguidance does."""

    is_failed = False

    def is_stopped(self) -> bool:
        return self.is_failed

    def is_error(self) -> bool:
        return self.is_failed

    def get_error(self) -> str:
        return "Current row has 4500 items; max is 2000"

    def compute_logit_bias(self) -> bytes:
        return b"\xc8" * 300

    def consume_token(self, token: int) -> bool:
        self.is_failed = True
        return False

    def deep_copy(self) -> "Failing":
        return Failing()


def test_a_grammar_that_fails_is_an_error_of_its_answer_alone(
    assistant: Assistant, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    panorama = assistant.open(pictures[0])
    free = Question.about(panorama, "What is behind me?", SamplingParams(max_tokens=9))
    alone = assistant.answer([free])[0].text
    monkeypatch.setattr(assistant.grammars, "_matcher", lambda schema: Failing())
    sampling = SamplingParams(max_tokens=9, json_schema="{}")
    failing = Question.about(panorama, "What is behind me?", sampling)
    rows = [assistant.row(question) for question in (failing, free)]
    with pytest.raises(PanoVLMError, match="too large"):
        generate(assistant.model, rows)
    assert rows[0].answer.finish_reason is None
    assert (rows[1].error, rows[1].answer.text) == (None, alone)
    with pytest.raises(PanoVLMError, match="too large"):
        list(assistant.stream_conversation(failing))
