"""What stage 1 minimises on the tokens of a batch, as its recipe asks for."""

from torch import Tensor

from panovlm.training.overlap.gathering import gather_with_gradient
from panovlm.training.overlap.infonce import infonce_loss
from panovlm.training.overlap.pairs import PairIndex
from panovlm.training.overlap.vicreg import VICRegTerms, vicreg_loss, vicreg_loss_by_pair
from panovlm.training.sections import OverlapSection


def overlap_loss(tokens: Tensor, pairs: PairIndex, overlap: OverlapSection) -> dict[str, Tensor]:
    """Compute the loss of paired tokens.

    Args:
        tokens: Projected tokens of B panoramas, [B, V·T, D].
        pairs: Which of them are partners.
        overlap: What to minimise.

    Returns:
        `loss`, and of VICReg the terms it consists of, detached.
    """
    current, following = pairs.pair(tokens)
    if overlap.objective == "infonce":
        arguments = (pairs.view_pair_ids, pairs.weights, overlap.temperature)
        return {"loss": infonce_loss(current, following, *arguments)}
    over = _vicreg_by_pair if overlap.statistics == "pair" else _vicreg_of_batch
    terms = over(current, following, pairs, overlap.vicreg.gamma)
    parts = {name: each.detach() for name, each in vars(terms).items()}
    return {"loss": terms.loss(overlap.vicreg)} | parts


def _vicreg_of_batch(
    current: Tensor, following: Tensor, pairs: PairIndex, gamma: float
) -> VICRegTerms:
    a, b = (gather_with_gradient(side.flatten(0, 1)) for side in (current, following))
    return vicreg_loss(a, b, pairs.weights.repeat(len(a) // len(pairs.weights)), gamma)


def _vicreg_by_pair(
    current: Tensor, following: Tensor, pairs: PairIndex, gamma: float
) -> VICRegTerms:
    count = len(current)
    return vicreg_loss_by_pair(
        pairs.by_view_pair(current),
        pairs.by_view_pair(following),
        pairs.weights[pairs.slots].repeat(count, 1),
        pairs.present.repeat(count, 1),
        gamma,
    )
