"""Streams: nothing lost or doubled, the same order again, hostile members harmless, memory flat."""

import io
import json
import tarfile
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from panovlm.data import streaming
from panovlm.data.cache import ViewSource
from panovlm.data.conversations import ConversationTokenizer, RecordSampler
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.data.samples import Sample, records_of
from panovlm.data.shards import Stream, is_stream, open_stream
from panovlm.data.stream_features import StreamEncoder
from panovlm.data.streaming import StreamCollator, StreamDataset, StreamPart, shuffled
from panovlm.errors import PanoVLMError
from panovlm.stages import Supervision

TEXT = Needs(text=True, image=False)
RECORD = {
    "messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "x"}]
}


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def as_json(text: str) -> bytes:
    messages = [RECORD["messages"][0], {"role": "assistant", "content": text}]
    return json.dumps({"messages": messages}).encode()


def of_texts(counts: list[int]) -> Stream:
    """A stream of texts: one shard for each count."""

    def read(shard):
        number = int(shard.name)
        for place in range(counts[number]):
            yield Sample(f"{number}/{place}", (json.loads(as_json(f"{number}/{place}")),), None)

    return Stream(tuple(Path(str(n)) for n in range(len(counts))), read)


@pytest.fixture
def dataset_of(processor):
    def build(stream, *, batch_size=2, supervision=Supervision.RESPONSES, rank=(0, 1)):
        sampler = RecordSampler(ConversationTokenizer(processor, supervision, 1024), 4, roll=True)
        encoder = StreamEncoder(ViewSource(processor.image_processor))
        shared = {"seed": 3, "batch_size": batch_size, "rank": rank}
        parts = [StreamPart(stream)] if isinstance(stream, Stream) else stream
        return StreamDataset(parts, encoder, sampler, **shared)

    return build


def places(sampled):
    return [each.sample.place for each in sampled]


@pytest.mark.parametrize("counts", [[3], [2, 5], [1, 2, 3, 4, 5], [7, 7, 7, 7]])
@pytest.mark.parametrize("readers", [1, 2, 3])
def test_in_a_pass_every_example_goes_to_one_reader_once(dataset_of, counts, readers):
    dataset = dataset_of(of_texts(counts))
    every = sorted(f"{n}/{place}" for n, count in enumerate(counts) for place in range(count))
    for epoch in range(3):
        parts = [places(dataset.one_pass(epoch, (own, readers))) for own in range(readers)]
        assert sorted(place for part in parts for place in part) == every


def test_whole_shards_are_read_by_one_reader_alone(dataset_of):
    dataset = dataset_of(of_texts([9, 9, 9, 9]))
    parts = [places(dataset.one_pass(0, (own, 2))) for own in range(2)]
    shards = [{place.split("/")[0] for place in part} for part in parts]
    assert [len(each) for each in shards] == [2, 2]
    assert not shards[0] & shards[1]


def test_the_order_is_of_seed_and_pass_and_goes_on_without_a_gap(dataset_of):
    dataset = dataset_of(of_texts([20, 20]))
    first = places(dataset.one_pass(0))
    assert places(dataset.one_pass(0)) == first
    assert places(dataset.one_pass(1)) != first
    assert first != sorted(first)
    examples = iter(dataset)
    labels = [tuple(next(examples)["conversations"].ids) for _ in range(80)]
    assert len(set(labels)) == 40
    assert set(labels[:40]) == set(labels[40:])


def mixture(weights):
    """Streams of shards with 20 examples each, whose places begin with the number of the stream."""

    def reader(number):
        def read(shard):
            text = (json.loads(as_json(f"{number}")),)
            return (Sample(f"{number}/{place}", text, None) for place in range(20))

        return read

    names = [tuple(Path(f"{number}-{shard}") for shard in range(2)) for number in range(3)]
    return [
        StreamPart(Stream(n, reader(i)), w)
        for i, (n, w) in enumerate(zip(names, weights, strict=False))
    ]


def test_streams_mix_by_their_weights_and_each_comes_whole(dataset_of):
    dataset = dataset_of(mixture([1.0, 2.0, 5.0]))
    sampled = list(islice(dataset._mixed((0, 1)), 2000))
    counts = Counter(each.key[2] // 2 for each in sampled)  # of each stream's two shards
    assert counts[0] == pytest.approx(250, abs=60)
    assert counts[1] == pytest.approx(500, abs=80)
    first = [place for place in places(sampled) if place.startswith("1/")][:40]
    assert sorted(first) == sorted(f"1/{place}" for place in range(20) for _ in range(2))
    assert len({each.key for each in sampled}) == 2000


def test_one_stream_comes_in_the_same_order_whatever_stands_behind_it(dataset_of):
    alone, beside = (dataset_of(mixture(w)[:n]) for w, n in (([1.0], 1), ([1.0, 1.0], 2)))
    found = [each.key for each in islice(beside._mixed((0, 1)), 100)]
    shared = [key for key in found if key[2] < 2]
    assert shared == [each.key for each in islice(alone._mixed((0, 1)), len(shared))]


@pytest.mark.parametrize("streams", [of_texts([5, 6, 7]), mixture([1.0, 3.0, 0.5])])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_reader_goes_on_with_the_next_batch(dataset_of, streams, workers):
    dataset = dataset_of(streams)
    shared = {"batch_size": 2, "collate_fn": StreamCollator(0), "num_workers": workers}
    loader = iter(DataLoader(dataset, **shared))
    whole = [next(loader) for _ in range(13)]
    dataset.batches_done = 9
    loader = iter(DataLoader(dataset, **shared))
    resumed = [next(loader) for _ in range(13)]
    assert all("input_ids" not in batch for batch in resumed[:9])  # passed over, not made
    for expected, found in zip(whole[9:], resumed[9:], strict=True):
        assert expected["input_ids"].equal(found["input_ids"])


def test_an_invalid_example_is_replaced_by_the_next_and_is_counted(dataset_of, caplog):
    def read(shard):
        for place in range(6):
            record = json.loads(as_json(f"{place}")) if place != 2 else {"messages": [], "x": 1}
            yield Sample(f"s/{place}", (record,), None)

    dataset = dataset_of(Stream((Path("s"),), read))
    endless = iter(dataset)
    examples = [next(endless) for _ in range(12)]
    assert [sum(e["skipped"] for e in examples[i : i + 6]) for i in (0, 6)] == [1, 1]
    assert len({tuple(e["conversations"].ids) for e in examples}) == 5
    assert "s/2" in caplog.text
    dataset.batches_done = 3
    resumed = iter(dataset)
    assert [next(resumed) for _ in range(12)][6:] == examples[6:]


def test_a_stream_that_is_wrong_throughout_ends(dataset_of):
    stream = Stream((Path("s"),), lambda shard: iter([Sample("s/1", ({"what": 1},), None)]))
    with pytest.raises(PanoVLMError, match="64 invalid examples in a row"):
        next(iter(dataset_of(stream)))


def test_more_readers_than_examples_are_refused(dataset_of):
    with pytest.raises(PanoVLMError, match="no example for reader 2 of 2"):
        next(iter(dataset_of(of_texts([1]), rank=(1, 2))))


def test_the_buffer_is_bounded_in_examples_and_in_bytes(dataset_of, monkeypatch):
    taken = 0

    def endless():
        nonlocal taken
        for sampled in of_texts([10_000]).read(Path("0")):
            taken += 1
            yield streaming.SampledExample(sampled, (0, 0, 0, 0))

    monkeypatch.setattr(streaming, "BUFFER_EXAMPLES", 50)
    next(shuffled(endless(), np.random.default_rng(0)))
    assert taken == 51
    taken = 0
    monkeypatch.setattr(streaming, "BUFFER_BYTES", 1000)
    next(shuffled(endless(), np.random.default_rng(0)))
    assert taken < 15


def test_memory_does_not_grow_with_the_stream(dataset_of, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "BUFFER_BYTES", 1_000_000)
    noise = np.random.default_rng(0).bytes(20_000)
    for number in range(4):
        members = [
            each
            for place in range(200)
            for each in ((f"{place}.jpg", noise), (f"{place}.json", as_json("x")))
        ]
        write_tar(tmp_path / f"{number}.tar", members)
    dataset = dataset_of(open_stream(tmp_path / "{0..3}.tar"))
    examples = (sampled for epoch in range(2) for sampled in dataset.one_pass(epoch))
    tracemalloc.start()
    count = sum(1 for _ in examples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1600  # 32 MB of pictures
    assert peak < 3_000_000


def test_a_tar_and_a_file_of_records_hold_the_same(dataset_of, scenes_file, tmp_path):
    records = read_records(scenes_file, TEXT)
    members, groups = [], {}
    for line in scenes_file.read_text().splitlines():
        data = json.loads(line)
        groups.setdefault(data.pop("image"), []).append(data)
    for name, group in groups.items():
        members.append((name, (scenes_file.parent / name).read_bytes()))
        members.append((Path(name).stem + ".json", json.dumps(group).encode()))
    stream = open_stream(write_tar(tmp_path / "scenes.tar", members))
    found = [each for sample in stream.head(99) for each in records_of(sample, TEXT)]
    assert [each.model_copy(update={"image": None}) for each in found] == [
        each.model_copy(update={"image": None}) for each in records
    ]
    examples = iter(dataset_of(stream))
    for _ in range(len(groups)):
        example = next(examples)
        assert example["features"].states.shape == (4, 3, 32, 32)
        assert example["conversations"].branches[-1] == 4


def test_hostile_members_write_nothing_and_are_passed_over(tmp_path):
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("link.jpg", tarfile.SYMTYPE), ("pipe.json", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for name in ("../../escaped.json", "/absolute.json"):
            info = tarfile.TarInfo(name)
            info.size = len(as_json("y"))
            archive.addfile(info, io.BytesIO(as_json("y")))
    before = set(tmp_path.parent.rglob("*"))
    samples = list(open_stream(path).head(9))
    assert len(samples) == 2
    assert all(records_of(sample, TEXT) for sample in samples)
    assert set(tmp_path.parent.rglob("*")) == before


def test_a_member_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("panovlm.data.tar_shards.MAX_BYTES", {"json": 100, "jpg": 100})
    path = write_tar(tmp_path / "a.tar", [("1.jpg", bytes(101)), ("1.json", b"{}")])
    (sample,) = open_stream(path).head(9)
    with pytest.raises(PanoVLMError, match="too large"):
        records_of(sample, TEXT)


@pytest.mark.parametrize("cut", [700, 1500, 1536 + 30])
def test_an_archive_cut_short_is_reported(tmp_path, cut):
    whole = write_tar(tmp_path / "a.tar", [(f"{n}.json", as_json("x" * 600)) for n in range(3)])
    short = tmp_path / "short.tar"
    short.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(PanoVLMError, match="damaged archive"):
        list(open_stream(short).head(9))


def test_a_broken_header_is_no_end(tmp_path):
    whole = write_tar(tmp_path / "a.tar", [(f"{n}.json", as_json("x")) for n in range(3)])
    data = bytearray(whole.read_bytes())
    data[1024:1100] = b"\xff" * 76
    whole.write_bytes(data)
    with pytest.raises(PanoVLMError, match="broken header at byte 1024"):
        list(open_stream(whole).head(9))


@pytest.mark.parametrize(
    ("records", "picture", "message"),
    [
        ({**RECORD, "image": "a.jpg"}, b"x", "remove the field"),
        ({"mesages": []}, b"x", "did you mean 'messages'"),
        ({}, None, "no question|no user message"),
        ([], b"x", "no record"),
    ],
)
def test_what_is_wrong_with_a_sample_is_reported_with_its_place(records, picture, message):
    sample = Sample("a.tar/1", tuple(records) if isinstance(records, list) else (records,), picture)
    with pytest.raises(PanoVLMError, match=message) as caught:
        records_of(sample, TEXT)
    assert "a.tar/1" in str(caught.value)


def test_patterns_name_shards_and_a_missing_one_is_reported(tmp_path):
    for number in range(12):
        write_tar(tmp_path / f"s-{number:03}.tar", [])
    names = [shard.name for shard in open_stream(tmp_path / "s-{008..011}.tar").shards]
    assert names == ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]
    assert len(open_stream(tmp_path / "s-*.tar").shards) == 12
    assert len(open_stream(tmp_path / "s-{000,011}.tar").shards) == 2
    with pytest.raises(PanoVLMError, match=r"no shard .*s-012.tar \(1 missing\)"):
        open_stream(tmp_path / "s-{010..012}.tar")
    with pytest.raises(PanoVLMError, match="no shard at all"):
        open_stream(tmp_path / "t-*.tar")
    assert not is_stream(tmp_path / "records.jsonl")


def test_the_library_datasets_reads_the_same_from_parquet_and_from_a_folder(tmp_path, scenes_file):
    datasets = pytest.importorskip("datasets")
    picture = (scenes_file.parent / "0.png").read_bytes()
    rows = [{"image": {"bytes": picture, "path": None}, **RECORD, "other": 1} for _ in range(5)]
    made = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    made.save_to_disk(str(tmp_path / "saved"))
    made.to_parquet(str(tmp_path / "a.parquet"))
    for data in (tmp_path / "saved", tmp_path / "a.parquet"):
        samples = list(open_stream(data).head(9))
        assert [sample.picture for sample in samples] == [picture] * 5
        assert all(records_of(sample, TEXT)[0].response == "x" for sample in samples)
