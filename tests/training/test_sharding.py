"""FSDP2 over two processes: loss and gradients of one, and whole checkpoints, with text."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
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
from panovlm.training import ranks, sharded
from panovlm.training.sections import LoraSection
from panovlm.training.trainable import apply_stage
from panovlm.training.trainer import StageTrainer

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
    ranks.finalize()


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
    found = torch.load(tmp_path / "result.pt", weights_only=True)
    alone = model(**batch_of(model, 4)).loss
    alone.backward()
    assert found["loss"].item() == pytest.approx(alone.item(), abs=1e-5)
    expected = gradients(model)
    assert found["gradients"].keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found["gradients"][name], gradient, atol=1e-5), name


def made(model: PreTrainedModel, rank: int) -> torch.optim.Optimizer:
    """Shard a model and train it for two steps."""
    shard(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": trained[:3], "lr": 1e-2}, {"params": trained[3:], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    for _ in range(2):
        step(model, optimizer, rank)
    return optimizer


def step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, rank: int) -> None:
    batch = {name: each[2 * rank : 2 * rank + 2] for name, each in batch_of(model, 4).items()}
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def standing(model: PreTrainedModel, optimizer: torch.optim.Optimizer, rank: int) -> Any:
    """What the trainer's saving and loading read of it: on CPUs it would not shard by itself."""
    return SimpleNamespace(
        model=model,
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer),
        args=SimpleNamespace(should_save=rank == 0),
    )


def go_on(rank: int, folder: Path, model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Save after two steps as a checkpoint does, go on; load into another model, go on too."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    optimizer = made(model, rank)
    saved = sharded.trained_weights(model)
    StageTrainer.save_model(first := standing(model, optimizer, rank), str(folder))
    StageTrainer._save_optimizer_and_scheduler(first, str(folder))
    dist.barrier()
    fresh = made(other, rank)
    StageTrainer._load_from_checkpoint(second := standing(other, fresh, rank), str(folder))
    StageTrainer._load_optimizer_and_scheduler(second, str(folder))
    for each, its in ((model, optimizer), (other, fresh)):
        step(each, its, rank)
    ends = [sharded.trained_weights(each) for each in (model, other)]
    if rank == 0:
        torch.save({"saved": saved, "ends": ends}, folder / "result.pt")
    ranks.finalize()


def test_a_sharded_run_goes_on_from_what_it_saved_bit_for_bit(
    model_of_stage: Callable[[str], PreTrainedModel], tmp_path: Path
) -> None:
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = model_of_stage("finetune")
        apply_stage(model, STAGES["finetune"], LoraSection())
        models.append(model)
    for parameter in models[1].parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.05)  # so that what is loaded counts
    shapes = {n: p.shape for n, p in sharded.trained_parameters(models[0]).items()}
    mp.spawn(go_on, (tmp_path, *models), nprocs=2)
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    assert {name: weight.shape for name, weight in result["saved"].items()} == shapes
    whole, resumed = result["ends"]
    assert any(not torch.equal(whole[name], result["saved"][name]) for name in whole)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    alone = model_of_stage("finetune")
    apply_stage(alone, STAGES["finetune"], LoraSection())
    sharded.load_trained(alone, result["saved"])
    assert all(torch.equal(alone.get_parameter(n), w) for n, w in result["saved"].items())
