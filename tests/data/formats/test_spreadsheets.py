"""Tables as programs for spreadsheets save them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panovlm.data.doctor.run import examine
from panovlm.data.findings import FindingKind
from panovlm.data.formats.run import convert_data
from panovlm.data.formats.tables import read_table
from panovlm.errors import PanoVLMError

GOOD = 'image,question,answer\r\na.jpg,"What, behind me?","a ""red"" door,\r\nopen"\r\n'
READ = {
    "image": "a.jpg",
    "messages": [
        {"role": "user", "content": "What, behind me?"},
        {"role": "assistant", "content": 'a "red" door,\r\nopen'},
    ],
}
ROWS = GOOD.splitlines(keepends=True)
SAVED = {
    "as it is": GOOD.encode(),
    "with a mark": GOOD.encode("utf-8-sig"),
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-16, the other way around": b"\xfe\xff" + GOOD.encode("utf-16-be"),
    "empty rows": (GOOD + ",,\r\n , ,\xa0\r\n").encode(),
    "empty rows between": GOOD.replace("answer\r\n", "answer\r\n,,\r\n").encode(),
    "empty columns": "".join(
        line.replace("\r\n", ",,\r\n") if line.startswith(("image", "open")) else line
        for line in ROWS
    ).encode(),
    "empty columns with empty rows": (
        GOOD.replace("answer\r", "answer,,\r").replace('open"\r', 'open",,\r') + ",,,,\r\n"
    ).encode(),
    "a line that names the separator": ("sep=,\r\n" + GOOD).encode("utf-8-sig"),
    "semicolons": b'image;question;answer\r\na.jpg;What, behind me?;"a ""red"" door,\r\nopen"\r\n',
    "semicolons, named": (
        b'sep=;\r\nimage;question;answer\r\na.jpg;What, behind me?;"a ""red"" door,\r\nopen"\r\n'
    ),
    "tabs": b'image\tquestion\tanswer\r\na.jpg\tWhat, behind me?\t"a ""red"" door,\r\nopen"\r\n',
    "quoted head": GOOD.replace("image,question,answer", '"image","question","answer"').encode(),
    "spaces in the head": GOOD.replace("question,answer", " Question\xa0,Answer ").encode(),
}


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_table_is_read_however_it_was_saved(name: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"in.{ending}").write_bytes(SAVED[name])
    done = convert_data(tmp_path / f"in.{ending}", tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [READ]
    assert not done.lost
    assert any("empty rows" in note for note in done.notes) == ("empty rows" in name)


def test_what_is_left_out_is_counted_and_listed(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(GOOD + ",,\n" * 3)
    (note,) = convert_data(tmp_path / "in.csv", tmp_path / "out.jsonl").notes
    assert note == "left out 3 empty rows: line 4, line 5, line 6"
    found = [f.found for f in examine([tmp_path / "in.csv"]).findings if not f.is_error]
    assert "found what reading it left out 3 empty rows: line 4, line 5, line 6" in found


def test_a_column_without_a_name_that_holds_something_is_reported(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("image,,question,answer\na.jpg,x,q,a\n")
    done = convert_data(tmp_path / "in.csv", tmp_path / "out.jsonl")
    assert done.lost == {"a column without a name": 1}
    (tmp_path / "in.csv").write_text("image,question,answer\na.jpg,q,a,x\n")
    with pytest.raises(PanoVLMError, match="line 2: found 4 cells, expected 3"):
        convert_data(tmp_path / "in.csv", tmp_path / "more.jsonl")


@pytest.mark.parametrize(
    ("row", "field", "kind"),
    [
        ("a.jpg,,x", "question", FindingKind.TEXT),
        ("a.jpg,x, ", "answer", FindingKind.TEXT),
        ("a.jpg,,", "question", FindingKind.TEXT),
        (",q,a", "image", FindingKind.FIELD),
    ],
)
def test_no_record_is_made_of_an_empty_cell(
    row: str, field: str, kind: FindingKind, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text(GOOD + row + "\n")
    with pytest.raises(PanoVLMError, match=f"line 4: field '{field}': found an empty cell"):
        convert_data(tmp_path / "in.csv", tmp_path / "out.jsonl")
    assert kind in [finding.kind for finding in examine([tmp_path / "in.csv"]).findings]


CELLS = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=12
).filter(str.strip)


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.sampled_from([",", ";", "\t"]))
def test_any_cells_survive_any_separator_and_empty_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], separator: str
) -> None:
    def quoted(cells: tuple[str, ...]) -> str:
        return separator.join('"' + cell.replace('"', '""') + '"' for cell in cells) + "\r\n"

    file = tmp_path_factory.mktemp("table") / "in.csv"
    body = [quoted(("a.jpg", *row)) + separator * 2 + "\r\n" for row in rows]
    text = "\r\n".join([separator.join(("image", "question", "answer")), "".join(body)])
    file.write_bytes(text.encode("utf-16"))
    content = read_table(file, ",")
    assert not content.findings
    read: list[Any] = [entry.data["messages"] for entry in content.entries]
    found = [tuple(message["content"] for message in messages) for messages in read]
    assert sorted(found) == sorted(rows)
    assert len(content.left_out["empty rows"]) == len(rows)
