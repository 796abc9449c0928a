"""The benchmark of padding: packed sequences leave less than 5 % free on lengths like LLaVA's."""

import padding


def test_packed_sequences_leave_less_than_a_twentieth_free(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- padding: written by the script -->\n<!-- padding: end -->\n")
    assert padding.main(["--examples", "3000", "--docs", str(page)]) == 0
    shares = dict(padding.padding_table(3000)[1:])
    found = {name: float(share.rstrip("%")) for name, share in shares.items()}
    packed = [share for name, share in found.items() if "tokens_per_sequence" in name]
    assert len(packed) == len(padding.BUDGETS)
    assert max(packed) < 5
    assert found[f"{padding.BATCH} examples at random"] > 20
    assert all(share in page.read_text() for share in shares.values())


def test_padding_is_what_a_batch_computes_beyond_its_text():
    # 64 tokens for each of the first two, 32 for the others
    assert padding.batch_padding(iter([[40, 20], [30, 30]])) == 1 - 120 / 192
