"""An assistant that knows a rendered scene: server and model are real, its answers are scripted."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from panovlm.data.questions.asking import PLACES
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.inference.answers import Answer
from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.batches import Row
from panovlm.inference.prompts import Prompt
from panovlm.scenes.render import render
from panovlm.scenes.world import Scene, Solid

AnswerOf = Callable[[Scene, str], str]
"""Returns the answer to a question about a scene as it is seen, rotated or not."""


SCENE = Scene(
    (
        Solid("sphere", "red", 4.0, 3, 1.4),
        Solid("cube", "blue", 95.0, 2, 1.3, 20.0),
        Solid("cone", "yellow", 178.0, 2, 1.5),
        Solid("cylinder", "green", -88.0, 3, 1.4),
    ),
    look_seed=5,
)
"""A thing in each direction of the tiny model's views; the cone stands on the seam."""


class ScriptedAnswer(Answer):
    """Is a text, whatever the model's scores."""

    def __init__(self, text: str, tokenizer: Any, end_ids: list[int], sampling: Any) -> None:
        super().__init__(tokenizer, end_ids, sampling)
        self.is_plain = False  # its tokens are not the likeliest
        self._tokens = [*tokenizer.encode(text, add_special_tokens=False), *end_ids[:1]]

    def choose(self, scores: Tensor) -> int:
        return self._tokens[self.num_tokens]


class Oracle(Assistant):
    """Answers by the scene whose views it is shown, at the rotation at which they match."""

    answer_of: AnswerOf
    asked: list[str]
    _known: list[tuple[Scene, Tensor]]

    def know(self, scenes: Mapping[Path, Scene], answer_of: AnswerOf) -> None:
        self.answer_of, self.asked = answer_of, []
        self._known = [(scene, self.open(path).views) for path, scene in scenes.items()]

    def row(self, question: Question, prompt: Prompt | None = None) -> Row:
        row = super().row(question, prompt)
        text = _last_text(question)
        self.asked.append(text)
        answer = self.answer_of(self._scene_shown(question), text)
        row.answer = ScriptedAnswer(
            answer, self.processor.tokenizer, self._end_ids, question.sampling
        )
        return row

    def _scene_shown(self, question: Question) -> Scene:
        views = question.panoramas[-1].views
        num_views = views.shape[1]
        for scene, own in self._known:
            for step in range(num_views):
                if torch.equal(own.roll(-step, dims=1), views):
                    return scene.yaw_rotated(step * 360 / num_views)
        raise AssertionError("found views of no known scene at any rotation by strides")


def _last_text(question: Question) -> str:
    content = question.conversation[-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def save_render(scene: Scene, path: Path, height: int = 256) -> Path:
    Image.fromarray(render(scene, height)).save(path)
    return path


def region_of(solid: Solid) -> str:
    """About the field of view that holds a solid, as answers write it."""
    left, right = solid.yaw_span_deg
    size = right - left
    return f"[{solid.yaw_deg:.1f}, {SCENE.pitch_deg(solid):.1f}, {size:.1f}, {size:.1f}]"


def answer(scene: Scene, question: str) -> str:
    """The truth about a scene as seen, with its region where a question says "exactly"."""
    for solid in scene.solids:
        if solid.name in question:
            return region_of(solid) if "exactly" in question else DIRECTIONS[solid.sector]
    for sector, place in enumerate(PLACES):
        if place in question:
            solid = scene.by_sector()[sector]
            return solid.name if solid else "nothing"
    return str(len(scene.solids))
