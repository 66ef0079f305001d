"""The raw tables: every bad cell is one clear line, and what is written is read back as it was."""

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong import contracts
from huesong.data.rules import problems
from huesong.data.tables import as_table, parse_table, read_csv, read_table, write_table
from huesong.runtime.errors import UserError

GOOD = {
    "id": "a1",
    "path": "images/own/a1.jpg",
    "group": "a",
    "valence": "0.25",
    "arousal": "-0.5",
    "n_raters": "12",
    "label_kind": "mean_rating",
    "source": "own",
    "licence": "CC0-1.0",
    "split": "",
}
NAME = contracts.IMAGES_CSV


def write(folder: Path, *changes: dict[str, str], columns: tuple[str, ...] = contracts.RAW_COLUMNS) -> Path:
    """images.csv with one row for each set of changes to the good row."""
    with (folder / NAME).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(GOOD | change for change in changes)
    return folder


def second(**change: str) -> dict[str, str]:
    return {"id": "a2", "path": "images/own/a2.jpg"} | change


def test_bars_are_read_and_written_where_they_are_known(tmp_path: Path) -> None:
    write(tmp_path, {"bars": "0.5;3/4@0.5"}, columns=(*contracts.RAW_COLUMNS, "bars"))
    table = read_table(tmp_path, NAME)
    assert table["bars"].tolist() == ["0.5;3/4@0.5"]
    write_table(table, tmp_path, NAME)
    assert read_table(tmp_path, NAME)["bars"].tolist() == ["0.5;3/4@0.5"]
    write_table(table.assign(bars=""), tmp_path, NAME)
    assert "bars" not in (tmp_path / NAME).read_text()
    write(tmp_path, {"bars": "0;4/5@0"}, columns=(*contracts.RAW_COLUMNS, "bars"))
    with pytest.raises(UserError, match="line 2: bars '0;4/5@0' holds '4/5@0', which is no metre"):
        read_table(tmp_path, NAME)


def test_a_good_table_has_the_promised_types(tmp_path: Path) -> None:
    empty = dict.fromkeys(("valence", "arousal", "n_raters", "label_kind"), "")
    frame = read_table(write(tmp_path, {}, second(**empty, split="val")), NAME)
    assert list(frame) == list(contracts.RAW_COLUMNS)
    assert frame.loc[0, ["valence", "arousal", "n_raters"]].tolist() == [0.25, -0.5, 12]
    assert frame.loc[1, ["valence", "arousal", "n_raters"]].isna().all()
    assert all(frame[name].dtype == np.float64 for name in ("valence", "arousal", "n_raters"))
    assert frame["label_kind"].tolist() == ["mean_rating", ""]
    assert frame["split"].tolist() == ["", "val"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"valence": "happy"}, ["valence", "'happy'", "not a number"]),
        ({"arousal": "1_0"}, ["arousal", "'1_0'", "not a number"]),
        ({"valence": "nan"}, ["valence", "'nan'", "not a number"]),
        ({"arousal": "inf"}, ["arousal", "'inf'", "not a number"]),
        ({"valence": "1.01"}, ["valence", "1.01", "[-1, 1]"]),
        ({"arousal": "-7"}, ["arousal", "-7", "map the scale"]),
        ({"valence": ""}, ["arousal is given", "valence is empty", "both or none"]),
        ({"arousal": ""}, ["valence is given", "arousal is empty"]),
        ({"n_raters": "many"}, ["n_raters", "'many'"]),
        ({"n_raters": "-1"}, ["n_raters", "negative"]),
        ({"n_raters": "2.5"}, ["n_raters", "whole"]),
        ({"label_kind": "guess"}, ["label_kind", "'guess'", "mean_rating"]),
        ({"label_kind": ""}, ["label_kind", "empty", "all three or none"]),
        ({"valence": "", "arousal": ""}, ["label_kind", "mean_rating", "without"]),
        ({"split": "dev"}, ["split", "'dev'", "train, val, judge, test"]),
        ({"id": ""}, ["id", "1 to 200"]),
        ({"id": "a/b"}, ["id", "'a/b'"]),
        ({"id": "a" * 201}, ["id", "..."]),
        ({"id": "a1"}, ["'a1'", "line 2"]),
        ({"group": " "}, ["group is empty"]),
        ({"path": ""}, ["path", "names no file"]),
        ({"path": "."}, ["path", "names no file"]),
        ({"path": "/etc/passwd"}, ["path", "not relative"]),
        ({"path": "C:/a.jpg"}, ["path", "not relative"]),
        ({"path": "images\\a.jpg"}, ["path", "not relative", "/"]),
        ({"path": "images/../../a.jpg"}, ["path", "leaves the data folder"]),
        ({"path": "images/a\0.jpg"}, ["path", "names no file"]),
    ],
)
def test_a_bad_cell_is_one_line_with_place_value_and_remedy(
    tmp_path: Path, change: dict[str, str], words: list[str]
) -> None:
    write(tmp_path, {}, second(**change))
    with pytest.raises(UserError) as caught:
        read_table(tmp_path, NAME)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in [str(tmp_path / NAME), "line 3", *words]:
        assert word in message


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.mkdir()
    (outside / "a1.jpg").write_bytes(b"x")
    (data / "linked").symlink_to(outside)
    (data / "file.jpg").symlink_to(outside / "a1.jpg")
    (data / "loop").symlink_to(data / "loop")
    (data / "real.jpg").write_bytes(b"x")
    (data / "inside.jpg").symlink_to(data / "real.jpg")
    for bad in ("linked/a1.jpg", "file.jpg", "loop/a1.jpg"):
        with pytest.raises(UserError, match="link that leaves"):
            read_table(write(data, {"path": bad}), NAME)
    assert len(read_table(write(data, {"path": "inside.jpg"}), NAME)) == 1


def test_the_data_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write(tmp_path / "real", {})
    (tmp_path / "data").symlink_to(tmp_path / "real")
    assert len(read_table(tmp_path / "data", NAME)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty", "header"]),
        (b"\n\n", ["is empty"]),
        (b"id,path\n1,2\n", ["line 1", "column group, valence", "missing"]),
        (";".join(contracts.RAW_COLUMNS).encode() + b"\n", ["missing", "separated by commas"]),
        (",".join([*contracts.RAW_COLUMNS, "id"]).encode() + b"\n", ["column id appears twice"]),
        (",".join(contracts.RAW_COLUMNS).encode() + b"\n\xff\xfe\n", ["not UTF-8", "encoding UTF-8"]),
        (",".join(contracts.RAW_COLUMNS).encode() + b"\na,b\n", ["line 2", "2 cells", "10", "quotes"]),
        (",".join(contracts.RAW_COLUMNS).encode() + b'\n"a\n', ["not valid CSV"]),
        (",".join(contracts.RAW_COLUMNS).encode() + b"\n", ["no rows", "huesong data"]),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, content: bytes, words: list[str]) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_table(tmp_path, NAME)
    assert "\n" not in str(caught.value)
    for word in [NAME, *words]:
        assert word in str(caught.value)


def test_a_missing_table_names_the_commands(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images.csv is missing: run `huesong data sample` or"):
        read_table(tmp_path, NAME)


def test_several_bad_rows_are_counted(tmp_path: Path) -> None:
    write(tmp_path, {"valence": "x"}, second(), {"id": "a3", "split": "dev"})
    with pytest.raises(UserError, match=r"line 2: valence .*\(and 1 more bad rows\)"):
        read_table(tmp_path, NAME)
    parsed = parse_table(tmp_path, NAME)
    assert parsed["id"].tolist() == ["a1", "a2", "a3"]
    assert [line for line, _ in problems(parsed)] == [2, 4]


def test_line_numbers_count_line_breaks_inside_cells(tmp_path: Path) -> None:
    write(tmp_path, {"licence": "first\nsecond"}, second(split="dev"))
    with pytest.raises(UserError, match="line 4"):
        read_table(tmp_path, NAME)


def test_byte_order_mark_blank_lines_and_blanks_around_cells_are_fine(tmp_path: Path) -> None:
    text = (write(tmp_path, {"valence": " 0.25 "}) / NAME).read_text()
    (tmp_path / NAME).write_text("\ufeff" + text + "\n,,,,,,,,,\n", encoding="utf-8")
    assert read_table(tmp_path, NAME)["valence"].tolist() == [0.25]


def test_further_columns_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, {"note": "hello"}, columns=(*contracts.RAW_COLUMNS, "note"))
    assert list(read_table(tmp_path, NAME)) == list(contracts.RAW_COLUMNS)


def test_an_empty_table_is_written_and_read(tmp_path: Path) -> None:
    write_table(as_table([]), tmp_path, NAME)
    assert (tmp_path / NAME).read_text() == ",".join(contracts.RAW_COLUMNS) + "\n"
    assert read_table(tmp_path, NAME, allow_empty=True).empty


def test_write_puts_columns_in_order_and_leaves_nothing_beside(tmp_path: Path) -> None:
    frame = as_table([GOOD | {"valence": 0.25, "arousal": -0.5, "n_raters": 12.0}])
    write_table(frame[sorted(frame)].assign(more=1), tmp_path, NAME)
    assert (tmp_path / NAME).read_text().splitlines() == [
        ",".join(contracts.RAW_COLUMNS),
        "a1,images/own/a1.jpg,a,0.25,-0.5,12,mean_rating,own,CC0-1.0,",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


UNIT = st.floats(-1, 1)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=20).map(str.strip)


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.tuples(UNIT, UNIT)), st.one_of(st.none(), st.integers(0, 500)), TEXT),
        min_size=1,
        max_size=6,
    )
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]) -> None:
    made = [
        {
            **GOOD,
            "id": f"i{i}",
            "valence": pair[0] if pair else math.nan,
            "arousal": pair[1] if pair else math.nan,
            "n_raters": math.nan if raters is None else float(raters),
            "label_kind": "construction" if pair else "",
            "licence": text,
        }
        for i, (pair, raters, text) in enumerate(rows)
    ]
    folder = tmp_path_factory.mktemp("round")
    frame = as_table(made)
    write_table(frame, folder, NAME)
    pd.testing.assert_frame_equal(read_table(folder, NAME), frame)


def test_read_csv_serves_any_table(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text('emotion,valence\nawe, 0.4\n"a, b",\n', encoding="utf-8")
    assert read_csv(path, ("emotion",)) == [
        (2, {"emotion": "awe", "valence": "0.4"}),
        (3, {"emotion": "a, b", "valence": ""}),
    ]
