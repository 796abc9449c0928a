"""Datasets: reproducible sampling, yaw-rotated panoramas with their responses, and labels."""

import dataclasses
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from panovlm.data.augmentation import ClassSwap
from panovlm.data.cache import ViewSource
from panovlm.data.conversations import ConversationTokenizer, RecordSampler
from panovlm.data.datasets import PanoramaCollator, PanoramaDataset, ViewsAsWords
from panovlm.data.mixture import MixturePart
from panovlm.data.packing import IGNORED, TokenSequence
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs, Record
from panovlm.errors import PanoVLMError
from panovlm.stages import Supervision

NUM_VIEWS = 4


class Wrapped:
    """A tokenizer of conversations whose result is changed."""

    def __init__(self, tokenizer, call):
        self.processor, self.supervision = tokenizer.processor, tokenizer.supervision
        self.call = call

    def __call__(self, record):
        return self.call(record)


class NumberedViews(ViewSource):
    """Views that hold their own number, instead of pictures."""

    key = "patch_tokens"

    offset = 0.0

    def load(self, picture: Path) -> torch.Tensor:
        return torch.arange(NUM_VIEWS).float().reshape(NUM_VIEWS, 1, 1) + self.offset


@pytest.fixture
def dataset(processor):
    def build(
        records,
        supervision=Supervision.RESPONSES,
        per_panorama=2,
        roll=True,
        seed=0,
        fine_steps=1,
        longest=None,
        class_swap=None,
        views_as_words=None,
    ):
        sources = [NumberedViews(processor.image_processor) for _ in range(fine_steps)]
        for step, source in enumerate(sources):
            source.offset = step / fine_steps
        tokenizer = ConversationTokenizer(processor, supervision, longest)
        sampler = RecordSampler(tokenizer, per_panorama, roll, fine_steps)
        parts = [MixturePart(records)]
        return PanoramaDataset(
            parts,
            sources,
            sampler,
            seed=seed,
            class_swap=class_swap,
            views_as_words=views_as_words,
        )

    return build


@pytest.mark.parametrize("text", ["What?", "Where is the small red cube? " * 20])
def test_pictures_count_in_the_estimated_length(dataset, text):
    """Texts alone would else share batches with pictures, and be padded to their length."""
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "left"}]
    pictures = ({}, {"image": "a.jpg"}, {"images": ["a.jpg", "b.jpg"]})
    records = [Record(messages=messages, **each) for each in pictures]
    examples = dataset(records, roll=False)
    estimated = [examples.estimated_tokens(index, 0) for index in range(3)]
    tokens = [examples.num_tokens(index, 0) for index in range(3)]
    picture = examples.sampler.tokenizer.picture_tokens
    assert [b - a for a, b in pairwise(estimated)] == [picture, picture]
    assert all(0 < b - a <= picture for a, b in pairwise(tokens))


class ClassViews(NumberedViews):
    """Views of which each shows a class of its own, for sure."""

    def load(self, picture: Path) -> torch.Tensor:
        return torch.eye(NUM_VIEWS)[:, None]


def record(question, responses=None, image="a.png"):
    rotated = None if responses is None else tuple(responses)
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "none" if rotated is None else rotated[0]},
    ]
    return Record.model_validate(
        {"image": image, "messages": messages, "rolled_responses": rotated}
    )


def supervised(example, processor):
    """The supervised text of an example, message by message."""
    packed = example["conversations"]
    ids = [label for label in packed.labels if label != IGNORED]
    return processor.tokenizer.decode(ids).split("<|im_end|>")[:-1]


@pytest.fixture
def scene_records(scenes_file):
    return read_records(scenes_file, Needs(text=True, image=True))


def test_records_of_one_picture_make_one_example(dataset, scene_records):
    examples = dataset(scene_records)
    assert len(examples) == 3
    assert len(scene_records) == 12


def test_sampling_depends_on_seed_epoch_and_index_alone(dataset, scene_records):
    def sampled(seed, epoch, index):
        examples = dataset(scene_records, seed=seed)
        example = examples.example(index, epoch)
        return example["views"][0].flatten().tolist(), example["conversations"].ids

    assert sampled(3, 1, 2) == sampled(3, 1, 2)
    for other in (lambda i: (i, 0, 0), lambda i: (0, i, 0), lambda i: (0, 0, i % 3)):
        assert len({str(sampled(*other(i))) for i in range(8)}) > 1


def test_the_sampling_of_an_example_does_not_depend_on_those_before(dataset, scene_records):
    in_order = [dataset(scene_records).example(i)["conversations"].ids for i in range(3)]
    backwards = dataset(scene_records)
    assert [backwards.example(i)["conversations"].ids for i in (2, 1, 0)] == in_order[::-1]


def test_views_and_responses_rotate_together(dataset, processor):
    """After j strides to the right, view i is the old view i + j and the j-th response is right."""
    examples = dataset([record("Where?", ["zero", "one", "two", "three"])])
    strides = Counter()
    for epoch in range(40):
        example = examples.example(0, epoch)
        first, *rest = example["views"][0].flatten().int().tolist()
        assert rest == [(first + i) % NUM_VIEWS for i in (1, 2, 3)]
        assert supervised(example, processor) == [["zero", "one", "two", "three"][first]]
        strides[first] += 1
    assert set(strides) == {0, 1, 2, 3}


def test_responses_may_be_finer_than_the_views(dataset, processor):
    examples = dataset([record("Where?", [str(step) for step in range(8)])])
    for epoch in range(20):
        example = examples.example(0, epoch)
        assert supervised(example, processor) == [str(2 * int(example["views"][0].flatten()[0]))]


@pytest.mark.parametrize("responses", [None, ["a", "b", "c", "d", "e", "f"], ["a", "b"]])
def test_panoramas_whose_rotated_responses_are_not_known_stay(dataset, processor, responses):
    """Six responses to four views do not cover a quarter circle."""
    records = [record("Where?", responses), record("What?", ["0", "1", "2", "3"])]
    examples = dataset(records)
    for epoch in range(20):
        example = examples.example(0, epoch)
        assert example["views"][0].flatten().tolist() == [0, 1, 2, 3]
        assert sorted(supervised(example, processor)) == sorted(r.response for r in records)


SYSTEMS = [[{"role": "system", "content": text}] for text in ("Be brief.", "Be precise.")]
QUESTIONS = {
    "the mark first and last": ["<image>\nWhat?", "Where?\n<image>", "Who?\n<image>"],
    "white space behind the mark": ["<image>What?", "<image>\nWhere?", "<image>\n\nWho?"],
    "text before the mark": ["See <image> and say what", "Look: <image>", "<image>"],
}
CONVERSATIONS = {
    name: [[{"role": "user", "content": text}] for text in texts]
    for name, texts in QUESTIONS.items()
} | {
    "system prompts": [
        [*system, {"role": "user", "content": f"<image>{text}"}]
        for system in (*SYSTEMS, [])
        for text in ("What?", "Where?")
    ],
    "the picture in the second question": [
        [
            {"role": "user", "content": text},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "<image>Sure?"},
        ]
        for text in ("What?", "Where?")
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_records_that_differ_before_the_picture_take_turns(dataset, processor, generator, name):
    """Each sequence holds the tokens of one picture, and every record is trained on in its turn."""
    records = [
        Record.model_validate(
            {
                "image": "a.png",
                "messages": [*messages, {"role": "assistant", "content": f"answer {number}"}],
            }
        )
        for number, messages in enumerate(CONVERSATIONS[name])
    ]
    examples, seen = dataset(records, per_panorama=8), set()
    image_tokens = generator.config.num_image_tokens
    examples.check_packing()
    for epoch in range(60):
        example = examples.example(0, epoch)
        assert example["conversations"].ids.count(processor.image_token_id) == image_tokens
        answers = supervised(example, processor)
        seen.update(answers)
        assert len({records[int(a[-1])].beginning for a in answers if a != "yes"}) == 1
    assert seen - {"yes"} == {f"answer {number}" for number in range(len(records))}


def test_tokenizers_that_join_the_picture_with_the_text_are_refused(dataset, processor):
    examples = dataset([record("What?"), record("Where?")])
    tokenizer = examples.sampler.tokenizer
    plain = tokenizer.__call__

    def joined(each):
        """The first token behind the picture depends on the question."""
        sequence = plain(each)
        last = max(i for i, t in enumerate(sequence.ids) if t == processor.image_token_id)
        first = len(each.messages[0].content)
        return TokenSequence(
            [*sequence.ids[: last + 1], first, *sequence.ids[last + 2 :]], sequence.labels
        )

    examples.sampler = dataclasses.replace(examples.sampler, tokenizer=Wrapped(tokenizer, joined))
    with pytest.raises(PanoVLMError, match=r"a\.png: found conversations.*questions_per_panorama"):
        examples.check_packing()


def test_rotation_can_be_switched_off(dataset):
    examples = dataset([record("Where?", ["0", "1", "2", "3"])], roll=False)
    for epoch in range(10):
        assert examples.example(0, epoch)["views"][0].flatten().tolist() == [0, 1, 2, 3]


def test_without_text_every_panorama_rotates(dataset):
    examples = dataset([Record(image=Path("a.png"))], Supervision.NONE)
    starts = set()
    for epoch in range(20):
        assert examples.example(0, epoch)["conversations"] is None
        starts.add(int(examples.example(0, epoch)["views"][0].flatten()[0]))
    assert starts == {0, 1, 2, 3}


def test_so_many_conversations_are_sampled_for_a_panorama(dataset, processor):
    records = [record(f"Question {number}?") for number in range(5)]
    assert len(supervised(dataset(records, per_panorama=3).example(0), processor)) == 3
    assert len(supervised(dataset(records, per_panorama=9).example(0), processor)) == 5


def test_responses_alone_carry_the_loss_of_finetuning(processor):
    tokens = ConversationTokenizer(processor, Supervision.RESPONSES)(record("Where?", ["left"]))
    labels = [label for label in tokens.labels if label != IGNORED]
    assert processor.tokenizer.decode(labels) == "left<|im_end|>"


def test_all_text_after_the_picture_carries_the_loss_of_alignment(processor):
    tokens = ConversationTokenizer(processor, Supervision.ALL_TEXT)(record("Where?", ["left"]))
    assert tokens.ids.count(processor.image_token_id) == 32
    last = max(i for i, token in enumerate(tokens.ids) if token == processor.image_token_id)
    assert tokens.labels[: last + 1] == [IGNORED] * (last + 1)
    assert tokens.labels[last + 1 :] == tokens.ids[last + 1 :]
    text = processor.tokenizer.decode(tokens.labels[last + 1 :])
    assert text == "\nWhere?<|im_end|>\n<|im_start|>assistant\nleft<|im_end|>\n"


def test_conversations_that_do_not_fit_are_listed(dataset, scene_records):
    dataset(scene_records, longest=1024).check_lengths()
    with pytest.raises(
        PanoVLMError, match="lower token_rows, token_columns or num_views"
    ) as caught:
        dataset(scene_records, longest=20).check_lengths()
    assert "12 error(s)" in str(caught.value)
    assert str(caught.value).count("tokens too many for 20") == 12


def test_a_batch_holds_what_the_models_take(dataset, scene_records, processor, generator):
    examples = dataset(scene_records)
    batch = PanoramaCollator("patch_tokens", pad_id=0)([examples.example(i) for i in range(3)])
    assert batch["patch_tokens"].shape == (3, NUM_VIEWS, 1, 1)
    length = batch["input_ids"].shape[1]
    assert batch["attention_mask"].shape == (3, 1, length, length)
    del batch["patch_tokens"]
    patch_tokens = torch.randn(3, NUM_VIEWS, 16, 32)
    assert generator(**batch, patch_tokens=patch_tokens).loss.isfinite()


def test_a_batch_without_text_is_views_alone(dataset):
    examples = dataset([Record(image=Path("a.png"))], Supervision.NONE)
    batch = PanoramaCollator("pixel_values", pad_id=0)([examples.example(0)] * 2)
    assert {key: value.shape for key, value in batch.items()} == {"pixel_values": (2, 4, 1, 1)}


def test_texts_without_a_picture_mix_with_panoramas_in_a_batch(dataset, scene_records, generator):
    text = record("Who are you?").model_copy(update={"image": None})
    examples = dataset([text, *scene_records, text])
    assert len(examples) == 5
    collator = PanoramaCollator("patch_tokens", pad_id=0)
    batch = collator([examples.example(i) for i in range(5)])
    assert batch["patch_tokens"].shape[0] == 3
    assert batch["input_ids"].shape[0] == 5
    assert (batch["input_ids"][[0, 4]] != generator.config.image_token_id).all()
    alone = collator([examples.example(i) for i in (0, 4)])
    assert "patch_tokens" not in alone


def test_a_text_is_no_different_beside_panoramas(dataset, scene_records, generator):
    """Image tokens reach their own sequences although the batch has fewer panoramas than rows."""
    text = record("Who are you?").model_copy(update={"image": None})
    examples = dataset([scene_records[0], text, scene_records[-1]])
    collator = PanoramaCollator("patch_tokens", pad_id=0)
    tokens = torch.randn(2, NUM_VIEWS, 16, 32)
    batch = collator([examples.example(i) for i in range(3)])
    mixed = generator(**batch | {"patch_tokens": tokens}).loss
    parts = [
        generator(**collator([examples.example(0)]) | {"patch_tokens": tokens[:1]}).loss,
        generator(**collator([examples.example(1)])).loss,
        generator(**collator([examples.example(2)]) | {"patch_tokens": tokens[1:]}).loss,
    ]
    texts = [examples.conversations(i, epoch=0).labels[1:] for i in range(3)]
    counts = [sum(label != IGNORED for label in labels) for labels in texts]
    mean = sum(c * part for c, part in zip(counts, parts, strict=True)) / sum(counts)
    assert mixed.item() == pytest.approx(mean.item(), abs=1e-5)


def shown_and_said(examples, processor, epochs=60):
    """The direction of the first view, in strides, with what is said then."""
    found = set()
    for epoch in range(epochs):
        views = examples.example(0, epoch)["views"][0].flatten()
        assert ((views - views[0]).round() % NUM_VIEWS).tolist() == [0.0, 1.0, 2.0, 3.0]
        found.add((round(views[0].item(), 3), *supervised(examples.example(0, epoch), processor)))
    return found


def test_fine_steps_show_the_panorama_as_it_is_when_their_responses_are_right(dataset, processor):
    responses = [f"step {step}" for step in range(NUM_VIEWS * 3)]
    examples = dataset([record("Where?", responses)], fine_steps=3)
    assert shown_and_said(examples, processor) == {
        (round(step / 3, 3), f"step {step}") for step in range(NUM_VIEWS * 3)
    }


def test_records_of_whole_strides_stay_at_whole_strides_beside_fine_steps(dataset, processor):
    responses = [f"stride {step}" for step in range(NUM_VIEWS)]
    examples = dataset([record("Where?", responses)], fine_steps=3)
    assert shown_and_said(examples, processor) == {(i, f"stride {i}") for i in range(NUM_VIEWS)}


def test_without_text_every_fine_step_is_shown(dataset):
    examples = dataset([record("Where?")], Supervision.NONE, fine_steps=2)
    found = set()
    for epoch in range(60):
        found.add(examples.example(0, epoch)["views"][0].flatten()[0].item())
    assert found == {0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5}


def test_what_has_no_certain_response_after_a_rotation_is_not_asked_then(dataset, processor):
    first = record("Where?", ["a0", None, None, "a3"])
    second = record("Which?", ["b0", None, "b2", None])
    found = shown_and_said(dataset([first, second]), processor)
    assert found == {(0.0, "a0", "b0"), (2.0, "b2"), (3.0, "a3")}


def test_swapped_classes_are_said_where_the_tokens_show_them(dataset, processor):
    """Also of a rotated panorama: the listing says in each view what its tokens then hold."""
    names = ("person", "car", "umbrella", "clock")
    listings = [
        "\n".join(f"view {v}: {names[(v + k) % NUM_VIEWS]}" for v in range(NUM_VIEWS))
        for k in range(NUM_VIEWS)
    ]
    built = dataset([record("List.", listings)], class_swap=ClassSwap(0.5, names))
    built.sources = [ClassViews(processor.image_processor)]
    said = set()
    for epoch in range(12):
        example = built.example(0, epoch)
        shown = [names[int(view.argmax())] for view in example["views"][0]]
        text = supervised(example, processor)
        assert [name for name in re.findall("|".join(names), str(text))] == shown
        said.add(tuple(shown))
    assert len(said) > NUM_VIEWS  # more than rotations


SIDES = ("front", "right", "back", "left")
SHAPES = ("cube", "cone", "ball", "ring")


def side_of(number, step):
    return SIDES[(number - step) % NUM_VIEWS]


def asked_and_listed():
    """A listing, and a question for each shape, of a panorama with one shape on each side."""
    listings = [
        "\n".join(f"{side_of(n, step)}: {shape}" for n, shape in enumerate(SHAPES))
        for step in range(NUM_VIEWS)
    ]
    questions = [
        record(f"Where is the {shape}?", [side_of(n, step) for step in range(NUM_VIEWS)])
        for n, shape in enumerate(SHAPES)
    ]
    return [record("List.", listings), *questions]


def test_views_as_words_say_what_the_listing_has_after_the_rotation(dataset, processor):
    def words(listing):
        lines = dict(line.split(": ") for line in listing.splitlines())
        per_view = processor.image_tokens_per_view
        return [ord(lines[side][1]) for side in SIDES for _ in range(per_view)]

    plain = dataset(asked_and_listed(), per_panorama=5)
    shown = ViewsAsWords(0.5, processor.image_token_id, words)
    built = dataset(asked_and_listed(), per_panorama=5, views_as_words=shown)
    spoken = 0
    for epoch in range(24):
        example, before = built.example(0, epoch), plain.example(0, epoch)
        if example["views"]:
            assert example["conversations"] == before["conversations"]
            continue
        spoken += 1
        image, text = processor.image_token_id, example["conversations"]
        changed = [
            new
            for new, old in zip(text.ids, before["conversations"].ids, strict=True)
            if old == image
        ]
        order = before["views"][0].flatten().int().tolist()
        assert changed == words(
            "\n".join(f"{side}: {SHAPES[n]}" for side, n in zip(SIDES, order, strict=True))
        )
        assert text.labels == before["conversations"].labels
        assert built.conversations(0, epoch) == text
    assert 4 < spoken < 20


def test_views_stay_where_the_listing_has_no_word_for_one(dataset, processor):
    shown = ViewsAsWords(0.99, processor.image_token_id, lambda listing: [IGNORED])
    built = dataset(asked_and_listed(), views_as_words=shown)
    assert all(built.example(0, epoch)["views"] for epoch in range(8))
