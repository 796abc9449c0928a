"""StageTrainer: transformers' Trainer, with what the stages need and the library does not have.

That is a learning rate for each module, the same panoramas in each step on any number of processes,
streams, validation that changes nothing, and checkpoints that are small, atomic and resume bit for
bit. It overrides private methods of `Trainer` for them, so it may need a change when transformers
is upgraded. Nothing reads the device between two entries of the log but the library itself.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerState
from transformers.optimization import _get_cosine_schedule_with_warmup_lr_lambda as cosine

from panovlm.data.streaming import StreamDataset
from panovlm.errors import PanoVLMError
from panovlm.runtime.progress import console
from panovlm.training import ranks
from panovlm.training.checkpoints import PARTIAL, publish, step_of, whole_checkpoints
from panovlm.training.disk import disk_errors
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining
from panovlm.training.recipe import StageSection
from panovlm.training.sampler import SequenceSampler
from panovlm.training.sharded import is_sharded, load_trained, trained_parameters, trained_weights
from panovlm.training.throughput import VIEWS, Throughput
from panovlm.training.trainable import module_of
from panovlm.training.validation import Validation

TRAINED_WEIGHTS = "trained.safetensors"
SUMS_FILE = "between_logs_{rank}.json"
OPTIMIZER, SCHEDULER, STATE = "optimizer.pt", "scheduler.pt", "trainer_state.json"
"""The library's names."""
WHOLE = StateDictOptions(full_state_dict=True)
SCALARS = ("invariance", "variance", "covariance", "feature_std")
"""Fields of a model's output that are logged beside the loss, where it has them."""


class StageTrainer(Trainer):
    """Trains what `apply_stage` left trainable.

    A checkpoint holds the trained weights alone (safetensors) beside the library's own optimizer,
    scheduler and random state; frozen weights are loaded from the backbones again.

    Args:
        section: Of the recipe.
        validation: What to score the model on while it trains, if anything.
        view_words: Finds the words for views in a batch's `input_ids`; needed for steps on them.
        **kwargs: As for `transformers.Trainer`; the dataset is one of panoramas or a stream.
    """

    def __init__(
        self,
        *,
        section: StageSection,
        validation: Validation | None = None,
        view_words: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs, eval_dataset=validation and validation.dataset)
        self.section, self.validation, self.view_words = section, validation, view_words
        self._check_sharding()
        self.num_skipped = 0
        self.scalars: dict[str, list[Any]] = defaultdict(list)
        self.by_module: dict[str, Any] = {}
        self.throughput = Throughput(getattr(self.data_collator, "pad_id", -1))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Group the trained parameters by module and by whether they decay (matrices do)."""
        groups: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in (model or self.model).named_parameters():
            if parameter.requires_grad:
                groups[module_of(name), parameter.ndim > 1].append(parameter)
        self.group_modules = [module for module, _ in groups]
        build, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        grouped = [
            {
                "params": parameters,
                "lr": getattr(self.section.learning_rate, module),
                "weight_decay": self.args.weight_decay if decays else 0.0,
            }
            for (module, decays), parameters in groups.items()
        ]
        self.optimizer = build(grouped, **options)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """Let the learning rates rise and fall over the steps on words, and again over the rest."""
        word_steps = self.section.word_steps
        if not word_steps:
            return super().create_scheduler(num_training_steps, optimizer)
        warmup = self.args.get_warmup_steps(num_training_steps) / num_training_steps

        def share(step: int) -> float:
            start = 0 if step < word_steps else word_steps
            length = (num_training_steps if start else word_steps) - start
            rising = round(warmup * length)
            counts = {"num_warmup_steps": rising, "num_training_steps": length}
            return cosine(step - start, **counts, num_cycles=0.5)

        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, share)
        return self.lr_scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Return the batches of a step, in the steps on words with words in place of the text."""
        batches = map(self._as_the_step_needs, epoch_iterator)
        return super().get_batch_samples(batches, num_batches, device)

    def _as_the_step_needs(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self.view_words is None or self.state.global_step >= self.section.word_steps:
            return batch
        words = self.view_words(batch["input_ids"])
        views = {key: each for key, each in batch.items() if key in VIEWS}
        # Of `labels` the library counts all but the first, of `shift_labels` all.
        targets = {"labels": words, "shift_labels": words}
        return views | targets | {"word_temperature": self.section.word_temperature}

    def _check_sharding(self) -> None:
        """Refuse launchers that shard a model in a way that nothing here saves."""
        state, message = self.accelerator.state, None
        if self.is_deepspeed_enabled and state.deepspeed_plugin.zero_stage == 3:
            message = (
                "found a launcher that shards the model by ZeRO-3, expected plain processes, "
                "ZeRO-2 or FSDP2; change its sharding options"
            )
        elif self.is_fsdp_enabled and state.fsdp_plugin.fsdp_version != 2:
            message = "found FSDP1, expected FSDP2; set fsdp_version: 2 in the launcher"
        elif self.is_fsdp_enabled and isinstance(self.model, PanoVLMForOverlapPretraining):
            message = (
                "found a launcher that shards the model, expected plain processes for the stage "
                "on overlaps, which has no language model; train it alone without FSDP (--stage)"
            )
        elif self.is_fsdp_enabled and self.validation and self.validation.questions:
            message = (
                "found validation.answers beside a launcher that shards the model, expected plain "
                "processes to generate; leave answers out"
            )
        if message is not None:
            raise ranks.raise_on_all_ranks(message)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequenceSampler:
        """Return the sampler of the whole run: to the library, it is one epoch."""
        args, budget = self.args, self.section.tokens_per_sequence
        per_step = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        return SequenceSampler(self.train_dataset, per_step, args.max_steps, args.seed, budget)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches; a stream distributes its examples to ranks and workers by itself."""
        if not isinstance(self.train_dataset, StreamDataset):
            return super().get_train_dataloader()
        return DataLoader(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Encode the pictures of a stream's batch, and count the skipped examples."""
        if isinstance(self.train_dataset, StreamDataset) and "features" in inputs:
            encoder = self.train_dataset.encoder
            views = [encoder.encode(features) for features in inputs["features"]]
            self.num_skipped += inputs["skipped"]
            rest = {k: v for k, v in inputs.items() if k not in ("features", "skipped")}
            inputs = rest | ({encoder.source.key: torch.stack(views)} if views else {})
        prepared: dict[str, Any] = super()._prepare_inputs(inputs)
        return prepared

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], **kwargs: Any) -> Any:
        """Compute the loss, and keep its scalars and the size of the batch for the log."""
        self.throughput.count(inputs)
        loss, outputs = super().compute_loss(model, inputs, **{**kwargs, "return_outputs": True})
        for name in SCALARS:
            if name in outputs:
                self.scalars[name].append(outputs[name].detach().mean())
        return (loss, outputs) if kwargs.get("return_outputs") else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means of the scalars since the last log, and figures of each module.

        Raises:
            PanoVLMError: If the loss was not finite on some rank since then.
        """
        if "loss" in logs:
            self._check_finite(logs["loss"])
            means = {n: sum(map(float, found)) / len(found) for n, found in self.scalars.items()}
            logs |= means | {name: float(figure) for name, figure in self.by_module.items()}
            logs |= self.throughput.figures(self.args.device)
            self.scalars.clear()
            self.by_module.clear()
            if isinstance(self.train_dataset, StreamDataset):
                logs["skipped"] = sum(ranks.all_gather(self.num_skipped))
        super().log(logs, start_time)

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise ranks.raise_on_all_ranks(
                f"the loss became {loss} by step {self.state.global_step}; lower the learning "
                f"rates or set dtype: fp32, then continue with --resume"
            )

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip the gradients; before a step that is logged, keep each module's rate and norm."""
        step = self.state.global_step + 1
        if step == 1 or step % self.args.logging_steps == 0:
            self.by_module = self._figures_by_module()
        return super()._clip_grad_norm(model)

    def _figures_by_module(self) -> dict[str, Any]:
        gradients: dict[str, list[torch.Tensor]] = defaultdict(list)
        for name, parameter in trained_parameters(self.model).items():
            if parameter.grad is not None:
                gradients[module_of(name)].append(parameter.grad)
        norms = {f"grad_norm/{m}": total_norm(grads) for m, grads in gradients.items()}
        groups = zip(self.group_modules, self.optimizer.param_groups, strict=True)
        return norms | {f"learning_rate/{module}": group["lr"] for module, group in groups}

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the model on the stage's validation records; random states stay as they are."""
        assert self.validation is not None
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        kept = torch.random.fork_rng(devices=devices)
        with self.throughput.paused(), kept, self.compute_loss_context_manager():
            metrics = self.validation.metrics(self.model)
        self.log(metrics)
        events = self.callback_handler
        self.control: Any = events.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Return whether a validation is the best so far; save it, and end where patience does."""
        is_best: bool = super()._determine_best_metric(metrics, trial)
        if self.validation is not None:
            has_ended = self.validation.has_ended(self.state)
            self.control.should_training_stop |= has_ended
            self.control.should_save |= has_ended or (is_best and self._keeps_best)
        return is_best

    @property
    def _keeps_best(self) -> bool:
        return self.validation is not None and self.validation.section.keep == "best"

    @property
    def kept_step(self) -> int | None:
        """The step whose weights the stage ends with, if not the last one's."""
        return self.state.best_global_step if self._keeps_best else None

    def _load_best(self) -> None:
        """Continue with the weights of the step that validated best, if those are to be kept."""
        best, folder = self.state.best_global_step, Path(self.args.output_dir)
        if not self._keeps_best or best in (None, self.state.global_step):
            return
        checkpoint = folder / f"checkpoint-{best}"
        if checkpoint in whole_checkpoints(folder):
            self._load_from_checkpoint(str(checkpoint))
        else:
            console.print(f"{checkpoint}, the best, is not whole: the last step's weights are kept")
            self.state.best_global_step = self.state.global_step

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """Train; a checkpoint after which nothing is left to train is only loaded."""
        last = resume_from_checkpoint and step_of(Path(resume_from_checkpoint))
        if last:
            file = Path(resume_from_checkpoint) / STATE
            self.state = TrainerState.load_from_json(str(file))
            has_ended = self.validation is not None and self.validation.has_ended(self.state)
            if has_ended or last >= self.args.max_steps:
                self._load_from_checkpoint(resume_from_checkpoint)
                return self._load_best()
        if isinstance(self.train_dataset, StreamDataset):
            self.train_dataset.batches_done = (last or 0) * self.args.gradient_accumulation_steps
        super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        self._load_best()

    def _get_output_dir(self, trial: Any) -> str:
        """Return the folder in which the library writes a checkpoint, before its rename."""
        return str(Path(self.args.output_dir) / PARTIAL)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint atomically.

        Raises:
            PanoVLMError: If the disk fails, or the loss is not finite; earlier ones are whole.
        """
        folder = Path(self.args.output_dir)
        self._check_finite(float(ranks.sum_across_ranks(self._tr_loss.detach().clone())))
        written = folder / PARTIAL / f"checkpoint-{self.state.global_step}"
        best = self.state.best_global_step if self._keeps_best else None
        disk = disk_errors(f"write a checkpoint to {folder}", incomplete=written)
        if isinstance(self.train_dataset, StreamDataset):
            self.train_dataset.encoder.keep()
        with self.throughput.paused(), disk:
            super()._save_checkpoint(model, trial)
            self._sums_file(written).write_text(json.dumps(self._sums_since_last_log()))
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                publish(written, folder, best)
            self.accelerator.wait_for_everyone()

    def _sums_file(self, checkpoint: Path) -> Path:
        """Return the file of what the next log entry averages, which the library does not save."""
        return checkpoint / SUMS_FILE.format(rank=self.args.process_index)

    def _sums_since_last_log(self) -> dict[str, Any]:
        loss, step = float(self._tr_loss), self._globalstep_last_logged
        scalars = {name: [*map(float, found)] for name, found in self.scalars.items()}
        return {"loss": loss, "step": step, "scalars": scalars, "skipped": self.num_skipped}

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restore, right before the first step, the random state and the sums of the next log."""
        super()._load_rng_state(checkpoint)
        if checkpoint is not None:
            self._load_sums(Path(checkpoint))

    def _load_sums(self, checkpoint: Path) -> None:
        if len(list(checkpoint.glob(SUMS_FILE.format(rank="*")))) != ranks.world_size():
            # Of other processes, each with its share: the next log entry begins here.
            self._globalstep_last_logged = self.state.global_step
            return
        kept = json.loads(self._sums_file(checkpoint).read_text())
        self._tr_loss += kept["loss"]
        self._globalstep_last_logged = kept["step"]
        self.scalars.update(kept["scalars"])
        self.num_skipped = kept["skipped"]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trained weights of a checkpoint, whole; all ranks with shards take part."""
        weights = trained_weights(self.model)
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            whole = {name: weight.contiguous() for name, weight in weights.items()}
            save_file(whole, folder / TRAINED_WEIGHTS)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write the optimizer's state; of a sharded model whole, without frozen parameters."""
        if not is_sharded(self.model):
            return super()._save_optimizer_and_scheduler(output_dir)
        state = get_optimizer_state_dict(self.model, self.optimizer, options=WHOLE)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimizer's state; each rank of a sharded model keeps its part."""
        if checkpoint is None or not is_sharded(self.model):
            return super()._load_optimizer_and_scheduler(checkpoint)
        state, schedule = (
            torch.load(Path(checkpoint) / name, map_location="cpu", weights_only=True)
            for name in (OPTIMIZER, SCHEDULER)
        )
        set_optimizer_state_dict(self.model, self.optimizer, state, options=WHOLE)
        self.lr_scheduler.load_state_dict(schedule)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        """Load the trained weights of a checkpoint."""
        stored = load_file(Path(resume_from_checkpoint) / TRAINED_WEIGHTS)
        shapes = {name: each.shape for name, each in trained_parameters(self.model).items()}
        if shapes != {name: each.shape for name, each in stored.items()}:
            raise PanoVLMError(
                f"the checkpoint {resume_from_checkpoint} is of another architecture or stage; "
                f"train without --resume to start over"
            )
        load_trained(self.model, stored)


def total_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Return the norm of several gradients together, whole where they are sharded."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
