"""Every expectation of the suites is broken once, and fails as what it is: critical, or a warning."""

import json
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from huesong import contracts
from huesong.data.tables import as_table
from huesong.preprocess import files as validation_files
from huesong.preprocess.files import file_states, inspect
from huesong.preprocess.validation import ValidationResult, validate

Tables = tuple[pd.DataFrame, pd.DataFrame]
NO_PICTURE = "is not a picture in JPEG, PNG, WEBP, BMP, TIFF, GIF, AVIF, JPEG2000, PPM: convert, replace or remove it"
ITEMS = 24


def midi_bytes(pitch: int) -> bytes:
    track = bytes([0, 0x90, pitch, 64, 0x83, 0x60, 0x80, pitch, 0, 0, 0xFF, 0x2F, 0])
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a sound data folder."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    (folder / "music").mkdir()
    for i in range(ITEMS):
        Image.new("RGB", (8, 6), (i, 40, 90)).save(folder / f"images/{i}.png")
        (folder / f"music/{i}.mid").write_bytes(midi_bytes(40 + i))
    (folder / "images/copy.png").write_bytes((folder / "images/0.png").read_bytes())
    (folder / "images/broken.png").write_bytes(b"not a picture")
    return folder


def sound() -> Tables:
    """Two tables without any fault."""
    tables = []
    for table, suffix in (("images", "png"), ("music", "mid")):
        rows = []
        for i in range(ITEMS):
            row = {"id": f"{table}{i}", "path": f"{table}/{i}.{suffix}", "group": f"g{i // 2}", "source": "own"}
            row |= {"valence": math.sin(i), "arousal": math.cos(i), "n_raters": 5.0, "label_kind": "mean_rating"}
            rows.append(row | {"licence": "CC0-1.0", "split": "train" if i < 12 else "test"})
        tables.append(as_table(rows))
    return tables[0], tables[1]


def failed(result: ValidationResult) -> set[tuple[str, str]]:
    return {(check.severity, check.title) for check in result.checks if not check.success}


def test_sound_data_pass(data: Path, tmp_path: Path) -> None:
    result = validate(data, *sound(), tmp_path)
    assert failed(result) == set()
    assert (result.critical, result.warnings, result.broken) == ([], [], [])
    content = json.loads((tmp_path / contracts.VALIDATION_JSON).read_text())
    assert content["success"] is True
    assert content["rows"] == {"images": ITEMS, "music": ITEMS}
    assert len(content["checks"]) == len(result.checks) > 40
    page = (tmp_path / contracts.VALIDATION_HTML).read_text(encoding="utf-8")
    assert "Everything as expected." in page


def cells(**values: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Put values into the first row of the pictures."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({name: "object" for name in values})
        for name, value in values.items():
            frame.loc[0, name] = value
        return frame

    return change


CRITICAL, WARNING = "critical", "warning"
LABEL = "valence, arousal and label_kind are given together"
COPIES = (WARNING, "no two files are byte-identical")
FAULTS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], set[tuple[str, str]]]] = {
    "no rows": (
        lambda frame: frame[:0],
        {
            (CRITICAL, "the table has rows"),
            (CRITICAL, "at least one file opens"),
            (WARNING, "at least 20 items are rated"),
        },
    ),
    "no column group": (lambda frame: frame.drop(columns="group"), {(CRITICAL, "all columns are there")}),
    "no column valence": (lambda frame: frame.drop(columns="valence"), {(CRITICAL, "all columns are there")}),
    "no column path": (
        lambda frame: frame.drop(columns="path"),
        {
            (CRITICAL, "all columns are there"),
            (CRITICAL, "at least one file opens"),
            (WARNING, "every file exists"),
            (WARNING, "every file opens"),
        },
    ),
    "text for a number": (cells(valence="high", arousal=0.1), {(CRITICAL, "numbers are numbers"), (CRITICAL, LABEL)}),
    "valence out of range": (cells(valence=1.5), {(CRITICAL, "valence lies in [-1, 1]")}),
    "arousal out of range": (cells(arousal=-1.5), {(CRITICAL, "arousal lies in [-1, 1]")}),
    "valence alone": (cells(arousal=math.nan), {(CRITICAL, LABEL)}),
    "no label_kind": (cells(label_kind=""), {(CRITICAL, LABEL)}),
    "label_kind alone": (cells(valence=math.nan, arousal=math.nan), {(CRITICAL, LABEL)}),
    "unknown label_kind": (cells(label_kind="guess"), {(CRITICAL, "every label_kind is known")}),
    "unknown split": (cells(split="dev"), {(CRITICAL, "every split is known")}),
    "negative raters": (cells(n_raters=-3.0), {(CRITICAL, "n_raters is not negative")}),
    "id twice": (cells(id="images5"), {(CRITICAL, "no id stands twice")}),
    "unsafe id": (cells(id="../a"), {(CRITICAL, "ids are safe file names")}),
    "id with a line break": (cells(id="a\n"), {(CRITICAL, "ids are safe file names")}),
    "no id": (cells(id=None), {(CRITICAL, "id is never empty"), (CRITICAL, "ids are safe file names")}),
    "no group": (cells(group=" "), {(CRITICAL, "group is never empty")}),
    "no source": (cells(source=""), {(CRITICAL, "source is never empty")}),
    "no path": (
        cells(path=""),
        {
            (CRITICAL, "path is never empty"),
            (WARNING, "every file exists"),
            (WARNING, "every file opens"),
        },
    ),
    "a group in two splits": (cells(split="test"), {(CRITICAL, "no group lies in two splits")}),
    "a group partly open": (cells(split=""), set()),  # the rest of the group will follow its split
    "a file in two splits": (
        lambda frame: cells(path="images/copy.png", split="test", group="alone")(frame.drop(index=1)).pipe(
            lambda kept: pd.concat([kept, frame[:1].assign(id="more", group="other")])
        ),
        {
            (CRITICAL, "no file lies in two splits under two names"),
            (WARNING, "byte-identical files share a group"),
            COPIES,
        },
    ),
    "copies in one group": (
        lambda frame: pd.concat([frame, frame[:1].assign(id="more", path="images/copy.png")]),
        {COPIES},
    ),
    "a row twice": (
        lambda frame: pd.concat([frame, frame[:1].assign(id="more")]),
        {COPIES, (WARNING, "no file is listed twice")},
    ),
    "a file missing": (
        cells(path="images/gone.png"),
        {(WARNING, "every file exists"), (WARNING, "every file opens")},
    ),
    "a file broken": (cells(path="images/broken.png"), {(WARNING, "every file opens")}),
    "no file opens": (
        lambda frame: frame.assign(path=[f"images/gone{i}.png" for i in range(ITEMS)]),
        {
            (CRITICAL, "at least one file opens"),
            (WARNING, "every file exists"),
            (WARNING, "every file opens"),
        },
    ),
    "constant valence": (lambda frame: frame.assign(valence=0.3), {(WARNING, "valence varies")}),
    "constant arousal": (lambda frame: frame.assign(arousal=0.3), {(WARNING, "arousal varies")}),
    "few ratings": (
        lambda frame: frame.assign(
            **{name: frame[name].where(frame.index < 10) for name in ("valence", "arousal", "n_raters")},
            label_kind=frame["label_kind"].where(frame.index < 10, ""),
        ),
        {(WARNING, "at least 20 items are rated")},
    ),
    "few raters": (
        lambda frame: frame.assign(n_raters=frame["n_raters"].where(frame.index > 3, 1.0)),
        {(WARNING, "nine in ten ratings by people have 3 or more raters")},
    ),
    "raters unknown": (
        lambda frame: frame.assign(n_raters=math.nan),
        {(WARNING, "nine in ten ratings by people have 3 or more raters")},
    ),
    "one rater, but not a mean": (lambda frame: frame.assign(n_raters=1.0, label_kind="quadrant"), set()),
    "no licence": (cells(licence=""), {(WARNING, "every licence is stated")}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(data: Path, tmp_path: Path, fault: str) -> None:
    change, expected = FAULTS[fault]
    images, music = sound()
    result = validate(data, change(images), music, tmp_path)
    assert failed(result) == expected
    assert len(result.critical) == sum(severity == CRITICAL for severity, _ in expected)
    assert len(result.warnings) == sum(severity == WARNING for severity, _ in expected)
    assert all(line.startswith("images.csv: expected that ") and "\n" not in line for line in result.critical)
    assert json.loads((tmp_path / contracts.VALIDATION_JSON).read_text())["success"] is not bool(result.critical)


def test_a_failure_says_which_rows_and_what_to_do(data: Path, tmp_path: Path) -> None:
    images, music = sound()
    music.loc[[3, 5], "valence"] = 7.0
    result = validate(data, images, music, tmp_path)
    assert result.critical == [
        "music.csv: expected that valence lies in [-1, 1], but 2 of 24 rows fail (music3, music5): "
        "map the scale of the ratings to [-1, 1]"
    ]
    missing = validate(data, images.drop(columns=["licence", "split"]), sound()[1], tmp_path).critical
    assert len(missing) == 1
    assert "(missing: licence, split)" in missing[0]
    severities = [check.severity for check in validate(data, images[:0], music, tmp_path).failed]
    assert severities == ["critical"] * 3 + ["warning"]
    assert "or <code>huesong data import</code>" in (tmp_path / contracts.VALIDATION_HTML).read_text(encoding="utf-8")


def test_broken_files_are_listed_with_reasons(data: Path, tmp_path: Path) -> None:
    images, music = sound()
    images.loc[0, "path"] = "images/broken.png"
    music.loc[1, "path"] = "music/gone.mid"
    result = validate(data, images, music, tmp_path)
    assert result.broken == [
        ("images", "images0", "images/broken.png", NO_PICTURE),
        ("music", "music1", "music/gone.mid", "does not exist"),
    ]
    assert result.critical == []


def test_the_page_is_whole_escaped_and_offline(data: Path, tmp_path: Path) -> None:
    images, music = sound()
    images.loc[0, ["id", "path"]] = ["<script>alert(1)</script>", "images/broken.png"]
    music.loc[0, "licence"] = "unknown"
    validate(data, images, music, tmp_path)
    page = (tmp_path / contracts.VALIDATION_HTML).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http:" not in page
    assert "https:" not in page
    assert "Stopped: the data must be corrected first." in page
    for words in ("What is in images.csv", "Files that do not open", "All checks of music.csv", "is not a picture"):
        assert words in page


def test_the_same_data_give_the_same_files(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        validate(data, *sound(), tmp_path / name)
    for name in (contracts.VALIDATION_JSON, contracts.VALIDATION_HTML):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_opens(tmp_path: Path) -> None:
    def state(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return inspect(("images" if name.endswith(".png") else "music", str(tmp_path / name))).problem

    Image.new("L", (4, 4)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    assert state("good.png", whole) == ""
    assert state("empty.png", b"") == "is empty"
    assert state("text.png", b"hello") == NO_PICTURE
    assert state("cut.png", whole[:40]).startswith(("is damaged or truncated", "is not a picture"))
    head = whole[12:16] + struct.pack(">II", 60_000, 60_000) + whole[24:29]
    bomb = whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]
    assert state("bomb.png", bomb).startswith("is too large")
    assert state("good.mid", midi_bytes(60)) == ""
    assert state("empty.mid", b"") == "is empty"
    assert state("text.mid", b"hello") == "is not a MIDI file"
    assert state("cut.mid", midi_bytes(60)[:9]) == "is a MIDI file without tracks"
    assert state("bare.mid", struct.pack(">4sIHHH", b"MThd", 6, 1, 0, 480)) == "is a MIDI file without tracks"
    assert inspect(("music", str(tmp_path))).problem.startswith("cannot be read")
    assert inspect(("music", str(tmp_path / "none.mid"))).problem == "does not exist"


def test_the_pool_finds_what_one_process_finds(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"images/{i}.png" for i in range(ITEMS)] + ["images/broken.png", "images/gone.png", ""]
    alone = file_states(data, "images", paths)
    assert [state.problem for state in alone[-3:]] == [
        NO_PICTURE,
        "does not exist",
        "does not exist",
    ]
    monkeypatch.setattr(validation_files, "FEW", 2)
    assert file_states(data, "images", paths, workers=2) == alone
