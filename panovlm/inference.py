"""Loads a trained model and asks it about one panorama."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from panovlm.model.errors import PanoVLMError
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.panorama import check_panorama
from panovlm.model.processing import PanoVLMProcessor
from panovlm.stages import STAGES


def model_folder(path: Path) -> Path:
    """Give the folder of a model: the path itself, or the last answering stage of a run.

    Raises:
        PanoVLMError: If there is no model that answers.
    """
    for folder in (path, *(path / name for name in reversed(STAGES))):
        config = folder / "config.json"
        if config.is_file() and _answers(config):
            return folder
    raise PanoVLMError(
        f"found no answering model in {path}, expected a model's folder or a run whose stage "
        f"'resampler' or 'finetune' is finished; run: panovlm train RECIPE"
    )


def _answers(config: Path) -> bool:
    architectures: list[str] = json.loads(config.read_text()).get("architectures") or []
    return PanoVLMForConditionalGeneration.__name__ in architectures


def load_model(path: Path) -> tuple[PanoVLMForConditionalGeneration, PanoVLMProcessor]:
    """Load a model and its processor from a folder or a run, ready to answer.

    Nothing of the folder is run: its code is not, whatever its files say, nor are pickles read.
    """
    folder = model_folder(path)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, trust_remote_code=False, use_safetensors=True
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(device).eval(), processor


def ask(
    model: PanoVLMForConditionalGeneration,
    processor: PanoVLMProcessor,
    panorama: Path,
    question: str,
    max_new_tokens: int = 128,
) -> str:
    """Answer one question about one panorama, greedily.

    Args:
        model: As `load_model` gives it.
        processor: The model's.
        panorama: File of a full sphere.
        question: In plain words.
        max_new_tokens: Longest answer.

    Raises:
        PanoVLMError: If the file is no good panorama.
    """
    check_panorama(panorama)
    if processor.image_token in question:
        raise PanoVLMError(f"found {processor.image_token} in the question; leave it out")
    content = [{"type": "image", "path": str(panorama)}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    ).to(model.device)
    output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    said = output[0, inputs["input_ids"].shape[1] :]
    text: str = processor.tokenizer.decode(said, skip_special_tokens=True)
    return text.strip()
