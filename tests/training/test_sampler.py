"""The order of the panoramas: whole steps, the same for the same seed and epoch."""

from dataclasses import dataclass

import pytest

from panovlm.training.sampler import WholeSteps


@dataclass
class Counted:
    length: int
    epoch: int = 0

    def __len__(self) -> int:
        return self.length


@pytest.mark.parametrize(("length", "per_step"), [(3, 2), (8, 4), (1, 6), (5, 5)])
def test_every_panorama_comes_and_every_step_is_whole(length: int, per_step: int) -> None:
    order = list(WholeSteps(Counted(length), per_step, seed=0))
    assert len(order) % per_step == 0
    assert len(order) - length < per_step
    assert sorted(order[:length]) == list(range(length))
    assert len(WholeSteps(Counted(length), per_step, seed=0)) == len(order)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return list(WholeSteps(Counted(50, epoch), 4, seed))

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(2)}) == 4
