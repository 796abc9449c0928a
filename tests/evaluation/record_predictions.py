"""Predictions for single records, scored as an evaluation does."""

from panovlm.data.records import Record
from panovlm.evaluation.benchmarks.records import RECORDS, item_of, rotated
from panovlm.evaluation.scoring import Prediction


def predict(record: Record, answer: str, yaw_shift_deg: float = 0.0) -> Prediction:
    """An answer to a record after the camera has turned right."""
    asked = item_of(record, 1)
    item = rotated(asked, yaw_shift_deg) if yaw_shift_deg else asked
    assert item is not None
    return Prediction(item, answer, RECORDS.score([item], [answer])[0])
