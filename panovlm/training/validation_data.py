"""The records and pictures that a stage is validated on."""

from collections.abc import Sequence

import numpy as np

from panovlm.data.datasets import PanoramaCollator, PanoramaDataset
from panovlm.data.mixture import MixturePart
from panovlm.data.records import Needs, Record
from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.progress import console
from panovlm.stages import Supervision
from panovlm.training import ranks
from panovlm.training.data_sources import read_source
from panovlm.training.sources import FeatureSource
from panovlm.training.stage_data import parts_and_watched
from panovlm.training.stage_run import StageRun
from panovlm.training.validation import Validation


def validation_records(run: StageRun) -> list[Record]:
    """Read the records that a stage is validated on, if any."""
    validation = run.section.validation
    if validation is None:
        return []
    if validation.share is not None:
        watched = parts_and_watched(run)[1]
        console.print(f"{run.name}: {len(watched):,} records set apart to validate on")
        return watched
    source = run.watched_source
    return read_source(source, Needs.of(run.stage.supervision), run.recipe.seed) if source else []


def report_shared(run: StageRun, records: Sequence[Record], watched: Sequence[Record]) -> None:
    """Print how many panoramas are both trained and validated on."""
    trained_on = {picture for record in records for picture in record.pictures}
    shown = {picture for record in watched for picture in record.pictures}
    if shared := len(shown & trained_on):
        console.print(
            f"{run.name}: {shared} of the {len(shown)} panoramas of the validation are trained on "
            f"as well, so it may not show overfitting"
        )


def build_validation(
    run: StageRun,
    processor: PanoVLMProcessor,
    records: list[Record],
    source: FeatureSource,
    longest: int,
) -> Validation | None:
    """Build what scores a stage's model on records; None where the recipe asks for none.

    Args:
        run: The stage.
        processor: Tokenises the conversations.
        records: Of `validation_records`.
        source: Loads their pictures.
        longest: Tokens that the language model reads at most.

    Raises:
        PanoVLMError: If a conversation is too long.
    """
    section = run.section
    if section.validation is None:
        return None
    dataset = PanoramaDataset(
        [MixturePart(records)],
        [source],
        processor,
        run.stage.supervision,
        section.questions_per_panorama,
        roll=False,
        seed=run.recipe.seed,
    )
    with ranks.synchronized():
        dataset.check_lengths(longest)
    has_text = run.stage.supervision is not Supervision.NONE
    count = min(section.validation.answers, len(records)) if has_text else 0
    places = np.linspace(0, len(records) - 1, count).round().astype(int)
    return Validation(
        section.validation,
        dataset,
        PanoramaCollator(source.key, processor.tokenizer.pad_token_id),
        ranks.batch_size_per_rank(section.batch_size),
        [records[place] for place in places],
    )
