"""Stage 1 is diagnosed on panoramas that it does not train on."""

from pathlib import Path

import pytest

from panovlm.data.mixture import MixturePart
from panovlm.data.records import Record
from panovlm.errors import PanoVLMError
from panovlm.training.diagnosing import hold_out


def records(count):
    return [
        Record(image=Path(f"{number}.jpg"), messages=()) for number in range(count) for _ in "ab"
    ]


@pytest.mark.parametrize(("count", "share", "held"), [(100, 0.05, 5), (3, 0.05, 1), (9, 0.5, 4)])
def test_a_share_of_the_panoramas_is_held_out_with_all_their_records(count, share, held):
    pictures = hold_out(records(count), share, seed=0)
    assert len(pictures) == held
    rest = MixturePart(records(count)).without(pictures).records
    assert len(rest) == 2 * (count - held)
    assert not {record.image for record in rest} & set(pictures)


def test_the_choice_is_the_seeds():
    chosen = [hold_out(records(50), 0.2, seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_none_is_held_out_where_the_share_is_0():
    assert hold_out(records(1), 0.0, seed=0) == []


def test_one_panorama_cannot_be_trained_on_and_held_out():
    with pytest.raises(PanoVLMError, match=r"found 1 panorama.*lower overlap.held_out"):
        hold_out(records(1), 0.05, seed=0)
