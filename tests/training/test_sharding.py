"""FSDP2 over two processes gives the loss and the gradients of one, in the stages with text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from panovlm.stages import STAGES
from panovlm.training.recipe import LoraSection
from panovlm.training.trainable import apply_stage

NUM_VIEWS, PATCHES, WIDTH, IMAGE_TOKENS, LENGTH = 4, 16, 32, 32, 40


def batch_of(model: PreTrainedModel, rows: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 200, (rows, LENGTH), generator=generator)
    ids[:, :IMAGE_TOKENS] = model.config.image_token_id
    labels = ids.clone()
    labels[:, : IMAGE_TOKENS + 1] = -100
    tokens = torch.randn(rows, NUM_VIEWS, PATCHES, WIDTH, generator=generator)
    return {"input_ids": ids, "labels": labels, "patch_tokens": tokens}


def shard(model: PreTrainedModel) -> None:
    """Shard what runs by itself, then the rest, as the launchers' plans do."""
    parts = (model.model.vision_encoder, model.model.resampler, model.model.projection)
    for module in (*parts, *model.model.language_model.layers):
        fully_shard(module)
    fully_shard(model)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {n: g.full_tensor() if isinstance(g, DTensor) else g for n, g in found.items()}


def work(rank: int, folder: Path, model: PreTrainedModel) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    whole = batch_of(model, 4)
    batch = {name: tensor[2 * rank : 2 * rank + 2] for name, tensor in whole.items()}
    shard(model)
    loss = model(**batch).loss
    loss.backward()
    dist.all_reduce(loss := loss.detach())
    result = {"loss": loss / 2, "gradients": gradients(model)}
    if rank == 0:
        torch.save(result, folder / "result.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("stage", ["resampler", "finetune"])
def test_sharded_training_gives_the_loss_and_gradients_of_one_process(
    stage: str, model_of_stage: Callable[[str], PreTrainedModel], tmp_path: Path
) -> None:
    model = model_of_stage(stage)
    torch.manual_seed(0)
    apply_stage(model, STAGES[stage], LoraSection())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradient of lora_A
            nn.init.normal_(parameter, std=0.1)
    mp.spawn(work, (tmp_path, model), nprocs=2)
    sharded = torch.load(tmp_path / "result.pt", weights_only=True)
    alone = model(**batch_of(model, 4)).loss
    alone.backward()
    assert sharded["loss"].item() == pytest.approx(alone.item(), abs=1e-5)
    expected = gradients(model)
    assert sharded["gradients"].keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(sharded["gradients"][name], gradient, atol=1e-5), name
