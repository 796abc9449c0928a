"""Models of panovlm inside lmms-eval: `--model panovlm --model_args pretrained=runs/demo`.

lmms-eval finds `manifest` by the entry point `lmms_eval.models`; nothing else imports this file,
since lmms-eval is no dependency.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL import Image
from torch import Tensor

from panovlm.data.records import IMAGE_MARK, Message, marked
from panovlm.errors import PanoVLMError
from panovlm.evaluation.ours import GROUP, OurEvaluator, used_bf16
from panovlm.inference.answerer import Answerer, LatentQuestion
from panovlm.inference.loading import load_model
from panovlm.runtime.progress import progress_bar

MAX_NEW_TOKENS = 128
"""Where an answer is cut off if the task does not say it."""


def manifest() -> ModelManifest:
    """Return where lmms-eval finds the model."""
    name = f"{PanoVLM.__module__}.{PanoVLM.__qualname__}"
    return ModelManifest(model_id="panovlm", simple_class_path=name)


class PanoVLM(lmms):
    """Answers greedily in batches of its own; a panorama is read once for all its questions.

    Args:
        pretrained: A model's folder or a run.
        device: Where it runs; an accelerator if there is one.
        batch_size: Passed by lmms-eval, and not used.
        max_batch_size: The same.

    Raises:
        PanoVLMError: If there is no model.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | str | None = None,
    ) -> None:
        super().__init__()
        model, self.processor = load_model(Path(pretrained))
        self.model = model.to(device) if device else model
        use_bf16 = used_bf16(Path(pretrained))
        self.evaluator = OurEvaluator(self.model, self.processor, (), use_bf16=use_bf16)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answer requests for generated text, each about one panorama.

        Sampling and beams that a task asks for are not used; `max_new_tokens` and `until` are.

        Raises:
            PanoVLMError: If a request has no picture, several, or one that is no full sphere.
        """
        groups: dict[int, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            groups[int(request.args[1].get("max_new_tokens", MAX_NEW_TOKENS))].append(place)
        answers = [""] * len(requests)
        with progress_bar("questions", len(requests)) as advance:
            for limit, places in groups.items():
                answerer = Answerer(self.model, self.processor, limit)
                for start in range(0, len(places), GROUP):
                    group = places[start : start + GROUP]
                    texts = answerer(self._prompts([requests[place] for place in group]), advance)
                    for place, text in zip(group, texts, strict=True):
                        answers[place] = self._kept(requests[place], text)
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse: answers are generated."""
        raise PanoVLMError(
            "found a task scored by likelihoods, expected one whose answers are generated; choose "
            "a task with output_type generate_until"
        )

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: questions are asked one by one."""
        raise PanoVLMError(
            "found a task of several rounds, expected one question at a time; choose a task with "
            "output_type generate_until"
        )

    def _prompts(self, requests: Sequence[Any]) -> list[LatentQuestion]:
        """Encode every panorama of some requests once."""
        latents: dict[bytes, Tensor] = {}
        prompts = []
        for request in requests:
            picture = self._picture(request)
            digest = hashlib.sha256(picture.tobytes()).digest()
            if digest not in latents:
                latents[digest] = self.evaluator.encoded(picture)
            question = request.args[0].replace(IMAGE_MARK, "").strip()
            prompts.append(
                LatentQuestion(latents[digest], marked((Message(role="user", content=question),)))
            )
        return prompts

    def _picture(self, request: Any) -> Image.Image:
        _, _, doc_to_visual, doc_id, task, split = request.args
        shown = doc_to_visual(self.task_dict[task][split][doc_id])
        if not (isinstance(shown, list) and len(shown) == 1 and isinstance(shown[0], Image.Image)):
            found = f"{len(shown)} visuals" if isinstance(shown, list) else type(shown).__name__
            raise PanoVLMError(
                f"{task}, question {doc_id}: found {found}, expected one picture; choose a task "
                "that asks about one panorama at a time"
            )
        return shown[0]

    def _kept(self, request: Any, answer: str) -> str:
        """Cut an answer where the task says that it ends, and tell lmms-eval's cache."""
        context, options = request.args[:2]
        stops = options.get("until") or ()
        for stop in [stops] if isinstance(stops, str) else stops:
            answer = answer.split(stop)[0] if stop else answer
        answer = answer.strip()
        self.cache_hook.add_partial("generate_until", (context, options), answer)
        return answer
