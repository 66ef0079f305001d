"""How the places of moods (compose/moods.py) agree with what people said of the same words, one by one.

Usage: python benchmarks/moods.py WORDS_CSV [--page docs/library.md]
WORDS_CSV: a table with columns `word`, `valence_norm` and `arousal_norm` (each -1 to 1), such as norms of Warriner, Kuperman
and Brysbaert 2013. `--page` writes the sentences between `<!-- moods -->` and `<!-- /moods -->` of a page. The norms
themselves, whose licence does not let them be passed on in another form, are printed nowhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from huesong.compose.moods import MOODS
from huesong.report.tables import put_into
from huesong.va import AXES, Bootstrap, pearson

FAR = 0.5
"""Distance on the plane from which on a word is named."""


def agreement(words: pd.DataFrame) -> str:
    """What is said of the moods that `words` has, with r of both axes and its 95 % interval over words."""
    rated = words.set_index("word")[["valence_norm", "arousal_norm"]]
    both = [mood for mood in MOODS if mood in rated.index]
    placed_N2 = np.array([MOODS[mood][:2] for mood in both])
    rated_N2 = rated.loc[both].to_numpy(dtype=float)
    said = []
    for axis, name in enumerate(AXES):
        pair = placed_N2[:, axis], rated_N2[:, axis]
        low, high = Bootstrap().over(np.arange(len(both))).interval(pearson, *pair) or (np.nan, np.nan)
        said.append(f"{name} r {float(pearson(*pair)):.2f} [{low:.2f}, {high:.2f}]")
    apart = np.hypot(*(placed_N2 - rated_N2).T)
    far = [f"{both[index]} ({apart[index]:.2f})" for index in np.argsort(-apart) if apart[index] >= FAR]
    without = [mood for mood in MOODS if mood not in both]
    return (
        f"Of {len(MOODS)} moods {len(both)} are words of the norms: {', '.join(said)} (95 % intervals over words), at a "
        f"mean distance of {apart.mean():.2f}. Further than {FAR:g} apart: {', '.join(far) or 'none'}. "
        f"Not in the norms: {', '.join(without) or 'none'}.\n"
    )


def main() -> None:
    """Read, say, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", type=Path)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    text = agreement(pd.read_csv(arguments.words))
    print(text, end="")
    if arguments.page:
        put_into(arguments.page, "moods", text)


if __name__ == "__main__":
    main()
