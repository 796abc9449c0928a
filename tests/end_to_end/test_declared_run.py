"""Strips that only a declaration explains, through training, evaluation, questions and serving."""

import base64
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from xmp_packets import packet, save_with_xmp

from panovlm.data.cache import PatchTokenCache, ViewSource, bytes_digest, digest_of
from panovlm.data.filling import fill
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.data.stream_features import StreamEncoder
from panovlm.errors import PanoVLMError
from panovlm.inference.assistant import Assistant
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.declaring import Declaration, declare
from panovlm.training import checks, run
from panovlm.training.recipe import Recipe

TURN = {"projection": "equirectangular", "hfov_deg": 270.0, "yaw_deg": 45.0}
"""What the strips show: three quarters of a turn, from 90 degrees to the left on."""
DECLARED = Declaration(**TURN)  # type: ignore[arg-type]
AREA = {
    "ProjectionType": "equirectangular",
    "FullPanoWidthPixels": 128,
    "FullPanoHeightPixels": 64,
    "CroppedAreaLeftPixels": 32,
    "CroppedAreaTopPixels": 16,
    "CroppedAreaImageWidthPixels": 96,
    "CroppedAreaImageHeightPixels": 32,
}
OPTIONS = ("--projection", "equirectangular", "--hfov-deg", "270", "--declared-yaw-deg", "45")
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def strips(scenes_file: Path, tmp_path: Path) -> Path:
    """The scenes as strips without XMP (`0.png`) and with XMP that says the same (`0-xmp.png`)."""
    folder = tmp_path / "strips"
    folder.mkdir()
    for path in scenes_file.parent.glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB"))[16:48, 32:]
        Image.fromarray(pixels).save(folder / path.name)
        save_with_xmp(folder / f"{path.stem}-xmp.png", pixels, packet(AREA))
    shutil.copy(scenes_file, folder / "records.jsonl")
    return folder


def written(file: Path, lines: list[str], **fields: Any) -> Path:
    file.write_text("".join(json.dumps(json.loads(line) | fields) + "\n" for line in lines))
    return file


def with_data(recipe: Recipe, data: Path, declared: Declaration | None) -> Recipe:
    changes = {"data": data, "declared": declared, "steps": 2, "roll": False}
    stages = {name: each.model_copy(update=changes) for name, each in recipe.stages.items()}
    return recipe.model_copy(update={"stages": stages})


def losses(recipe: Recipe) -> list[str]:
    logs = recipe.output / "logs"
    held = [json.loads(line) for log in sorted(logs.iterdir()) for line in log.open()]
    return [f"{line['loss']:.12g}" for line in held if "loss" in line]


@pytest.mark.parametrize("by_stage", [True, False])
def test_declared_strips_train_as_those_with_xmp(
    recipe: Recipe, strips: Path, run_cli: Cli, by_stage: bool
) -> None:
    lines = (strips / "records.jsonl").read_text().splitlines()
    fields = {} if by_stage else {"declared": TURN}
    data = written(strips / "declared.jsonl", lines, **fields)
    declared = with_data(recipe, data, DECLARED if by_stage else None)
    run.train(declared, ["vision", "resampler"], resume=False)
    told = [line.replace('.png"', '-xmp.png"') for line in lines]
    other = with_data(recipe, written(strips / "told.jsonl", told), None)
    other = other.model_copy(update={"output": recipe.output.with_name("told")})
    run.train(other, ["vision", "resampler"], resume=False)
    assert losses(declared) == losses(other) != []


def test_a_stage_refuses_strips_of_which_nothing_is_declared(recipe: Recipe, strips: Path) -> None:
    with pytest.raises(PanoVLMError, match=r"0\.png: found 96x32, expected width = 2 x height"):
        checks.check_data(with_data(recipe, strips / "records.jsonl", None), ["vision"])


def test_a_contradiction_names_the_record(recipe: Recipe, strips: Path) -> None:
    lines = (strips / "records.jsonl").read_text().splitlines()[:1]
    wrong = {"projection": "equirectangular", "hfov_deg": 20, "vfov_deg": 120}
    data = written(strips / "wrong.jsonl", lines, declared=wrong)
    place = r"(?s)line 1: .*0\.png: found 96x32 and vfov_deg 120 beside hfov_deg 20"
    with pytest.raises(PanoVLMError, match=place):
        checks.check_data(with_data(recipe, data, None), ["vision"])
    with pytest.raises(PanoVLMError, match=place):
        read_records(data, Needs(text=True, image=True))


def tokens_in_cache(cache: PatchTokenCache, pictures: list[Any]) -> list[Tensor]:
    assert fill(cache, pictures, 1, lambda done: None) == []
    return [cache.load(picture) for picture in pictures]


def test_every_reader_gets_the_features_of_the_strip_with_xmp(
    generator: PanoVLMForConditionalGeneration,
    processor: PanoVLMProcessor,
    strips: Path,
    tmp_path: Path,
) -> None:
    plain, told = strips / "0.png", strips / "0-xmp.png"
    declared = declare(plain, DECLARED)
    source = ViewSource(processor.image_processor)
    expected = source.load(told)
    streamed = StreamEncoder(ViewSource(processor.image_processor))
    assistant = Assistant(generator, processor)
    for views in (
        source.load(declared),
        source.load(declare(told, DECLARED)),
        streamed.prepare(plain.read_bytes(), "shard", DECLARED).states,
        assistant.open(plain, DECLARED).views[0],
    ):
        torch.testing.assert_close(views, expected, rtol=0, atol=0)
    encoder, root = generator.model.vision_encoder, tmp_path / "cache"
    cache = PatchTokenCache(root, encoder, processor.image_processor, use_bf16=False)
    first, second = tokens_in_cache(cache, [declared, told])
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_each_declaration_has_features_and_a_prefix_of_its_own(
    generator: PanoVLMForConditionalGeneration, processor: PanoVLMProcessor, strips: Path
) -> None:
    path = strips / "0.png"
    others = [None, DECLARED, Declaration(**TURN | {"yaw_deg": 0.0}), Declaration(use_xmp=False)]  # type: ignore[arg-type]
    digests = {digest_of(declare(path, each)) for each in others}
    assert digests == {bytes_digest(path.read_bytes(), each) for each in others}
    assert len(digests) == len(others)
    assistant = Assistant(generator, processor)
    keys = {assistant.open(path, each).key for each in others[1:3]}
    assert len(keys) == 2
    whole = declare(path, Declaration())
    assert digest_of(whole) == digest_of(path)


def test_the_command_line_evaluates_asks_and_draws_strips(
    saved_model: Path, strips: Path, run_cli: Cli, tmp_path: Path
) -> None:
    lines = (strips / "records.jsonl").read_text().splitlines()
    told = [line.replace('.png"', '-xmp.png"') for line in lines]
    written(strips / "told.jsonl", told)
    few = ("--yaw-rotated", 0, "--ablated", 0, "--seam-shifted", 0, "--baselines", "none")
    answers = {}
    for name, options in {"records": OPTIONS, "told": ()}.items():
        out = tmp_path / f"{name}.json"
        data = strips / f"{name}.jsonl"
        code, _, errors = run_cli(
            "evaluate", saved_model, "--data", data, "--out", out, *few, *options
        )
        assert code == 0, errors
        answers[name] = [row["answer"] for row in json.loads(out.read_text())["predictions"]]
    assert answers["records"] == answers["told"]
    question = "What is behind me?"
    plain = run_cli("ask", saved_model, strips / "0.png", question, *OPTIONS)
    assert plain == run_cli("ask", saved_model, strips / "0-xmp.png", question)
    code, _, errors = run_cli("ask", saved_model, strips / "0.png", question)
    assert (code, "declare it" in errors) == (2, True)
    questions = tmp_path / "strips" / "questions.jsonl"
    asked = {"image": "0.png", "question": question}
    wrong = {"projection": "equirectangular", "hfov_deg": 400}
    questions.write_text(
        json.dumps(asked | {"declared": TURN}) + "\n" + json.dumps(asked | {"declared": wrong})
    )
    out = tmp_path / "answers.jsonl"
    assert run_cli("ask", saved_model, "--in", questions, "--out", out)[0] == 0
    first, second = (json.loads(line) for line in out.read_text().splitlines())
    assert first["answer"] == plain[1].strip("\n")
    assert "declared" in second["error"] and "hfov_deg 400" in second["error"]
    for name, options in {"0": OPTIONS, "0-xmp": ()}.items():
        sheet = tmp_path / f"{name}-sheet.png"
        assert run_cli("views", strips / f"{name}.png", "--out", sheet, *options)[0] == 0
        sphere = tmp_path / f"{name}-sphere.png"
        to = ("--to", "equirectangular", *options)
        assert run_cli("convert", strips / f"{name}.png", sphere, *to)[0] == 0
    for kind in ("sheet", "sphere"):
        pictures = [np.asarray(Image.open(tmp_path / f"{n}-{kind}.png")) for n in ("0", "0-xmp")]
        np.testing.assert_array_equal(*pictures)


def test_data_check_reads_strips_as_declared(strips: Path, run_cli: Cli) -> None:
    lines = (strips / "records.jsonl").read_text().splitlines()
    data = written(strips / "declared.jsonl", lines, declared=TURN)
    assert run_cli("data", "check", data)[0] == 0
    written(data, lines[:1], hfov_deg=270)
    code, found, _ = run_cli("data", "check", data)
    assert code != 0
    assert 'move it into "declared"' in " ".join(found.split())
    written(data, lines[:1], declared={"hfov_deg": 270})
    code, found, _ = run_cli("data", "check", data)
    assert code != 0
    assert "without a projection" in " ".join(found.split())


@pytest.mark.skipif(not find_spec("fastapi"), reason="needs the extra serve")
def test_a_request_declares_its_picture(
    generator: PanoVLMForConditionalGeneration, processor: PanoVLMProcessor, strips: Path
) -> None:
    from fastapi.testclient import TestClient

    from panovlm.serving.app import create_app

    def answered(client: Any, name: str, declared: Any = None) -> tuple[int, Any]:
        data = base64.b64encode((strips / f"{name}.png").read_bytes()).decode()
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        picture |= {"declared": declared} if declared else {}
        content = [picture, {"type": "text", "text": "What is behind me?"}]
        body = {"model": "panovlm", "messages": [{"role": "user", "content": content}]}
        reply = client.post("/v1/chat/completions", json=body | {"max_tokens": 8})
        return reply.status_code, reply.json()

    def text(reply: tuple[int, Any]) -> str:
        assert reply[0] == 200, reply
        return str(reply[1]["choices"][0]["message"]["content"])

    app = create_app(Assistant(generator, processor))
    with TestClient(app, base_url="http://localhost") as client:
        status, refused = answered(client, "0")
        assert (status, refused["error"]["code"]) == (400, "invalid_image")
        assert text(answered(client, "0", TURN)) == text(answered(client, "0-xmp"))
        status, refused = answered(client, "0", TURN | {"hfov_deg": 400})
        assert status == 400
        assert "found hfov_deg 400, expected 0.36 to 360" in refused["error"]["message"]
        status, refused = answered(client, "0", TURN | {"fov": 4})
        assert (status, "fov" in str(refused)) == (400, True)
