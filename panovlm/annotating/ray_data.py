"""Any number of pictures, annotated by many workers: `panovlm annotate` under Ray Data.

The function works on plain columns, so that it needs no Ray itself.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panovlm.annotating.picture import Picture, Setup
from panovlm.annotating.run import Failure, attempt
from panovlm.errors import PanoVLMError

Columns = dict[str, NDArray[Any]]


def annotate_batch(batch: Columns, setup: Setup, folder: Path | str = "") -> Columns:
    """Annotate the pictures of a batch: for `Dataset.map_batches` with its usual batch format.

    Models are loaded once in each process. One broken picture costs its own row and not the job.

    Args:
        batch: The column `image` (a path that every worker sees), and maybe `group`; others stay.
        setup: Who annotates, and how.
        folder: Where relative paths begin.

    Returns:
        The same columns with `annotation`, its line of JSON as the command writes it, and `error`;
        of both the one that does not apply is empty.

    Raises:
        PanoVLMError: If the column is missing or the teacher cannot be used.
    """
    if "image" not in batch:
        raise PanoVLMError(
            f"found the columns {', '.join(batch)} without image, expected it; rename one "
            "(Dataset.rename_columns)"
        )
    groups = batch.get("group", [None] * len(batch["image"]))
    annotations, errors = [], []
    for image, group in zip(batch["image"], groups, strict=True):
        picture = Picture(Path(folder) / str(image), str(image), group and str(group))
        result = attempt(picture, setup)
        annotations.append("" if isinstance(result, Failure) else result.to_line())
        errors.append(result.reason if isinstance(result, Failure) else "")
    return {**batch, "annotation": np.array(annotations), "error": np.array(errors)}
