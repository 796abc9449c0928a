"""The cache of patch tokens: encoded once, whole or absent, and never mistaken."""

import hashlib
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from odd_pictures import PROPHOTO, WORLD, encoded_in
from PIL import Image
from transformers import AutoModel

from panovlm.data import filling, token_shards
from panovlm.data.cache import (
    STALE_SECONDS,
    PatchTokenCache,
    ViewSource,
    bytes_digest,
    digest_of,
    encoder_digest,
)
from panovlm.data.cache_room import FACTS
from panovlm.errors import PanoVLMError
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.vision import encode_views
from panovlm.model.vision_layers import layer_stack, tokens_of_states

SIZE = {"height": 32, "width": 32}


@pytest.fixture
def encoder(encoder_folder):
    return AutoModel.from_pretrained(encoder_folder("siglip")).eval()


@pytest.fixture
def image_processor():
    return PanoVLMImageProcessor(num_views=4, fov_deg=120.0, size=SIZE)


@pytest.fixture
def cache(encoder, image_processor, tmp_path):
    return PatchTokenCache(tmp_path / "cache", encoder, image_processor, use_bf16=False)


@pytest.fixture
def pictures(panorama, tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        panorama.rotate(90 * number, expand=False).save(file)
    return files


@pytest.fixture
def encoded(encoder):
    """How many views the encoder has encoded, one entry for each time it ran."""
    counts = []
    encoder.register_forward_hook(
        lambda module, args, kwargs, output: counts.append(len(kwargs["pixel_values"])),
        with_kwargs=True,
    )
    return counts


def fill(cache, pictures, batch_size=2):
    counts = []
    errors = filling.fill(cache, cache.missing(pictures), batch_size, counts.append)
    return errors, counts


def test_filling_leaves_the_number_of_threads(cache, pictures):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    fill(cache, pictures, batch_size=1)
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 2


def test_an_accelerator_encodes_what_threads_have_decoded(cache, pictures, monkeypatch):
    seen = []

    def encode(views):
        seen.append((len(views), threading.current_thread() is threading.main_thread()))
        return torch.zeros(len(views), 4, 4, 8, dtype=torch.float16)

    cache.encoder = SimpleNamespace(device=torch.device("cuda"), config=cache.encoder.config)
    monkeypatch.setattr(cache, "encode", encode)
    broken = pictures[1].with_name("broken.png")
    broken.write_bytes(b"no picture")
    errors = filling.fill(cache, [*pictures[:2], broken, pictures[2]], 2, lambda count: None)
    assert [error.partition(":")[0] for error in errors] == [str(broken)]
    assert sorted(seen) == [(1, True), (2, True)]
    assert cache.missing(pictures) == []


def test_after_an_interruption_nothing_is_begun(cache, pictures, monkeypatch):
    begun = []
    monkeypatch.setattr(filling, "_encode", lambda cache, decoded: begun.append(1) or decoded)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    encoded = filling._encoded(cache, [[picture] for picture in pictures * 20])
    next(encoded)
    encoded.close()
    assert len(begun) <= 3


def test_the_cache_holds_the_encoders_outputs(cache, encoder, image_processor, pictures):
    assert fill(cache, pictures) == ([], [2, 1])
    [shard] = cache.shards_with(pictures)
    assert 0.9 < shard.stat().st_size / (3 * cache.bytes_per_picture) <= 1
    for picture in pictures:
        views = ViewSource(image_processor).load(picture)
        with torch.no_grad():
            expected = encode_views(encoder, views)
        found = cache.load(picture)
        assert found.shape == (4, 16, 32)
        torch.testing.assert_close(found, expected.half(), rtol=0, atol=2e-3)


def test_the_encoder_runs_once(cache, pictures, encoded):
    fill(cache, pictures)
    assert encoded == [8, 4]
    assert cache.missing(pictures) == []
    fill(cache, pictures)
    for picture in pictures:
        cache.load(picture)
    assert encoded == [8, 4]


def test_one_content_under_two_names_is_encoded_once(cache, pictures, encoded, tmp_path):
    twin = tmp_path / "twin.png"
    twin.write_bytes(pictures[0].read_bytes())
    assert len(cache.missing([pictures[0], twin, pictures[0]])) == 1
    fill(cache, [pictures[0], twin])
    assert torch.equal(cache.load(twin), cache.load(pictures[0]))
    assert encoded == [4]


def test_a_changed_picture_is_encoded_again(cache, pictures, panorama):
    fill(cache, pictures)
    panorama.rotate(45).save(pictures[0])
    os.utime(pictures[0], ns=(1, 1))
    assert cache.missing(pictures) == [pictures[0]]


def test_a_yaw_rotation_by_a_stride_rolls_the_patch_tokens(cache, panorama, tmp_path):
    pixels = np.asarray(panorama)
    files = [tmp_path / "plain.png", tmp_path / "rotated.png"]
    Image.fromarray(pixels).save(files[0])
    Image.fromarray(np.roll(pixels, -32, axis=1)).save(files[1])  # a quarter circle to the right
    fill(cache, files)
    plain, rotated = map(cache.load, files)
    torch.testing.assert_close(rotated, plain.roll(-1, dims=0), rtol=0, atol=2e-3)
    assert not torch.allclose(rotated, plain, atol=0.1)


def test_a_yaw_shift_by_a_part_of_a_stride_has_a_cache_of_its_own(cache, panorama, tmp_path):
    pixels = np.asarray(panorama)
    files = [tmp_path / "plain.png", tmp_path / "rotated.png"]
    Image.fromarray(pixels).save(files[0])
    Image.fromarray(np.roll(pixels, -8, axis=1)).save(files[1])  # by a quarter of a stride
    shifted = cache.with_yaw_shift(22.5)
    assert shifted.folder != cache.folder
    for each, file in ((cache, files[1]), (shifted, files[0])):
        fill(each, [file])
    torch.testing.assert_close(shifted.load(files[0]), cache.load(files[1]), rtol=0, atol=2e-3)
    fill(cache, [files[0]])
    assert not torch.allclose(shifted.load(files[0]), cache.load(files[0]), atol=0.1)
    assert cache.image_processor.yaw_shift_deg == 0.0
    assert '"yaw_shift_deg": 22.5' in (shifted.folder / FACTS).read_text()


def test_views_of_pixels_are_cut_after_a_yaw_shift_too(image_processor, pictures):
    plain = ViewSource(image_processor)
    torch.testing.assert_close(
        plain.with_yaw_shift(90.0).load(pictures[0]), plain.load(pictures[0]).roll(-1, dims=0)
    )


def test_the_digest_changes_with_all_that_changes_patch_tokens(encoder, image_processor):
    def digest(processor=image_processor, use_bf16=False):
        return encoder_digest(encoder, processor, use_bf16=use_bf16)

    def processor(**changes):
        same = {"num_views": 4, "fov_deg": 120.0, "size": SIZE}
        return PanoVLMImageProcessor(**same | changes)

    plain = digest()
    assert digest(processor()) == plain
    digests = {
        plain,
        digest(processor(num_views=6)),
        digest(processor(fov_deg=119.0)),
        digest(processor(size={"height": 40, "width": 40})),
        digest(processor(image_mean=[0.1, 0.2, 0.3])),
        digest(processor(image_std=[0.1, 0.2, 0.3])),
        digest(use_bf16=True),
    }
    encoder.config.layer_norm_eps *= 2
    digests.add(digest())
    encoder.config._name_or_path = "elsewhere"
    assert digest() in digests
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[0] += 1e-3
    assert len(digests | {digest()}) == 9


def test_the_digest_reads_weights_of_every_shape_and_type(image_processor, encoder):
    encoder.register_buffer("count", torch.tensor(3))
    encoder.register_buffer("halves", torch.ones(3, dtype=torch.bfloat16))
    before = encoder_digest(encoder, image_processor, use_bf16=False)
    encoder.count += 1
    assert encoder_digest(encoder, image_processor, use_bf16=False) != before


def test_caches_of_other_views_live_apart(cache, encoder, pictures, tmp_path):
    fill(cache, pictures)
    wider = PanoVLMImageProcessor(num_views=4, fov_deg=140.0, size=SIZE)
    other = PatchTokenCache(tmp_path / "cache", encoder, wider, use_bf16=False)
    assert other.missing(pictures) == pictures


def test_an_interruption_keeps_what_was_encoded(cache, pictures, monkeypatch):
    def interrupt(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filling.fill(cache, pictures, 2, interrupt)
    assert len(cache.missing(pictures)) == 1
    assert len(cache.shards_with(pictures)) == 1


def test_a_full_disk_leaves_nothing_half_written(cache, pictures, monkeypatch):
    def save_half(tensors, file):
        file.write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(token_shards, "save_file", save_half)
        with pytest.raises(PanoVLMError, match=r"disk full.*make room.*PANOVLM_CACHE"):
            fill(cache, pictures)
    assert [file.name for file in cache.folder.iterdir()] == [FACTS]
    assert cache.missing(pictures) == pictures
    assert fill(cache, pictures)[0] == []


def test_invalid_pictures_are_listed_and_the_others_encoded(cache, pictures, tmp_path):
    broken, tiny = tmp_path / "broken.jpg", tmp_path / "text.png"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    tiny.write_text("hello")
    errors, counts = fill(cache, [broken, *pictures, tiny])
    assert sorted(name for name in ("broken.jpg", "text.png") if name in " ".join(errors)) == [
        "broken.jpg",
        "text.png",
    ]
    assert len(errors) == 2
    assert sum(counts) == 5
    assert cache.missing([broken, *pictures, tiny]) == [broken, tiny]


def test_a_batch_of_invalid_pictures_runs_no_encoder(cache, encoded, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    assert len(fill(cache, [broken])[0]) == 1
    assert encoded == []


def test_nothing_to_fill_is_no_error(cache):
    assert fill(cache, []) == ([], [])


def test_bf16_caches_are_close(encoder, image_processor, cache, pictures, tmp_path):
    half = PatchTokenCache(tmp_path / "cache", encoder, image_processor, use_bf16=True)
    fill(cache, pictures)
    fill(half, pictures)
    exact, rounded = cache.load(pictures[0]).float(), half.load(pictures[0]).float()
    assert (exact - rounded).norm() < 0.05 * exact.norm()
    assert half.load(pictures[0]).dtype == torch.float16


def test_states_below_the_trained_layers_are_kept_apart_and_lead_to_the_same_tokens(
    encoder, image_processor, cache, pictures, tmp_path
):
    half = {"use_bf16": False, "num_trained_layers": 1}
    below = PatchTokenCache(tmp_path / "cache", encoder, image_processor, **half)
    assert below.can_cut_encoder()
    fill(cache, pictures)
    assert below.missing(pictures) == pictures
    fill(below, pictures)
    [shard] = below.shards_with(pictures)
    assert 0.9 < shard.stat().st_size / (3 * below.bytes_per_picture) <= 1
    encoder.requires_grad_(False)
    layer_stack(encoder)[-1].requires_grad_(True)
    states = below.load(pictures[0]).float()
    found = tokens_of_states(encoder, states, 1, 32)
    # what float16 keeps of numbers around 1: eleven bits
    torch.testing.assert_close(found, cache.load(pictures[0]).float(), rtol=0, atol=5e-3)


def test_what_another_process_has_kept_meanwhile_is_not_decoded_again(
    cache, pictures, encoded, encoder, image_processor
):
    lacking = cache.missing(pictures)
    other = PatchTokenCache(cache.root, encoder, image_processor, use_bf16=False)
    fill(other, pictures[:2])
    assert filling.fill(cache, lacking, 1, lambda count: None) == []
    assert encoded == [8, 4]


def test_processes_begin_at_different_pictures(monkeypatch):
    pictures = [Path(str(number)) for number in range(100)]
    first = set()
    for process in range(8):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        batches = filling._batches(pictures, 8)
        assert sorted(p for batch in batches for p in batch) == sorted(pictures)
        first.add(batches[0][0])
    assert len(first) > 5


def test_half_written_files_of_killed_processes_are_removed(cache, pictures):
    cache.folder.mkdir(parents=True)
    old, young = cache.folder / "old.part", cache.folder / "young.part"
    for file in (old, young):
        file.write_text("half")
    os.utime(old, (1, time.time() - STALE_SECONDS - 1))
    fill(cache, pictures)
    assert not old.exists()
    assert young.exists()


def test_a_shard_taken_away_is_read_on_where_it_is_open_and_named_elsewhere(
    cache, pictures, encoder, image_processor
):
    fill(cache, pictures)
    kept = cache.load(pictures[0])
    for shard in cache.shards_with(pictures):
        shard.unlink()
    assert torch.equal(cache.load(pictures[0]), kept)
    other = PatchTokenCache(cache.root, encoder, image_processor, use_bf16=False)
    with pytest.raises(PanoVLMError, match=r"0\.png.*removed.*--resume"):
        other.load(pictures[0])
    assert cache.missing(pictures) == pictures


def test_plain_pictures_keep_the_digest_of_their_bytes_and_others_have_that_of_their_reading(
    tmp_path, monkeypatch
):
    plain, wide = tmp_path / "plain.jpg", tmp_path / "wide.jpg"
    Image.fromarray(WORLD).save(plain)
    encoded_in(WORLD, PROPHOTO).save(wide, icc_profile=PROPHOTO)
    plain_sum, wide_sum = (hashlib.sha256(p.read_bytes()).hexdigest()[:32] for p in (plain, wide))
    assert digest_of(plain) == bytes_digest(plain.read_bytes()) == plain_sum
    assert digest_of(wide) == bytes_digest(wide.read_bytes()) != wide_sum
    before = bytes_digest(wide.read_bytes())
    monkeypatch.setattr("panovlm.data.cache.READING", 99)
    assert bytes_digest(plain.read_bytes()) == plain_sum
    assert bytes_digest(wide.read_bytes()) not in (wide_sum, before)


def test_features_of_a_picture_that_is_read_in_another_way_now_are_not_served(cache, tmp_path):
    wide = tmp_path / "wide.png"
    encoded_in(WORLD, PROPHOTO).save(wide, icc_profile=PROPHOTO)
    old = hashlib.sha256(wide.read_bytes()).hexdigest()[:32]
    cache.prepare_folder()
    cache.shards.add(old, torch.zeros(4, 16, 32, dtype=torch.float16))
    cache.shards.flush()
    assert cache.missing([wide]) == [wide]


def test_numbers_beyond_float16_are_kept_as_bfloat16_and_other_pictures_stay_as_they_are(
    cache, pictures, monkeypatch
):
    source = ViewSource(cache.image_processor)
    plain, expected = (cache.encode(source.load(picture)) for picture in pictures[:2])
    large_views = source.load(pictures[1])

    def encode(encoder, views):
        tokens = encode_views(encoder, views)
        is_large = torch.stack([(large_views == v).flatten(1).all(1).any() for v in views])
        return torch.where(is_large[:, None, None], tokens * 1e6, tokens)

    monkeypatch.setattr("panovlm.data.cache.encode_views", encode)
    assert fill(cache, pictures) == ([], [2, 1])
    large = cache.load(pictures[1])
    assert (cache.load(pictures[0]).dtype, large.dtype) == (torch.float16, torch.bfloat16)
    torch.testing.assert_close(cache.load(pictures[0]), plain)
    assert large.abs().max() > torch.finfo(torch.float16).max
    torch.testing.assert_close(large.float() / 1e6, expected.float(), rtol=0.02, atol=1e-2)
    assert torch.stack([plain, large]).isfinite().all()  # as a batch holds them


def test_an_encoder_that_returns_no_numbers_is_refused(cache, pictures, monkeypatch):
    nothing = torch.full((4, 16, 32), float("nan"))
    monkeypatch.setattr("panovlm.data.cache.encode_views", lambda encoder, views: nothing)
    with pytest.raises(PanoVLMError, match=r"not finite .* set dtype: fp32"):
        fill(cache, pictures, batch_size=1)
