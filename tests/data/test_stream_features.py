"""Streams through the cache: encoded once while there is room, never beyond the limit."""

from copy import copy

import pytest
import torch
from transformers import AutoModel

from panovlm.data.cache import PatchTokenCache
from panovlm.data.cache_room import StreamRoom, num_bytes
from panovlm.data.stream_features import StreamEncoder
from panovlm.data.token_shards import TokenShards
from panovlm.errors import PanoVLMError
from panovlm.model.image_processing import PanoVLMImageProcessor

SIZE = {"height": 32, "width": 32}


@pytest.fixture
def cache(encoder_folder, tmp_path):
    encoder = AutoModel.from_pretrained(encoder_folder("siglip")).eval()
    image_processor = PanoVLMImageProcessor(num_views=4, fov_deg=120.0, size=SIZE)
    return PatchTokenCache(tmp_path / "cache", encoder, image_processor, use_bf16=False)


@pytest.fixture
def pictures(panorama, tmp_path):
    def build(count):
        files = [tmp_path / f"{number}.png" for number in range(count)]
        for number, file in enumerate(files):
            panorama.save(file)
            file.write_bytes(file.read_bytes() + bytes([number]))
        return files

    return build


def encoder_of(cache, limit=10**9, sharers=1):
    return StreamEncoder(cache, StreamRoom(cache.root, limit, sharers))


def encode(encoder, file):
    return encoder.encode(encoder.prepare(file.read_bytes(), "here"))


def test_a_stream_and_files_share_what_is_kept(cache, pictures):
    (file,) = pictures(1)
    encoder = encoder_of(cache)
    first = encoder.prepare(file.read_bytes(), "here")
    assert first.digest is not None
    fresh = encoder.encode(first)
    encoder.keep()
    assert cache.missing([file]) == []
    assert torch.equal(cache.load(file), fresh)
    again = encoder.prepare(file.read_bytes(), "here")
    assert again.digest is None
    assert torch.equal(encoder.encode(again), fresh)


def test_what_is_kept_never_passes_the_limit_and_the_oldest_goes(cache, pictures):
    limit = 25 * cache.bytes_per_picture
    files = pictures(60)
    both = [encoder_of(copy(cache), limit, sharers=2) for _ in range(2)]
    for each in both:
        each.source.shards = TokenShards(cache.folder)  # as two processes have them
    for number, file in enumerate(files):
        encode(both[number % 2], file)
        assert num_bytes(cache.root) <= limit
    for each in both:
        each.keep()
    lacking = cache.missing(files)
    kept = [file for file in files if file not in lacking]
    assert 15 <= len(kept) <= 25
    assert files[-1] in kept
    assert files[0] not in kept


def test_a_limit_below_one_picture_keeps_nothing_and_goes_on(cache, pictures):
    encoder = encoder_of(cache, limit=cache.bytes_per_picture)
    (file,) = pictures(1)
    assert encode(encoder, file).shape == (4, 16, 32)
    assert num_bytes(cache.root) == 0


def test_a_full_disk_keeps_nothing_and_goes_on(cache, pictures, monkeypatch):
    def full(shards: TokenShards) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(TokenShards, "flush", full)
    (file,) = pictures(1)
    encoder = encoder_of(cache)
    assert encode(encoder, file).shape == (4, 16, 32)
    encoder.keep()


def test_an_invalid_picture_is_named_by_its_place(cache):
    with pytest.raises(PanoVLMError, match=r"^a\.tar/7: found no readable picture"):
        encoder_of(cache).prepare(b"no picture", "a.tar/7")
