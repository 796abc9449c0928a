"""How well a stage does on records it does not train on, while it trains.

Nothing here changes what is trained: no random number is taken, no statistic kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerState

from panovlm.data.datasets import PanoramaCollator, PanoramaDataset
from panovlm.data.packing import IGNORED
from panovlm.data.records import Record
from panovlm.metrics.exact_match import normalised
from panovlm.model.processing import PanoVLMProcessor
from panovlm.training import ranks
from panovlm.training.log import VALIDATION_ACCURACY, VALIDATION_LOSS
from panovlm.training.sections import ValidationSection

MAX_ANSWER_TOKENS = 256


@dataclass(frozen=True, eq=False)
class Validation:
    """Records that are not trained on, and how to score a model on them.

    Attributes:
        section: How often, and what follows from it.
        dataset: The records, never rotated, the same sample of each panorama's every time.
        collator: As in training.
        batch_size: Of one rank.
        questions: Records to answer by generation, if any.
    """

    section: ValidationSection
    dataset: PanoramaDataset
    collator: PanoramaCollator
    batch_size: int
    questions: Sequence[Record]

    @torch.no_grad()
    def metrics(self, model: PreTrainedModel) -> dict[str, float]:
        """Return the loss of a model, and the accuracy of its answers; every rank gets the same."""
        was_training = model.training
        model.eval()
        figures = {VALIDATION_LOSS: self._loss(model)}
        if self.questions:
            figures[VALIDATION_ACCURACY] = self._accuracy(model)
        model.train(was_training)
        return figures

    def has_ended(self, state: TrainerState) -> bool:
        """Return whether the best figure is so old that training ends."""
        patience, best = self.section.patience, state.best_global_step
        if patience is None or best is None:
            return False
        return bool(state.global_step - best >= patience * self.section.every)

    def _loss(self, model: PreTrainedModel) -> float:
        """Average over supervised tokens; in the stage without text, over batches."""
        total = torch.zeros(2, dtype=torch.float64, device=model.device)
        for batch in self._batches(model.device):
            if "labels" in batch:
                loss = model(**batch, num_items_in_batch=1, returns_logits=False).loss
                count = (batch["labels"][:, 1:] != IGNORED).sum()
            else:
                loss, count = model(**batch).loss, torch.ones((), device=model.device)
            total += torch.stack([loss.double(), count.double()])
        summed, count = ranks.sum_across_ranks(total).tolist()
        return summed / max(count, 1)

    def _batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """Yield this rank's batches, as many as every other rank has.

        The first examples fill the last batch. Their labels do not count again; statistics over a
        batch are then of as many panoramas as in the others.
        """
        per_batch = self.batch_size * ranks.world_size()
        count = len(self.dataset)
        places = np.resize(np.arange(count), -(-count // per_batch) * per_batch)
        for start in range(ranks.rank() * self.batch_size, len(places), per_batch):
            chosen = places[start : start + self.batch_size]
            batch = self.collator([self.dataset.example(int(place)) for place in chosen])
            if "labels" in batch:
                batch["labels"][max(count - start, 0) :] = IGNORED
            yield {key: tensor.to(device) for key, tensor in batch.items()}

    def _accuracy(self, model: PreTrainedModel) -> float:
        correct = torch.zeros((), dtype=torch.long, device=model.device)
        own = ranks.shard(self.questions)
        for start in range(0, len(own), self.batch_size):
            records = own[start : start + self.batch_size]
            for record, answer in zip(records, self._answers(model, records), strict=True):
                correct += normalised(answer) == normalised(record.response)
        return int(ranks.sum_across_ranks(correct)) / len(self.questions)

    def _answers(self, model: PreTrainedModel, records: Sequence[Record]) -> list[str]:
        """Generate the most likely answers to the questions of records."""
        processor: PanoVLMProcessor = self.dataset.sampler.tokenizer.processor
        tokenizer = processor.tokenizer
        prompts = {"input_ids": [_prompt(processor, record) for record in records]}
        inputs = tokenizer.pad(prompts, padding_side="left", return_tensors="pt").to(model.device)
        longest = max(len(tokenizer(record.response)["input_ids"]) for record in records)
        output = model.generate(
            **inputs,
            **self._pictures(model, records),
            max_new_tokens=min(longest + 1, MAX_ANSWER_TOKENS),
            do_sample=False,
        )
        new = output[:, inputs["input_ids"].shape[1] :]
        answers: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
        return answers

    def _pictures(self, model: PreTrainedModel, records: Sequence[Record]) -> dict[str, Any]:
        source = self.dataset.sources[0]
        views = [source.load(picture) for record in records for picture in record.pictures]
        if not views:
            return {}
        given = {self.collator.views_key: torch.stack(views).to(model.device)}
        return {"mm_encoder_outputs": {"image": model.get_image_features(**given)}}


def _prompt(processor: PanoVLMProcessor, record: Record) -> list[int]:
    messages = [{"role": each.role, "content": each.content} for each in record.prompt]
    return processor.tokenize(messages, add_generation_prompt=True)[0]
