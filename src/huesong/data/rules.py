"""What must hold of every row of images.csv and music.csv: the one list of rules.

`huesong preprocess` makes its Great Expectations suite of them; whoever else reads a table checks it by `problems`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from huesong import contracts


@dataclass(frozen=True)
class Rule:
    """What the values of one column must be: of `allowed`, like `pattern`, within `span` (or empty), or `unique`.

    A column whose name ends with `_problem` (tables.PROBLEMS) says itself what is wrong with its row, and the remedy.
    """

    column: str
    title: str
    """What should hold."""
    wrong: str
    """What is said after the value that breaks the rule."""
    remedy: str
    allowed: tuple[str, ...] = ()
    pattern: str = ""
    span: tuple[float, float | None] | None = None
    unique: bool = False

    def broken(self, values: pd.Series) -> np.ndarray:
        """Which of N values break the rule, bool [N]."""
        if self.unique:
            broken = values.duplicated(keep=False)
        elif self.pattern:
            broken = pd.Series([not re.search(self.pattern, value) for value in values], dtype=bool)
        elif self.span:
            low, high = self.span
            broken = (values < low) | (values > (np.inf if high is None else high))
        else:
            broken = ~values.isin(self.allowed)
        return broken.to_numpy(dtype=bool)

    def sentence(self, table: pd.DataFrame, row: int) -> str:
        """What is wrong with a row that breaks the rule, and the remedy."""
        value = table[self.column].iloc[row]
        if self.column.endswith("_problem"):
            return str(value)
        wrong = self.wrong
        if self.unique:
            same = table["line"][table[self.column] == value]
            wrong = wrong.format(line=next(int(line) for line in same if line != table["line"].iloc[row]))
        text = shown(value) if isinstance(value, str) else f"{value:.12g}"
        return f"{self.column}{f' {text}' if value != '' else ''} {wrong}: {self.remedy}"


_ID = "must be 1 to 200 letters, digits, blanks or any of . # ( ) + & ' , ! ~ -"
_KINDS = ", ".join(filter(None, contracts.LABEL_WEIGHTS))
RULES = (
    Rule("id", "id is never empty", _ID, "fill it in", pattern=r"\S"),
    Rule("id", "ids are safe file names", _ID, "rename it", pattern=rf"^(?:{contracts.SAFE_ID.pattern})?\Z"),
    Rule("id", "no id stands twice", "stands on line {line} too", "give every row an id of its own", unique=True),
    Rule("path", "path is never empty", "names no file", "give the path relative to the data folder", pattern=r"\S"),
    Rule("path_problem", "every path stays inside the data folder", "",
         "give the path relative to the data folder, with /", allowed=("",)),
    Rule("group", "group is never empty", "is empty",
         "give related items one group name, and every other item its own id", pattern=r"\S"),
    Rule("source", "source is never empty", "is empty", "say which set the item comes from", pattern=r"\S"),
    Rule("number_problem", "numbers are numbers", "", "correct the text in valence, arousal or n_raters", allowed=("",)),
    Rule("valence", "valence lies in [-1, 1]", "is outside [-1, 1]", "map the scale to it, or leave it empty", span=(-1, 1)),
    Rule("arousal", "arousal lies in [-1, 1]", "is outside [-1, 1]", "map the scale to it, or leave it empty", span=(-1, 1)),
    Rule("n_raters", "n_raters is not negative", "is negative", "correct it, or leave it empty", span=(0, None)),
    Rule("label_problem", "valence, arousal and label_kind are given together", "", "give all three or none", allowed=("",)),
    Rule("bars_problem", "bar lines are bar lines and metres", "", "correct bars, or leave it empty", allowed=("",)),
    Rule("label_kind", "every label_kind is known", "is unknown", f"use one of {_KINDS}", allowed=(*contracts.LABEL_WEIGHTS,)),
    Rule("split", "every split is known", "is unknown", f"use one of {', '.join(contracts.SPLITS)}, or leave it empty",
         allowed=("", *contracts.SPLITS)),
)  # fmt: skip


def problems(table: pd.DataFrame, rules: Sequence[Rule] = RULES) -> list[tuple[int, str]]:
    """(line, what is wrong and the remedy) of every bad row of a table of `tables.parse_table`, one fault a row."""
    found: dict[int, str] = {}
    for rule in rules:
        for row in np.flatnonzero(rule.broken(table[rule.column])):
            found.setdefault(int(row), rule.sentence(table, int(row)))
    return [(int(table["line"].iloc[row]), found[row]) for row in sorted(found)]


def shown(value: str, length: int = 60) -> str:
    """`value` quoted, and cut short for one line."""
    return repr(value if len(value) <= length else value[: length - 3] + "...")
