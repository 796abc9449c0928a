"""The shape of the code: who imports whom, and how long files and functions may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "panovlm"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 70
WINGS = (
    "errors",
    "stages",
    "runtime",
    "geometry",
    "pictures",
    "metrics",
    "model",
    "data",
    "scenes",
    "backbones",
    "annotating",
    "training",
    "inference",
    "figures",
    "exporting",
    "evaluation",
    "serving",
    "commands",
)
"""Each imports from those before it alone."""


def module_name(file: Path) -> str:
    parts = ("panovlm", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(file): file for file in FILES}


def own_imports(file: Path) -> Iterator[str]:
    """Modules of the package that a file imports, at its head or when it runs."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file} has a relative import"
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield from {name, node.module} & MODULES.keys()
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & MODULES.keys()


IMPORTS = {name: set(own_imports(file)) for name, file in MODULES.items()}


def test_every_part_of_the_package_has_its_place() -> None:
    no_code = ("__pycache__", "py.typed", "pretrained")
    top = {path.stem for path in PACKAGE.iterdir() if path.name not in no_code}
    assert top == {*WINGS, "__init__", "__main__"}
    assert len(WINGS) <= 18


@pytest.mark.parametrize("module", [name for name in MODULES if name.count(".")])
def test_wings_import_only_what_lies_before_them(module: str) -> None:
    own = module.split(".")[1]
    if own != "__main__":
        lower = WINGS[: WINGS.index(own) + 1]
        assert {name.split(".")[1] for name in IMPORTS[module] - {"panovlm"}} <= {*lower}


def test_no_files_import_each_other() -> None:
    waiting, done = dict(IMPORTS), set[str]()
    while free := [name for name, needs in waiting.items() if needs <= done | {name}]:
        done.update(free)
        for name in free:
            del waiting[name]
    assert not waiting


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
