"""`panovlm questions`: records of questions and listings from files of annotations.

    train.jsonl, test.jsonl                    every question of every picture; the first also
                                               its listing, so that what those taught is kept
    train_listings.jsonl, test_listings.jsonl  one dense listing a picture

Questions of a picture depend on the seed, its digest and how often labels are seen in all pictures.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from panovlm.data.annotations import Annotation, Sighting, read_annotations
from panovlm.data.questions.asking import LISTING_REQUEST, Question, ask_all
from panovlm.data.questions.certainty import Rotations
from panovlm.data.questions.evidence import Doubt, Evidence, evidence_of
from panovlm.data.questions.splitting import (
    named_places,
    number_of,
    place_of,
    places_to_test,
)
from panovlm.data.questions.surroundings import Surroundings, listing
from panovlm.data.record_files import raise_errors
from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.runtime.files import whole_folder

LISTING = Question("listing", LISTING_REQUEST, listing)


@dataclass(frozen=True)
class QuestionSettings:
    """How questions are made of annotations.

    Attributes:
        doubt: What makes a thing doubtful.
        test_share: Share of the pictures to test on, in [0, 1).
        test_places: Places to test on in place of a share.
        split_by: Whether a place is a group of pictures or each picture is one.
        yaw_steps: Rotations all around with an answer each, a multiple of 8.
        rounds: How often each kind of question is asked of a picture; no question comes twice.
        seed: Of questions and splits, at least 0.
    """

    doubt: Doubt = field(default_factory=Doubt)
    test_share: float = 0.2
    test_places: tuple[str, ...] = ()
    split_by: str = "group"
    yaw_steps: int = 24
    rounds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "test_share": (self.test_share, 0.0 <= self.test_share < 1.0, "0 or more, less than 1"),
            "min_score": (self.doubt.min_score, 0.0 <= self.doubt.min_score <= 1.0, "0 to 1"),
            "doubt_score": (
                self.doubt.doubt_score,
                0.0 <= self.doubt.doubt_score <= self.doubt.min_score,
                "0 to min_score",
            ),
            "min_views": (self.doubt.min_views, self.doubt.min_views >= 1, "1 or more"),
            "split_by": (self.split_by, self.split_by in ("group", "picture"), "group or picture"),
            "rounds": (self.rounds, self.rounds >= 1, "1 or more"),
            "seed": (self.seed, self.seed >= 0, "0 or more"),
            "yaw_steps": (
                self.yaw_steps,
                self.yaw_steps > 0 and self.yaw_steps % len(DIRECTIONS) == 0,
                "a multiple of 8, so that the eight directions rotate into each other",
            ),
        }
        for name, (value, is_valid, expected) in limits.items():
            if not is_valid:
                raise PanoVLMError(f"found {name} {value}, expected {expected}; change {name}")


@dataclass
class Summary:
    """What was written, and what was not.

    Attributes:
        pictures: Number of pictures by split.
        places: Number of places by split.
        questions: Number of questions by kind.
        left_out: What is missing, by reason.
    """

    pictures: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def write_questions(
    files: Sequence[Path],
    out: Path,
    settings: QuestionSettings,
) -> Summary:
    """Write the questions and listings of annotated pictures; `out` appears whole or not at all.

    Args:
        files: Annotations; those of one picture in several files are joined.
        out: New or empty folder.
        settings: How questions are made.

    Raises:
        PanoVLMError: If a file is invalid, nothing can be asked, the pictures are missing or
            cannot be split, or there is something at `out`.
    """
    summary = Summary()
    pictures = _read_evidence(files, settings, summary)
    place_of = {e.digest: e.digest if settings.split_by == "picture" else e.group for e in pictures}
    tested = _tested_places([*place_of.values()], settings)
    weights = absence_weights(pictures)
    places: dict[str, set[str]] = {"train": set(), "test": set()}
    try:
        with whole_folder(out) as folder:
            for split in places:
                for suffix in ("", "_listings"):
                    if split == "train" or tested:
                        (folder / f"{split}{suffix}.jsonl").touch()
            for evidence in pictures:
                place = place_of[evidence.digest]
                split = "test" if place in tested else "train"
                image = Path(os.path.relpath(evidence.image, out)).as_posix()
                questions, listings = _records(image, evidence, weights, settings, summary)
                also = listings if split == "train" else []
                _append(folder / f"{split}.jsonl", [*questions, *also])
                _append(folder / f"{split}_listings.jsonl", listings)
                summary.pictures[split] += 1
                places[split].add(place)
    except OSError as error:
        raise PanoVLMError(
            f"cannot write the questions to {out}: {error}; free some space or name another folder"
        ) from error
    summary.places.update({split: len(each) for split, each in places.items()})
    return summary


def _tested_places(places: Sequence[str], settings: QuestionSettings) -> set[str]:
    if settings.test_places:
        return named_places(settings.test_places, places)
    return places_to_test(places, settings.test_share, settings.seed)


def _append(file: Path, records: Sequence[Mapping[str, Any]]) -> None:
    with file.open("a", encoding="utf-8", newline="\n") as opened:
        opened.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _read_evidence(
    files: Sequence[Path], settings: QuestionSettings, summary: Summary
) -> list[Evidence]:
    """Read what is known about each picture, in the order of the first file it is in."""
    by_digest: dict[str, list[Annotation]] = {}
    groups: dict[str, str] = {}
    for file, annotation in _annotations(files):
        known = by_digest.setdefault(annotation.digest, [])
        if annotation.findings:
            summary.left_out["annotations with views that could not be annotated"] += 1
        elif any(annotation.teacher == other.teacher for other in known):
            summary.left_out["pictures that are copies of another"] += 1
        else:
            known.append(annotation)
            groups.setdefault(annotation.digest, place_of(annotation, file))
    kept = {digest: known for digest, known in by_digest.items() if known}
    _check_labels(kept.values(), settings.doubt)
    if not kept:
        raise PanoVLMError(
            f"found no annotation without findings in {', '.join(map(str, files))}, expected one "
            "or more; annotate the pictures again"
        )
    missing = [known[0].image for known in kept.values() if not known[0].image.is_file()]
    raise_errors(
        "the annotations", [f"{image}: no such picture; restore the file" for image in missing]
    )
    pictures = [evidence_of(groups[d], known, settings.doubt) for d, known in kept.items()]
    for evidence in pictures:
        summary.left_out.update(f"things in doubt: {reason}" for _, reason in evidence.doubtful)
    return _with_something(pictures, summary)


def _check_labels(pictures: Iterable[Sequence[Annotation]], doubt: Doubt) -> None:
    """Refuse labels to ask about that no teacher knows; teachers without labels know all."""
    known = {each.teacher.labels for annotations in pictures for each in annotations}
    if None in known:
        return
    labels = {label for each in known for label in each or ()}
    if unknown := sorted(set(doubt.labels or ()) - labels):
        raise PanoVLMError(
            f"found {', '.join(unknown)} in --labels, expected some of {', '.join(sorted(labels))}"
        )


def _with_something(pictures: Sequence[Evidence], summary: Summary) -> list[Evidence]:
    """Return the pictures in which something is sure: of the others a teacher may know nothing."""
    kept = [evidence for evidence in pictures if evidence.sure]
    if len(kept) < len(pictures):
        summary.left_out["pictures with nothing sure in them"] += len(pictures) - len(kept)
    if not kept:
        raise PanoVLMError(
            f"found nothing sure in any of {len(pictures)} pictures, expected something to ask "
            "about; lower --min-score or --min-views, or annotate with another teacher"
        )
    return kept


def _annotations(files: Sequence[Path]) -> Iterator[tuple[Path, Annotation]]:
    for file in files:
        for annotation in read_annotations(file):
            yield file, annotation


def absence_weights(pictures: Sequence[Evidence]) -> dict[str, float]:
    """Compute how often to ask of each label where it is absent.

    With the odds of a label's presence, it is asked about as often where it is absent as where it
    is there: the label alone gives no answer away.
    """
    asked: dict[str, float] = defaultdict(float)
    absent: Counter[str] = Counter()
    for evidence in pictures:
        there = {thing.label for thing in evidence.sure}
        absent.update(set(evidence.vocabulary or ()) - there)
        for label in there:  # one of them is asked for
            asked[label] += 1 / len(there)
    return {label: asked[label] / absent[label] for label in sorted(asked) if absent[label]}


def _ask(seen: Surroundings, rng: np.random.Generator, rounds: int) -> list[Question[Surroundings]]:
    """Ask so many times, no question twice; of existence as often where the answer is no."""
    asked: dict[str, Question[Surroundings]] = {}
    for _ in range(rounds):
        new = [question for question in ask_all(seen, rng) if question.text not in asked]
        pairs = [question.text for question in new if question.kind == "existence"]
        asked |= {q.text: q for q in new if q.kind != "existence" or len(pairs) == 2}
    return list(asked.values())


def _records(
    image: str,
    evidence: Evidence,
    weights: Mapping[str, float],
    settings: QuestionSettings,
    summary: Summary,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the records of a picture's questions, and that of its listing."""
    seen = Surroundings.of(evidence.sure, evidence.vocabulary, weights)
    rotations = Rotations(evidence, seen, settings.yaw_steps)
    rng = np.random.default_rng(number_of(settings.seed, evidence.digest))
    records = []
    for question in _ask(seen, rng, settings.rounds):
        responses = rotations.certain_answers(question)
        if responses[0] is None:
            summary.left_out["questions whose answer is not certain"] += 1
            continue
        summary.questions[question.kind] += 1
        about = seen.only(question.subject) if question.subject else None
        crosses_seam = about is not None and _crosses_seam(about)
        records.append(question.record(image, responses, about, crosses_seam))
    summary.questions[LISTING.kind] += 1
    crosses_seam = any(map(_crosses_seam, seen.things))
    listed = LISTING.record(image, rotations.answers(LISTING), None, crosses_seam)
    origin: dict[str, Any] = {"source": evidence.group}
    if evidence.declared:
        origin["declared"] = evidence.declared.said
    return [record | origin for record in records], [listed | origin]


def _crosses_seam(thing: Sighting) -> bool:
    """Return whether the left and right edge of the panorama cut through a thing."""
    return abs(thing.yaw_deg) + thing.yaw_width_deg / 2 > 180.0
