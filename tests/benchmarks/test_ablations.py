"""The comparison of stage 1's variants: its cells, its intervals, and that it goes on."""

import json

import pytest
import yaml

import ablations

MARKERS = "<!-- ablations: written by the script -->\nold\n<!-- ablations: end -->\n"


@pytest.fixture
def arguments(tmp_path, model_section, scenes_file, monkeypatch):
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    stage = {"data": str(scenes_file), "steps": 10, "batch_size": 2}
    recipe = {
        "output": "unused",
        "model": model_section.model_dump(mode="json"),
        "stages": {name: stage for name in ("vision", "resampler")},
        "dtype": "fp32",
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "page.md").write_text(f"# Before\n{MARKERS}after\n")
    options = ["--data", scenes_file, "--out", tmp_path / "out", "--docs", tmp_path / "page.md"]
    rest = ["--seeds", "2", "--only", "none", "rays", "--limit", "4", "--yaw-rotated", "2"]
    steps = ["-o", "stages.vision.steps=2"]
    return [str(each) for each in (tmp_path / "recipe.yaml", *options, *rest, *steps)]


def test_cells_are_trained_evaluated_told_and_not_run_again(arguments, tmp_path, monkeypatch):
    trained = []
    original = ablations.train

    def train(recipe, stages, **options):
        trained.append((recipe.seed, stages, recipe.stages["resampler"].from_backbones))
        return original(recipe, stages, **options)

    monkeypatch.setattr(ablations, "train", train)
    assert ablations.main(arguments) == 0
    both = ["resampler", "vision"]  # as the file has them; `train` follows the table
    expected = [(seed, *cell) for seed in (0, 1) for cell in ((both[:1], True), (both, False))]
    assert trained == expected
    report = json.loads((tmp_path / "out" / "ablations.json").read_text())
    assert [cell["variant"] for cell in report["cells"]] == ["none", "rays"] * 2
    assert list(report["cells"][0]["loss_at"]) == ["1", "2", "5", "10"]
    assert report["recipe"]["stages"]["vision"]["steps"] == 2
    page = (tmp_path / "page.md").read_text()
    assert "| none |" in page
    assert "| rays |" in page
    assert page.startswith("# Before")
    assert page.endswith("after\n")
    assert not list((tmp_path / "out").rglob("model.safetensors"))

    (tmp_path / "out" / "rays" / "seed-1" / "cell.json").unlink()
    assert ablations.main(arguments) == 0
    assert trained[4:] == expected[3:]
    assert ablations.main([*arguments, "-o", "stages.resampler.steps=11"]) == 0
    assert len(trained) == 9  # other settings, all four cells anew


def test_intervals_are_students():
    scipy_stats = pytest.importorskip("scipy.stats")
    for place, quantile in enumerate(ablations.T_975):
        assert quantile == pytest.approx(scipy_stats.t.ppf(0.975, place + 1), abs=1e-3)
    mean, half = ablations.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / 3**0.5)


def cell(variant, seed, accuracy, retrieval=0.5):
    return {
        "variant": variant,
        "seed": seed,
        "accuracy": accuracy,
        "blind": 0.1,
        "rotation_consistency": None,
        "loss_at": {"10": 1.5, "20": 0.5},
        "stage_1": {"retrieval": retrieval},
    }


def test_gains_are_taken_seed_by_seed():
    """Seeds differ by far more than the variants do, which differ alike in each."""
    cells = [
        cell(name, seed, seed / 4 + gain, None if name == "none" else 0.5)
        for seed in range(3)
        for name, gain in (("none", 0.0), ("rays", 0.05))
    ]
    header, none, rays = ablations.table(cells)
    assert header[:3] == ["stage 1", "accuracy, beside none", "accuracy, %"]
    assert header[5:7] == ["stage 2's loss at step 10", "stage 2's loss at step 20"]
    assert none[:2] == ["none", ""]
    assert none[3] == none[-1] == "–"
    assert rays[1] == "+5.0 ± 0.0 points"
    assert rays[2] == "30.0 ± 62.1"
    assert rays[-1] == "50.0 ± 0.0"


def test_losses_are_averaged_just_before_a_step():
    log = [{"step": step, "loss": float(step)} for step in range(1, 101)]
    assert ablations.loss_at(log, 50) == pytest.approx(45.5)  # of 41 to 50
    assert ablations.loss_at(log, 0.5) == 1.0
    assert ablations.loss_at([{"step": 1, "loss": 7.0}], 50) == 7.0


@pytest.mark.parametrize("seeds", ["1", "11"])
def test_intervals_need_two_to_ten_seeds(arguments, seeds):
    with pytest.raises(SystemExit):
        ablations.main([*arguments, "--seeds", seeds])
