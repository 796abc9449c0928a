"""Any number of questions, answered by many workers: `panovlm ask --in` under Ray Data.

Needs the extra `ray`. The rows of a data set are the lines of a file of questions; what came of
each stands in columns of its own, so that one broken picture costs one answer and not the job.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
from ray.data import ActorPoolStrategy, Dataset

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import GREEDY, SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.inference.lines import BATCH_SIZE, Line, LineAnswerer
from panovlm.runtime.progress import hide_loading_bars

ASKED = ("image", "question")
BLOCKS_PER_WORKER = 8
GROUNDING = pa.struct(
    [(name, pa.float64()) for name in ("yaw_deg", "pitch_deg", "width_deg", "height_deg")]
)
# Types are said here: those of a batch in which nothing was answered could not be guessed, and
# the files written of one data set would differ.
OUTCOME = {"answer": pa.string(), "finish_reason": pa.string(), "error": pa.string()}


class DatasetAnswerer:
    """Answers the batches of a data set: for `Dataset.map_batches` with batch_format="pyarrow".

    Each worker loads the model once. Rows about one picture that follow one another in a worker
    share what was read of it, as `answer_dataset` lets them.

    Args:
        model: Folder of a model or a run, which every worker sees.
        folder: Where relative paths of pictures begin.
        sampling: How answers shall be said.
        grounded: Whether there is a column `grounding`: the direction that an answer names.

    Raises:
        PanoVLMError: If there is no such model.
    """

    def __init__(
        self,
        model: Path | str,
        folder: Path | str = "",
        sampling: SamplingParams = GREEDY,
        *,
        grounded: bool = False,
    ) -> None:
        hide_loading_bars()
        self._answerer = LineAnswerer(
            Assistant.load(Path(model)), Path(folder), sampling, grounded=grounded
        )
        self._types = OUTCOME | ({"grounding": GROUNDING} if grounded else {})

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Answer a batch.

        Args:
            batch: Columns `image` (a path) and `question`, and any others.

        Returns:
            The same rows and columns with `answer` and `finish_reason`, or `error`; what does not
            apply is null. Columns of these names that were there before are replaced.

        Raises:
            PanoVLMError: If image or question is no column.
        """
        _check_columns(batch.column_names)
        asked = batch.select(ASKED).to_pylist()
        outcomes = self._answerer.answer([Line.of(fields) for fields in asked])
        kept = batch.drop_columns([name for name in self._types if name in batch.column_names])
        for name, kind in self._types.items():
            values = [outcome.get(name) for outcome in outcomes]
            kept = kept.append_column(name, pa.array(values, kind))
        return kept


def answer_dataset(
    dataset: Dataset,
    model: Path | str,
    folder: Path | str = "",
    sampling: SamplingParams = GREEDY,
    *,
    grounded: bool = False,
    num_workers: int = 1,
    num_blocks: int | None = None,
    batch_size: int = BATCH_SIZE,
    **worker: Any,
) -> Dataset:
    """Answer all rows of a data set; each picture is opened once, whatever is asked about it.

    Nothing runs before the result is read or written. The rows are brought together by their
    pictures first and stay in that order: give them numbers where their own order counts.

    Args:
        dataset: Columns `image` (a path that every worker sees) and `question`, and any others.
        model: Folder of a model or a run, likewise.
        folder: Where relative paths of pictures begin.
        sampling: How answers shall be said.
        grounded: Whether there is a column `grounding`: the direction that an answer names.
        num_workers: Processes that each hold the model.
        num_blocks: Parts in which the rows are handed to the workers, and done again after a crash;
            if left out, as many for each worker as keep all busy to the end.
        batch_size: Questions answered together.
        **worker: What each worker takes, as `Dataset.map_batches` says it: num_gpus, num_cpus,
            memory.

    Returns:
        The columns that `DatasetAnswerer` gives.

    Raises:
        PanoVLMError: If image or question is known to be no column.
    """
    names = dataset.columns(fetch_if_missing=False)  # where they are known without reading
    if names is not None:
        _check_columns(names)
    # By hash, each picture in one block; by order, its rows one after the other in it.
    together = dataset.repartition(
        num_blocks or BLOCKS_PER_WORKER * num_workers, keys=["image"], sort=True
    )
    # Workers do not run in this folder.
    places = (Path(model).absolute(), Path(folder).absolute())
    return together.map_batches(
        DatasetAnswerer,
        fn_constructor_args=(*places, sampling),
        fn_constructor_kwargs={"grounded": grounded},
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ActorPoolStrategy(size=num_workers),
        **worker,
    )


def _check_columns(names: list[str]) -> None:
    if missing := [name for name in ASKED if name not in names]:
        raise PanoVLMError(
            f"found the columns {', '.join(names)} without {' and '.join(missing)}, expected "
            f"{' and '.join(ASKED)}; rename them (Dataset.rename_columns)"
        )
