"""A user's own folder: whatever a spreadsheet wrote is read or named, and nothing is left out without a word."""

import os
import shutil
import struct
from pathlib import Path

import pytest
from PIL import Image

from huesong import contracts
from huesong.data.importers.importing import ImportReport, Options, import_dataset
from huesong.data.tables import read_table
from huesong.music.reading import read_score
from huesong.pictures.decode import decode
from huesong.preprocess.files import inspect
from huesong.runtime.errors import UserError
from tests.console import huesong
from tests.tiny_sets import midi, picture, rows, sheet, snapshot

IMAGES, MUSIC = contracts.IMAGES_CSV, contracts.MUSIC_CSV
OWN = Options(name="own")


def told(report: ImportReport) -> list[str]:
    """What an import says, but for that so small a folder has too few ratings to learn from."""
    return [note for note in report.notes if not note.startswith("the data have ")]


def test_folder_without_a_table_is_unlabelled(tmp_path: Path) -> None:
    picture(tmp_path / "My trip/day 1/sea.jpg", 1)
    picture(tmp_path / "My trip/day 2/sea.jpg", 2)
    picture(tmp_path / "My trip/.cache/thumb.jpg", 3)
    midi(tmp_path / "My trip/day 1/sea.MID")
    report = import_dataset("folder", tmp_path / "My trip", tmp_path / "data", Options(name="My trip"))
    got = rows(tmp_path / "data", IMAGES)
    assert set(got) == {"folder-My_trip_day_1_sea", "folder-My_trip_day_2_sea"}
    assert all(row["label_kind"] == "" and row["valence"] != row["valence"] for row in got.values())
    assert len({row["group"] for row in got.values()}) == 2
    assert [row["path"] for row in rows(tmp_path / "data", MUSIC).values()] == ["music/folder-My_trip/day_1_sea.mid"]
    assert report.rated == {"images/folder-My_trip": 0, "music/folder-My_trip": 0}


def test_folder_with_a_table(tmp_path: Path) -> None:
    picture(tmp_path / "own/a.jpg", 1)
    picture(tmp_path / "own/b.jpg", 2)
    midi(tmp_path / "own/c.mid")
    sheet(
        tmp_path / "own/labels.csv",
        "path,group,valence,arousal,licence,split",
        *("a.jpg,sea,0.5,-0.25,CC BY 4.0,test", "c.mid,,-1,1,,", "notes.txt,,,,,", "lost.jpg,,,,,", "../x.jpg,,,,,"),
    )
    sheet(tmp_path / "own/diary.csv", "day,weather", "1,fine")  # not a table of files
    (tmp_path / "own/notes.txt").write_text("hello")
    report = import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    a, b = (rows(tmp_path / "data", IMAGES)[f"folder-own_{n}"] for n in "ab")
    assert (a["valence"], a["arousal"], a["label_kind"]) == (0.5, -0.25, "mean_rating")
    assert (a["group"], a["licence"], a["split"]) == ("folder-own_sea", "CC BY 4.0", "test")
    assert (b["label_kind"], b["licence"]) == ("", "not stated")
    assert rows(tmp_path / "data", MUSIC)["folder-own_c"]["arousal"] == 1
    assert dict(report.skipped) == {
        "notes.txt": "it is neither a picture nor MIDI",
        "lost.jpg": "its file is missing",
        "../x.jpg": "its path leaves the folder",
        "diary.csv": "it is a table without a column of files (columns found: day, weather; wanted: path, and valence and "
        "arousal where rated)",
    }


@pytest.mark.parametrize(
    ("head", "line", "words"),
    [
        ("path,valence,arousal", "a.jpg,2,0", "line 2: valence 2 is outside"),
        ("path,valence,arousal", "a.jpg,x,0", "line 2: valence 'x' is not a number"),
        ("path,valence,arousal", "a.jpg,,0", "line 2: arousal is given but valence is empty"),
        ("path,split", "a.jpg,dev", "line 2: split 'dev' is unknown"),
        ("path,split", "a.jpg,\na.jpg,", "line 3: a.jpg is listed on line 2 too"),
    ],
)
def test_a_bad_cell_of_the_users_table_is_named(tmp_path: Path, head: str, line: str, words: str) -> None:
    picture(tmp_path / "own/a.jpg")
    sheet(tmp_path / "own/labels.csv", head, line)
    with pytest.raises(UserError, match=words):
        import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)


def test_names_that_differ_in_case_or_not_at_all_stay_apart(tmp_path: Path) -> None:
    for shade, name in enumerate(("a.jpg", "A.png", "a!.jpg", "日の出.jpg", "x" * 200 + ".jpg", "x" * 201 + ".jpg")):
        picture(tmp_path / "own" / name, shade)
    import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    table = read_table(tmp_path / "data", IMAGES)
    assert len(table) == 6
    assert table["path"].str.casefold().is_unique
    assert all((tmp_path / "data" / path).is_file() for path in table["path"])
    assert any("日の出" in item for item in table["id"])


# --- tables as spreadsheets write them -----------------------------------------------------------

TABLES = {
    "commas": "filename,valence,arousal\na.jpg,0.5,-0.25\nc.mid,-1,1\n",
    "semicolons": "filename;valence;arousal\na.jpg;0.5;-0.25\nc.mid;-1;1\n",
    "tabs": "filename\tvalence\tarousal\na.jpg\t0.5\t-0.25\nc.mid\t-1\t1\n",
    "capital letters": "Filename,Valence,AROUSAL\na.jpg,0.5,-0.25\nc.mid,-1,1\n",
    "file_name": "file_name,valence,arousal\na.jpg,0.5,-0.25\nc.mid,-1,1\n",
    "V and A": "File Name,V,A\na.jpg,0.5,-0.25\nc.mid,-1,1\n",
    "byte-order mark": "\ufefffilename,valence,arousal\na.jpg,0.5,-0.25\nc.mid,-1,1\n",
    "sep=": "sep=;\r\nfilename;valence;arousal\r\na.jpg;0.5;-0.25\r\nc.mid;-1;1\r\n",
    "old line ends": "filename,valence,arousal\ra.jpg,0.5,-0.25\rc.mid,-1,1\r",
    "decimal commas": "filename;valence;arousal\na.jpg;0,5;-0,25\nc.mid;-1,0;1\n",
    "decimal commas in quotes": 'filename,valence,arousal\na.jpg,"0,5","-0,25"\nc.mid,-1,1\n',
    "windows paths, other case": "path,valence,arousal\n.\\A.JPG,0.5,\u22120.25\nC.Mid,-1,1\n",
    "not rated": "path,valence,arousal\na.jpg,0.5,-0.25\nc.mid,-1,1\nb.jpg,NA,-\n",
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("place", ["labels.csv", "labels.TSV", "tables/labels.csv"])
def test_ratings_are_read_however_the_table_was_saved(tmp_path: Path, kind: str, place: str) -> None:
    picture(tmp_path / "own/a.jpg", 1)
    picture(tmp_path / "own/b.jpg", 2)
    midi(tmp_path / "own/c.mid")
    table = tmp_path / "own" / place
    table.parent.mkdir(exist_ok=True)
    table.write_bytes(TABLES[kind].encode())
    report = import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    a, b = (rows(tmp_path / "data", IMAGES)[f"folder-own_{n}"] for n in "ab")
    c = rows(tmp_path / "data", MUSIC)["folder-own_c"]
    assert (a["valence"], a["arousal"], c["valence"], c["arousal"]) == (0.5, -0.25, -1, 1)
    assert b["label_kind"] == ""
    assert report.skipped == told(report) == []


def test_a_table_saved_as_unicode_text(tmp_path: Path) -> None:
    picture(tmp_path / "own/a.jpg")
    (tmp_path / "own/labels.csv").write_bytes("filename\tvalence\tarousal\na.jpg\t0.5\t0\n".encode("utf-16"))
    import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    assert rows(tmp_path / "data", IMAGES)["folder-own_a"]["valence"] == 0.5


def test_a_table_in_a_subfolder_sees_its_own_folder_first(tmp_path: Path) -> None:
    picture(tmp_path / "own/a.jpg", 1)
    picture(tmp_path / "own/day 2/a.jpg", 2)
    sheet(tmp_path / "own/day 2/labels.csv", "path,v,a", "a.jpg,1,1")
    import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    got = rows(tmp_path / "data", IMAGES)
    assert (got["folder-own_day_2_a"]["valence"], got["folder-own_a"]["label_kind"]) == (1, "")


def test_ratings_on_another_scale(tmp_path: Path) -> None:
    picture(tmp_path / "own/a.jpg", 1)
    picture(tmp_path / "own/b.jpg", 2)
    sheet(tmp_path / "own/labels.csv", "file,valence,arousal,licence", "a.jpg,1,4,CC BY 4.0", "b.jpg,7,5.5,")
    with pytest.raises(UserError, match=r"line 2: arousal 4 is outside.*\(ratings on another scale: --scale 1 7"):
        import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    done = huesong("data", "import", "folder", "own", "--scale", "1", "7", "--name", "own", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    got = rows(tmp_path / "data", IMAGES)
    assert [(row["valence"], row["arousal"]) for row in got.values()] == [(-1, 0), (1, 0.5)]
    assert "2 rated; licence: CC BY 4.0, not stated" in done.stdout
    for scale, words in (
        ("1 6", "b.jpg|line 3: valence 7 is outside its scale"),
        ("7 1", "--scale 7 1: give the lowest"),
    ):
        refused = huesong("data", "import", "folder", "own", "--scale", *scale.split(), cwd=tmp_path)
        assert refused.returncode == 2
        assert any(word in refused.stderr for word in words.split("|"))
    with pytest.raises(UserError, match="leave them out for oasis"):
        import_dataset("oasis", tmp_path / "own", tmp_path / "data", Options(scale=(1, 7)))


@pytest.mark.parametrize(
    ("head", "note"),
    [
        ("path,mood", "gives no ratings (columns found: path, mood; wanted: valence, arousal)"),
        ("path,valence,arousal,mood", "columns mood are not used"),
    ],
)
def test_columns_that_are_not_read_are_named(tmp_path: Path, head: str, note: str) -> None:
    picture(tmp_path / "own/a.jpg")
    sheet(tmp_path / "own/labels.csv", head, ",".join(["a.jpg", *["0"] * head.count(",")]))
    report = import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    assert [note in line and "labels.csv" in line for line in told(report)] == [True]
    assert told(report)[0] in str(report)


def test_ratings_from_0_to_1_are_asked_about(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"own/{number}.jpg", number)
    sheet(tmp_path / "own/labels.csv", "path,valence,arousal", *(f"{n}.jpg,0.{n},1" for n in range(4)))
    [note] = told(import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN))
    assert "--scale 0 1" in note
    assert told(import_dataset("folder", tmp_path / "own", tmp_path / "data", Options(scale=(0, 1)))) == []


def test_two_columns_of_one_meaning_and_what_is_no_text_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "own/a.jpg")
    table = sheet(tmp_path / "own/labels.csv", "image,midi,valence,arousal", "a.jpg,b.mid,0,0")
    with pytest.raises(UserError, match="columns image and midi both mean path: keep one"):
        import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    table.write_bytes("path,valence,arousal\nä.jpg,0,0\n".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8 text"):
        import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    table.write_bytes(b"," * 2_000_000 + b"\n")
    assert not (tmp_path / "data").exists()
    report = import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    assert report.skipped == [("labels.csv", "its first line is no header (2000000 characters)")]


# --- which set it is -----------------------------------------------------------------------------


def test_two_folders_of_one_name_are_two_sets(tmp_path: Path) -> None:
    picture(tmp_path / "holiday/images/beach.jpg", 1)
    picture(tmp_path / "work/images/desk.jpg", 2)
    out = tmp_path / "data"
    import_dataset("folder", tmp_path / "holiday/images", out)
    second = import_dataset("folder", tmp_path / "work/images", out)
    assert second.removed == []
    assert sorted(key.split("_")[1] for key in rows(out, IMAGES)) == ["beach", "desk"]
    assert all((out / path).is_file() for path in read_table(out, IMAGES)["path"])
    (tmp_path / "work/images/desk.jpg").rename(tmp_path / "work/images/lamp.jpg")
    again = import_dataset("folder", tmp_path / "work/images", out)
    assert len(again.removed) == 1
    assert "(1 files before, 1 now; 1 removed: images/folder-images-" in again.removed[0]
    assert sorted(key.split("_")[1] for key in rows(out, IMAGES)) == ["beach", "lamp"]


def test_a_set_that_has_a_name_may_move(tmp_path: Path) -> None:
    picture(tmp_path / "one/a.jpg", 1)
    out = tmp_path / "data"
    import_dataset("folder", tmp_path / "one", out, Options(name="mine"))
    (tmp_path / "one").rename(tmp_path / "two")
    report = import_dataset("folder", tmp_path / "two", out, Options(name="mine"))
    assert set(rows(out, IMAGES)) == {"folder-mine_a"}
    assert report.removed == ["replaced folder-mine (1 files before, 1 now; 0 removed)"]


def test_a_file_that_no_table_lists_is_not_removed(tmp_path: Path) -> None:
    picture(tmp_path / "own/a.jpg", 1)
    picture(tmp_path / "data/images/folder-own/mine.jpg", 2)
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"mine.jpg is listed in no table and would be lost.*move it elsewhere first"):
        import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    assert snapshot(tmp_path) == before


# --- what is taken, and what is left out ---------------------------------------------------------


def test_other_suffixes_are_what_they_are(tmp_path: Path) -> None:
    for shade, suffix in enumerate(("jfif", "jpe", "JPG", "webp", "avif", "jp2", "ppm", "dib")):
        picture(tmp_path / "x.jpg", 10 * shade)
        kind = {"jfif": "jpeg", "jpe": "jpeg", "JPG": "jpeg", "jp2": "jpeg2000", "dib": "bmp"}.get(suffix, suffix)
        target = tmp_path / f"own/{suffix}.{suffix}"
        target.parent.mkdir(exist_ok=True)
        Image.open(tmp_path / "x.jpg").save(target, kind)
    plain = midi(tmp_path / "own/a.kar", 60).read_bytes()
    midi(tmp_path / "own/b.smf", 61)
    riff = b"RMID" + b"LIST" + struct.pack("<I", 4) + b"INFO" + b"data" + struct.pack("<I", len(plain)) + plain
    (tmp_path / "own/c.rmi").write_bytes(b"RIFF" + struct.pack("<I", len(riff)) + riff)
    report = import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    assert report.skipped == []
    assert len(rows(tmp_path / "data", IMAGES)) == 8
    for path in read_table(tmp_path / "data", IMAGES)["path"]:
        assert decode(tmp_path / "data" / path, 10**6).size == (8, 6)
    assert {Path(path).suffix for path in read_table(tmp_path / "data", MUSIC)["path"]} == {".kar", ".smf", ".rmi"}
    for path in read_table(tmp_path / "data", MUSIC)["path"]:
        assert inspect(("music", str(tmp_path / "data" / path))).problem == ""
        assert len(read_score(tmp_path / "data" / path).tracks[0].notes) == 1


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    own = tmp_path / "own"
    picture(own / "a.jpg", 1)
    picture(own / ".hidden.jpg", 2)
    picture(own / ".cache/x.jpg", 3)
    (own / "song.mp3").write_bytes(b"ID3")
    (own / "movie.mp3").write_bytes(b"ID3")
    (own / "notes").write_bytes(b"?")
    (own / "ratings.xlsx").write_bytes(b"?")
    picture(tmp_path / "elsewhere/secret.jpg", 4)
    (own / "evil.jpg").symlink_to(tmp_path / "elsewhere/secret.jpg")
    (own / "lost.jpg").symlink_to(own / "nothing.jpg")
    (own / "folder").symlink_to(tmp_path / "elsewhere")
    (own / "again.jpg").symlink_to(own / "a.jpg")
    os.mkfifo(own / "pipe.jpg")
    report = import_dataset("folder", own, tmp_path / "data", OWN)
    assert dict(report.skipped) == {
        ".hidden.jpg": "it is hidden",
        ".cache": "it is hidden",
        "song.mp3": ".mp3 is neither a picture nor MIDI",
        "movie.mp3": ".mp3 is neither a picture nor MIDI",
        "notes": "no suffix is neither a picture nor MIDI",
        "ratings.xlsx": "a table in .xlsx is not read: save it as CSV",
        "evil.jpg": "it is a link that leaves the folder",
        "lost.jpg": "it is a link to nothing",
        "folder": "it is a link to a folder",
        "pipe.jpg": "it is no ordinary file",
    }
    assert set(rows(tmp_path / "data", IMAGES)) == {"folder-own_a", "folder-own_again"}
    assert "left out 2 because .mp3 is neither a picture nor MIDI: movie.mp3, song.mp3" in str(report)


def test_a_link_that_leaves_the_folder_is_refused_where_a_table_lists_it(tmp_path: Path) -> None:
    picture(tmp_path / "secret.jpg")
    picture(tmp_path / "own/a.jpg", 1)
    (tmp_path / "own/evil.jpg").symlink_to("/etc/passwd")
    (tmp_path / "own/worse.jpg").symlink_to(tmp_path / "secret.jpg")
    sheet(tmp_path / "own/labels.csv", "path,v,a", "evil.jpg,0,0", "worse.jpg,0,0", "a.jpg,0,0")
    report = import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    assert dict(report.skipped) == dict.fromkeys(("evil.jpg", "worse.jpg"), "its path is a link that leaves the folder")
    assert set(rows(tmp_path / "data", IMAGES)) == {"folder-own_a"}


def test_links_into_a_dvc_cache_are_the_folders_own(tmp_path: Path) -> None:
    cached = picture(tmp_path / "cache.jpg")
    place = tmp_path / "cache/files/md5/ab" / ("c" * 30)
    place.parent.mkdir(parents=True)
    shutil.move(cached, place)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.jpg").symlink_to(place)
    report = import_dataset("folder", tmp_path / "own", tmp_path / "data", OWN)
    assert report.skipped == []
    (tmp_path / "data" / rows(tmp_path / "data", IMAGES)["folder-own_a"]["path"]).unlink()
    (tmp_path / "data" / "images/folder-own/a.jpg").symlink_to(place)
    assert len(read_table(tmp_path / "data", IMAGES)) == 1  # the data folder, too, may lie in a cache of links


def as_nobody(action: object) -> int:
    """The exit code of a process of a user without rights that runs `action`."""
    assert callable(action)
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            os._exit(int(action()))
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_unreadable_files_and_folders_are_named(tmp_path: Path) -> None:
    from huesong.data.importers.common import survey

    own = tmp_path / "own"
    for name in ("a.jpg", "b.jpg", "closed/c.jpg"):
        picture(own / name)
    (own / "b.jpg").chmod(0)
    (own / "closed").chmod(0)
    for folder in (own, *list(own.parents)[:-1]):
        if folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o755)

    def named() -> bool:
        found = survey(own)
        whole = found.files == [own / "a.jpg"]
        return whole and found.left_out == [("b.jpg", "it cannot be read"), ("closed", "it cannot be read")]

    assert as_nobody(named) == 1
    (own / "closed").chmod(0o755)
