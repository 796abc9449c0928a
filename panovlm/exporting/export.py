"""`panovlm export`: a folder that loads wherever transformers is, with its own source code.

The library's `register_for_auto_class` would change the classes for the whole process and leave out
an entry that servers need.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedConfig

from panovlm.exporting.flattening import flattened_sources
from panovlm.inference.loading import load_model, model_folder
from panovlm.runtime.arithmetic import cast_parameters
from panovlm.runtime.files import check_folder, whole_folder
from panovlm.training.outputs import STAGE_FACTS

MODEL_CLASSES = {
    "AutoConfig": "configuration.PanoVLMConfig",
    "AutoModel": "modeling.PanoVLMModel",
    "AutoModelForImageTextToText": "modeling.PanoVLMForConditionalGeneration",
}
PROCESSOR_CLASSES = {
    "AutoImageProcessor": "image_processing.PanoVLMImageProcessor",
    "AutoProcessor": "processing.PanoVLMProcessor",
}
CARD = """\
---
library_name: transformers
pipeline_tag: image-text-to-text
---

# A PanoVLM

Answers questions about 360° panoramas (equirectangular pictures, twice as wide as high).

- Vision encoder: {vision_encoder}
- Language model: {language_model}
- Views: {views}; {num_image_tokens} image tokens for a panorama

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("PATH", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("PATH", trust_remote_code=True)
question = [{{"type": "image", "path": "panorama.jpg"}}, {{"type": "text", "text": "{question}"}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": question}}],
    tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True,
)
answer = model.generate(**inputs)[0, inputs["input_ids"].shape[1]:]
print(processor.decode(answer, skip_special_tokens=True))
```

`trust_remote_code=True` runs the Python files of this folder; read them first. It needs numpy,
opencv-python-headless and Pillow beside transformers{extra}. Where panovlm is installed, leave
it out. The weights are under the licences of the two models above.
"""


def export(model: Path, out: Path, dtype: Literal["bf16", "fp32"] = "fp32") -> None:
    """Write a model (a folder or a run) with its processor, the code of both, and a card.

    Args:
        model: What to export.
        out: Folder to write.
        dtype: Of all weights; bf16 takes half the room and rounds them.

    Raises:
        PanoVLMError: If there is no such model, or something in the way.
    """
    check_folder(out)
    loaded, processor = load_model(model, "fp32")
    if dtype == "bf16":
        cast_parameters(loaded.parameters(), torch.bfloat16)
    with whole_folder(out) as partial:
        loaded.save_pretrained(partial)
        processor.save_pretrained(partial)
        for name, source in flattened_sources(_modules()).items():
            (partial / name).write_text(source, encoding="utf-8")
        _add_auto_map(partial / "config.json", MODEL_CLASSES)
        processors = partial / "processor_config.json"
        _add_auto_map(processors, PROCESSOR_CLASSES, part="image_processor")
        card = _card(loaded.config, model_folder(model))
        (partial / "README.md").write_text(card, encoding="utf-8")


def _modules() -> list[str]:
    """Return the modules that hold the classes a checkpoint names."""
    classes = (MODEL_CLASSES | PROCESSOR_CLASSES).values()
    return [f"panovlm.model.{name.partition('.')[0]}" for name in classes]


def _add_auto_map(file: Path, classes: dict[str, str], *, part: str | None = None) -> None:
    """Add the classes that load a file to it, and to one of its parts."""
    stored = json.loads(file.read_text(encoding="utf-8"))
    for each in (stored, *([stored[part]] if part else [])):
        each["auto_map"] = classes
    file.write_text(json.dumps(stored, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _card(config: PreTrainedConfig, folder: Path) -> str:
    """Return the card, with the backbones as the recipe named them, or else their types."""
    facts = folder / STAGE_FACTS
    named = json.loads(facts.read_text())["model"] if facts.is_file() else {}
    vision, text = config.vision_config.model_type, config.text_config.model_type
    return CARD.format(
        vision_encoder=f"{Path(named['vision_encoder']).name} ({vision})" if named else vision,
        language_model=f"{Path(named['language_model']).name} ({text})" if named else text,
        views=config.layout.describe(),
        num_image_tokens=config.num_image_tokens,
        question="What is behind me?",
        extra=", and timm" if vision == "timm_wrapper" else "",
    )
