"""What is set apart of a stage's panoramas: to validate on, or to diagnose stage 1."""

from itertools import pairwise
from pathlib import Path

import pytest

from panovlm.data.mixture import MixturePart
from panovlm.data.records import Message, Record
from panovlm.errors import PanoVLMError
from panovlm.training.stage_records import hold_out, set_apart

NAMES = [f"photos/{number}.jpg" for number in range(400)]


def record(*names: str, text: str = "?") -> Record:
    said = (Message(role="user", content=text), Message(role="assistant", content="yes"))
    paths = tuple(map(Path, names))
    if len(paths) > 1:
        return Record(images=paths, messages=said)
    return Record(image=paths[0] if paths else None, messages=said)


def split(records: list[Record], share: float = 0.1, seed: int = 0) -> tuple[set, set]:
    (part,), watched = set_apart("finetune", [MixturePart(records)], share, seed)
    return {p for r in part.records for p in r.paths}, {p for r in watched for p in r.paths}


def test_all_records_of_a_panorama_are_on_one_side() -> None:
    trained_on, watched = split([record(n, text=t) for n in NAMES for t in ("a", "b")])
    assert not trained_on & watched
    assert len(trained_on | watched) == 400
    assert 20 <= len(watched) <= 60


def test_stages_and_moved_data_agree_and_seeds_differ() -> None:
    _, watched = split([record(name) for name in NAMES])
    fewer = [record(f"/elsewhere/{name}") for name in NAMES[:200]]
    names = {path.name for path in watched}
    assert {path.name for path in split(fewer)[1]} == names & {Path(n).name for n in NAMES[:200]}
    assert {path.name for path in split([record(n) for n in NAMES], seed=1)[1]} != names


def test_records_of_several_panoramas_leak_nothing() -> None:
    _, apart = split([record(name) for name in NAMES])
    pairs = [record(a, b) for a, b in pairwise(NAMES)]
    trained_on, watched = split([*pairs, record(next(iter(map(str, apart))))])
    assert trained_on.isdisjoint(apart)
    assert watched <= apart


def test_texts_go_by_their_words_and_weights_stay() -> None:
    texts = MixturePart([record(text=f"question {number}") for number in range(100)], weight=2.0)
    pictures = MixturePart([record(name) for name in NAMES])
    parts, watched = set_apart("finetune", [texts, pictures], 0.1, 0)
    assert [part.weight for part in parts] == [2.0, 1.0]
    assert 0 < sum(not each.paths for each in watched) < 30


def test_of_few_panoramas_one_is_set_apart_and_one_alone_is_an_error() -> None:
    trained_on, watched = split([record(name) for name in NAMES[:3]], share=1e-9)
    assert (len(trained_on), len(watched)) == (2, 1)
    with pytest.raises(PanoVLMError, match=r"no record to train on .*change share, or name a file"):
        split([record(NAMES[0])], share=1e-9)
    with pytest.raises(PanoVLMError, match="no record to validate on"):
        split([record(text="one")], share=1e-9)


def pairs(count):
    return [
        Record(image=Path(f"{number}.jpg"), messages=()) for number in range(count) for _ in "ab"
    ]


@pytest.mark.parametrize(("count", "share", "held"), [(100, 0.05, 5), (3, 0.05, 1), (9, 0.5, 4)])
def test_a_share_of_the_panoramas_is_held_out_with_all_their_records(count, share, held):
    pictures = hold_out(pairs(count), share, seed=0)
    assert len(pictures) == held
    rest = MixturePart(pairs(count)).without(pictures).records
    assert len(rest) == 2 * (count - held)
    assert not {record.image for record in rest} & set(pictures)


def test_the_choice_is_the_seeds():
    chosen = [hold_out(pairs(50), 0.2, seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_none_is_held_out_where_the_share_is_0():
    assert hold_out(pairs(1), 0.0, seed=0) == []


def test_one_panorama_cannot_be_trained_on_and_held_out():
    with pytest.raises(PanoVLMError, match=r"found 1 panorama.*lower overlap.held_out"):
        hold_out(pairs(1), 0.05, seed=0)
