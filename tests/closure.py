"""Which modules of huesong a module imports, directly and through others; from the code alone, nothing is run.

python -m tests.closure        prints the `deps` on code that every stage of dvc.yaml needs
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
CONSOLE = "huesong.cli.stages"
TRACKING = ("_tracked",)
"""Functions of the console that make no artifact: how a run is tracked."""
READ = {"register": ("src/huesong/compose/serve.py",)}
"""Code that a stage reads as a file: the registered model is logged from it."""
SHARE = 0.5
"""A folder is named whole where at least this share of its files is needed, else its files one by one."""


@cache
def modules() -> dict[str, Path]:
    """Name -> file of every module of the package."""
    found = {}
    for path in (SOURCE / "huesong").rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports(name: str, types: bool = True) -> frozenset[str]:
    """The modules of huesong that module `name` imports anywhere, inside of functions and (if `types`) for types included."""
    found = named_by(nodes(name, types and "." in name), name)  # the package itself names types for its callers alone
    return frozenset(found - {name})


def named_by(code: Iterable[ast.AST], where: str) -> set[str]:
    """The modules of huesong that a piece of code imports."""
    found: set[str] = set()
    for node in code:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in modules():
            found.add(node.value)  # a module named in a string, such as what a pool preloads
    return found & set(modules())


def entries(stage: str) -> set[str]:
    """The modules that a stage's command imports, in its function and in those of its file that it calls."""
    tree = ast.parse(modules()[CONSOLE].read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found, seen, waiting = {f"huesong.{stage}.stage"}, set(TRACKING), [stage]
    while waiting:
        name = waiting.pop()
        if name in functions and name not in seen:
            seen.add(name)
            code = list(ast.walk(functions[name]))
            found |= named_by(code, f"{CONSOLE}.{name}")
            waiting += [node.func.id for node in code if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return found


def nodes(name: str, types: bool = True) -> Iterator[ast.AST]:
    """All that stands in module `name`; without `types`, but for what `if TYPE_CHECKING` holds."""
    waiting: list[ast.AST] = [ast.parse(modules()[name].read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        yield node
        if types or not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            waiting += ast.iter_child_nodes(node)


def closure(*names: str, types: bool = True) -> set[str]:
    """`names` and everything that they import, directly and through others; the packages that hold them included."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += [*imports(name, types), *([name.rpartition(".")[0]] if "." in name else [])]
    return seen


def stage_closure(stage: str) -> set[str]:
    """All modules that a stage runs."""
    return closure(*entries(stage))


def is_code(path: Path) -> bool:
    """Whether a file is more than a package's docstring."""
    return path.name != "__init__.py" or len(ast.parse(path.read_text(encoding="utf-8")).body) > 1


def dvc_deps(stage: str) -> list[str]:
    """Files and folders, relative to the checkout, that hold all code that a stage runs."""
    needed = {modules()[name] for name in stage_closure(stage)}
    needed = {path for path in needed if is_code(path)}
    found = set(READ.get(stage, ()))
    for path in needed:
        folder = path.parent
        files = {other for other in folder.rglob("*.py") if is_code(other)}
        whole = folder.name != "huesong" and len(files & needed) >= SHARE * len(files)
        found.add((folder if whole else path).relative_to(ROOT).as_posix())
    return sorted(found)


def written(text: str, stages: Iterable[str]) -> str:
    """dvc.yaml with the code that every stage runs under its `deps`."""
    for stage in stages:
        found = re.search(rf"(?ms)^  {stage}:\n.*?(?=^  \w|^\w)", text)
        assert found is not None, stage
        head, *rest = re.split(r"(?m)(?:^      - src/.*\n)+", found[0])
        code = "".join(f"      - {path}\n" for path in dvc_deps(stage))
        text = text.replace(found[0], head + code + "".join(rest))
    return text


if __name__ == "__main__":
    from huesong.contracts import STAGES

    if "--write" in sys.argv:
        dvc = ROOT / "dvc.yaml"
        dvc.write_text(written(dvc.read_text(encoding="utf-8"), STAGES), encoding="utf-8")
    for one in STAGES:
        print(f"{one}:", *(f"      - {path}" for path in dvc_deps(one)), sep="\n")
