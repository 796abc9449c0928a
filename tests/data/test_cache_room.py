"""Room in the cache: what is counted, what is removed first, and the errors."""

import os
import shutil
import time

import pytest
import torch
from safetensors.torch import save_file

from panovlm.data.cache_room import (
    LIMIT_VARIABLE,
    cache_limit,
    folders_of,
    make_room,
    mark_used,
    num_bytes,
    remove_oldest,
    remove_unused,
)
from panovlm.errors import PanoVLMError

SIZE = 1000


def write_shard(file):
    """Write one of `SIZE` bytes, with two pictures and 128 bytes of a header."""
    states = torch.zeros(SIZE - 128, dtype=torch.uint8)
    save_file({"a": states[:100].clone(), "b": states[100:].clone()}, file)
    assert file.stat().st_size == SIZE


@pytest.fixture
def files(tmp_path):
    """Five shards in two folders, the first used five days ago, the last yesterday."""
    made = [tmp_path / "cache" / f"{n % 2}" / f"{n}.safetensors" for n in range(5)]
    for days, file in zip((5, 4, 3, 2, 1), made, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_shard(file)
        (file.parent / "facts.json").write_text("{}")
        used = time.time() - 86_400 * days
        os.utime(file, (used, used))
    return made


def there(files):
    return [file.exists() for file in files]


def test_the_files_used_longest_ago_go_first(files, tmp_path):
    removed = remove_oldest(tmp_path / "cache", 2 * SIZE)
    assert (removed.num_pictures, removed.num_bytes) == (6, 3 * SIZE)
    assert there(files) == [False, False, False, True, True]


def test_using_a_file_makes_it_the_last_to_go(files, tmp_path):
    mark_used([files[0]])
    remove_oldest(tmp_path / "cache", SIZE)
    assert there(files) == [True, False, False, False, False]


def test_room_is_made_for_a_run_but_never_of_its_own_files(files, tmp_path):
    make_room(tmp_path / "cache", 2 * SIZE, [files[0], tmp_path / "new"], 4 * SIZE)
    assert there(files) == [True, False, False, False, True]


def test_a_run_that_cannot_fit_removes_nothing_and_names_the_knob(files, tmp_path):
    with pytest.raises(PanoVLMError, match=LIMIT_VARIABLE):
        make_room(tmp_path / "cache", 3 * SIZE, files[:2], 4 * SIZE)
    assert all(there(files))


def test_a_disk_that_is_too_small_is_named_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    make_room(tmp_path / "cache", 10, [], None)
    with pytest.raises(PanoVLMError, match=r"panovlm cache --prune.*PANOVLM_CACHE"):
        make_room(tmp_path / "cache", 11, [], None)


def test_files_unused_for_some_days_can_go(files, tmp_path):
    assert remove_unused(tmp_path / "cache", 3.5).num_pictures == 4
    assert there(files) == [False, False, True, True, True]


def test_folders_tell_what_they_hold_the_one_used_last_first(files, tmp_path):
    facts = '{"encoder": "siglip", "views": "a ring", "trained_layers_left_out": 2}'
    (files[1].parent / "facts.json").write_text(facts)
    even, odd = folders_of(tmp_path / "cache")
    assert (even.path, even.encoder, even.num_pictures) == (files[0].parent, "unknown", 6)
    assert (odd.encoder, odd.views) == ("siglip, below its last 2 layers", "a ring")
    assert even.num_bytes == 3 * SIZE
    assert folders_of(tmp_path / "nowhere") == []


@pytest.mark.parametrize("text", ["much", "-1", "0", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(text, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    with pytest.raises(PanoVLMError, match=rf"{LIMIT_VARIABLE}.*expected a number"):
        cache_limit()


def test_no_limit_is_set_by_default_and_gigabytes_are_read(monkeypatch):
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    assert cache_limit() is None
    monkeypatch.setenv(LIMIT_VARIABLE, "0.5")
    assert cache_limit() == 500_000_000


def test_what_an_earlier_version_kept_counts_and_goes_too(tmp_path):
    folder = tmp_path / "cache" / "old"
    folder.mkdir(parents=True)
    (folder / "0.npy").write_bytes(b"x" * SIZE)
    others = [".1.npy.ab.part", "facts.json", "notes.txt"]  # another process may write the first
    for name in others:
        (folder / name).touch()
    assert num_bytes(tmp_path / "cache") == SIZE
    assert remove_oldest(tmp_path / "cache", 0).num_bytes == SIZE
    assert sorted(file.name for file in folder.iterdir()) == others
