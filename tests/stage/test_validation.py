"""Every expectation of the suites is broken once, through the stage's own entry, and fails as what it is."""

import csv
import json
import logging
import math
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from huesong import contracts
from huesong.config import PreprocessConfig
from huesong.data.rules import RULES, problems
from huesong.data.tables import parse_table, read_table
from huesong.music.reading import read_score
from huesong.preprocess import files as validation_files
from huesong.preprocess import shards
from huesong.preprocess.files import file_states, inspect
from huesong.preprocess.shards import KEPT_VALIDATION
from huesong.runtime.errors import UserError

Rows = list[dict[str, str]]
Change = Callable[[Rows], object]
"""Damages the rows of images.csv; what it returns, if that is a list, takes their place."""
ITEMS = 24
KNOWN = "JPEG, PNG, WEBP, BMP, TIFF, GIF, AVIF, JPEG2000, PPM, HEIC, JPEG XL"
NO_PICTURE = f"is not a picture in {KNOWN}: convert, replace or remove it"
CRITICAL, WARNING = "critical", "warning"


def midi_bytes(pitch: int) -> bytes:
    track = bytes([0, 0x90, pitch, 64, 0x83, 0x60, 0x80, pitch, 0, 0, 0xFF, 0x2F, 0])
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track


def sound(table: str) -> Rows:
    """The rows of a table without any fault; the first twelve are given for training."""
    suffix = "png" if table == "images" else "mid"
    rows = []
    for i in range(ITEMS):
        row = {"id": f"{table}{i}", "path": f"{table}/{i}.{suffix}", "group": f"g{i // 2}"}
        row |= {"valence": f"{math.sin(i):.6f}", "arousal": f"{math.cos(i):.6f}", "n_raters": "5"}
        row |= {"label_kind": "mean_rating", "source": "own", "licence": "CC0-1.0"}
        rows.append(row | {"split": "train" if i < 12 else "test"})
    return rows


def write(folder: Path, images: Rows | None = None, music: Rows | None = None) -> Path:
    for name, rows in ((contracts.IMAGES_CSV, images), (contracts.MUSIC_CSV, music)):
        rows = sound(name.removesuffix(".csv")) if rows is None else rows
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0] if rows else contracts.RAW_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound data folder."""
    folder = tmp_path_factory.mktemp("clean") / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "music").mkdir()
    for i in range(ITEMS):
        Image.new("RGB", (8, 6), (i, 40, 90)).save(folder / f"images/{i}.png")
        (folder / f"music/{i}.mid").write_bytes(midi_bytes(40 + i))
    (folder / "images/copy.png").write_bytes((folder / "images/0.png").read_bytes())
    (folder / "images/broken.png").write_bytes(b"not a picture")
    return write(folder)


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(clean, tmp_path / "data"))


@dataclass
class Outcome:
    """What `validate` of the stage says and leaves: the error, logged warnings, the page, validation.json if it passed."""

    error: str
    warnings: list[str]
    page: str
    content: dict = field(default_factory=dict)

    def checks(self, table: str = "images") -> Iterator[tuple[str, str, str]]:
        """(passed or failed, title, severity) of every check of a table that the page lists."""
        part = self.page.split(f"All checks of {table}.csv")[1].split("</section>")[0]
        for row in re.findall("<tr>(.*?)</tr>", part)[1:]:
            mark, title, severity, *_ = (re.sub("<.*?>", "", cell) for cell in re.findall("<td.*?>(.*?)</td>", row))
            yield mark, title, severity

    def failed(self) -> dict[str, str]:
        """Title -> severity of what failed."""
        return {
            title: severity
            for table in ("images", "music")
            for mark, title, severity in self.checks(table)
            if mark == "failed"
        }


def outcome(data: Path, caplog: pytest.LogCaptureFixture) -> Outcome:
    out = data.parent / "checked"
    caplog.clear()
    error = ""
    with caplog.at_level(logging.WARNING):
        try:
            shards.validate(PreprocessConfig(), data=data, out=out)
        except UserError as raised:
            error = str(raised)
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("huesong")]
    assert bool(error) != out.exists(), "refused data leave no tables"
    assert bool(error) == (data.parent / KEPT_VALIDATION).exists()
    if error:
        return Outcome(error, warnings, (data.parent / KEPT_VALIDATION).read_text(encoding="utf-8"))
    content = json.loads((out / contracts.VALIDATION_JSON).read_text())
    return Outcome(error, warnings, (out / contracts.VALIDATION_HTML).read_text(encoding="utf-8"), content)


def test_sound_data_pass(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = outcome(data, caplog)
    assert (found.error, found.warnings, found.failed()) == ("", [], {})
    assert found.content["success"] is True
    assert found.content["rows"] == {"images": ITEMS, "music": ITEMS}
    assert found.content["critical"] == found.content["warnings"] == found.content["broken_files"] == []
    assert len(found.content["checks"]) == len([*found.checks(), *found.checks("music")]) > 40
    assert "Everything as expected." in found.page


def first(**cells: str) -> Change:
    """Put values into the first row."""
    return lambda rows: rows[0].update(cells)


def every(**cells: str) -> Change:
    return lambda rows: [row | cells for row in rows]


def without(column: str) -> Change:
    return lambda rows: [{name: cell for name, cell in row.items() if name != column} for row in rows]


def more(**cells: str) -> Change:
    """Append a copy of the first row with other cells."""
    return lambda rows: [*rows, rows[0] | cells]


def unrated(rows: Rows) -> None:
    for row in rows[10:]:
        row |= dict.fromkeys(("valence", "arousal", "n_raters", "label_kind"), "")


def few_raters(rows: Rows) -> None:
    for row in rows[:4]:
        row["n_raters"] = "1"


COLUMNS, NUMBERS = "all columns are there", "numbers are numbers"
LABEL = "valence, arousal and label_kind are given together"
INSIDE, SAFE = "every path stays inside the data folder", "ids are safe file names"
GONE = {"every file exists": WARNING, "every file opens": WARNING}
COPIES = {"no two files are byte-identical": WARNING}
RATERS = "nine in ten ratings by people have 3 or more raters"
LINE_2 = "images.csv line 2: "
FAULTS: dict[str, tuple[Change, str, dict[str, str], str]] = {
    # fault: how, the expectation that it breaks, what else must fail then, what the critical line says ("" = a warning)
    "no rows": (lambda rows: [], "the table has rows", {}, "images.csv: expected that the table has rows"),
    "no column group": (without("group"), COLUMNS, {}, "images.csv line 1: column group missing, found id, path, val"),
    "no column valence": (without("valence"), COLUMNS, {}, "line 1: column valence missing, found id, path, group, a"),
    "no column path": (without("path"), COLUMNS, {}, "line 1: column path missing"),
    "text for a number": (first(valence="high"), NUMBERS, {}, LINE_2 + "valence 'high' is not a number: give a number"),
    "half a rater": (first(n_raters="2.5"), NUMBERS, {}, LINE_2 + "n_raters '2.5' is not a whole number: correct it"),
    "valence out of range": (
        first(valence="1.01"), "valence lies in [-1, 1]", {}, LINE_2 + "valence 1.01 is outside [-1, 1]: map the scale",
    ),
    "arousal out of range": (
        first(arousal="-1.5"), "arousal lies in [-1, 1]", {}, LINE_2 + "arousal -1.5 is outside [-1, 1]: map the scale",
    ),
    "valence alone": (first(arousal=""), LABEL, {}, LINE_2 + "valence is given but arousal is empty: give both or none"),
    "no label_kind": (first(label_kind=""), LABEL, {}, LINE_2 + "label_kind is empty though valence and arousal are"),
    "label_kind alone": (
        first(valence="", arousal=""), LABEL, {}, LINE_2 + "label_kind 'mean_rating' without valence and arousal: give",
    ),
    "unknown label_kind": (
        first(label_kind="guess"), "every label_kind is known", {}, LINE_2 + "label_kind 'guess' is unknown: use one of",
    ),
    "bars that are none": (
        lambda rows: [row | {"bars": "" if i else "3/4"} for i, row in enumerate(rows)],
        "bar lines are bar lines and metres", {}, LINE_2 + "bars '3/4' must be `file`, or a bar line and metres, such as",
    ),
    "unknown split": (first(split="dev"), "every split is known", {}, LINE_2 + "split 'dev' is unknown: use one of train"),
    "negative raters": (first(n_raters="-3"), "n_raters is not negative", {}, LINE_2 + "n_raters -3 is negative: correct"),
    "id twice": (
        first(id="images5"), "no id stands twice", {}, LINE_2 + "id 'images5' stands on line 7 too: give every row an id",
    ),
    "unsafe id": (first(id="../a"), SAFE, {}, LINE_2 + "id '../a' must be 1 to 200 letters, digits, blanks or any of"),
    "id with a line break": (first(id="a\nb"), SAFE, {}, "images.csv line 3: id 'a\\nb' must be 1 to 200 letters"),
    "no id": (first(id=""), "id is never empty", {}, LINE_2 + "id must be 1 to 200 letters"),
    "no group": (first(group=" "), "group is never empty", {}, LINE_2 + "group is empty: give related items one group"),
    "no source": (first(source=""), "source is never empty", {}, LINE_2 + "source is empty: say which set the item"),
    "no path": (first(path=""), "path is never empty", GONE, LINE_2 + "path names no file: give the path relative to"),
    "an absolute path": (first(path="/etc/passwd"), INSIDE, GONE,
                         LINE_2 + "path '/etc/passwd' is not relative: write it relative to the data folder, with /"),
    "a path out of the folder": (first(path="../gone.png"), INSIDE, GONE, LINE_2 + "path '../gone.png' leaves the data"),
    "no file opens": (
        lambda rows: [row | {"path": f"images/gone{i}.png"} for i, row in enumerate(rows)],
        "at least one file opens", GONE, "images.csv: expected that at least one file opens, but it does not hold",
    ),
    "a file in two splits": (
        more(id="more", path="images/copy.png", group="other", split="val"),
        "no file lies in two splits under two names",
        COPIES | {"byte-identical files share a group": WARNING},
        "2 of 25 rows fail (images0 on line 2, more on line 26): give the copies one group",
    ),
    "a group given two splits": (first(split="val"), "no group is given two splits", {}, ""),
    "copies in one group": (more(id="more", path="images/copy.png"), "no two files are byte-identical", {}, ""),
    "copies in two groups": (
        more(id="more", path="images/copy.png", group="other"), "byte-identical files share a group", COPIES, "",
    ),
    "a row twice": (more(id="more"), "no file is listed twice", COPIES, ""),
    "a file missing": (first(path="images/gone.png"), "every file exists", {"every file opens": WARNING}, ""),
    "a file broken": (first(path="images/broken.png"), "every file opens", {}, ""),
    "constant valence": (every(valence="0.3"), "valence varies", {}, ""),
    "constant arousal": (every(arousal="0.3"), "arousal varies", {}, ""),
    "few ratings": (unrated, "at least 20 items are rated", {}, ""),
    "few raters": (few_raters, RATERS, {}, ""),
    "raters unknown": (every(n_raters=""), RATERS, {}, ""),
    "no licence": (first(licence=""), "every licence is stated", {}, ""),
}  # fmt: skip
LEAK = "no group lies in two splits"
"""No data break this one, only a fault of huesong: see test_a_leak_by_huesong_itself_is_found."""


@pytest.mark.slow  # a second each, and there are many
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(data: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    change, title, others, says = FAULTS[fault]
    rows = sound("images")
    changed = change(rows)
    write(data, changed if isinstance(changed, list) else rows)
    found = outcome(data, caplog)
    assert found.failed() == {title: CRITICAL if says else WARNING} | others
    assert "\n" not in found.error
    assert len(found.error) < 600
    assert found.error.startswith(f"{data}/images.csv" if says else "")
    assert says in found.error
    assert " more)" not in found.error, "one fault is one finding"
    assert bool(says) == (KEPT_VALIDATION in found.error)
    assert len(found.warnings) == sum(severity == WARNING for severity in found.failed().values())
    assert all(line.startswith("images.csv: expected that ") and "\n" not in line for line in found.warnings)
    if not says:
        assert found.content["success"] is True
        assert [check["title"] for check in found.content["checks"] if not check["success"]] == list(found.failed())
        assert found.warnings == found.content["warnings"]
        assert all(f"expected that {name}, but" in "\n".join(found.warnings) for name in found.failed())


@pytest.mark.parametrize("fault", [name for name, (_, _, _, says) in FAULTS.items() if says])
def test_whoever_reads_a_table_elsewhere_refuses_the_same_rows(data: Path, fault: str) -> None:
    """The rules that the suite is made of, without Great Expectations: same line, same words."""
    change, title, _, says = FAULTS[fault]
    rows = sound("images")
    changed = change(rows)
    write(data, changed if isinstance(changed, list) else rows)
    if title in {rule.title for rule in RULES} | {COLUMNS}:
        with pytest.raises(UserError) as caught:
            read_table(data, contracts.IMAGES_CSV)
        assert says in str(caught.value)
    elif title != "the table has rows":  # what needs the files, or the other rows' splits
        assert problems(parse_table(data, contracts.IMAGES_CSV)) == []


@pytest.mark.parametrize("table", ["images", "music"])
def test_every_expectation_is_broken_by_a_fault(data: Path, table: str, caplog: pytest.LogCaptureFixture) -> None:
    titles = [title for _, title, _ in outcome(data, caplog).checks(table)]
    assert len(titles) == len(set(titles)), "a title names one expectation"
    assert set(titles) == {title for _, title, _, _ in FAULTS.values()} | {LEAK}


def test_a_leak_by_huesong_itself_is_found(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = sound("images")
    rows[0]["split"] = "test"
    monkeypatch.setattr(shards, "assign_splits", lambda table, *_, **__: table["split"])
    found = outcome(write(data, rows), caplog)
    assert found.failed() == {LEAK: CRITICAL, "no group is given two splits": WARNING}
    assert "2 of 24 rows fail (images0 on line 2, images1 on line 3)" in found.error


@pytest.mark.parametrize(
    "change",
    [
        first(split=""),  # the rest of the group decides
        every(n_raters="1", label_kind="quadrant"),  # one rater, but not a mean
    ],
)
def test_what_is_no_fault_passes(data: Path, change: Change, caplog: pytest.LogCaptureFixture) -> None:
    rows = sound("images")
    found = outcome(write(data, change(rows) or rows), caplog)
    assert (found.error, found.failed()) == ("", {})


def test_a_failure_says_which_rows_and_what_to_do(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = sound("music")
    rows[3]["valence"] = rows[5]["valence"] = "7"
    assert outcome(write(data, None, rows), caplog).error == (
        f"{data}/music.csv line 5: valence 7 is outside [-1, 1]: map the scale to it, or leave it empty "
        f"(2 of 24 rows fail); see {data.parent / KEPT_VALIDATION}, correct the data, and run again"
    )
    rows[1]["split"] = "dev"
    assert "(2 of 24 rows fail) (and 1 more); see" in outcome(write(data, None, rows), caplog).error
    few = [{name: cell for name, cell in row.items() if name not in ("licence", "split")} for row in sound("images")]
    found = outcome(write(data, few), caplog)
    assert "images.csv line 1: column licence, split missing, found id, path, group" in found.error
    found = outcome(write(data, []), caplog)
    assert found.failed() == {"the table has rows": CRITICAL}
    assert "or <code>huesong data import</code>" in found.page


KEYS = ("table", "id", "path", "reason")


def test_broken_files_are_listed_with_reasons(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, music = sound("images"), sound("music")
    images[0]["path"] = "images/broken.png"
    music[1]["path"] = "music/gone.mid"
    found = outcome(write(data, images, music), caplog)
    assert [tuple(item[key] for key in KEYS) for item in found.content["broken_files"]] == [
        ("images", "images0", "images/broken.png", NO_PICTURE),
        ("music", "music1", "music/gone.mid", "does not exist"),
    ]
    assert found.error == ""


def test_the_page_is_whole_escaped_and_offline(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, music = sound("images"), sound("music")
    images[0] |= {"id": "<script>alert(1)</script>", "path": "images/broken.png"}
    music[0]["licence"] = "unknown"
    page = outcome(write(data, images, music), caplog).page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http:" not in page
    assert "https:" not in page
    assert "Stopped: the data must be corrected first." in page
    for words in ("What is in images.csv", "Files that do not open", "All checks of music.csv", "is not a picture"):
        assert words in page


def test_the_same_data_give_the_same_files(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = outcome(data, caplog), outcome(data, caplog)
    assert (one.page, one.content) == (two.page, two.content)


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
    no_midi = "is no MIDI file to read"
    assert state("text.mid", b"hello") == f"{no_midi} (not a MIDI file (no MThd header))"
    assert state("cut.mid", midi_bytes(60)[:9]) == f"{no_midi} (truncated MIDI header)"
    bare = struct.pack(">4sIHHH", b"MThd", 6, 1, 0, 480)
    assert state("bare.mid", bare) == f"{no_midi} (no track follows the MIDI header)"
    assert state("large.mid", midi_bytes(60) + bytes(2**23)) == "is too big for a MIDI file (limit 8 MiB)"
    assert inspect(("music", str(tmp_path))).problem == "is no ordinary file"
    os.mkfifo(tmp_path / "pipe.mid")
    assert inspect(("music", str(tmp_path / "pipe.mid"))).problem == "is no ordinary file"
    assert inspect(("music", str(tmp_path / "none.mid"))).problem == "does not exist"


def test_validation_and_the_reader_ask_the_same_of_midi(tmp_path: Path) -> None:
    plain = midi_bytes(60)
    riff = b"RMIDdata" + struct.pack("<I", len(plain)) + plain
    files = {
        "plain": plain,
        "in a RIFF container": b"RIFF" + struct.pack("<I", len(riff)) + riff,
        "no track declared": plain[:10] + b"\0\0" + plain[12:],
        "format 2": plain[:8] + b"\0\2" + plain[10:],
        "SMPTE time": plain[:12] + b"\xe7\x28" + plain[14:],
        "no time": plain[:12] + b"\0\0" + plain[14:],
        "text": b"hello",
        "RIFF of another kind": b"RIFF\4\0\0\0WAVE",
    }
    kept = set()
    for name, content in files.items():
        path = tmp_path / "x.mid"
        path.write_bytes(content)
        opens = not inspect(("music", str(path))).problem
        if opens:
            read_score(path)
            kept.add(name)
        else:
            with pytest.raises(UserError):
                read_score(path)
    assert kept == {"plain", "in a RIFF container", "no track declared"}


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
