"""A cap's drop is what covering it truly costs the answer, anywhere on the sphere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_pass import plain_log_probability

from panovlm.errors import PanoVLMError
from panovlm.geometry.caps import Caps, caps_over_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import panorama_rays, rays_from_angles
from panovlm.inference import occlusion
from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.occlusion import Occlusion
from panovlm.inference.rotation import yaw_rotated
from panovlm.training.sections import ViewsSection

ANSWER = "a blue cube"
TEXT = "What is behind me?"
PLACES_DEG = [(0, 0), (180, 5), (-100, -30), (45, 20)]


def caps_at(places_deg: Any, radius_deg: float = 20.0) -> Caps:
    yaw, pitch = np.radians(np.array(places_deg, float)).T
    return Caps(rays_from_angles(yaw, pitch), radius_deg)


@pytest.mark.parametrize("global_view", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_drops_equal_plain_forward_passes_on_covered_pixels(
    global_view: bool,
    batch_size: int,
    assistant_of: Callable[..., Assistant],
    pictures: list[Path],
) -> None:
    views = ViewsSection(num_views=4, fov_deg=120.0, view_size=32, global_view=global_view)
    assistant = assistant_of("llama", views=views)
    panorama = assistant.open(pictures[0])
    caps = caps_at(PLACES_DEG)
    question = Question.about(panorama, TEXT)
    found = assistant.occlusion(question, ANSWER, caps, batch_size)
    whole = plain_log_probability(assistant, pictures[0], panorama.views, TEXT, ANSWER)
    rays = assistant.model.config.layout.rays(32, 32)
    assert len(rays) == 4 + global_view
    plain = []
    for centre in caps.centres:
        inside = np.degrees(np.arccos(np.clip(rays @ centre, -1, 1))) <= 20
        covered = torch.where(torch.from_numpy(inside)[None, :, None], 0.0, panorama.views)
        plain.append(whole - plain_log_probability(assistant, pictures[0], covered, TEXT, ANSWER))
    assert found.log_probability == pytest.approx(whole, abs=1e-3)
    assert found.drops == pytest.approx(plain, abs=1e-3)
    assert max(map(abs, plain)) > 0.02


def test_a_cap_that_no_view_sees_changes_nothing(
    assistant_of: Callable[..., Assistant], pictures: list[Path]
) -> None:
    assistant = assistant_of("llama", views=ViewsSection(num_views=4, fov_deg=90.0, view_size=32))
    asked = Question.about(assistant.open(pictures[0]), TEXT)
    drops = assistant.occlusion(asked, ANSWER, caps_at([(0, 90), (30, -90)])).drops
    assert drops == pytest.approx(0, abs=1e-5)


def test_only_touched_views_are_encoded_again(
    assistant: Assistant, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    real = occlusion.latents_of

    def counted(model: Any, views: torch.Tensor) -> torch.Tensor:
        encoded.append(len(views))
        return real(model, views)

    monkeypatch.setattr(occlusion, "latents_of", counted)
    done: list[int] = []
    asked = Question.about(assistant.open(pictures[0]), TEXT)
    caps = caps_at([(0, 0), (45, 0), (0, 90)], radius_deg=10)  # in one view, in two, in none
    assistant.occlusion(asked, ANSWER, caps, 2, done.append)
    assert sum(encoded) == 4 + 1 + 2
    assert done == [2, 1]


def test_rotating_the_ring_rotates_the_map(
    assistant_of: Callable[..., Assistant], pictures: list[Path]
) -> None:
    assistant = assistant_of("llama", pooling="mean")
    assistant.model.model.projection.position.weight.data.zero_()  # knows no direction any more
    layout = assistant.model.config.layout
    panorama = assistant.open(pictures[0])
    rotated = yaw_rotated(panorama, layout, 90)
    places = np.array(PLACES_DEG, float)
    first = assistant.occlusion(Question.about(panorama, TEXT), ANSWER, caps_at(places))
    second = assistant.occlusion(
        Question.about(rotated, TEXT), ANSWER, caps_at(places - [90.0, 0.0])
    )
    assert second.drops == pytest.approx(first.drops, abs=1e-4)
    assert np.ptp(first.drops) > 0.01
    rays = panorama_rays(40, 80)
    np.testing.assert_allclose(
        second.mean_drop(rays), np.roll(first.mean_drop(rays), -20, axis=1), atol=1e-4
    )


def test_the_answer_is_the_model_s_own_unless_given(
    assistant: Assistant, pictures: list[Path]
) -> None:
    panorama = assistant.open(pictures[0])
    asked = Question.about(panorama, TEXT)
    answer = assistant.ask(panorama, TEXT)
    caps = caps_at([(0, 0)])
    own, given = (assistant.occlusion(asked, text, caps) for text in (None, answer))
    assert own.answer == answer
    assert own.drops == pytest.approx(given.drops)
    assert len(assistant.prefixes) == 1


def test_no_text_and_no_panorama_are_refused(assistant: Assistant, pictures: list[Path]) -> None:
    asked = Question.about(assistant.open(pictures[0]), TEXT)
    for answer in ("", "  "):
        with pytest.raises(PanoVLMError, match="expected one panorama and some text"):
            assistant.occlusion(asked, answer)
    with pytest.raises(PanoVLMError, match="found 0 panoramas"):
        assistant.occlusion(Question([{"role": "user", "content": "Hello"}]), "Hello")


def test_the_peak_is_where_caps_cost_most_even_on_the_seam() -> None:
    layout = ViewLayout.ring()
    caps = caps_over_views(layout)
    thing = caps_at([(179, -15)]).centres[0]
    drops = 3.0 * (caps.centres @ thing > np.cos(np.radians(20)))
    found = Occlusion(ANSWER, -1.0, caps, drops, layout)
    assert found.peak_deg is not None
    off = np.degrees(np.arccos(caps_at([found.peak_deg]).centres[0] @ thing))
    assert off < 5
    assert np.isnan(found.mean_drop(panorama_rays(180, 360))[0]).all()
    assert replace(found, drops=np.full(len(caps), 0.01)).peak_deg is None
    assert replace(found, drops=np.full(len(caps), -3.0)).peak_deg is None
