"""Different examples in one sequence: nothing is lost, little is padded, and results are exact."""

import json
import random
from pathlib import Path

import pytest
import torch

from panovlm.data.conversations import ConversationTokenizer, RecordSampler
from panovlm.data.datasets import PanoramaCollator, PanoramaDataset
from panovlm.data.mixture import MixturePart
from panovlm.data.packing import IGNORED, TokenSequence, collate, join, pack
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs, Record
from panovlm.stages import Supervision
from panovlm.training.sampler import SequenceSampler, fill_bins

NUM_VIEWS = 4


class RandomTokens:
    """Patch tokens that depend on the picture's name alone."""

    key = "patch_tokens"

    def load(self, picture):
        seed = sum(Path(picture).name.encode())
        return torch.randn(NUM_VIEWS, 16, 32, generator=torch.Generator().manual_seed(seed))


def record(question, answer, images=(), system=None):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    data = {"messages": messages}
    if images:
        data |= {"image": images[0]} if len(images) == 1 else {"images": images}
    return Record.model_validate(data)


RECORDS = [
    record("Where is the door?", "left", ["a.png"]),
    record("And the window?", "behind you", ["a.png"]),
    record("<image>\nwhat is it?", "a room", ["b.png"], system="Be short."),
    record("what is it?\n<image>", "a garden", ["b.png"]),
    record("Say it.", "it"),
    record("Is <image> the same place as <image>?", "yes, from the other side", ["a.png", "c.png"]),
    record("Which is larger?", "the second", ["c.png", "b.png"]),
]


@pytest.fixture
def dataset(processor):
    def build(supervision=Supervision.RESPONSES, records=RECORDS):
        sampler = RecordSampler(ConversationTokenizer(processor, supervision), 4, roll=True)
        return PanoramaDataset([MixturePart(records)], [RandomTokens()], sampler, seed=0)

    return build


def loss_and_gradient(model, batch):
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    trained = {"resampler": model.model.resampler, "language_model": model.model.language_model}
    gradients = {
        f"{name}.{key}": parameter.grad.clone()
        for name, module in trained.items()
        for key, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return loss.item(), gradients


@pytest.mark.parametrize("supervision", [Supervision.RESPONSES, Supervision.ALL_TEXT])
@pytest.mark.parametrize("budget", [150, 100_000])
def test_loss_and_gradients_are_those_of_examples_apart(dataset, generator, supervision, budget):
    examples = dataset(supervision)
    bins = list(SequenceSampler(examples, 1, 0, 0, budget).epoch(0))
    assert (len(bins) == 1) == (budget == 100_000)
    assert max(len(each.indices) for each in bins) > 1
    collator = PanoramaCollator("patch_tokens", pad_id=0)
    together = collator([examples[each] for each in bins])
    apart = collator([examples.example(i) for each in bins for i in each.indices])
    assert together["input_ids"].shape[0] < apart["input_ids"].shape[0]
    loss, gradients = loss_and_gradient(generator, together)
    expected, expected_gradients = loss_and_gradient(generator, apart)
    assert loss == pytest.approx(expected, abs=1e-5)
    assert len(gradients) > 10
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-5, msg=name)


@torch.no_grad()
def test_two_pictures_of_a_record_reach_their_own_marks(dataset, generator):
    collator = PanoramaCollator("patch_tokens", pad_id=0)
    examples = dataset()
    two = next(i for i, group in enumerate(examples.groups) if group[0].images)
    batch = collator([examples.example(two)])
    assert batch["patch_tokens"].shape[0] == 2
    features = generator.get_image_features(patch_tokens=batch["patch_tokens"]).pooler_output
    embeddings = generator.get_input_embeddings()(batch["input_ids"])
    image = batch["input_ids"] == generator.config.image_token_id
    embeddings[image] = features.flatten(0, 1)
    rest = {"labels": batch["labels"], "inputs_embeds": embeddings}
    torch.testing.assert_close(generator(**rest).loss, generator(**batch).loss)
    swapped = {**batch, "patch_tokens": batch["patch_tokens"].flip(0)}
    assert abs(generator(**swapped).loss - generator(**batch).loss) > 1e-4


def test_every_example_comes_once_in_an_epoch_and_the_order_is_of_the_seed(dataset):
    examples = dataset()
    found = [
        list(SequenceSampler(examples, 1, 0, seed, 150).epoch(epoch))
        for epoch, seed in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    for bins in found:
        assert sorted(i for each in bins for i in each.indices) == list(range(5))
    assert found[0] == found[1]
    assert len({str([each.indices for each in bins]) for bins in found}) == 3


def test_bins_are_full_and_no_longer_than_the_budget():
    rng = random.Random(0)
    lengths = [min(int(rng.lognormvariate(5.5, 0.6)), 2000) for _ in range(1000)]
    bins = fill_bins(lengths, 2048)
    sums = [sum(lengths[i] for i in each) for each in bins]
    assert sorted(i for each in bins for i in each) == list(range(1000))
    assert max(sums) <= 2048
    assert sum(sums) > 0.97 * 2048 * len(bins)


def test_what_is_longer_than_the_budget_is_alone():
    assert fill_bins([5, 30, 4, 1], 10) == [[1], [0, 2, 3]]


def test_the_first_token_of_an_example_is_not_predicted_from_another():
    first = pack([TokenSequence([1, 2, 3], [1, 2, 3])])
    joined = join([first, pack([TokenSequence([4, 5], [4, 5])])])
    assert joined.labels == [IGNORED, 2, 3, IGNORED, 5]
    assert joined.positions == [0, 1, 2, 0, 1]
    mask = collate([joined], pad_id=0)["attention_mask"][0, 0, 3:5]
    assert mask[:, :5].int().tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert not mask[:, 5:].any()


def test_records_with_two_pictures_are_read_from_llava_and_from_records(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    messages = RECORDS[5].model_dump(mode="json")["messages"]
    file = tmp_path / "records.jsonl"
    file.write_text(json.dumps({"images": ["a.png", "b.png"], "messages": messages}) + "\n")
    [found] = read_records(file, Needs.of(Supervision.RESPONSES))
    assert found.pictures == (tmp_path / "a.png", tmp_path / "b.png")
    assert found.marked_messages == found.messages
    unmarked = found.model_copy(update={"messages": RECORDS[6].messages})
    assert unmarked.marked_messages[0].content == "<image><image>Which is larger?"
