"""The page of `huesong experiment quality`: tables by length, every row with n and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huesong.evaluate.quality.figures import TITLES
from huesong.evaluate.quality.two_sample import KEPT
from huesong.report.tables import row, table

LINE = ("motif4", "motif8", "step", "leap", "bar_repetition", "groove_pairs")
LONG = ("si_short", "si_middle", "si_long", "chord_fit", "chord_repetition", "key_stability")
PHRASE = ("cadence_share", "cadences", "phrase_bars")
OTHERS = {
    "c2st_shape": "told apart, shape", "c2st_notes": "told apart, notes", "copied_notes": "copied notes",
    "copied_share": "copied share",
}  # fmt: skip
COPYING = {
    "copy_exact": "exact", "copy_exact_0": "exact, at once", "copy_exact_1": "1 bar between", "copy_exact_2": "2",
    "copy_exact_4": "4", "copy_exact_8": "8", "copy_transposed": "transposed", "copy_varied": "varied",
    "copy_unsaid": "exact, unsaid", "copy_random": "random ids",
}  # fmt: skip


def markdown(found: Mapping[str, Any]) -> str:
    """The tables of quality.json's content."""
    plan = found["plan"]
    parts = [
        f"Requests: {plan['asked']}, seed {plan['seed']}, one piece each. All pieces are cut to the length of the table, for the "
        f"two-sample test to {KEPT:.0%} of it. `real`: held-out pieces, equally many of each set, and pieces that were learnt from "
        "where a set has too few others; `real SET` is told from the other sets, `real` from itself by halves. Brackets: 95 % "
        "bootstrap intervals, over groups. Definitions: docs/evaluation.md.",
    ]
    for seconds, rows in found["lengths"].items():
        parts.append(f"Pieces of {seconds} s:")
        for names in (LINE, LONG, PHRASE):
            titles = {name: TITLES[name] for name in names if any(name in one for one in rows.values())}
            parts.append(of_rows(rows, {"n": "n"} | titles))
        parts.append(of_rows(rows, {"n": "n", "n_learnt": "of them learnt from", "c2st_n_real": "told from"} | OTHERS))
    if found["copying"]:
        parts.append(
            "The copy test: loss of a passage's second time over that of its first; passages of held-out pieces, bars of "
            "another piece between the two:"
        )
        rows = {name: {**one, "copy_rows": int(one.get("copy_rows", 0))} for name, one in found["copying"].items()}
        parts.append(of_rows(rows, {"copy_rows": "rows"} | COPYING))
    for head, val in found["detector"].items():
        scored = ", ".join(f"{name} {val[name]:.2f}" for name in ("f1", "precision", "recall"))
        parts.append(
            f"The detector of {'phrase ends' if head == 'phrase' else 'cadences'}: {scored} on {val['marked']} marked ones in "
            f"{val['pieces']} annotated scores that were left out."
        )
    return "\n\n".join(parts) + "\n"


def of_rows(rows: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """A table with a row for each name."""
    return table(["", *titles.values()], [row(figures, name, titles) for name, figures in rows.items()])
