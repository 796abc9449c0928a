"""Predictions for single records, scored as an evaluation does."""

from panovlm.data.records import Record
from panovlm.evaluation.benchmarks.records import RECORDS, item_of, rotated
from panovlm.evaluation.scoring import Prediction


def predict(record: Record, answer: str, yaw_shift_deg: float = 0.0) -> Prediction:
    """An answer to a record after the camera has turned right."""
    item = rotated(item_of(record, 1), yaw_shift_deg)
    return Prediction(record, item, answer, RECORDS.score([item], [answer])[0])
