"""Claims about splits by place."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panovlm.data.questions.splitting import places_to_test
from panovlm.errors import PanoVLMError

places = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=60)


@given(places, st.floats(0.01, 0.99), st.integers(0, 99))
def test_some_places_are_tested_and_some_trained_on(places, share, seed):
    if len(set(places)) == 1:
        return
    tested = places_to_test(places, share, seed)
    assert tested < set(places) and tested
    assert tested == places_to_test(sorted(places), share, seed)
    sizes = Counter(places)
    assert sum(sizes[p] for p in tested) <= max(share * len(places), min(sizes.values()))


def test_another_seed_tests_other_places() -> None:
    places = [str(number) for number in range(40)]
    assert places_to_test(places, 0.5, 0) != places_to_test(places, 0.5, 1)
    assert len(places_to_test(places, 0.2, 0)) == 8


def test_no_share_tests_nothing() -> None:
    assert places_to_test(["a", "a"], 0.0, 0) == set()


def test_one_place_alone_is_refused() -> None:
    with pytest.raises(PanoVLMError, match=r"found one place, 'a', for all 2 pictures.*--split-by"):
        places_to_test(["a", "a"], 0.2, 0)
