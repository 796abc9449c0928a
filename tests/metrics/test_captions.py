"""Caption scores equal pycocoevalcap's on the same words, and say what they rest on."""

import json
import math
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from panovlm.metrics.captions import bleu, cider, rouge_l, score_captions
from panovlm.metrics.scores import WITHOUT_WEIGHT, Missing, values_of
from panovlm.metrics.tokens import caption_tokens

Form = Literal["NFC", "NFD"]
GOLDEN = json.loads((Path(__file__).parent / "golden" / "captions.json").read_text())


@pytest.mark.parametrize("number", range(len(GOLDEN["sets"])))
def test_scores_equal_those_of_pycocoevalcap(number: int) -> None:
    words = GOLDEN["sets"][number]
    candidates, references, scores = words["candidates"], words["references"], words["scores"]
    assert bleu(candidates, references) == pytest.approx(scores["bleu"], abs=1e-6)
    each = values_of(rouge_l(candidates, references))
    assert each == pytest.approx(scores["rouge_l_of_each"], abs=1e-6)
    found = cider(candidates, references)
    if len(references) == 1:  # pycocoevalcap gives 0 to whatever is said
        assert found == [WITHOUT_WEIGHT]
    else:
        assert values_of(found) == pytest.approx(scores["cider_of_each"], abs=1e-6)


def test_words_are_those_of_the_penn_treebank_tokenizer() -> None:
    for text, words in GOLDEN["tokens"]:
        assert caption_tokens(text) == words


def live_scores(candidates: list[list[str]], references: list[list[list[str]]]) -> list[float]:
    bleu_of = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu
    rouge_of = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge
    cider_of = pytest.importorskip("pycocoevalcap.cider.cider").Cider
    known = {i: [" ".join(words) for words in each] for i, each in enumerate(references)}
    said = {i: [" ".join(words)] for i, words in enumerate(candidates)}
    return [
        *bleu_of(4).compute_score(known, said, verbose=0)[0],
        rouge_of().compute_score(known, said)[0],
        cider_of().compute_score(known, said)[0],
    ]


def own_scores(candidates: list[list[str]], references: list[list[list[str]]]) -> list[float]:
    return [
        *(bleu(candidates, references) or ()),
        float(np.mean(values_of(rouge_l(candidates, references)))),
        float(np.mean(values_of(cider(candidates, references)))),
    ]


def test_scores_equal_the_installed_pycocoevalcap_on_random_words() -> None:
    rng = np.random.default_rng(5)

    def sampled() -> list[str]:
        return [f"w{rng.integers(12)}" for _ in range(rng.integers(1, 15))]

    candidates = [sampled() for _ in range(40)]
    references = [[sampled() for _ in range(rng.integers(1, 6))] for _ in range(40)]
    assert own_scores(candidates, references) == pytest.approx(
        live_scores(candidates, references), abs=1e-6
    )


def test_scores_equal_the_installed_pycocoevalcap_on_captions_by_people(real_texts: Path) -> None:
    groups: dict[tuple[str, str], list[list[str]]] = {}
    for row in map(
        json.loads, (real_texts / "quic360_human_captions.jsonl").read_text().splitlines()
    ):
        words = caption_tokens(row["answer"])
        groups.setdefault((row["image"], row["instruction"]), []).append(words)
    known = [captions for captions in groups.values() if len(captions) > 1]
    candidates = [captions[0] for captions in known]
    references = [captions[1:] for captions in known]
    assert own_scores(candidates, references) == pytest.approx(
        live_scores(candidates, references), abs=1e-6
    )


def test_plain_cider_is_the_mean_cosine_of_weighted_counts() -> None:
    candidates = [["a", "red", "chair"], ["b"]]
    references = [[["a", "red", "red", "lamp"]], [["b", "c"]]]
    scores = values_of(cider(candidates, references, clipped=False))
    # Every n-gram is in one picture of two, so all weigh the same and leave the cosine.
    one = 3 / math.sqrt(3 * 6)
    two = 1 / math.sqrt(2 * 3)
    assert scores[0] == pytest.approx(10 * (one + two) / 4)
    assert scores[1] == pytest.approx(10 * (1 / math.sqrt(2)) / 4)
    assert values_of(cider(candidates, references))[0] < scores[0]  # it is shorter


def test_what_is_not_answered_is_an_empty_text_to_scores_of_the_set() -> None:
    references = [["a red chair by the door"], ["a lamp on a table"]]
    answered = score_captions(["a red chair by the door", "a lamp on a table"], references)
    half = score_captions(["a red chair by the door", ""], references)
    assert half.rouge_l == pytest.approx(answered.rouge_l / 2)
    assert half.cider == pytest.approx(answered.cider / 2)
    assert half.bleu[0] == pytest.approx(math.exp(1 - 11 / 6))  # brevity: 6 of 11 words
    assert score_captions(["", ""], references).bleu == (0.0,) * 4


def test_what_is_not_answered_has_no_score_of_its_own_and_leaves_the_others_alone() -> None:
    references = [[["a", "red", "chair"]], [["a", "lamp", "on", "a", "table"]], [["the", "sky"]]]
    answers = [each[0] for each in references]
    gap = [answers[0], None, answers[2]]
    assert cider(gap, references)[1].missing is Missing.UNREADABLE
    assert cider(gap, references)[0] == cider(answers, references)[0]
    assert values_of(rouge_l(gap, references)) == [1.0, 1.0]
    assert cider([["a"]], [[]])[0].missing is Missing.NO_REFERENCE
    assert bleu([["a"]], [[]]) is None


def test_references_count_as_one_picture_however_many_they_are() -> None:
    references = [[["a", "b"], ["a", "b"]], [["c", "d"]]]
    twice = values_of(cider([["a", "b"], ["c", "d"]], references))
    assert twice[0] == pytest.approx(twice[1])


@pytest.mark.parametrize(
    "references",
    [[["the cat in the hat"]], [["a hall"], ["a hall"]], [["a hall", "a hall"], ["a hall"], []]],
    ids=["one picture", "two alike", "a third without any"],
)
def test_cider_has_no_score_where_no_word_weighs(references: list[list[str]]) -> None:
    said = [(texts or ["a hall"])[0] for texts in references]
    found = score_captions(said, references)
    assert found.cider is None and found.cider_plain is None
    reasons = [Missing.WITHOUT_WEIGHT if texts else Missing.NO_REFERENCE for texts in references]
    assert [score.missing for score in found.cider_of_each] == reasons
    assert found.rouge_l == 1.0


def test_what_tells_two_pictures_apart_has_a_score_again() -> None:
    found = score_captions(["a hall", "a wall"], [["a hall"], ["a wall"]])
    assert found.cider is not None and found.cider > 0


TEXTS = {
    "Chinese": ("图中有一辆红色的巴士。", list("图中有一辆红色的巴士")),
    "Japanese": ("テーブルの上に猫がいる！", list("テーブルの上に猫がいる")),
    "Thai": ("ที่นั่ง", ["ที่", "นั่", "ง"]),
    "Lao": ("ຫ້ອງ", ["ຫ້", "ອ", "ງ"]),
    "Korean": ("빨간 버스가 있다.", ["빨간", "버스가", "있다"]),
    "Hindi": ("हिन्दी में।", ["हिन्दी", "में"]),
    "Arabic": ("غُرفة كبيرة؟", ["غُرفة", "كبيرة"]),
    "Vietnamese": ("Một chiếc xe buýt", ["một", "chiếc", "xe", "buýt"]),
    "French": ("L’été à l'hôtel « Ritz »", ["l'été", "à", "l'hôtel", "ritz"]),
    "Chinese with English": ("一台iPhone手机，3个", ["一", "台", "iphone", "手", "机", "3", "个"]),
}


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_other_scripts_are_cut_where_they_can_be(language: str, form: Form) -> None:
    text, tokens = TEXTS[language]
    composed = [unicodedata.normalize("NFC", token) for token in tokens]
    assert caption_tokens(unicodedata.normalize(form, text)) == composed


@pytest.mark.parametrize("language", TEXTS)
def test_a_caption_half_right_scores_between_none_and_all(language: str) -> None:
    """Without a tokenisation for its script a caption would be one word, right or wrong."""
    text, tokens = TEXTS[language]
    other = TEXTS["Korean" if language != "Korean" else "Hindi"][0]
    half = text[: text.index(tokens[len(tokens) // 2])]
    same, part, none = (
        score_captions([said, other], [[text], [other]]).cider_of_each[0]
        for said in (unicodedata.normalize("NFD", text), half, "zzz")
    )
    assert same.value is not None and part.value is not None
    assert none.value == 0.0 < part.value < same.value
