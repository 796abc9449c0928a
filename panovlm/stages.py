"""The three training stages as one table; nothing else in the package branches on a name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class Role(StrEnum):
    """What a stage does with a module."""

    TRAINED = "trained"
    FROZEN = "frozen"
    ABSENT = "–"


class Objective(StrEnum):
    """What a stage minimises."""

    VICREG_OVERLAP = "VICReg on the overlap of neighbouring views"
    NEXT_TOKEN = "next-token cross entropy"


class Supervision(StrEnum):
    """Which text tokens carry the loss; image positions never do."""

    NONE = "–"
    ALL_TEXT = "all text after the picture"
    RESPONSES = "responses only"


TRAINED, FROZEN, ABSENT = Role.TRAINED, Role.FROZEN, Role.ABSENT
MODULES = (
    "vision_encoder",
    "resampler",
    "vicreg_projector",
    "projection",
    "language_model",
    "lora",
)
"""The columns of the table, by the names the modules have in the code.

`projection` includes the sphere position, `language_model` means that model's own weights, and
`lora` the adapters in it.
"""


def _roles(*roles: Role) -> dict[str, Role]:
    return dict(zip(MODULES, roles, strict=True))


@dataclass(frozen=True)
class Stage:
    """One row of the table."""

    name: str  # as in recipes and run folders
    objective: Objective
    supervision: Supervision
    roles: Mapping[str, Role]  # of each of `MODULES`
    starts_from: str | None  # the stage whose trained modules this one continues
    expected_first: tuple[float, float]  # range of the first loss with pretrained backbones
    expected_last: tuple[float, float]  # range of the last one
    num_vision_layers: int = 0  # last layers of the vision encoder that train all the same

    def role(self, module: str) -> Role:
        """Return the role of one of `MODULES`."""
        return self.roles[module]

    @property
    def trained_modules(self) -> tuple[str, ...]:
        """Modules whose weights this stage changes as a whole."""
        return tuple(name for name in MODULES if self.role(name) is TRAINED)

    @property
    def changed_modules(self) -> tuple[str, ...]:
        """Modules whose weights its output has changed: adapters are merged into their model."""
        return tuple("language_model" if m == "lora" else m for m in self.trained_modules)

    def with_last_vision_layers(self, count: int) -> "Stage":
        """Return the variant that also trains the last `count` layers of the vision encoder."""
        return replace(self, num_vision_layers=count)

    def from_backbones(self) -> "Stage":
        """Return the variant that continues no other stage."""
        return replace(self, starts_from=None)

    def with_lora(self) -> "Stage":
        """Return the variant that trains adapters in the language model."""
        return replace(self, roles={**self.roles, "lora": TRAINED})

    def with_language_model(self) -> "Stage":
        """Return the variant that trains the language model itself, without adapters."""
        return replace(self, roles={**self.roles, "language_model": TRAINED, "lora": ABSENT})

    def without_lora(self) -> "Stage":
        """Return the variant that leaves the language model as it is."""
        return replace(self, roles={**self.roles, "lora": ABSENT})


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="vision",
            objective=Objective.VICREG_OVERLAP,
            supervision=Supervision.NONE,
            roles=_roles(FROZEN, TRAINED, TRAINED, ABSENT, ABSENT, ABSENT),
            starts_from=None,
            expected_first=(50, 100),
            expected_last=(10, 30),
        ),
        Stage(
            name="resampler",
            objective=Objective.NEXT_TOKEN,
            supervision=Supervision.ALL_TEXT,
            roles=_roles(FROZEN, TRAINED, ABSENT, TRAINED, FROZEN, ABSENT),
            starts_from="vision",
            expected_first=(8, 12),
            expected_last=(2, 4),
        ),
        Stage(
            name="finetune",
            objective=Objective.NEXT_TOKEN,
            supervision=Supervision.RESPONSES,
            roles=_roles(FROZEN, TRAINED, ABSENT, TRAINED, FROZEN, TRAINED),
            starts_from="resampler",
            expected_first=(2, 4),
            expected_last=(0.5, 1.5),
        ),
    )
}
"""The stage table, in the order of training."""


def stage_rows() -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table as text, a column for each stage."""
    stages = STAGES.values()
    rows = [
        ["loss", *(stage.objective.value for stage in stages)],
        ["supervised", *(stage.supervision.value for stage in stages)],
        *([module, *(stage.role(module).value for stage in stages)] for module in MODULES),
        ["starts from", *(stage.starts_from or "backbones" for stage in stages)],
    ]
    return ["", *(stage.name for stage in stages)], rows
