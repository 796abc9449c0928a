"""Two processes with half a batch each compute what one computes with all of it."""

import socket
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.training import ranks
from panovlm.training.overlap.gathering import gather_with_gradient
from panovlm.training.overlap.modeling import overlap_loss
from panovlm.training.overlap.pairs import pair_index
from panovlm.training.sections import OverlapSection

OBJECTIVES = [
    OverlapSection(pairing="columns"),
    OverlapSection(pairing="rays"),
    OverlapSection(pairing="rays", statistics="pair"),
]


def loss_and_gradient(latents, objective, wrap=lambda module: module):
    """The loss of latents [B, V·T, D] after a linear projector, and the projector's gradient."""
    torch.manual_seed(0)
    projector = nn.Linear(6, 5)
    index = pair_index(ViewLayout.ring(4, 150.0), 2, 4, objective.pairing, torch.device("cpu"))
    wrapped = wrap(projector)  # it averages gradients only as long as it is there
    loss = overlap_loss(wrapped(latents), index, objective)["loss"]
    loss.backward()
    return loss.item(), projector.weight.grad, projector.bias.grad


def batch():
    return torch.randn(4, 4 * 8, 6, generator=torch.Generator().manual_seed(1)) * 0.5


def work(rank, port, folder):
    """What one of two processes does: its half of the batch, then a batch of another length."""
    dist.init_process_group(
        "gloo",
        f"tcp://127.0.0.1:{port}",
        world_size=2,
        rank=rank,
        timeout=timedelta(seconds=120),
    )
    half = batch()[2 * rank : 2 * rank + 2]
    wrap = nn.parallel.DistributedDataParallel
    torch.save(
        [loss_and_gradient(half, objective, wrap) for objective in OBJECTIVES],
        folder / f"{rank}.pt",
    )
    try:
        gather_with_gradient(torch.zeros(3 + 2 * rank, 4))
    except PanoVLMError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    ranks.finalize()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder in which two processes left what they found."""
    folder = tmp_path_factory.mktemp("results")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, folder), nprocs=2)
    return folder


def test_two_processes_have_the_loss_and_the_gradient_of_one_with_the_joined_batch(results):
    halves = [torch.load(results / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for objective, *found in zip(OBJECTIVES, *halves, strict=True):
        loss, *gradients = loss_and_gradient(batch(), objective)
        mean = sum(each[0] for each in found) / 2
        assert mean == pytest.approx(loss, abs=1e-5), objective
        if objective.statistics == "batch":  # both know the whole batch
            assert found[0][0] == found[1][0]
        for _, *own in found:
            torch.testing.assert_close(own, gradients, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 1])
def test_batches_of_different_lengths_are_refused_by_every_process(results, rank):
    assert "found [3, 5] tokens on the processes" in (results / f"{rank}.txt").read_text()


def test_one_process_keeps_its_own_tensor():
    tensor = torch.zeros(3, 4)
    assert gather_with_gradient(tensor) is tensor
