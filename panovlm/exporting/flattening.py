"""The source code that a checkpoint needs, as one flat folder that imports only its own files.

transformers loads code beside weights from a flat folder whose files import one another with one
dot. The package itself is laid out by subject, so its modules are gathered by following their
imports, and the imports are rewritten.
"""

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

_OWN_IMPORT = re.compile(r"^( *)from (panovlm(?:\.\w+)*)\.(\w+) import", re.MULTILINE)


def flattened_sources(modules: Iterable[str]) -> dict[str, str]:
    """Gather modules and all of the package that they import.

    Args:
        modules: Full names, as "panovlm.model.modeling".

    Returns:
        Source code by file name, as "modeling.py"; its imports of the package have one dot.

    Raises:
        ValueError: If two modules have the same last name.
    """
    sources: dict[str, str] = {}
    origins: dict[str, str] = {}
    waiting = [*modules]
    while waiting:
        module = waiting.pop()
        name = f"{module.rpartition('.')[2]}.py"
        if origins.setdefault(name, module) != module:
            raise ValueError(f"found {origins[name]} and {module}, expected one {name}; rename one")
        if name not in sources:
            source = _source_of(module)
            sources[name] = _OWN_IMPORT.sub(r"\1from .\3 import", source)
            waiting += [f"{found[2]}.{found[3]}" for found in _OWN_IMPORT.finditer(source)]
    return dict(sorted(sources.items()))


def _source_of(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"found no source file of {module}")
    return Path(spec.origin).read_text(encoding="utf-8")
