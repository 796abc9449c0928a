"""QuIC-360 and 360Bench: the published tables are read, and scored by the published rules."""

import csv
import json
from pathlib import Path

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks import quic360
from panovlm.evaluation.benchmarks.bench_360 import BENCH_360
from panovlm.evaluation.benchmarks.quic360 import QUIC_360, QUIC_360_ROWS
from panovlm.metrics.scores import Missing, summarise


def write_table(path: Path, rows: list[dict[str, str]], delimiter: str = "\t") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


CAPTIONS = [
    ("https://live.example.com/1/a_k.jpg", "interior", "A red chair by a window."),
    ("https://live.example.com/1/a_k.jpg", "cars", "No cars, only a chair."),
    ("https://live.example.com/1/a_k.jpg", "interior", "There is a red chair, and a lamp."),
    ("https://live.example.com/1/a_k.jpg", "interior", " "),
    ("refer360images/indoor/shop/b.jpg", "interior", 'A "shop" full of books'),
]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    rows = [{"url": u, "query": q, "annotation": a} for u, q, a in CAPTIONS]
    return write_table(tmp_path / "test.tsv", rows)


def test_captions_of_one_picture_and_query_are_references_of_one_item(captions: Path) -> None:
    first, cars, shop = quic360.read(captions, Path("pictures"))
    assert first.image == Path("pictures/a_k.jpg")
    assert shop.image == Path("pictures/refer360images/indoor/shop/b.jpg")
    assert first.references == ("A red chair by a window.", "There is a red chair, and a lamp.")
    assert first.question.endswith("with regard to: interior")
    assert (cars.kind, shop.references) == ("cars", ('A "shop" full of books',))


def test_the_other_columns_are_read_alike(captions: Path, tmp_path: Path) -> None:
    rows = [{"url": u, "instruction": q, "response": a} for u, q, a in CAPTIONS]
    other = write_table(tmp_path / "test.csv", rows, ",")
    assert quic360.read(other, Path("p")) == quic360.read(captions, Path("p"))
    unknown = write_table(tmp_path / "x.tsv", [{"url": "a", "text": "b"}])
    with pytest.raises(PanoVLMError, match="expected one of"):
        quic360.read(unknown, Path("p"))


def test_captions_are_scored_by_cider_and_an_empty_one_is_no_zero(
    captions: Path,
) -> None:
    items = quic360.read(captions, Path("p"))
    answers = ["A red chair by a window", "", "A shop full of books"]
    scores = QUIC_360.score(items, answers)
    assert [score.missing for score in scores] == [None, Missing.UNREADABLE, None]
    assert scores[2].value == pytest.approx(10.0)
    extras = QUIC_360.extras(items, answers, scores)
    assert extras["cider"] == {"mean": summarise(scores).mean, "scored": 2, "count": 3}
    assert 0.0 < extras["bleu_4"]["mean"] <= 1.0


def test_each_row_is_an_item_of_its_own_where_rows_are_scored(captions: Path) -> None:
    items = QUIC_360_ROWS.read(captions, Path("p"))
    assert [len(item.references) for item in items] == [1, 1, 1, 0, 1]
    grouped = quic360.read(captions, Path("p"))
    assert {(item.image, item.question) for item in items} == {
        (item.image, item.question) for item in grouped
    }
    said = {item.question: f"{item.references[0]} there" for item in grouped}
    rows = summarise(QUIC_360_ROWS.score(items, [said[item.question] for item in items]))
    whole = summarise(QUIC_360.score(grouped, [said[item.question] for item in grouped]))
    assert (rows.count, whole.count) == (5, 3)
    assert rows.mean != whole.mean


def test_people_score_well_above_captions_of_other_pictures(
    tmp_path: Path, real_texts: Path
) -> None:
    listed = [
        json.loads(line)
        for line in (real_texts / "quic360_human_captions.jsonl").read_text().splitlines()
    ]
    rows = [
        {"url": row["image"], "query": row["instruction"], "annotation": row["answer"]}
        for row in listed
    ]
    items = quic360.read(write_table(tmp_path / "real.tsv", rows), real_texts.parent)
    assert all(item.image.is_file() for item in items)
    answers = [item.references[0] for item in items]
    own = summarise(QUIC_360.score(items, answers)).mean
    others = summarise(QUIC_360.score(items, answers[5:] + answers[:5])).mean
    assert own is not None
    assert others is not None
    assert own > 5 * others


TEXTS = ["They are behind.", "They are far.", "They are left.", "They are right."]


def four_orders(box: str) -> list[dict[str, str]]:
    rows = []
    for turn in range(4):
        texts = TEXTS[-turn:] + TEXTS[:-turn]
        rows.append(
            {
                "No.": str(turn + 1),
                "image_file": "a_o.jpg",
                "question": "Where are the tables?",
                "category": "SR",
                "l2-category": "Os",
                "bbox": box,
                "index": f"#{turn + 1}",
                "multi-choice options": str(
                    [f"{letter}. {text}" for letter, text in zip("ABCD", texts, strict=True)]
                ),
                "answer": "ABCD"[turn],
            }
        )
    return rows


def test_a_question_counts_once_for_every_order_and_once_for_all(tmp_path: Path) -> None:
    box = '[{"bbox_2d": [7196, 1774, 7296, 1874], "label": "tables"}]'
    items = BENCH_360.read(write_table(tmp_path / "360Bench.tsv", four_orders(box)), tmp_path)
    assert items[1].question.splitlines()[1:3] == ["A. They are right.", "B. They are behind."]
    assert (items[0].kind, items[0].image) == ("SR/Os", tmp_path / "a_o.jpg")
    assert items[0].yaw_deg == pytest.approx(180 - 50 / 7296 * 360)
    assert items[0].pitch_deg == pytest.approx(0.0)

    right = BENCH_360.score(items, ["A", "They are behind.", "(c)", "D. They are behind."])
    assert summarise(right).mean == 1.0
    extras = BENCH_360.extras(items, ["A"] * 4, right)["every_order_right"]
    assert (extras["mean"], extras["count"]) == (1.0, 1)

    always = BENCH_360.score(items, ["A"] * 4)
    assert summarise(always).mean == 0.25
    assert BENCH_360.extras(items, ["A"] * 4, always)["every_order_right"]["mean"] == 0.0


def test_an_empty_answer_is_not_the_first_option(tmp_path: Path) -> None:
    items = BENCH_360.read(write_table(tmp_path / "b.tsv", four_orders("")), tmp_path)
    assert items[0].yaw_deg is None
    assert BENCH_360.score(items[:1], [""])[0].missing is Missing.UNREADABLE


def test_options_are_read_and_never_run(tmp_path: Path) -> None:
    rows = four_orders("")[:1]
    rows[0]["multi-choice options"] = f"[open({str(tmp_path / 'x')!r}, 'w').name, 'B. b']"
    with pytest.raises(PanoVLMError, match="expected a list of texts"):
        BENCH_360.read(write_table(tmp_path / "b.tsv", rows), tmp_path)
    assert not (tmp_path / "x").exists()
    rows = four_orders("")[:1]
    rows[0]["answer"] = "F"
    with pytest.raises(PanoVLMError, match="found the answer 'F' of 4 options"):
        BENCH_360.read(write_table(tmp_path / "b.tsv", rows), tmp_path)
