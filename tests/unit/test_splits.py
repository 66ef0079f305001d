"""Splits go by group, keep what the table gives, and do not move when other groups come or go."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from huesong import contracts
from huesong.config import SplitShares
from huesong.data.splits import assign_splits
from huesong.data.tables import as_table

SHARES = SplitShares()


def table(groups: int, size: int = 2, rated: bool = True, source: str = "own", start: int = 0) -> pd.DataFrame:
    rows = []
    for g in range(start, start + groups):
        for i in range(size):
            value = 0.1 if rated else math.nan
            rows.append(
                {"id": f"{source}{g}-{i}", "group": f"g{g}", "valence": value, "arousal": value, "source": source}
            )
    return as_table(rows)


def by_group(frame: pd.DataFrame, splits: pd.Series) -> dict[str, str]:
    per = splits.groupby(frame["group"]).agg(["nunique", "first"])
    assert (per["nunique"] == 1).all()
    return dict(per["first"])


def test_shares_are_met_and_groups_stay_whole() -> None:
    frame = table(3000)
    splits = assign_splits(frame, SHARES, seed=0, with_judge=True)
    groups = by_group(frame, splits)
    for name in ("val", "judge", "test"):
        share = sum(split == name for split in groups.values()) / len(groups)
        assert share == pytest.approx(getattr(SHARES, name), abs=0.03)  # four standard errors
    assert set(groups.values()) == set(contracts.SPLITS)


def test_pictures_have_no_judge() -> None:
    splits = assign_splits(table(300), SHARES, seed=0, with_judge=False)
    assert set(splits) == {"train", "val", "test"}


def test_the_seed_decides_and_nothing_else() -> None:
    frame = table(200)
    first = assign_splits(frame, SHARES, seed=3, with_judge=True)
    assert first.equals(assign_splits(frame.copy(), SHARES, seed=3, with_judge=True))
    assert not first.equals(assign_splits(frame, SHARES, seed=4, with_judge=True))


@given(st.integers(0, 50), st.integers(0, 40))
def test_a_group_keeps_its_split_when_others_come_or_go(seed: int, cut: int) -> None:
    frame = table(120)
    whole = by_group(frame, assign_splits(frame, SHARES, seed, with_judge=True))
    part = frame[frame["group"].isin([f"g{g}" for g in range(cut, 120)])].sample(frac=1, random_state=seed)
    again = by_group(part, assign_splits(part, SHARES, seed, with_judge=True))
    assert again == {group: whole[group] for group in again}


def test_the_order_and_index_of_the_frame_are_kept() -> None:
    frame = table(20).sample(frac=1, random_state=0)
    splits = assign_splits(frame, SHARES, seed=0, with_judge=True)
    assert splits.index.equals(frame.index)


@pytest.mark.parametrize(
    ("given_splits", "whole"),
    [(["val", ""], "val"), (["val", "judge"], "judge"), (["judge", "test"], "test"), (["train", "val"], "val")],
)
def test_a_given_split_holds_for_the_whole_group(given_splits: list[str], whole: str) -> None:
    frame = table(40)
    frame.loc[:1, "split"] = given_splits
    assert assign_splits(frame, SHARES, seed=0, with_judge=True)[:2].tolist() == [whole, whole]


def test_given_train_is_drawn_again() -> None:
    frame = table(300)
    drawn = assign_splits(frame, SHARES, seed=0, with_judge=True)
    frame["split"] = "train"
    assert assign_splits(frame, SHARES, seed=0, with_judge=True).equals(drawn)


def test_a_source_with_its_own_val_gets_no_more_of_it() -> None:
    own, other = table(300, source="own"), table(300, source="other", start=300)
    own.loc[:19, "split"] = "val"  # ten groups
    frame = pd.concat([own, other], ignore_index=True)
    splits = assign_splits(frame, SHARES, seed=0, with_judge=True)
    assert ((frame["source"] == "own") & (splits == "val")).sum() == 20
    assert ((frame["source"] == "own") & (splits == "test")).sum() > 40
    assert ((frame["source"] == "other") & (splits == "val")).sum() > 20


def test_unrated_music_is_never_judged_or_tested() -> None:
    frame = table(400, rated=False)
    splits = assign_splits(frame, SHARES, seed=0, with_judge=True)
    assert set(splits) == {"train", "val"}
    assert (splits == "val").mean() == pytest.approx(SHARES.val, abs=0.06)
    frame.loc[frame["id"].str.endswith("-0"), ["valence", "arousal"]] = 0.2  # one rated item is enough
    assert set(assign_splits(frame, SHARES, seed=0, with_judge=True)) == set(contracts.SPLITS)


def test_few_groups_still_fill_every_split() -> None:
    for seed in range(20):
        frame = pd.concat([table(4, size=1), table(9, size=1, rated=False, source="more", start=10)])
        rated = assign_splits(frame, SHARES, seed, with_judge=True)[frame["valence"].notna()]
        assert set(rated) == set(contracts.SPLITS)


def test_one_group_is_trained_on() -> None:
    for seed in range(20):
        assert "train" in set(assign_splits(table(2, size=1), SHARES, seed, with_judge=False))


def test_shares_that_leave_no_train_are_refused() -> None:
    with pytest.raises(ValidationError, match="leave nothing to train on"):
        SplitShares(val=0.3, judge=0.3, test=0.5)
