"""What a stage's `data` names: one path, or a list of files with weights and caps."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
)

from panovlm.data.formats.reading import scan_trained
from panovlm.data.mixture import capped
from panovlm.data.record_files import Checked, check_records
from panovlm.data.records import Needs
from panovlm.pictures.declaring import Declaration
from panovlm.training.sections import Count, Section

PATH_TAG, LIST_TAG = "<path>", "<list>"
TAGS = {PATH_TAG, LIST_TAG}
"""What pydantic puts into the place of an error beside the recipe's own keys."""


class DataSource(Section):
    """One of several files of records, or streams, that a stage trains on."""

    path: Path
    """Records (JSONL), or a stream beside others."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How often each of its examples comes in an epoch: 2 is twice, 0.5 in every other epoch. Of a
    stream, its share of all examples beside the weights of the others."""
    limit: Count | None = None
    """Records at most, sampled by the seed; the same in every epoch."""
    pictures: Path | None = None
    """Folder that its paths of pictures start from; the stage's `pictures`, or the file's own."""
    declared: Declaration | None = None
    """What its pictures are, of records that do not declare it; the stage's `declared` else."""

    @property
    def facts(self) -> dict[str, Any]:
        """What determines the records, as JSON holds it; defaults are left out."""
        said = {"declared": self.declared.said} if self.declared else {}
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"declared"}) | said


def _as_section(value: Any) -> Any:
    return {"path": value} if isinstance(value, str | Path) else value


def _check_different(sources: tuple[DataSource, ...]) -> tuple[DataSource, ...]:
    paths = [source.path for source in sources]
    twice = [path for path in dict.fromkeys(paths) if paths.count(path) > 1]
    if twice:
        raise ValueError(f"found {twice[0]} twice, expected each once; raise its weight instead")
    return sources


def _tag(value: Any) -> str:
    return LIST_TAG if isinstance(value, list | tuple) else PATH_TAG


Data = Annotated[
    Annotated[Path, Tag(PATH_TAG)]
    | Annotated[
        tuple[
            Annotated[
                DataSource, BeforeValidator(_as_section, json_schema_input_type=Path | DataSource)
            ],
            ...,
        ],
        Field(min_length=1),
        AfterValidator(_check_different),
        Tag(LIST_TAG),
    ],
    Discriminator(_tag),
]
"""One path, or several with their weights and limits."""


def sources_of(
    data: Path | tuple[DataSource, ...], pictures: Path | None, declared: Declaration | None
) -> tuple[DataSource, ...]:
    """Return the entries of `data`; `pictures` and `declared` are of those that say nothing."""
    sources = data if isinstance(data, tuple) else (DataSource(path=data),)
    return tuple(
        source.model_copy(
            update={
                "pictures": source.pictures or pictures,
                "declared": source.declared or declared,
            }
        )
        for source in sources
    )


def check_source(source: DataSource, needs: Needs, seed: int) -> Checked:
    """Read and check the records of one entry of `data`, and sample its limit of them."""
    checked = check_records({source.path: needs}, scan_trained, source.pictures)
    declared = [
        replace(each, record=each.record.declared_by(source.declared)) for each in checked.records
    ]
    return Checked(capped(declared, source.limit, seed), checked.findings)
