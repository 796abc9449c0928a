"""Any number of questions, answered by many workers: `panovlm ask --in` under Ray Data.

Needs the extra `ray`. The rows of a data set are the lines of a file of questions; the outcome of
each is in columns of its own, so that one broken picture costs one answer and not the job.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
from ray.data import ActorPoolStrategy, Dataset

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import GREEDY, SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.inference.bulk import BATCH_SIZE, Line, LineAnswerer
from panovlm.runtime.progress import hide_loading_bars

COLUMNS = ("image", "question")
BLOCKS_PER_WORKER = 8
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
    are in one worker, as `answer_dataset` arranges them.

    Args:
        model: Folder of a model or a run, which every worker sees.
        folder: Where relative paths of pictures begin.
        sampling: How answers are generated.
        grounded: Whether there are the columns `grounding`, the direction that an answer names, and
            `regions`, those of the sphere that it is about.
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
        assistant = Assistant.load(Path(model))
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
    """Answer all rows of a data set; each picture is opened once for all questions about it.

    Nothing runs before the result is read or written. The rows are sorted by picture first and
    stay in that order: number them where their own order counts.

    Args:
        dataset: Columns `image` (a path that every worker sees) and `question`, and any others.
        model: As in `DatasetAnswerer`, and so are folder, sampling, grounded, and the result.
        folder: Where relative paths of pictures begin.
        sampling: How answers are generated.
        grounded: Whether there are the columns `grounding` and `regions`.
        num_workers: Processes that each hold the model.
        num_blocks: Parts of the rows that workers take, and repeat after a crash; if left out, as
            many for each worker as keep all busy to the end.
        batch_size: Questions answered together.
        **worker: Resources of each worker, as in `Dataset.map_batches`: num_gpus, num_cpus, memory.
    """
    names = dataset.columns(fetch_if_missing=False)  # where they are known without reading
    if names is not None:
        _check_columns(names)
    # By hash, each picture in one block; by order, its rows one after the other in it.
    by_picture = dataset.repartition(
        num_blocks or BLOCKS_PER_WORKER * num_workers, keys=["image"], sort=True
    )
    return by_picture.map_batches(
        DatasetAnswerer,
        # Absolute, since workers do not run in this folder.
        fn_constructor_args=(Path(model).absolute(), Path(folder).absolute(), sampling),
        fn_constructor_kwargs={"grounded": grounded},
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ActorPoolStrategy(size=num_workers),
        **worker,
    )


def _check_columns(names: list[str]) -> None:
    if missing := [name for name in COLUMNS if name not in names]:
        raise PanoVLMError(
            f"found the columns {', '.join(names)} without {' and '.join(missing)}, expected "
            f"{' and '.join(COLUMNS)}; rename them (Dataset.rename_columns)"
        )
