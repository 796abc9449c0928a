"""Which teacher the options of the command line ask for."""

from panovlm.annotating.packaged import PackagedTeacher
from panovlm.annotating.teachers import ViewTeacher

SUPPORT_SHARE = 0.6
"""A detection of so much of the score asked for speaks for what another view shows."""


def choose_teacher(
    name: str,
    *,
    labels: str | None,
    min_score: float,
    signs: bool,
    endpoint: str | None,
    key: str | None,
    workers: int | None,
) -> ViewTeacher:
    return PackagedTeacher(SUPPORT_SHARE * min_score, signs)
