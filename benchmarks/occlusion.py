"""Distance from the object of a question to the peak of a correct answer's occlusion map.

    python benchmarks/occlusion.py MODEL DATA [--panoramas 16] [--skip 0]

DATA is a file of rendered scenes. Of each panorama the first question of each kind is taken that
is about one object and answered correctly. Prints a JSON line for each, then for each kind and for
all the median and mean great-circle distance from the peak to the object's middle, and the share of
peaks within 20°, beside those of a cap sampled from all that were covered. Writes nothing.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from panovlm.data.record_files import read_records
from panovlm.data.records import Needs, Record
from panovlm.geometry.sphere import Floats, angles_between, rays_from_angles
from panovlm.inference.assistant import Assistant, OpenedPanorama, Question
from panovlm.inference.occlusion import Occlusion

KINDS = ("direction", "what", "colour")
NEAR_DEG = 20.0


def main() -> None:
    """Measure and print."""
    options = _options()
    records = read_records(options.data, Needs(text=True, image=True))
    assistant = Assistant.load(options.model)
    of_panoramas = groupby(records, lambda record: record.picture)
    chosen = islice(of_panoramas, options.skip, options.skip + options.panoramas)
    measured = []
    for picture, group in chosen:
        panorama = assistant.open(picture)
        for record, question in _correctly_answered(assistant, panorama, list(group)):
            line = {
                "image": picture.name,
                "kind": record.kind,
                "question": record.prompt[-1].content,
            }
            line |= distances(assistant.occlusion(question), record)
            print(json.dumps(line), flush=True)
            measured.append(line)
    print(json.dumps(summary(measured), indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--panoramas", type=int, default=16)
    parser.add_argument("--skip", type=int, default=0, help="panoramas left out at the beginning")
    return parser.parse_args()


def _correctly_answered(
    assistant: Assistant, panorama: OpenedPanorama, records: Sequence[Record]
) -> Iterator[tuple[Record, Question]]:
    """Yield for each kind the first question about one object that is answered correctly."""
    for kind in KINDS:
        for record in records:
            if record.kind != kind or record.pitch_deg is None or record.response == "nothing":
                continue
            question = Question.about(panorama, record.messages[0].content)
            if assistant.answer([question])[0].text == record.response:
                yield record, question
                break


def distances(found: Occlusion, record: Record) -> dict[str, Any]:
    """Compute how far a peak, and on average a cap, lies from the object of a record."""
    target = _ray(record.yaw_deg or 0.0, record.pitch_deg or 0.0)
    from_caps = np.degrees(angles_between(found.caps.centres, target))
    peak = found.peak_deg
    distance = None if peak is None else float(np.degrees(angles_between(_ray(*peak), target)))
    return {
        "distance_deg": distance,
        "largest_drop": float(found.drops.max()),
        "chance_mean_deg": float(from_caps.mean()),
        "chance_median_deg": float(np.median(from_caps)),
        "chance_near": float((from_caps <= NEAR_DEG).mean()),
    }


def _ray(yaw_deg: float, pitch_deg: float) -> Floats:
    return rays_from_angles(np.radians(np.array(yaw_deg)), np.radians(np.array(pitch_deg)))


def summary(measured: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Summarise for each kind and for all; answers without a peak are counted and left out."""
    of_kinds = {kind: [line for line in measured if line["kind"] == kind] for kind in KINDS}
    return {name: _summed(lines) for name, lines in (of_kinds | {"all": measured}).items() if lines}


def _summed(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    found = [line for line in lines if line["distance_deg"] is not None]
    distance = np.array([line["distance_deg"] for line in found])
    chance = {
        name: float(np.mean([line[name] for line in found]))
        for name in ("chance_mean_deg", "chance_median_deg", "chance_near")
    }
    return {
        "questions": len(lines),
        "without_peak": len(lines) - len(found),
        "median_deg": float(np.median(distance)),
        "mean_deg": float(distance.mean()),
        "near": float((distance <= NEAR_DEG).mean()),
        **chance,
    }


if __name__ == "__main__":
    main()
