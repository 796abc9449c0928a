"""Datasets reach worker processes however these start: by fork, a fork server, or anew."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from panovlm.data.cache import PatchTokenCache, ViewSource
from panovlm.data.conversations import ConversationTokenizer, RecordSampler
from panovlm.data.datasets import (
    PanoramaCollator,
    PanoramaDataset,
)
from panovlm.data.filling import fill
from panovlm.data.mixture import MixturePart
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.data.shards import open_stream
from panovlm.data.stream_features import StreamEncoder
from panovlm.data.streaming import StreamCollator, StreamDataset, StreamPart
from panovlm.model.processing import PanoVLMProcessor
from panovlm.stages import Supervision
from panovlm.training.sampler import SequenceSampler


def dataset_of(processor: PanoVLMProcessor, source: Any, scenes_file: Path) -> PanoramaDataset:
    records = read_records(scenes_file, Needs(text=True, image=False))
    parts = [MixturePart(records)]
    tokenizer = ConversationTokenizer(processor, Supervision.RESPONSES)
    sampler = RecordSampler(tokenizer, 3, roll=True)
    built = PanoramaDataset(parts, [source], sampler, seed=0)
    _ = built.example(0)  # its tokenizer holds results by now
    return built


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    both = found.keys() == expected.keys()
    return both and all(torch.equal(found[name], expected[name]) for name in found)


def test_a_fork_server_loads_the_same_batches(
    processor: PanoVLMProcessor, scenes_file: Path
) -> None:
    dataset = dataset_of(processor, ViewSource(processor.image_processor), scenes_file)
    collator = PanoramaCollator("pixel_values", 0)
    keys = SequenceSampler(dataset, 2, 2, seed=0)
    here, there = (
        list(DataLoader(dataset, batch_size=2, sampler=keys, collate_fn=collator, **options))
        for options in ({}, {"num_workers": 1, "multiprocessing_context": "forkserver"})
    )
    assert len(here) == len(there) == 2
    assert all(same(found, expected) for found, expected in zip(there, here, strict=True))


def test_a_dataset_on_cached_tokens_is_the_same_in_another_process(
    processor: PanoVLMProcessor,
    generator: PreTrainedModel,
    scenes_file: Path,
    tmp_path: Path,
) -> None:
    encoder, image_processor = generator.model.vision_encoder, processor.image_processor
    cache = PatchTokenCache(tmp_path, encoder, image_processor, use_bf16=False)
    picture = scenes_file.parent / "0.png"
    fill(cache, [picture], 1, lambda count: None)
    dataset = dataset_of(processor, cache, scenes_file)
    other = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(other.example(0)["views"][0], dataset.example(0)["views"][0])
    assert other.example(0)["conversations"] == dataset.example(0)["conversations"]


@pytest.mark.parametrize("supervision", [Supervision.NONE, Supervision.RESPONSES])
def test_what_streams_need_reaches_another_process(
    processor: PanoVLMProcessor, supervision: Supervision, tmp_path: Path
) -> None:
    sampler = RecordSampler(ConversationTokenizer(processor, supervision), 4, roll=True)
    (tmp_path / "train-000.tar").write_bytes(b"\0" * 10240)
    stream = open_stream(tmp_path / "train-000.tar")
    encoder = StreamEncoder(ViewSource(processor.image_processor))
    dataset = StreamDataset([StreamPart(stream)], encoder, sampler, seed=3, batch_size=2)
    for each in (dataset, StreamCollator(0), PanoramaCollator("patch_tokens", 0)):
        assert type(pickle.loads(pickle.dumps(each))) is type(each)
