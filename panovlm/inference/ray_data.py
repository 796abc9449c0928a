"""Any number of questions, answered by many workers: `panovlm ask --in` under Ray Data.

Needs the extra `ray`. The rows of a data set are the lines of a file of questions; the outcome of
each is in columns of its own, so that one broken picture costs one answer and not the job.
"""

from pathlib import Path

import pyarrow as pa

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import GREEDY, SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.inference.bulk import Line, LineAnswerer
from panovlm.runtime.arithmetic import Dtype
from panovlm.runtime.progress import hide_loading_bars

COLUMNS = ("image", "question")
GROUNDING = pa.struct(
    [(name, pa.float64()) for name in ("yaw_deg", "pitch_deg", "width_deg", "height_deg")]
)
REGION = pa.struct([("label", pa.string()), *GROUNDING, ("source", pa.string())])
GROUNDED = {"grounding": GROUNDING, "regions": pa.list_(REGION)}
# Types are fixed: those of a batch without any answer could not be inferred, and the files written
# of one data set would differ.
OUTCOME = {"answer": pa.string(), "finish_reason": pa.string(), "error": pa.string()}


class DatasetAnswerer:
    """Answers the batches of a data set: for `Dataset.map_batches` with batch_format="pyarrow".

    Each worker loads the model once. Consecutive rows about one picture share its prefix, if they
    are in one worker: `docs/tasks/bulk.md` has how a data set is arranged so.

    Args:
        model: Folder of a model or a run, which every worker sees.
        folder: Where relative paths of pictures begin.
        sampling: How answers are generated.
        dtype: Arithmetic of the language model; workers on unlike machines need one, not `auto`.
        grounded: Whether there are the columns `grounding`, the direction that an answer names, and
            `regions`, those of the sphere that it is about.
    """

    def __init__(
        self,
        model: Path | str,
        folder: Path | str = "",
        sampling: SamplingParams = GREEDY,
        *,
        dtype: Dtype = "auto",
        grounded: bool = False,
    ) -> None:
        hide_loading_bars()
        assistant = Assistant.load(Path(model), dtype=dtype)
        self._answerer = LineAnswerer(assistant, Path(folder), sampling, grounded=grounded)
        self._types = OUTCOME | (GROUNDED if grounded else {})

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Answer a batch with columns `image` (a path) and `question`, and any others.

        Returns:
            The same rows and columns with `answer` and `finish_reason`, or `error`; what does not
            apply is null. Columns of these names that were there before are replaced.
        """
        _check_columns(batch.column_names)
        outcomes = self._answerer.answer([*map(Line, batch.select(COLUMNS).to_pylist())])
        batch = batch.drop_columns([name for name in self._types if name in batch.column_names])
        for name, kind in self._types.items():
            values = pa.array([outcome.get(name) for outcome in outcomes], kind)
            batch = batch.append_column(name, values)
        return batch


def _check_columns(names: list[str]) -> None:
    if missing := [name for name in COLUMNS if name not in names]:
        raise PanoVLMError(
            f"found the columns {', '.join(names)} without {' and '.join(missing)}, expected "
            f"{' and '.join(COLUMNS)}; rename them (Dataset.rename_columns)"
        )
