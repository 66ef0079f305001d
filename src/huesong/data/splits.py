"""Which items are trained on and which are held out: by group, by a seeded hash, never row by row."""

from __future__ import annotations

import hashlib
from collections import Counter

import pandas as pd

from huesong.config import SplitShares

HELD_OUT = ("test", "judge", "val")
"""By precedence: a group with items given to several splits goes to the first of these."""


def assign_splits(frame: pd.DataFrame, shares: SplitShares, seed: int, with_judge: bool) -> pd.Series[str]:
    """The split of every row of a raw table.

    Whole groups go to one split. A `val`, `judge` or `test` that the table gives is kept, for the whole group; a
    source that brings such a split of its own gets no more of it. All other groups (also those given as `train`) are
    drawn by a hash of seed and group, so a group's split does not change when other groups come or go. Groups
    without any rated item are drawn for `train` and `val` only where `with_judge`, because only ratings serve a judge
    or a test of music. A split that would stay empty (few groups) gets one group of the fullest split.

    Args:
        frame: RAW_COLUMNS, N rows; `group`, `valence`, `source` and `split` are read.
        shares: the share of the groups drawn for each held-out split.
        seed: another seed draws other groups.
        with_judge: True for music; False draws no `judge` (pictures).

    Returns:
        N names of contracts.SPLITS, with the index of `frame`.
    """
    names = HELD_OUT if with_judge else ("test", "val")
    given: dict[str, set[str]] = {}
    own: dict[str, set[str]] = {}
    sources: dict[str, set[str]] = {}
    rated: dict[str, bool] = {}
    columns = (frame[name] for name in ("group", "source", "split", "valence"))
    for group, source, split, valence in zip(*columns, strict=True):
        given.setdefault(group, set()).add(split)
        own.setdefault(source, set()).add(split)
        sources.setdefault(group, set()).add(source)
        rated[group] = rated.get(group, False) or not pd.isna(valence)

    splits: dict[str, str] = {}
    for group, kept in given.items():
        fixed = next((name for name in HELD_OUT if name in kept), None)
        closed = set().union(*(own[source] for source in sources[group]))
        if with_judge and not rated[group]:
            closed |= {"test", "judge"}
        splits[group] = fixed or _draw(group, seed, shares, names, closed)
    eligible = {group for group in given if rated[group] or not with_judge}
    movable = {group for group in eligible if not given[group] & set(HELD_OUT)}
    _fill_empty(splits, eligible, movable, names, seed)
    return frame["group"].map(splits).astype(str).rename("split")


def _draw(group: str, seed: int, shares: SplitShares, names: tuple[str, ...], closed: set[str]) -> str:
    """The split in whose interval of [0, 1) the group's hash lies; a closed one's interval belongs to `train`."""
    position, edge = _hash(f"{seed}\0{group}"), 0.0
    for name in names:
        edge += getattr(shares, name)
        if position < edge:
            return "train" if name in closed else name
    return "train"


def _fill_empty(
    splits: dict[str, str], eligible: set[str], movable: set[str], names: tuple[str, ...], seed: int
) -> None:
    """Give `train`, then every other split without an eligible group, one group of the split with most movable ones.

    Only `train` may take the last group of a split.
    """
    for name in ("train", *names):
        if any(splits[group] == name for group in eligible):
            continue
        counts = Counter(splits[group] for group in sorted(movable))
        fullest = max(counts, key=lambda split: counts[split], default="")
        if fullest and (counts[fullest] > 1 or name == "train"):
            givers = [group for group in movable if splits[group] == fullest]
            splits[min(givers, key=lambda group: _hash(f"{seed}\0{name}\0{group}"))] = name


def _hash(text: str) -> float:
    """A number in [0, 1) that depends on nothing but `text`."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48
