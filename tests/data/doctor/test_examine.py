"""`panovlm data check`: what is counted, what is an error or a warning, and the report."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from panovlm.data.doctor.report import MAX_LINES, show, write_json
from panovlm.data.doctor.run import Examination, examine, inspect_pictures
from panovlm.data.findings import FindingKind
from panovlm.errors import PanoVLMError
from panovlm.training.build import build_tokenizer
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sections import ModelSection

Write = Callable[..., Path]


def messages(question: str = "Where?", answer: str = "left") -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def photo(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    wrapped = np.concatenate([coarse, coarse[:, :1]], axis=1)
    return Image.fromarray(cv2.resize(wrapped, (272, 128))[:, 8:-8])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of records; pictures that are not there yet are made, each another one."""

    def write_records(*records: dict[str, object], name: str = "data.jsonl") -> Path:
        for record in records:
            picture = tmp_path / str(record["image"])
            if picture.suffix == ".png" and not picture.exists():
                photo(sum(picture.name.encode())).save(picture)
        text = "".join(json.dumps({"messages": messages()} | record) + "\n" for record in records)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write_records


def kinds(examination: Examination) -> list[FindingKind]:
    return [finding.kind for finding in examination.findings]


def only(examination: Examination, kind: FindingKind) -> str:
    """The one finding there is."""
    assert kinds(examination) == [kind]
    return str(examination.findings[0])


def test_a_clean_set_has_no_findings(write: Write) -> None:
    examination = examine([write({"image": "a.png"}, {"image": "b.png"})])
    assert not examination.findings
    assert (examination.num_records, examination.num_pictures) == (2, 2)


def test_pictures_are_inspected_in_processes_alike(write: Write, tmp_path: Path) -> None:
    write({"image": "a.png"}, {"image": "b.png"})
    (tmp_path / "c.png").write_text("no picture")
    paths = sorted(tmp_path.glob("*.png"))
    alone, together = inspect_pictures(paths, 1), inspect_pictures(paths, 2)
    assert [*alone] == [*together] == paths
    for path in paths:
        assert alone[path].digest == together[path].digest
        assert alone[path].findings == together[path].findings
    with pytest.raises(PanoVLMError, match="found 0 workers, expected 1 or more"):
        inspect_pictures(paths, 0)


def test_missing_broken_and_flat_pictures_are_errors(write: Write, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "square.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    names = ("square.jpg", "broken.jpg", "nowhere.jpg")
    examination = examine([write(*({"image": name} for name in names))])
    assert kinds(examination) == [FindingKind.PICTURE, FindingKind.PICTURE, FindingKind.MISSING]
    found = [str(finding) for finding in examination.findings]
    assert "line 1: " in found[0] and "found 64x64, expected width = 2 x height" in found[0]
    assert "line 2: " in found[1] and "broken.jpg" in found[1]
    assert "line 3: " in found[2] and "found no such file" in found[2]


def test_urls_are_listed_and_not_fetched(write: Write) -> None:
    found = only(examine([write({"image": "https://example.org/a.jpg"})]), FindingKind.URL)
    assert "line 1: field 'image': found the URL 'https://example.org/a.jpg'" in found
    assert "never fetched" in found


def test_repeated_questions_and_several_answers_are_warnings(write: Write, tmp_path: Path) -> None:
    file = write({"image": "a.png"}, {"image": "b.png"}, {"image": "a.png"})
    examination = examine([file])
    assert "again in line 3, with the same answer" in only(examination, FindingKind.REPEAT)
    assert examination.num_errors == 0
    other = {"image": "a.png", "messages": messages("<image> Where?  ", "right")}
    found = only(examine([write({"image": "a.png"}, other)]), FindingKind.CONFLICT)
    assert "with 2 different answers" in found
    (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())
    by_content = examine([write({"image": "a.png"}, {**other, "image": "copy.png"})])
    assert kinds(by_content) == [FindingKind.COPY, FindingKind.CONFLICT]


def test_a_mark_in_the_system_message_is_a_warning_and_in_an_answer_an_error(write: Write) -> None:
    system = {"role": "system", "content": "This is <image>."}
    file = write({"image": "a.png", "messages": [system, *messages("Where?", "left")]})
    assert "in a message of the system" in only(examine([file]), FindingKind.MISPLACED)
    file = write({"image": "a.png", "messages": messages("Where?", "<image> left")})
    assert "in a message of the assistant" in only(examine([file]), FindingKind.MARK)


def test_leaks_are_errors_however_the_copy_was_made(write: Write, tmp_path: Path) -> None:
    test = write({"image": "a.png"}, name="test.jsonl")
    with Image.open(tmp_path / "a.png") as picture:
        rolled = Image.fromarray(np.roll(np.asarray(picture), 60, axis=1))
    rolled.resize((200, 100)).save(tmp_path / "rolled.jpg", quality=50)
    (tmp_path / "bytes.png").write_bytes((tmp_path / "a.png").read_bytes())
    for name, words in (
        ("a.png", "as the same file"),
        ("bytes.png", "with the same bytes"),
        ("rolled.jpg", "the same panorama to "),
    ):
        train = write({"image": name}, {"image": "b.png"}, name="train.jsonl")
        examination = examine([train], against=[test])
        found = only(examination, FindingKind.LEAK)
        assert words in found and name in found
        assert examination.num_errors == 1
    assert not examine([write({"image": "b.png"}, name="train.jsonl")], against=[test]).findings


def test_ignored_xmp_is_a_warning(write: Write, tmp_path: Path) -> None:
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:ProjectionType="fisheye"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    photo(0).save(tmp_path / "odd.jpg", xmp=xmp.encode())
    assert "the XMP is ignored" in only(examine([write({"image": "odd.jpg"})]), FindingKind.XMP)


@pytest.fixture
def recipe(model_section: ModelSection, tmp_path: Path) -> Recipe:
    stage = StageSection(data=tmp_path / "data.jsonl", steps=1)
    return Recipe(output=tmp_path, model=model_section, stages={"finetune": stage})


def test_with_a_recipe_long_conversations_are_errors(write: Write, recipe: Recipe) -> None:
    short, long = {"image": "a.png"}, {"image": "b.png", "messages": messages("long " * 300)}
    examined = examine([write(short, long)], tokenizer=build_tokenizer(recipe.model))
    found = only(examined, FindingKind.LENGTH)
    assert "line 2: " in found and "too many for 1024" in found and "num_views" in found


def test_licences_and_sources_are_counted_by_picture(write: Write) -> None:
    records = [{"image": f"{n}.png", "licence": "CC0", "source": f"s{n}"} for n in range(2)]
    other = {"image": "0.png", "messages": messages("What?")}
    examination = examine([write(*records, other, {"image": "x.png"})])
    assert examination.licences == {"CC0": 2, "": 1}
    assert examination.sources == {"s0": 1, "s1": 1, "": 1}


def test_other_formats_are_checked_too(write: Write, tmp_path: Path) -> None:
    write({"image": "a.png"})
    file = tmp_path / "data.csv"
    file.write_text("url,query,annotation\na.png,Where?,left\n")
    assert not kinds(examine([file]))
    file.write_text("url,query,annotation\na.png,Where?,\n")
    assert kinds(examine([file])) == [FindingKind.TEXT]


def test_what_must_be_converted_before_training_is_named(write: Write, tmp_path: Path) -> None:
    write({"image": "a.png"})
    file = tmp_path / "other.jsonl"
    file.write_text(json.dumps({"images": ["a.png"], "messages": messages()}) + "\n")
    found = only(examine([file]), FindingKind.FORMAT)
    assert "found the format messages, expected records" in found


def test_records_without_text_are_errors_unless_allowed(write: Write) -> None:
    file = write({"image": "a.png", "messages": []})
    assert kinds(examine([file])) == [FindingKind.TEXT]
    assert not examine([file], needs_text=False).findings


def test_the_page_is_capped_and_the_json_whole(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examination = examine([write(*({"image": f"{n}.jpg"} for n in range(MAX_LINES + 5)))])
    show(examination)
    page = capsys.readouterr().out
    assert page.count("error: ") == MAX_LINES
    assert "and 5 more (missing picture), see --json" in page
    write_json(examination, tmp_path / "out.json")
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["num_errors"] == len(facts["findings"]) == MAX_LINES + 5
    first = facts["findings"][0]
    assert (first["kind"], first["place"], first["field"]) == ("missing picture", "line 1", "image")
