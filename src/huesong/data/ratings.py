"""What is rated, and what must be: nothing can be labelled, trained or judged without people's labels to learn from."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from huesong import contracts

LEARNT_FROM = ("train", "val")
"""Splits the final labellers are fitted to: never `judge`, never `test`."""
REMEDY = "import a rated set beside it (docs/data.md), or let a model folder label: label.labels_from, such as models/huesong-small"


def is_rated(table: pd.DataFrame) -> pd.Series:
    """Whether each row has a label that something is learnt from."""
    known = table[["valence", "arousal"]].notna().all(axis=1)
    return known & (table["label_kind"].map(contracts.LABEL_WEIGHTS).fillna(0.0) > 0)


def lack(table: pd.DataFrame, what: str, splits: Sequence[str] = ()) -> str:
    """`3 rated pictures in 1 groups of splits train and val, and at least 12 in 2 are needed`; empty where there are enough.

    Args:
        table: with `valence`, `arousal`, `label_kind`, `group`, and `split` if splits are named.
        what: `pictures` or `segments of music`.
        splits: those that count; () = all.
    """
    rows = is_rated(table) & (table["split"].isin(splits) if splits else True)
    items, groups = int(rows.sum()), table.loc[rows, "group"].nunique()
    least, least_groups = contracts.LEAST_RATED
    if items >= least and groups >= least_groups:
        return ""
    where = f" of split{'s' * (len(splits) > 1)} {' and '.join(splits)}" if splits else ""
    return f"{items} rated {what} in {groups} groups{where}, and at least {least} in {least_groups} are needed"


def unrated_note(images: pd.DataFrame, music: pd.DataFrame) -> str:
    """What `data import` says of tables that nothing can be learnt from; empty where there is enough."""
    found = [text for table, what in ((images, "pictures"), (music, "pieces of music")) if (text := lack(table, what))]
    if not found:
        return ""
    return (
        f"the data have {'; '.join(found)}: in splits train and val for `huesong label`, and of music as many again in split "
        f"judge for `huesong evaluate`; {REMEDY}"
    )
