"""What stage 1 minimises on the tokens of a batch, as its recipe says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from panovlm.training.overlap.gathering import join_processes
from panovlm.training.overlap.infonce import infonce_loss
from panovlm.training.overlap.pairs import PairIndex, Pairing
from panovlm.training.overlap.vicreg import VICRegTerms, vicreg_loss, vicreg_loss_by_pair

Statistics = Literal["batch", "pair"]


@dataclass(frozen=True)
class OverlapObjective:
    """Settings of stage 1; they are about training, and no part of a model's configuration.

    Attributes:
        pairing: Which tokens are partners: `columns` one by one, or `rays` exactly.
        loss: `vicreg` or `infonce`.
        statistics: Of VICReg: over all tokens of all processes' batches, or each pair of views'.
        temperature: Of InfoNCE.
    """

    pairing: Pairing = "columns"
    loss: Literal["vicreg", "infonce"] = "vicreg"
    statistics: Statistics = "batch"
    temperature: float = 0.2


BY_COLUMNS = OverlapObjective()
"""VICReg on shared columns over the whole batch."""


def overlap_loss(
    tokens: Tensor, pairs: PairIndex, objective: OverlapObjective
) -> dict[str, Tensor]:
    """Compute the loss of paired tokens.

    Args:
        tokens: Projected tokens of B panoramas, [B, V·T, D].
        pairs: Which of them are partners.
        objective: What to minimise.

    Returns:
        `loss`, and detached the terms it consists of, if any.
    """
    current, following = pairs.pair(tokens)
    if objective.loss == "infonce":
        arguments = (pairs.couples, pairs.weights, objective.temperature)
        return {"loss": infonce_loss(current, following, *arguments)}
    terms = STATISTICS[objective.statistics](current, following, pairs)
    names = ("invariance", "variance", "covariance")
    return {"loss": terms.loss} | {name: getattr(terms, name).detach() for name in names}


def _over_batch(current: Tensor, following: Tensor, pairs: PairIndex) -> VICRegTerms:
    sides = (join_processes(side.flatten(0, 1)) for side in (current, following))
    a, b = sides
    return vicreg_loss(a, b, pairs.weights.repeat(len(a) // len(pairs.weights)))


def _over_pairs(current: Tensor, following: Tensor, pairs: PairIndex) -> VICRegTerms:
    count = len(current)
    return vicreg_loss_by_pair(
        pairs.by_couple(current),
        pairs.by_couple(following),
        pairs.weights[pairs.slots].repeat(count, 1),
        pairs.present.repeat(count, 1),
    )


STATISTICS: dict[Statistics, Callable[[Tensor, Tensor, PairIndex], VICRegTerms]] = {
    "batch": _over_batch,
    "pair": _over_pairs,
}
