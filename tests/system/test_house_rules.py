"""Functions, signatures and files stay short; what CONTRIBUTING.md names is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "components", "pipeline", "benchmarks")
LINES_OF_A_FUNCTION, PARAMETERS, LINES_OF_A_FILE = 60, 10, 420

LONG_FUNCTIONS: frozenset[str] = frozenset()
LONG_SIGNATURES = frozenset(
    {
        "components/evaluate.py evaluate",
    }
)
"""What is over the limit today: whoever mends one takes its name from the list, and none is added."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def functions(tree: ast.AST, above: str = "") -> Iterator[tuple[str, Function]]:
    """Every function with its name, which is that of what it stands in, too."""
    for node in ast.iter_child_nodes(tree):
        name = f"{above}{node.name}" if isinstance(node, (Function, ast.ClassDef)) else ""
        if isinstance(node, Function):
            yield name, node
        yield from functions(node, f"{name}." if name else above)


def lines(function: Function) -> int:
    """From `def` to the last line; decorators, which hold the console's options, do not count."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def parameters(function: Function) -> int:
    given = function.args
    named = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")]) + bool(given.vararg) + bool(given.kwarg)


def over(limit: int, measured: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in measured.items() if size > limit}


def functions_by_name() -> dict[str, Function]:
    """`src/huesong/va.py clip` and the like."""
    return {
        f"{path.relative_to(ROOT).as_posix()} {name}": function
        for path in files()
        for name, function in functions(ast.parse(path.read_text(encoding="utf-8")))
    }


def test_functions_are_short() -> None:
    found = over(LINES_OF_A_FUNCTION, {name: lines(function) for name, function in functions_by_name().items()})
    assert not {name: size for name, size in found.items() if name not in LONG_FUNCTIONS}
    assert found.keys() >= LONG_FUNCTIONS, "mended: take it from the list"


def test_signatures_are_short() -> None:
    found = over(PARAMETERS, {name: parameters(function) for name, function in functions_by_name().items()})
    assert not {name: size for name, size in found.items() if name not in LONG_SIGNATURES}
    assert found.keys() >= LONG_SIGNATURES, "mended: take it from the list"


def test_files_are_short() -> None:
    found = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in files()}
    assert not over(LINES_OF_A_FILE, found)


def test_what_is_too_long_is_seen() -> None:
    body = "\n".join(f"        x = {n}" for n in range(LINES_OF_A_FUNCTION))
    given = ", ".join(f"p{n}" for n in range(PARAMETERS))
    tree = ast.parse(
        f"class A:\n    @property\n    def long(self):\n{body}\n    def wide(self, {given}, *, q, **more): pass\n"
    )
    measured = dict(functions(tree))
    assert over(LINES_OF_A_FUNCTION, {name: lines(function) for name, function in measured.items()}) == {"A.long": 61}
    assert over(PARAMETERS, {name: parameters(function) for name, function in measured.items()}) == {"A.wide": 12}


def test_contributors_are_sent_to_files_that_are_there() -> None:
    words = re.findall(r"`([^`\s]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    paths = [word for word in words if "/" in word or word.endswith((".md", ".py", ".toml", ".txt", ".yaml"))]
    assert len(paths) > 30
    assert not [path for path in paths if not (ROOT / path).exists()]
