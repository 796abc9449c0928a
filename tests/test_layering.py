"""The shape of the code: who imports whom, and how long files and functions may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "panovlm"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 70
MAY_IMPORT = {
    "model": set(),
    "geometry": {"model"},
    "metrics": {"model", "geometry"},
    "overlap": {"model"},
    "scenes": {"files", "model", "processes"},
    "conversion": {"model", "geometry", "files", "processes", "progress"},
    "data": {"model", "stages", "files"},
    "backbones": {"model", "data", "scenes", "precision", "progress"},
    "training": {
        "files",
        "measure",
        "model",
        "overlap",
        "data",
        "backbones",
        "stages",
        "precision",
        "progress",
    },
    "formats": {"files", "model", "data"},
    "doctor": {"files", "processes", "progress", "model", "data", "formats", "stages", "training"},
    "answering": {"model", "geometry", "data", "metrics", "inference", "progress"},
    "serving": {"model", "answering", "scenes"},
    "exporting": {"files", "model", "stages", "backbones", "training", "inference"},
    "evaluation": {
        "answering",
        "files",
        "measure",
        "model",
        "data",
        "backbones",
        "training",
        "stages",
        "precision",
        "progress",
        "inference",
        "views_sheet",
        "scenes",
        "metrics",
        "geometry",
    },
}


def imported_rooms(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            parts = node.module.split(".")
            if parts[0] == "panovlm":
                yield parts[1] if len(parts) > 1 else "panovlm"


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_lies_before_them(room: str) -> None:
    for file in (PACKAGE / room).rglob("*.py"):
        assert set(imported_rooms(file)) <= MAY_IMPORT[room] | {room}, file


def test_the_exported_folder_is_flat_and_imports_its_own_files_with_one_dot() -> None:
    for file in (PACKAGE / "model").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1, file
                assert node.module, file
                assert "." not in node.module, file
    assert not [
        path
        for path in (PACKAGE / "model").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) else None
            hidden = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
            assert node.end_lineno - node.lineno + 1 - hidden <= MAX_FUNCTION_LINES, node.name


def test_no_weights_are_read_by_pickle_unguarded() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                guarded = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert guarded.get("weights_only") == "True", file
