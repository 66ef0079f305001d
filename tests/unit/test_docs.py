"""The documents: links lead somewhere, the page of results stays short, and its figures are those of the generated tables."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from huesong import __version__
from huesong.experiments import summary
from huesong.runtime.errors import UserError

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {part for part in path.relative_to(ROOT).parts if part.startswith(".")} & {".venv", ".git", ".pytest_cache"}
    and path.relative_to(ROOT).parts[0] not in ("artifacts", "out", "data", "shared")
)
RESULTS = ROOT / "docs" / "results.md"
FIGURE = re.compile(r"[-+]?\d*\.?\d+ \[[-+.\d]+, [-+.\d]+\]")
"""A figure with its interval."""


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def part(page: str, name: str) -> str:
    """What stands between a part's markers."""
    return page.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_all_links_inside_the_repository_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), f"{page.relative_to(ROOT)} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.relative_to(ROOT)} links to {target}"


def test_documents_named_in_code_and_settings_exist() -> None:
    files = [path for folder in ("src", "presets", "mlflow", "pipeline", "components", "benchmarks")
             for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".md")]  # fmt: skip
    for path in files:
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text("utf-8")):
            assert (ROOT / name).exists(), f"{path.relative_to(ROOT)} names {name}"


def test_the_page_of_results_is_short() -> None:
    lines = RESULTS.read_text("utf-8").splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 400


def test_the_small_tables_are_those_of_the_generated_pages() -> None:
    real, ablation = ((ROOT / "docs" / "results" / f"{name}.md").read_text("utf-8") for name in ("real", "ablation"))
    page = RESULTS.read_text("utf-8")
    remedy = "run python -m huesong.experiments.summary"
    assert part(page, "goals") == summary.goals(real, ablation), remedy
    assert part(page, "claim") == summary.claim(ablation), remedy
    quality = (ROOT / "docs" / "results" / "quality.md").read_text("utf-8")
    assert part(page, "music") == summary.music(quality), remedy
    assert part((ROOT / "README.md").read_text("utf-8"), "controlled") == summary.controlled(real), remedy


@pytest.mark.parametrize("page", [RESULTS, ROOT / "README.md"], ids=lambda page: page.name)
def test_every_figure_with_an_interval_is_generated(page: Path) -> None:
    generated = "".join(path.read_text("utf-8") for path in (ROOT / "docs" / "results").glob("*.md"))
    found = FIGURE.findall(page.read_text("utf-8"))
    assert len(found) > 20
    for figure in found:
        assert figure in generated, f"{page.name} has {figure}, which no generated table has"


def test_a_goal_is_reached_or_missed_judge_by_judge() -> None:
    assert summary.reached(".85 [.80, .90]", ">= .85") == "met"
    assert summary.reached(".84 [.80, .90]", ">= .85") == "**missed**"
    assert summary.reached(".16", "<= .15") == "**missed**"
    assert summary.reached("0", "= 0") == "met"
    with pytest.raises(UserError, match="no table 'figure' in the page: write it with `huesong experiment results`"):
        summary.one([], first="figure")


def test_both_pages_are_written_from_the_tables(tmp_path: Path) -> None:
    (tmp_path / "docs" / "results").mkdir(parents=True)
    goals = summary.one(summary.read_tables((ROOT / "docs" / "results" / "real.md").read_text("utf-8")), first="figure")
    first, second = (goals.cell("arousal CCC, grid", judge) for judge in ("first judge", "second judge"))
    for name in ("real", "ablation", "quality"):
        text = (ROOT / "docs" / "results" / f"{name}.md").read_text("utf-8")
        (tmp_path / "docs" / "results" / f"{name}.md").write_text(text.replace(first, ".10 [.05, .15]"))
    for name in ("docs/results.md", "README.md"):
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"))
    summary.write(tmp_path)
    written = (tmp_path / "docs" / "results.md").read_text("utf-8")
    assert f"| arousal CCC, grid | 200 | .10 [.05, .15] | {second} | >= .85 | **missed** / met |" in written
    assert ".10 [.05, .15]" in (tmp_path / "README.md").read_text("utf-8")


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"]
    changed = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert changed is not None
    assert {__version__, cited, changed[1]} == {project}
