"""QuIC-360°: captions of panoramas that answer a query of one or two words."""

from collections.abc import Sequence
from pathlib import Path

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import picture_at, read_table
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item
from panovlm.evaluation.units import CIDER
from panovlm.metrics.captions import CaptionScores, score_captions
from panovlm.metrics.scores import Score

COLUMNS = (("url", "query", "annotation"), ("url", "instruction", "response"))
"""Of the published table, and of the one CORA's releases use."""
PROMPT = "Describe this 360° panorama in one sentence with regard to: {query}"


def read(path: Path, images: Path) -> list[Item]:
    """Read a table of captions, one item for each picture and query.

    Args:
        path: The published `.tsv`, or a `.csv` with `url,instruction,response`.
        images: Folder of the pictures, by the last part of their address.
    """
    url, query, caption = _columns(path)
    groups: dict[tuple[str, str], list[str]] = {}
    for row in read_table(path, (url, query, caption)):
        captions = groups.setdefault((row[url], row[query]), [])
        captions.extend([row[caption]] if row[caption].strip() else [])
    return [
        Item(
            name=f"{address} {asked}",
            image=picture_at(images, address),
            question=PROMPT.format(query=asked),
            references=tuple(captions),
            kind=asked,
        )
        for (address, asked), captions in groups.items()
    ]


def _columns(path: Path) -> tuple[str, str, str]:
    header = {*read_table(path, ("url",))[0]}
    for columns in COLUMNS:
        if {*columns} <= header:
            return columns
    raise PanoVLMError(f"{path}: found columns {sorted(header)}, expected one of {COLUMNS}")


def score(items: Sequence[Item], answers: Sequence[str]) -> list[Score]:
    """Compute the CIDEr of each caption, which depends on all references."""
    return [*_scores(items, answers).cider_of_each]


def _scores(items: Sequence[Item], answers: Sequence[str]) -> CaptionScores:
    return score_captions(answers, [item.references for item in items])


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return the other caption scores of the whole set."""
    found = _scores(items, answers)
    return {
        **{f"bleu_{order}": value for order, value in enumerate(found.bleu or (None,) * 4, 1)},
        "rouge_l": found.rouge_l,
        "cider": found.cider,
        "cider_plain": found.cider_plain,
    }


QUIC_360 = Benchmark(
    read=read,
    score=score,
    metric="CIDEr (CIDEr-D), in [0, 10]",
    source="Maeda et al., Findings of EMNLP 2023; Silviase/QuIC-360",
    differs="the prompt is our own; METEOR and SPICE, which need Java, are not computed",
    extras=extras,
    unit=CIDER,
)
