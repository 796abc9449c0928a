"""Units of scores: how a score is written, and how far the axis of a chart goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_MEASURED = "–"
"""What stands in a cell for which there is no figure."""


@dataclass(frozen=True)
class Unit:
    """How scores of a kind are written and drawn.

    Attributes:
        name: In a report's JSON.
        factor: What a score is multiplied by to be written.
        decimals: Digits behind the point.
        sign: Written behind a score.
        step_sign: Written behind a difference of two.
        ends: Where the axis of a chart may end, ascending, in scores; the first that holds all is
            taken, and a fourth of it makes a whole step of the axis.
        less_is_better: Whether a score is an error.
        depends_on_set: Whether a score depends on what else is scored beside it.
    """

    name: str
    factor: float
    decimals: int
    sign: str
    step_sign: str
    ends: tuple[float, ...]
    less_is_better: bool = False
    depends_on_set: bool = False

    @property
    def worst(self) -> float:
        """The score of an answer that cannot be read."""
        return self.ends[-1] if self.less_is_better else 0.0

    @property
    def best(self) -> float:
        """The score of a perfect answer."""
        return 0.0 if self.less_is_better else self.ends[-1]

    def score_text(self, score: float | None) -> str:
        """Write a score."""
        return NOT_MEASURED if score is None else f"{self._number(score)}{self.sign}"

    def limits_text(self, limits: Sequence[float] | None) -> str:
        """Write the low and the high end of an interval, without the sign."""
        if limits is None:
            return NOT_MEASURED
        return f"{self._number(limits[0])}–{self._number(limits[1])}"

    def step_text(self, step: float) -> str:
        """Write a difference of two scores with + or -."""
        return f"{self.signed(step)}{self.step_sign}"

    def signed(self, step: float) -> str:
        """Write a difference as `step_text` does, without its unit."""
        rounded = round(self.factor * step, self.decimals) or 0.0
        return f"{rounded:+.{self.decimals}f}"

    def reach_text(self, ends: Mapping[str, Any]) -> str:
        """Write the interval of a difference, from its `low` to its `high`, behind it."""
        if ends["low"] is None:
            return ""
        return f" [{self.signed(ends['low'])}, {self.signed(ends['high'])}]"

    def axis_end(self, most: float) -> float:
        """Return where an axis ends that holds scores up to `most`."""
        return next((end for end in self.ends if most <= end), self.ends[-1])

    def tick(self, score: float) -> str:
        """Write a score at an axis."""
        return f"{round(self.factor * score, 6):g}{self.sign}"

    def _number(self, score: float) -> str:
        return f"{self.factor * score:.{self.decimals}f}"


SHARE = Unit("share", 100.0, 1, " %", " points", (1.0,))
"""Anything in [0, 1], 1 the best."""
DEGREES = Unit("degrees", 1.0, 1, "°", "°", (20.0, 40.0, 60.0, 120.0, 180.0), less_is_better=True)
"""Angles between two directions, in [0, 180]."""
CIDER = Unit("CIDEr", 1.0, 3, "", "", (0.4, 1.0, 2.0, 4.0, 10.0), depends_on_set=True)
"""In [0, 10]; words are weighed by the references of the whole set."""
PLAIN = Unit("number", 1.0, 3, "", "", (1.0,))
"""Figures of a benchmark that no score is in."""
UNITS = {unit.name: unit for unit in (SHARE, DEGREES, CIDER)}
"""All units by their names in reports."""


def is_clear(ends: Mapping[str, Any]) -> bool:
    """Return whether the interval of a difference, if there is one, leaves out 0."""
    return ends["low"] is not None and not ends["low"] <= 0 <= ends["high"]
