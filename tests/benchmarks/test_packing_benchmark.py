"""Packing is measured on the same examples in every way, each set against plain batches."""

import json

import pytest

import packing
from padding import sampled_lengths


def test_every_way_is_measured_and_set_against_batches(tmp_path):
    page, out = tmp_path / "page.md", tmp_path / "report.json"
    page.write_text("<!-- packing: written by the script -->\n<!-- packing: end -->\n")
    words = ["--json", out, "--docs", page, "--size", "tiny", "--examples", "4", "--threads", "1"]
    words += ["--batch-size", "2", "--budgets", "2048", "--longest", "600", "--dtype", "fp32"]
    assert packing.main([*map(str, words)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 3
    assert all(row["tokens_per_second"] > 0 for row in rows)
    at_random, similar, packed = packing.table({"rows": rows})[1:]
    assert (at_random[4], similar[5]) == ("1.00", "1.00")
    assert packed[0] in page.read_text()
    ratio = rows[2]["tokens_per_second"] / rows[1]["tokens_per_second"]
    assert float(packed[5]) == pytest.approx(ratio, abs=0.01)


def test_all_ways_read_all_examples_once():
    lengths = sampled_lengths(32)
    for way in packing.ways(lengths, 4, [1024, 2048]):
        read = [index for batch in way.batches for each in batch for index in each]
        assert sorted(read) == list(range(32)), way.name
