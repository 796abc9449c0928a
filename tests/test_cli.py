"""The command line: each command does its work; each mistake gives one message and exit code 2."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("panovlm.runtime.progress.console.width", 200, raising=False)


def test_stages_shows_a_row_for_each_stage(run_cli: Cli) -> None:
    code, out, _ = run_cli("stages")
    assert code == 0
    assert all(name in out for name in ("vision", "resampler", "finetune"))


def test_views_writes_a_sheet(run_cli: Cli, tmp_path: Path, scenes_file: Path) -> None:
    sheet = tmp_path / "views.png"
    code, out, _ = run_cli("views", scenes_file.parent / "0.png", "--out", sheet, "--view-size", 32)
    assert code == 0
    assert "8 views" in out
    with Image.open(sheet) as picture:
        assert picture.width > 4 * 32


def test_views_explains_both_pairings(run_cli: Cli, tmp_path: Path, scenes_file: Path) -> None:
    picture, plain, sheet = scenes_file.parent / "0.png", tmp_path / "a.png", tmp_path / "b.png"
    assert run_cli("views", picture, "--out", plain, "--view-size", 32)[0] == 0
    code, out, _ = run_cli("views", picture, "--out", sheet, "--view-size", 32, "--explain")
    assert code == 0
    columns, rays = (
        next(li for li in out.splitlines() if name in li) for name in ("columns", "rays")
    )
    assert "8" in columns
    assert "6.65°" in columns
    assert "8.83°" in columns
    assert float(rays.split("°")[0].split()[-1]) < 0.5
    assert plain.read_bytes() != sheet.read_bytes()


def test_views_of_a_cube_see_the_whole_sphere(
    run_cli: Cli, tmp_path: Path, scenes_file: Path
) -> None:
    picture, sheet = scenes_file.parent / "0.png", tmp_path / "cube.png"
    code, out, _ = run_cli(
        "views", picture, "--out", sheet, "--view-size", 32, "--cubemap", "--explain"
    )
    assert code == 0
    assert "100% of the sphere" in out
    assert "columns" not in out


def test_convert_writes_one_picture(run_cli: Cli, tmp_path: Path, scenes_file: Path) -> None:
    panorama, out = scenes_file.parent / "0.png", tmp_path / "turned.jpg"
    words = ("--to", "equirectangular", "--rotate", "90,10,0", "--width", 32)
    code, printed, _ = run_cli("convert", panorama, out, *words)
    assert code == 0
    assert f"1 written to {out}" in printed
    with Image.open(out) as picture:
        assert picture.size == (32, 16)
    code, _, err = run_cli("convert", panorama, out, *words)
    assert code == 2
    assert "--overwrite" in err
    assert run_cli("convert", panorama, out, *words, "--overwrite")[0] == 0


def test_convert_tells_what_was_there_and_what_failed(
    run_cli: Cli, tmp_path: Path, scenes_file: Path
) -> None:
    (tmp_path / "in").mkdir()
    with Image.open(scenes_file.parent / "0.png") as picture:
        picture.save(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.jpg").write_text("no picture")
    words = ("--to", "cubemap", "--face-size", 16, "--workers", 1)
    code, out, err = run_cli("convert", tmp_path / "in", tmp_path / "out", *words)
    assert code == 2
    assert "1 written" in out
    assert "1 could not be converted" in err
    assert "bad.jpg: found no readable picture" in err
    _, out, _ = run_cli("convert", tmp_path / "in", tmp_path / "out", *words)
    assert "0 written" in out
    assert "1 were there already" in out


def test_convert_takes_every_option(run_cli: Cli, tmp_path: Path, scenes_file: Path) -> None:
    views = "--to views --num-views 3 --fov-deg 80 --view-size 8 --pitch-deg 10 --pitch-deg -10"
    rest = "--arrangement dice --format webp --quality 50"
    panorama, out = scenes_file.parent / "0.png", tmp_path / "views"
    assert run_cli("convert", panorama, out, *views.split(), *rest.split())[0] == 0
    assert json.loads((out / "conversion.json").read_text()) == {
        "to": "views",
        "width": None,
        "face_size": 1024,
        "arrangement": "dice",
        "num_views": 3,
        "fov_deg": 80.0,
        "view_size": 8,
        "pitches_deg": [10.0, -10.0],
        "rotation_deg": [0.0, 0.0, 0.0],
        "format": "webp",
        "quality": 50,
    }
    assert len(list((out / "0").glob("view_*.webp"))) == 6


def test_stopping_convert_says_how_to_go_on(
    run_cli: Cli, tmp_path: Path, scenes_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    code, _, err = run_cli(
        "convert", scenes_file.parent / "0.png", tmp_path / "out", "--to", "cubemap"
    )
    assert code == 130
    assert "run the same command again to go on" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["conversion.json"]


def test_views_of_a_free_list_and_a_global_view_are_drawn(
    run_cli: Cli, tmp_path: Path, scenes_file: Path
) -> None:
    picture, sheet = scenes_file.parent / "0.png", tmp_path / "free.png"
    looks = ("--view", "-30,10,0,60", "--view", "180,-40,5,90", "--global")
    code, out, _ = run_cli("views", picture, "--out", sheet, "--view-size", 32, *looks)
    assert code == 0
    assert "2 views of 32 px at (yaw, pitch, roll, width) (-30°, 10°, 0°, 60°)" in out
    assert "and a global view of 32 px" in out
    assert "of the sphere by its perspective views" in out
    assert sheet.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--view", "1,2,3"), "found --view 1,2,3, expected four numbers in degrees"),
        (("--view", "a,0,0,90"), "found --view a,0,0,90, expected four numbers"),
        (("--view", "0,0,0,90", "--view", "0,99,0,90"), "view 1: found a pitch of 99°"),
        (("--view", "0,0,0,90", "--cubemap"), "found --cubemap and --view together"),
        (("--cubemap", "--pitch-deg", "30"), "found --cubemap and --pitch-deg together"),
    ],
)
def test_views_that_cannot_be_exit_with_2(
    run_cli: Cli, scenes_file: Path, options: tuple[str, ...], message: str
) -> None:
    code, _, err = run_cli("views", scenes_file.parent / "0.png", *options)
    assert code == 2
    assert message in err


def test_data_check_tells_counts_and_exits_by_errors(
    run_cli: Cli, tmp_path: Path, scenes_file: Path, recipe_file: Path
) -> None:
    report = tmp_path / "check.json"
    words = ("--recipe", recipe_file, "--workers", 1, "--json", report)
    code, out, _ = run_cli("data", "check", scenes_file, *words)
    assert code == 0
    assert "nothing is wrong" in out
    assert json.loads(report.read_text())["num_errors"] == 0
    code, out, _ = run_cli("data", "check", scenes_file, "--against", scenes_file)
    assert code == 2
    assert "leak" in out
    assert "0.png: found in the test data as the same file," in out
    bare = tmp_path / "bare.jsonl"
    bare.write_text(json.dumps({"image": str(scenes_file.parent / "0.png")}) + "\n")
    assert run_cli("data", "check", bare)[0] == 2
    assert run_cli("data", "check", bare, "--without-text")[0] == 0
    assert run_cli("data", "check", tmp_path / "none.jsonl")[0] == 2


def test_data_check_exits_with_0_for_mere_warnings(
    run_cli: Cli, tmp_path: Path, scenes_file: Path
) -> None:
    twice = scenes_file.with_name("twice.jsonl")
    twice.write_text(scenes_file.read_text().splitlines()[0] + "\n")
    twice.write_text(twice.read_text() * 2)
    code, out, _ = run_cli("data", "check", twice)
    twice.unlink()
    assert code == 0
    assert "warning: " in out
    assert "repeated question" in out


def test_data_convert_tells_what_was_not_carried(run_cli: Cli, tmp_path: Path) -> None:
    table, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    table.write_text("url,query,annotation,split\nhttps://a.org/1.jpg,q,a,train\n")
    code, said, err = run_cli("data", "convert", table, out)
    assert code == 0
    assert "1 records, csv → records" in said
    assert "not carried: 'split', in 1 places" in err
    assert "1 pictures are URLs" in err
    assert run_cli("data", "convert", table, out)[0] == 2
    words = ("--from", "csv", "--to", "sharegpt", "--overwrite")
    assert run_cli("data", "convert", table, out, *words)[0] == 0
    assert "conversations" in out.read_text()


def test_train_evaluate_and_ask_work_from_the_shell(
    run_cli: Cli,
    tmp_path: Path,
    recipe_file: Path,
    scenes_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, _ = run_cli("train", recipe_file, "-o", "stages.vision.steps=2")
    assert code == 0
    assert out.count("loss") >= 3
    report_file = tmp_path / "report.json"
    command = ["evaluate", tmp_path / "run", "--data", scenes_file, "--out", report_file]
    code, out, _ = run_cli(*command, "--yaw-rotated", 2)
    assert code == 0
    report = json.loads(report_file.read_text())
    assert report["score"]["count"] == len(scenes_file.read_text().splitlines())
    assert 0 <= report["baselines"]["blind"]["score"]["mean"] <= 1
    assert 0 <= report["yaw_rotated"]["score"]["mean"] <= 1
    for name in ("vision", "resampler", "finetune"):
        assert report["stages"][name].keys() >= {"loss_first", "loss_last", "seconds"}
    assert report.keys() >= {"seconds_total", "peak_memory_mb", "versions"}
    assert report_file.with_suffix(".html").read_text().startswith("<!")
    panorama = scenes_file.parent / "0.png"
    outlined = tmp_path / "outlined.jpg"
    options = ("--grounded", "--outlined", outlined)
    code, out, _ = run_cli("ask", tmp_path / "run", panorama, "What is behind me?", *options)
    assert code == 0
    grounded = json.loads(out.splitlines()[-2])
    assert f"{len(grounded['regions'])} regions outlined in {outlined}" in out
    assert "grounding" in grounded and outlined.is_file()
    both = (panorama, panorama.with_name("1.png"))
    assert run_cli("ask", tmp_path / "run", *both, "What differs?")[0] == 0
    said = iter(["What is near?", "", "Never asked"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(said))
    assert run_cli("chat", tmp_path / "run", *both)[0] == 0
    assert next(said) == "Never asked"
    asked = {"image": [str(path) for path in both], "question": "What is near?"}
    (tmp_path / "questions.jsonl").write_text(f"{json.dumps(asked)}\n[]\n")
    files = ("--in", tmp_path / "questions.jsonl", "--out", tmp_path / "answers.jsonl")
    code, out, err = run_cli("ask", tmp_path / "run", *files)
    assert code == 0
    assert "1 answers written" in out
    assert "1 lines have an error" in err


def test_resume_continues_to_the_end(run_cli: Cli, recipe_file: Path) -> None:
    assert run_cli("train", recipe_file, "--stage", "vision")[0] == 0
    code, out, _ = run_cli("train", recipe_file, "--resume")
    assert code == 0
    assert "finished before, skipped" in out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.vision.step=3", "did you mean 'steps'?"),
        ("stages.vision.steps=many", "found 'many', expected"),
        ("stages.vision.steps=0", "found 0, expected"),
        ("model.views.fov_deg=200", "found 200, expected"),
        ("seed", "expected -o key=value"),
    ],
)
def test_mistakes_in_a_recipe_exit_with_2(
    run_cli: Cli, recipe_file: Path, override: str, message: str
) -> None:
    code, _, err = run_cli("train", recipe_file, "-o", override)
    assert code == 2
    assert message in err


def test_unknown_stage_exits_with_2(run_cli: Cli, recipe_file: Path) -> None:
    code, _, err = run_cli("train", recipe_file, "--stage", "alignment")
    assert code == 2
    assert "found --stage alignment, expected all, vision" in err


def test_missing_recipe_exits_with_2(run_cli: Cli, tmp_path: Path) -> None:
    code, _, err = run_cli("train", tmp_path / "none.yaml")
    assert code == 2
    assert "cannot read the recipe" in err


def test_folder_without_a_model_exits_with_2(
    run_cli: Cli, tmp_path: Path, scenes_file: Path
) -> None:
    code, _, err = run_cli("ask", tmp_path, scenes_file.parent / "0.png", "What?")
    assert code == 2
    assert "found no answering model" in err


@pytest.mark.parametrize(
    "words", [("x.jpg",), ("x.jpg", "What?", "--in", "q.jsonl", "--out", "a.jsonl"), ("--in", "q")]
)
def test_ask_wants_one_question_or_a_file_of_them(run_cli: Cli, words: tuple[str, ...]) -> None:
    code, _, err = run_cli("ask", "runs/demo", *words)
    assert code == 2
    assert "expected PANORAMAS and QUESTION" in err or "leave one out" in err


@pytest.mark.parametrize(
    "words", [("ask", "run", "a.jpg", "b.jpg", "?"), ("chat", "run", "a", "b")]
)
def test_a_direction_is_of_one_panorama_alone(run_cli: Cli, words: tuple[str, ...]) -> None:
    code, _, err = run_cli(*words, "--grounded")
    assert code == 2
    assert "found --grounded and 2 pictures, expected one" in err


def test_missing_panorama_exits_with_2(run_cli: Cli, tmp_path: Path) -> None:
    code, _, err = run_cli("views", tmp_path / "none.jpg")
    assert code == 2
    assert "none.jpg" in err


def test_unknown_backbone_exits_with_2(run_cli: Cli) -> None:
    code, _, err = run_cli("backbones", "gpt")
    assert code == 2
    assert "efficientnet-lite0" in err


def test_failing_disk_exits_with_2(
    run_cli: Cli, tmp_path: Path, scenes_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    code, _, err = run_cli("views", scenes_file.parent / "0.png", "--out", tmp_path / "v.png")
    assert code == 2
    assert "No space left on device" in err


def test_ctrl_c_says_how_to_continue(
    run_cli: Cli, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("panovlm.training.trainer.StageTrainer.train", interrupted)
    code, _, err = run_cli("train", recipe_file)
    assert code == 130
    assert "--resume" in err


def test_the_cache_is_shown_and_pruned(run_cli: Cli, recipe_file: Path) -> None:
    assert run_cli("cache")[1].strip().endswith("holds 0.0 MB")
    code, out, _ = run_cli("train", recipe_file, "--stage", "vision")
    assert code == 0
    assert "vision: 3 pictures" in out
    assert "3 (100%) of them kept from before" in out
    code, out, _ = run_cli("cache")
    assert code == 0
    assert "siglip" in out
    assert "4 views" in out
    code, out, _ = run_cli("cache", "--prune", "--older-than", 1)
    assert (code, out.split(",")[0]) == (0, "removed 0 pictures' outputs")
    code, out, _ = run_cli("cache", "--prune", "--all")
    assert (code, out.split(",")[0]) == (0, "removed 3 pictures' outputs")


@pytest.mark.parametrize(
    "words", [["--prune"], ["--all"], ["--prune", "--all", "--limit-gb", "1"]], ids=" ".join
)
def test_pruning_needs_one_rule(run_cli: Cli, words: list[str]) -> None:
    code, _, err = run_cli("cache", *words)
    assert code == 2
    assert "expected --prune with one of" in err


def test_a_run_whose_pictures_do_not_fit_the_cache_encodes_nothing(
    run_cli: Cli, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANOVLM_CACHE_LIMIT_GB", "1e-6")
    code, _, err = run_cli("train", recipe_file, "-o", "cache=on")
    assert code == 2
    assert "PANOVLM_CACHE_LIMIT_GB allows" in err
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_occlude_draws_a_map_and_refuses_before_the_work(
    run_cli: Cli,
    tmp_path: Path,
    scenes_file: Path,
    saved_model: Path,
) -> None:
    words = ("occlude", saved_model, scenes_file.parent / "0.png", "What is behind me?")
    picture, numbers = tmp_path / "map.png", tmp_path / "map.json"
    fast = ("--answer", "a cube", "--radius", 60, "--step", 60, "--out", picture)
    code, out, _ = run_cli(*words, *fast, "--json", numbers)
    assert code == 0
    assert "a cube: rests most on" in out
    assert json.loads(numbers.read_text())["radius_deg"] == 60
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
    for option, value, said in (
        ("--out", tmp_path / "map.xyz", "end the name in .png"),
        ("--json", tmp_path / "nowhere" / "map.json", "found no folder"),
        ("--radius", 120, "found caps with a radius of 120°"),
        ("--step", 70, "found caps 70° apart"),
        ("--answer", "", "some text"),
    ):
        code, _, err = run_cli(*words, *fast, option, value)
        assert code == 2
        assert said in err
