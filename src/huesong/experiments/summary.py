"""The small tables of docs/results.md and README.md, read off the generated tables of docs/results/*.md: no figure is typed.

python -m huesong.experiments.summary     # from the checkout's root: writes both pages' parts
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huesong.report.tables import ANSWERS, JUDGES, REQUESTS, put_into, table
from huesong.runtime.errors import UserError

MODEL = f"**{ANSWERS['']}**"
REAL = ANSWERS["retrieval_"]
OBJECTIVES = ("ce+va_head", "ce+va_critic")
"""Both forms of a VA loss, each of which the claim compares with contrastive learning."""

WEIGHTS = "huesong-small"
MUSIC = {
    "motif 4": ">= .10", "bars that return": "", "step": ">= .24", "SI 8-15 s": ">= .15",
    "phrases with a cadence": ">= .60", "told apart, shape": "<= .85", "told apart, notes": "<= .85",
}  # fmt: skip
"""Columns of docs/results/quality.md, and the goal of each; "" = none, shown beside real music."""


@dataclass(frozen=True)
class Table:
    """A table of a page: the paragraph before it, its head, and its rows by their first cell."""

    title: str
    head: list[str]
    rows: dict[str, list[str]]

    def cell(self, row: str, column: str) -> str:
        """What stands in a row and a column."""
        return self.rows[row][self.head.index(column)]


def read_tables(page: str) -> list[Table]:
    """All Markdown tables of a page."""
    found, title = [], ""
    for block in re.split(r"\n\s*\n", page):
        lines = [
            [cell.strip() for cell in line.strip()[1:-1].split(" | ")] for line in block.splitlines() if line[:1] == "|"
        ]
        if len(lines) > 2:
            found.append(Table(title, lines[0], {line[0]: line for line in lines[2:]}))
        elif block.strip():
            title = block.strip().splitlines()[-1]
    return found


def one(tables: list[Table], *, title: str = "", first: str = "") -> Table:
    """The table whose title, or whose first column's name, begins like this.

    Raises:
        UserError: there is none.
    """
    for found in tables:
        if found.title.startswith(title) and found.head[0].startswith(first):
            return found
    raise UserError(
        f"no table '{title or first}' in the page: write it with `huesong experiment results` or `ablation`"
    )


def agreement(tables: list[Table], requests: str, judge: str) -> Table:
    """The table of a request set and a judge (prefixes of REQUESTS and JUDGES)."""
    return one(tables, title=f"{REQUESTS[requests]}, {JUDGES[judge]}:")


def reached(cell: str, goal: str) -> str:
    """Whether the figure at the beginning of a cell reaches a goal such as `>= .85`."""
    relation, wanted = goal.split()
    value, limit = float(cell.split()[0]), float(wanted)
    met = {">=": value >= limit, "<=": value <= limit, "=": value == limit}[relation]
    return "met" if met else "**missed**"


def goals(real: str, ablation: str) -> str:
    """Every goal with its figure, n, interval, and whether each judge's figure reaches it.

    Args:
        real: docs/results/real.md, which has the figures.
        ablation: docs/results/ablation.md, which says how many test pictures there are.
    """
    tables = read_tables(real)
    grid, test = (int(agreement(tables, requests, "").cell(MODEL, "n")) for requests in ("grid_", ""))
    pictures = re.search(r"for (\d+ pictures) of", ablation)
    counts = {", grid": grid, ", test pictures": test, "picture head": pictures[1] if pictures else "-"}
    rows = []
    for name, first, second, goal in one(tables, first="figure").rows.values():
        if goal == "-":
            continue
        count = next((n for words, n in counts.items() if words in name), grid + test)
        verdicts = [reached(cell, goal) for cell in (first, second) if cell != "-"]
        rows.append([name, count, first, second, goal, " / ".join(verdicts)])
    return table(["figure", "n", *JUDGES.values(), "goal", "reached"], rows) + "\n"


def controlled(real: str) -> str:
    """Model and nearest real pieces on both request sets by both judges, from docs/results/real.md."""
    tables, rows = read_tables(real), []
    columns = ["n", "V CCC", "A CCC", "quadrant"]
    for requests, words in (("grid_", "25 emotions"), ("", "test pictures")):
        for judge, name in JUDGES.items():
            found = agreement(tables, requests, judge)
            for who in (MODEL, REAL):
                rows.append([f"{words}, {name}", who, *(found.cell(who, column) for column in columns)])
    return table(["asked for", "answered by", *columns], rows) + "\n"


def claim(ablation: str) -> str:
    """What each VA loss changes against contrastive learning, from the verdicts of docs/results/ablation.md."""
    rows = []
    for objective in OBJECTIVES:
        for where in ("grid", "test pictures"):
            start = f"* **{objective} against ce+contrastive, on {'the ' if where == 'grid' else ''}{where}**"
            line = next((line for line in ablation.splitlines() if line.startswith(start)), None)
            if line is None:
                raise UserError(f"no verdict '{start[2:]}' in the page: write it with `huesong experiment ablation`")
            n = re.search(r"n = ([\w ]+)\)", line)
            for axis in ("valence", "arousal"):
                judged = re.findall(rf"{axis} ([a-z ]+) \((\S+ \[[^]]+\])", line)
                figures = [f"{figure} {word}" for word, figure in judged]
                rows.append([objective, where, axis, n[1] if n else "-", *figures])
    return table(["VA loss", "asked for by", "axis", "n", *JUDGES.values()], rows) + "\n"


def part_of(page: str, name: str) -> str:
    """What stands between the marks of a generated part.

    Raises:
        UserError: there is no such part.
    """
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", page, re.DOTALL)
    if found is None:
        raise UserError(f"no part '{name}' in the page: put what `huesong experiment quality` wrote between its marks")
    return found[1]


def music(quality: str) -> str:
    """Figures of the music: these weights, those of 0.1.0 and real music, each goal, and whether these weights reach it.

    Args:
        quality: docs/results/quality.md, pieces of 30 s by both weights.
    """
    now, before = (read_tables(part_of(quality, name)) for name in ("quality-now", "quality"))

    def cell(tables: list[Table], row: str, column: str) -> str:
        return next((found.cell(row, column) for found in tables if column in found.head and row in found.rows), "-")

    rows = []
    for column, goal in MUSIC.items():
        here = cell(now, WEIGHTS, column)
        verdict = reached(here, goal) if goal else "-"
        rows.append([column, here, cell(before, WEIGHTS, column), cell(now, "real", column), goal or "-", verdict])
    n = [cell(tables, WEIGHTS, "n") for tables in (now, before)]
    head = [
        "30 s of music",
        f"these weights, n = {n[0]}",
        f"weights of 0.1.0, n = {n[1]}",
        "real music",
        "goal",
        "reached",
    ]
    return table(head, rows) + "\n"


def write(root: Path) -> None:
    """Replace the generated parts of docs/results.md and README.md in the checkout `root`."""
    real, ablation = ((root / "docs" / "results" / f"{name}.md").read_text("utf-8") for name in ("real", "ablation"))
    for part, text in {
        "goals": goals(real, ablation),
        "claim": claim(ablation),
        "music": music((root / "docs" / "results" / "quality.md").read_text("utf-8")),
    }.items():
        put_into(root / "docs" / "results.md", part, text)
    put_into(root / "README.md", "controlled", controlled(real))


if __name__ == "__main__":
    write(Path())
