"""QuIC-360°: captions of panoramas that answer a query of one or two words."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import picture_at, read_table
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item
from panovlm.metrics.captions import score_captions
from panovlm.metrics.scores import Score
from panovlm.metrics.tokens import caption_tokens
from panovlm.metrics.units import CIDER

COLUMNS = (("url", "query", "annotation"), ("url", "instruction", "response"))
"""Of the published table, and of the one CORA's releases use."""
PROMPT = "Describe this 360° panorama in one sentence with regard to: {query}"


def read(path: Path, images: Path) -> list[Item]:
    """Read a table of captions, one item for each picture and query.

    Args:
        path: The published `.tsv`, or a `.csv` with `url,instruction,response`.
        images: Folder of the pictures, by the last part of their address.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for address, asked, caption in _rows(path):
        groups.setdefault((address, asked), []).extend([caption] if caption.strip() else [])
    return [
        _item(f"{address} {asked}", images, address, asked, captions)
        for (address, asked), captions in groups.items()
    ]


def read_rows(path: Path, images: Path) -> list[Item]:
    """Read the same table as `read`, one item with one reference for each row."""
    return [
        _item(str(number), images, address, asked, [caption] if caption.strip() else [])
        for number, (address, asked, caption) in enumerate(_rows(path), start=1)
    ]


def _item(name: str, images: Path, address: str, asked: str, captions: Sequence[str]) -> Item:
    return Item(
        name=name,
        image=picture_at(images, address),
        question=PROMPT.format(query=asked),
        references=tuple(captions),
        kind=asked,
    )


def _rows(path: Path) -> list[tuple[str, str, str]]:
    """Return address, query and caption of each row."""
    columns = url, query, caption = _columns(path)
    return [(row[url], row[query], row[caption]) for row in read_table(path, columns)]


def _columns(path: Path) -> tuple[str, str, str]:
    header = {*read_table(path, ("url",))[0]}
    for columns in COLUMNS:
        if {*columns} <= header:
            return columns
    raise PanoVLMError(f"{path}: found columns {sorted(header)}, expected one of {COLUMNS}")


def score(items: Sequence[Item], answers: Sequence[str]) -> list[Score]:
    """Compute the CIDEr of each caption, which depends on all references."""
    return [*_scores(tuple(answers), tuple(item.references for item in items)).cider_of_each]


_scores = lru_cache(maxsize=8)(score_captions)
"""Scores of the answers as they are and of each baseline, which `extras` needs again."""


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return the other caption scores of the whole set, with what they rest on."""
    found = _scores(tuple(answers), tuple(item.references for item in items))
    means = {
        **{f"bleu_{order}": value for order, value in enumerate(found.bleu or (None,) * 4, 1)},
        "rouge_l": found.rouge_l,
        "cider": found.cider,
        "cider_plain": found.cider_plain,
    }
    read = sum(bool(caption_tokens(answer)) for answer in answers)
    return {
        name: {"mean": mean, "scored": read, "count": len(items)} for name, mean in means.items()
    }


QUIC_360 = Benchmark(
    read=read,
    score=score,
    metric="CIDEr (CIDEr-D), in [0, 10]",
    source="Maeda et al., Findings of EMNLP 2023; Silviase/QuIC-360",
    differs="the prompt is our own; METEOR and SPICE, which need Java, are not computed; all "
    "captions of a picture and query are its references (CORA scores each row with one reference, "
    "as quic-360-rows does: figures of the two do not compare)",
    extras=extras,
    unit=CIDER,
)
QUIC_360_ROWS = replace(
    QUIC_360,
    read=read_rows,
    source=f"{QUIC_360.source}; protocol of CORA, src/cora/evaluation/metrics.py",
    differs="the prompt is our own; METEOR and SPICE, which need Java, are not computed; every row "
    "is scored with its one reference, so figures do not compare with those of quic-360",
)
