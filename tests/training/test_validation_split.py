"""A share set apart by panorama: the same in every stage, and trained on nowhere."""

from itertools import pairwise
from pathlib import Path

import pytest

from panovlm.data.mixture import MixturePart
from panovlm.data.records import Message, Record
from panovlm.errors import PanoVLMError
from panovlm.training.validation_split import set_apart

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
