"""Shards of features: many pictures a file, whole or absent, seen by every process."""

import pickle
import time

import pytest
import torch

from panovlm.data import token_shards
from panovlm.data.token_shards import ENDING, ENTRY_BYTES, TokenShards, count_pictures


@pytest.fixture
def shards(tmp_path):
    return TokenShards(tmp_path)


def states_of(number):
    return torch.full((2, 3), float(number), dtype=torch.float16)


def write(shards, numbers):
    for number in numbers:
        shards.add(f"{number:032x}", states_of(number))
    shards.flush()


def test_pictures_of_one_flush_share_a_file_and_come_back_to_the_bit(shards, tmp_path):
    write(shards, range(5))
    assert len([*tmp_path.iterdir()]) == 1
    assert count_pictures(tmp_path.iterdir()) == 5
    for number in range(5):
        assert torch.equal(shards.read(f"{number:032x}"), states_of(number))
    assert shards.read("unknown") is None


def test_both_types_of_sixteen_bits_are_kept(shards):
    large = torch.tensor([1e30], dtype=torch.bfloat16)
    shards.add("large", large)
    write(shards, [1])
    assert torch.equal(shards.read("large"), large)
    assert shards.read(f"{1:032x}").dtype == torch.float16


def test_what_waits_can_be_read_and_an_entry_takes_no_more_than_is_said(shards, tmp_path):
    shards.add("f" * 32, states_of(1))
    assert "f" * 32 in shards
    assert torch.equal(shards.read("f" * 32), states_of(1))
    waiting = shards.pending_bytes
    shards.flush()
    [file] = tmp_path.iterdir()
    assert states_of(1).nbytes < file.stat().st_size <= waiting
    assert waiting == states_of(1).nbytes + ENTRY_BYTES
    assert shards.pending_bytes == 0


def test_a_shard_is_due_when_it_is_full_or_has_waited_long(shards, monkeypatch):
    assert not shards.is_due
    shards.add("a", states_of(1))
    assert not shards.is_due
    with monkeypatch.context() as patch:
        patch.setattr(token_shards, "SHARD_BYTES", 100)
        assert shards.is_due
    monkeypatch.setattr(token_shards, "SHARD_SECONDS", -1.0)
    assert shards.is_due


def test_shards_of_another_process_are_found_and_removed_ones_forgotten(shards, tmp_path):
    other = TokenShards(tmp_path)
    assert f"{1:032x}" not in shards
    write(other, [1])
    assert torch.equal(shards.read(f"{1:032x}"), states_of(1))
    time.sleep(0.01)
    write(other, [2])
    assert f"{2:032x}" in shards
    for file in tmp_path.iterdir():
        file.unlink()
    shards.refresh()
    assert f"{1:032x}" not in shards


def test_a_shard_cut_short_counts_as_missing(shards, tmp_path):
    write(shards, [1])
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-4])
    (tmp_path / f"empty{ENDING}").touch()
    again = TokenShards(tmp_path)
    assert f"{1:032x}" not in again
    assert count_pictures(tmp_path.iterdir()) == 0


def test_an_interrupted_write_leaves_nothing(shards, tmp_path, monkeypatch):
    def interrupt(tensors, file):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(token_shards, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(shards, [1])
    assert [*tmp_path.iterdir()] == []


def test_another_process_gets_a_picture_and_not_its_whole_shard(shards):
    write(shards, range(100))
    assert len(pickle.dumps(shards.read(f"{7:032x}"))) < 2000
    assert torch.equal(pickle.loads(pickle.dumps(shards)).read(f"{7:032x}"), states_of(7))
