"""How likely an answer is by one plain forward pass, to hold faster ways against."""

from pathlib import Path
from typing import Any

import torch

from panovlm.inference.assistant import Assistant
from panovlm.inference.prompts import about_panorama


def plain_log_probability(
    assistant: Assistant, picture: Path, views: torch.Tensor, text: str, answer: str
) -> float:
    """Score an answer [n tokens] to a question about views [1, V, 3, S, S], in nats."""
    conversation: Any = about_panorama(text)
    conversation[0]["content"][0]["path"] = str(picture)
    asked = assistant.processor.apply_chat_template(
        conversation,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )["input_ids"]
    answered = assistant.processor.tokenizer(
        answer, add_special_tokens=False, split_special_tokens=True, return_tensors="pt"
    )["input_ids"]
    with torch.inference_mode():
        output = assistant.model(input_ids=torch.cat([asked, answered], dim=1), pixel_values=views)
    scores = output.logits[0].log_softmax(-1)[asked.shape[1] - 1 : -1]
    return float(scores.gather(1, answered[0][:, None]).sum())
