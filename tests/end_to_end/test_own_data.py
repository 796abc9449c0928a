"""The page's path from a folder of pictures and LLaVA's JSON to a model, on tiny parts."""

import json
import random
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from transformers import AutoTokenizer

from panovlm.training.log import read_log, read_validations
from panovlm.training.outputs import load_result
from panovlm.training.recipe_file import parse_recipe
from panovlm.training.sections import ModelSection
from panovlm.training.stage_records import read_stage
from panovlm.training.stage_run import StageRun

PAGE = Path(__file__).parents[2] / "docs" / "tasks" / "train.md"
NUM_PICTURES, NUM_RECORDS = 24, 60
# The shape of SmolLM2's own template: ChatML and a default system prompt, no generation marks.
OWN = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{
'<|im_start|>system\\nYou are helpful<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role']
+ '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{
'<|im_start|>assistant\\n' }}{% endif %}"""


def section_of_page() -> str:
    text = PAGE.read_text()
    start = text.index("## Your pictures and conversations")
    return text[start : text.index("\n## ", start + 4)]


def block(language: str) -> str:
    (found,) = re.findall(
        rf"^```{language}\n(.*?)^```", section_of_page(), re.DOTALL | re.MULTILINE
    )
    return str(found)


def conversation(rng: random.Random, pictures: list[str]) -> dict[str, Any]:
    """A row as LLaVA's files have it: marks anywhere, system prompts, several turns."""
    question, answer = rng.choice(["Where?", "What is it?"]), rng.choice(["left", "a red cone"])
    texts = {0: [question], 1: [f"<image>\n{question}", f"{question}\n<image>", question]}
    both = ["<image>\n<image>\nWhich?", "Is <image> lighter than <image>?"]
    turns = [{"from": "human", "value": rng.choice(texts.get(len(pictures), both))}]
    turns += [{"from": "gpt", "value": answer}]
    if rng.random() < 0.3:
        turns += [{"from": "human", "value": "And?"}, {"from": "gpt", "value": "no"}]
    if rng.random() < 0.3:
        turns = [{"from": "system", "value": "Be brief."}, *turns]
    image = {0: {}, 1: {"image": pictures[0]} if pictures else {}, 2: {"image": pictures}}
    return {"id": str(rng.random()), "conversations": turns, **image[len(pictures)]}


@pytest.fixture
def place(tmp_path: Path, model_section: ModelSection, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the user's data, and the page's recipe with tiny backbones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    rng, names = random.Random(0), ["hall.jpg"]
    names += [f"rooms/{number}.jpg" for number in range(1, NUM_PICTURES)]
    (tmp_path / "photos" / "rooms").mkdir(parents=True)
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 256, (32, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / name)
    counts = rng.choices([0, 1, 2], [2, 6, 2], k=NUM_RECORDS)
    rows = [conversation(rng, rng.sample(names, count)) for count in counts]
    (tmp_path / "llava.json").write_text(json.dumps(rows))
    language_model = Path(shutil.copytree(model_section.language_model, tmp_path / "lm"))
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    tokenizer.chat_template = OWN
    tokenizer.save_pretrained(language_model)
    recipe = yaml.safe_load(block("yaml"))
    own = model_section.model_dump(mode="json") | {"language_model": str(language_model)}
    recipe["model"] = own | {"chat_template": recipe["model"]["chat_template"]}
    for section in recipe["stages"].values():
        section["validation"] |= {"every": 2, "share": 0.2} | (
            {"answers": 2} if "answers" in section["validation"] else {}
        )
        section["epochs"] = 1
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def test_the_recipe_of_the_page_is_valid() -> None:
    assert parse_recipe(yaml.safe_load(block("yaml")), "the page").stages.keys() >= {"vision"}


def test_a_folder_and_a_llava_file_become_a_watched_model(
    place: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    for command in block("sh").splitlines():
        code, _, errors = run_cli(*shlex.split(command)[1:])
        assert code == 0, f"{command}: {errors}"
    recipe = parse_recipe(yaml.safe_load((place / "mine.yaml").read_text()), "mine.yaml")
    apart, trained_on = set(), set()
    for name in recipe.stages:
        records = read_stage(StageRun(recipe, name))
        apart |= {path.resolve() for record in records.watched for path in record.paths}
        trained_on |= {p.resolve() for r in records.trained_on for p in r.paths}
        validations = read_validations(recipe.output / "logs" / f"{name}.jsonl")
        result = load_result(recipe.output, name)
        best = min(validations, key=lambda entry: entry["eval_loss"])
        assert result.kept_step == best["step"], name
        assert all(
            np.isfinite(e["loss"]) for e in read_log(recipe.output / "logs" / f"{name}.jsonl")
        )
    assert apart and not apart & trained_on
    assert len([*recipe.output.rglob("events.out.tfevents*")]) == 3
