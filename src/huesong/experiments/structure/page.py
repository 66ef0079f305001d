"""The page of how well plans are read from notes, and the statistics that the package brings, learnt anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from huesong.experiments.structure.annotated import pieces
from huesong.experiments.structure.habits import habits
from huesong.experiments.structure.learning import chord_sounds, phrases_model
from huesong.experiments.structure.scoring import Figure, score_piece, summarise
from huesong.music.form import statistics
from huesong.report.tables import table, two_digits
from huesong.runtime.files import replacing_file

SOURCES = [
    {
        "name": "POP909 (Z. Wang et al., ISMIR 2020), its phrases, chords and keys (S. Dai, H. Zhang, R. Dannenberg 2020)",
        "licence": "MIT",
    },
    {
        "name": "Annotated piano scores of DCMLab (J. Hentschel, M. Neuwirth, M. Rohrmeier, TISMIR 2021)",
        "licence": "CC BY-NC-SA 4.0",
    },
]


def learn(data: Path) -> Path:
    """Write the package's statistics, from split `train` of the annotated sets under `data`; the file.

    Raises:
        UserError: a table is missing.
    """
    found = list(pieces(data, "train"))
    made_by = "huesong experiment structure --learn, from split train"
    content: dict[str, object] = {"sources": SOURCES, "made_by": made_by, "chord_sounds": chord_sounds(found)}
    _write(content | {"phrases": statistics.statistics()["phrases"]})
    statistics.statistics.cache_clear()  # phrases are found among chords
    content["phrases"] = phrases_model(found)
    _write(content)
    statistics.statistics.cache_clear()
    _write(content | {"habits": habits(found)})
    return statistics.FILE


def _write(content: dict[str, object]) -> None:
    with replacing_file(statistics.FILE) as work:
        work.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def markdown(data: Path, split: str = "val", limit: int | None = None) -> str:
    """The tables of all figures on a split, at most `limit` pieces of each set.

    Raises:
        UserError: a table is missing.
    """
    figures = summarise([score_piece(piece) for piece in pieces(data, split, limit)])
    parts = []
    for group, title in (("POP909", "POP909, phrases by two annotators"), ("scores", "Annotated piano scores")):
        names = [name for set_, name in figures if set_ == group]
        if names:
            rows = [_row(name, figures[group, name]) for name in sorted(names)]
            parts.append(f"{title}, split `{split}`:\n\n{table(('figure', 'pieces', 'value'), rows)}\n")
    return "\n".join(parts)


def _row(name: str, figure: Figure) -> Sequence[object]:
    ends = f"[{two_digits(figure.low)}, {two_digits(figure.high)}]"
    return name, figure.n, f"{two_digits(figure.value)} {ends}"
