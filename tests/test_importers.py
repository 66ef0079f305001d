"""Every layout becomes rows and files of the raw layout, or nothing changes; each layout is rebuilt here in small."""

import csv
import json
import os
import struct
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from huesong import contracts
from huesong.datasets import importers
from huesong.datasets.importers import import_dataset
from huesong.datasets.importers_common import game_of_title, safe_name, sheet_rows, stem_of_theme
from huesong.datasets.importers_public import LICENCES
from huesong.datasets.tables import as_table, read_table, write_table
from huesong.errors import UserError

IMAGES, MUSIC = contracts.IMAGES_CSV, contracts.MUSIC_CSV


def midi(path: Path, pitch: int = 60) -> Path:
    """A MIDI file with one note."""
    track = bytes([0, 0x90, pitch, 64, 0x83, 0x60, 0x80, pitch, 0, 0, 0xFF, 0x2F, 0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track)
    return path


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 40, 90)).save(path)
    return path


def sheet(path: Path, head: str, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *map(str, rows)]) + "\n", encoding="utf-8")
    return path


def rows(out: Path, name: str) -> dict[str, pd.Series]:
    return {row["id"]: row for _, row in read_table(out, name).iterrows()}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def sample(out: Path) -> Path:
    """A data folder that holds a sample set of one picture and one piece."""
    picture(out / "images/sample/s1.jpg")
    midi(out / "music/sample/s1.mid")
    for name, path in ((IMAGES, "images/sample/s1.jpg"), (MUSIC, "music/sample/s1.mid")):
        row = {"id": "s1", "path": path, "group": "s", "valence": 0.1, "arousal": 0.2, "n_raters": 0.0}
        row |= {"label_kind": "construction", "source": "sample", "licence": "CC0-1.0"}
        write_table(as_table([row]), out, name)
    return out


# --- the public sets -----------------------------------------------------------------------------

OASIS_HEAD = ",Theme,Category,Source,Valence_mean,Valence_SD,Valence_N,Arousal_mean,Arousal_SD,Arousal_N"


def oasis(folder: Path) -> Path:
    sheet(
        folder / "OASIS.csv",
        OASIS_HEAD,
        "I1,Acorns 1,Object,Pixabay,4,0.9,102,7,1.6,101",
        "I2,Acorns 2,Object,Pixabay,1,0.9,102,2.5,1.7,99",
        'I3,"Dog, wet 1",Animal,Flickr,5.5,1,100,4,1,100',
        "I4,Lost 1,Scene,Flickr,5,1,100,4,1,100",
    )
    for shade, name in enumerate(("Acorns 1.jpg", "Acorns 2.JPG", "Dog, wet 1.jpg")):
        picture(folder / "images" / name, 50 * shade)
    return folder


def test_oasis(tmp_path: Path) -> None:
    out = tmp_path / "data"
    report = import_dataset("oasis", oasis(tmp_path / "download"), out)
    got = rows(out, IMAGES)
    assert set(got) == {"oasis_Acorns_1", "oasis_Acorns_2", "oasis_Dog_wet_1"}
    first = got["oasis_Acorns_1"]
    assert (first["valence"], first["arousal"], first["n_raters"]) == (0, 1, 101)
    assert (got["oasis_Acorns_2"]["valence"], got["oasis_Acorns_2"]["arousal"]) == (-1, -0.5)
    assert first["group"] == got["oasis_Acorns_2"]["group"] != got["oasis_Dog_wet_1"]["group"]
    assert (first["label_kind"], first["source"], first["licence"]) == ("mean_rating", "oasis", LICENCES["oasis"])
    assert first["path"] == "images/oasis/Acorns_1.jpg"
    assert (out / first["path"]).read_bytes() == (tmp_path / "download/images/Acorns 1.jpg").read_bytes()
    assert report.skipped == [("Lost 1", "its picture is missing")]
    assert report.counts == {"images/oasis": 3}
    assert "left out 1 because its picture is missing (first: Lost 1)" in str(report)
    assert read_table(out, MUSIC, allow_empty=True).empty


def xlsx(path: Path, table: list[list[object]]) -> Path:
    """A workbook of one sheet, texts shared as spreadsheet programs write them, empty cells left out."""
    texts: list[str] = []
    lines = []
    for r, cells in enumerate(table, start=1):
        parts = []
        for c, value in enumerate(cells):
            name = (chr(64 + c // 26) if c >= 26 else "") + chr(65 + c % 26) + str(r)
            if isinstance(value, str) and value:
                texts.append(value)
                parts.append(f'<c r="{name}" t="s"><v>{len(texts) - 1}</v></c>')
            elif value != "":
                parts.append(f'<c r="{name}"><v>{value}</v></c>')
        lines.append(f'<row r="{r}">{"".join(parts)}</row>')
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        )
        strings = "".join(f"<si><t>{text}</t></si>" for text in texts)
        archive.writestr("xl/sharedStrings.xml", f"<sst {space}>{strings}</sst>")
    return path


def test_eimg_sheet_of_the_authors(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        midi(tmp_path / f"in/dataset/midi/{number:04d}.mid", 50 + number)
    blank: list[object] = [""] * 18
    table = [["title", *blank], ["no", *blank], [1, *blank, 5, 9], [2, *blank, "3,4", 2], [3, *blank, 2, 2]]
    xlsx(tmp_path / "in/all.xlsx", table)
    report = import_dataset("eimg", tmp_path / "in", tmp_path / "data")
    got = rows(tmp_path / "data", MUSIC)
    assert set(got) == {"eimg_0001"}
    one = got["eimg_0001"]
    assert (one["valence"], one["arousal"], one["n_raters"], one["label_kind"]) == (0, 1, 6, "mean_rating")
    assert dict(report.skipped) == {
        "0002": "its ratings are missing or outside 1..9",
        "0003": "its file is missing",
        "0004.mid": "it has no row in the ratings",
    }


def test_eimg_csv_of_single_raters(tmp_path: Path) -> None:
    midi(tmp_path / "in/0007.mid")
    lines = ["eimg_0007,1,3,4", "eimg_0007,2,4,6", "eimg_0007,3,33,5"]  # the last one a typing error
    sheet(tmp_path / "in/raters.csv", "id,rater,valence,arousal", *lines)
    import_dataset("eimg", tmp_path / "in", tmp_path / "data")
    one = rows(tmp_path / "data", MUSIC)["eimg_0007"]
    assert (one["valence"], one["arousal"], one["n_raters"]) == (-0.375, 0, 2)


def test_broken_sheets_are_user_errors(tmp_path: Path) -> None:
    midi(tmp_path / "in/0001.mid")
    bad = tmp_path / "in/all.xlsx"
    bad.write_bytes(b"PK\x03\x04 not a workbook")
    with pytest.raises(UserError, match=r"all.xlsx is not a readable .xlsx sheet"):
        import_dataset("eimg", tmp_path / "in", tmp_path / "data")
    assert sheet_rows(xlsx(bad, [["a", "", 3.5], [], ["", "z"]])) == [["a", "", "3.5"], [], ["", "z"]]
    bad.unlink()
    with pytest.raises(UserError, match=r"holds no ratings"):
        import_dataset("eimg", tmp_path / "in", tmp_path / "data")


def emopia(folder: Path) -> Path:
    for pitch, name in enumerate(("Q1_0vLP-Yi_PN_0", "Q1_0vLP-Yi_PN_1", "Q3_abc_0", "Q2_extra_0"), start=50):
        midi(folder / f"EMOPIA_1.0/midis/{name}.mid", pitch)
    midi(folder / "__MACOSX/EMOPIA_1.0/midis/._Q1_0vLP-Yi_PN_0.mid")
    lines = ["Q1_0vLP-Yi_PN_0,1,A", "Q1_0vLP-Yi_PN_1,1,A", "Q3_abc_0,3,B", "Q4_gone_0,4,C"]
    sheet(folder / "EMOPIA_1.0/label.csv", "ID,4Q,annotator", *lines)
    return folder


def test_emopia(tmp_path: Path) -> None:
    report = import_dataset("emopia", emopia(tmp_path / "in"), tmp_path / "data")
    got = rows(tmp_path / "data", MUSIC)
    assert set(got) == {"emopia_Q1_0vLP-Yi_PN_0", "emopia_Q1_0vLP-Yi_PN_1", "emopia_Q3_abc_0"}
    sad, happy, same_song = (got[f"emopia_{n}"] for n in ("Q3_abc_0", "Q1_0vLP-Yi_PN_0", "Q1_0vLP-Yi_PN_1"))
    assert (sad["valence"], sad["arousal"], sad["label_kind"], sad["n_raters"]) == (-0.5, -0.5, "quadrant", 1)
    assert happy["group"] == same_song["group"] == "emopia_0vLP-Yi_PN"
    assert happy["licence"] == LICENCES["emopia"]
    assert dict(report.skipped) == {
        "Q4_gone_0": "its file is missing",
        "Q2_extra_0.mid": "it has no row in label.csv",
    }


def test_emopia_without_its_table_reads_the_file_names(tmp_path: Path) -> None:
    folder = emopia(tmp_path / "in")
    (folder / "EMOPIA_1.0/label.csv").unlink()
    import_dataset("emopia", folder, tmp_path / "data")
    tense = rows(tmp_path / "data", MUSIC)["emopia_Q2_extra_0"]
    assert (tense["valence"], tense["arousal"]) == (-0.5, 0.5)


def vgmidi(folder: Path) -> Path:
    names = ["Zelda_N64_Ocarina of Time_Forest", "Zelda_GC_Wind Waker_Sea", "Mario_NES_Super Mario_Cave"]
    for pitch, name in enumerate(names, start=50):
        midi(folder / f"labelled/midi/{name}.mid", pitch)
    midi(folder / "unlabelled/midi/Final_Fantasy_7_Aerith.mid", 70)
    pieces = {f"piece{i}": {"name": name, "midi": f"midi/{name}.mid", "duration": 9} for i, name in enumerate(names)}
    pieces["piece9"] = {"name": "lost", "midi": "midi/lost.mid", "duration": 9}
    annotations = {
        "piece0_1": {"valence": [0.5, 0.3], "arousal": [0.1, 0.1]},
        "piece0_2": {"valence": [0.0, 0.0], "arousal": [-0.7, -0.9]},
        "piece1_1": {"valence": [-1, -0.5], "arousal": [1, 1]},
        "piece1_2": {"valence": [], "arousal": []},
    }
    path = folder / "labelled/annotations/vgmidi_raw_1.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"pieces": pieces, "annotations": annotations}))
    return folder


def test_vgmidi_annotations(tmp_path: Path) -> None:
    report = import_dataset("vgmidi", vgmidi(tmp_path / "in"), tmp_path / "data")
    got = rows(tmp_path / "data", MUSIC)
    forest, sea = got["vgmidi_Zelda_N64_Ocarina_of_Time_Forest"], got["vgmidi_Zelda_GC_Wind_Waker_Sea"]
    assert (forest["valence"], forest["arousal"], forest["n_raters"]) == (0.2, -0.35, 2)
    assert (sea["valence"], sea["arousal"], sea["n_raters"]) == (-0.75, 1, 1)
    assert forest["label_kind"] == "mean_slider"
    assert forest["group"] == sea["group"] == "vgmidi_zelda"
    free = got["vgmidi_unlabelled_Final_Fantasy_7_Aerith"]
    assert (free["label_kind"], free["source"]) == ("", "vgmidi_unlabelled")
    assert free[["valence", "arousal"]].isna().all()
    skipped = {name.removeprefix("midi/"): reason for name, reason in report.skipped}
    assert skipped == {"lost.mid": "its file is missing", "Mario_NES_Super Mario_Cave.mid": "nobody rated it"}


def test_vgmidi_phrases_without_annotations(tmp_path: Path) -> None:
    midi(tmp_path / "in/labelled/phrases/Zelda_N64_Ocarina_Forest_0.mid")
    line = "0,Zelda,N64,Ocarina,Forest,labelled/phrases/Zelda_N64_Ocarina_Forest_0.mid,-1,1"
    sheet(tmp_path / "in/vgmidi_labelled.csv", "id,series,console,game,piece,midi,valence,arousal", line)
    import_dataset("vgmidi", tmp_path / "in", tmp_path / "data")
    one = rows(tmp_path / "data", MUSIC)["vgmidi_Zelda_N64_Ocarina_Forest_0"]
    assert (one["valence"], one["arousal"], one["label_kind"]) == (-0.5, 0.5, "quadrant")


@pytest.mark.parametrize("content", ["{", "[]", '{"pieces": {}}', '{"pieces": {"p": {"midi": 1}}, "annotations": 3}'])
def test_a_broken_annotation_file_is_a_user_error(tmp_path: Path, content: str) -> None:
    (vgmidi(tmp_path / "in") / "labelled/annotations/vgmidi_raw_2.json").write_text(content)
    with pytest.raises(UserError, match=r"vgmidi_raw_2.json is not an annotation file"):
        import_dataset("vgmidi", tmp_path / "in", tmp_path / "data")


EMID_HEAD = "Audio_Filename,genre,Image1_filename,Image1_tag,Image2_filename,Image2_tag,Image3_filename,Image3_tag"


def emid(folder: Path) -> Path:
    sheet(
        folder / "EMID_data.csv",
        EMID_HEAD,
        "a.mp3,A,awe_1.jpg,awe,sad_1.jpg,sad,mix_1.jpg,Fear",
        "b.mp3,B,awe_1.jpg,awe,mix_1.jpg,anger,mix_1.jpg,fear",
        "c.mp3,B,gone.jpg,awe,,,,",
    )
    for shade, name in enumerate(("awe/awe_1.jpg", "sadness/sad_1.jpg", "fear/mix_1.jpg")):
        picture(folder / "imageData" / name, 50 * shade)
    return folder


def words(path: Path) -> Path:
    lines = ["awe,0.469,0.74", "sadness,0.052,0.288", "fear,0.073,0.84", "anger,0.167,0.865"]
    return sheet(path, "emotion,valence,arousal", *lines)


def test_emid(tmp_path: Path) -> None:
    table = words(tmp_path / "table.csv")
    report = import_dataset("emid", emid(tmp_path / "in"), tmp_path / "data", words=table)
    got = rows(tmp_path / "data", IMAGES)
    assert set(got) == {"emid_awe_1", "emid_sad_1", "emid_mix_1"}
    assert (got["emid_awe_1"]["valence"], got["emid_awe_1"]["arousal"]) == (-0.062, 0.48)
    assert got["emid_mix_1"]["valence"] == -0.854  # fear twice, anger once
    assert got["emid_sad_1"]["label_kind"] == "tag"
    assert report.skipped == [("gone.jpg", "its picture is missing")]


def test_emid_finds_the_table_beside_it_or_asks_for_it(tmp_path: Path) -> None:
    source = emid(tmp_path / "in")
    with pytest.raises(UserError, match=r"no table of the eight Mikels emotions .* --words"):
        import_dataset("emid", source, tmp_path / "data")
    sheet(
        tmp_path / "words/mikels8_va.csv",
        "emotion,nrc_valence_norm,nrc_arousal_norm",
        *("awe,-0.062,0.48", "sadness,-0.9,-0.4", "fear,-0.8,0.6"),
    )
    with pytest.raises(UserError, match=r"line 3: Image2_tag 'anger' is not one of awe, fear, sadness"):
        import_dataset("emid", source, tmp_path / "data")
    sheet(source / "EMID_data.csv", EMID_HEAD, "a.mp3,A,awe_1.jpg,awe,,,,")
    import_dataset("emid", source, tmp_path / "data")
    assert rows(tmp_path / "data", IMAGES)["emid_awe_1"]["arousal"] == 0.48


# --- a user's own folder -------------------------------------------------------------------------


def test_folder_without_a_table_is_unlabelled(tmp_path: Path) -> None:
    picture(tmp_path / "My trip/day 1/sea.jpg", 1)
    picture(tmp_path / "My trip/day 2/sea.jpg", 2)
    picture(tmp_path / "My trip/.cache/thumb.jpg", 3)
    midi(tmp_path / "My trip/day 1/sea.MID")
    report = import_dataset("folder", tmp_path / "My trip", tmp_path / "data")
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
    report = import_dataset("folder", tmp_path / "own", tmp_path / "data")
    a, b = (rows(tmp_path / "data", IMAGES)[f"folder-own_{n}"] for n in "ab")
    assert (a["valence"], a["arousal"], a["label_kind"]) == (0.5, -0.25, "mean_rating")
    assert (a["group"], a["licence"], a["split"]) == ("folder-own_sea", "CC BY 4.0", "test")
    assert (b["label_kind"], b["licence"]) == ("", "not stated")
    assert rows(tmp_path / "data", MUSIC)["folder-own_c"]["arousal"] == 1
    assert dict(report.skipped) == {
        "notes.txt": "it is neither a picture nor MIDI",
        "lost.jpg": "its file is missing",
        "../x.jpg": "its path leaves the folder",
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
        import_dataset("folder", tmp_path / "own", tmp_path / "data")


def test_names_that_differ_in_case_or_not_at_all_stay_apart(tmp_path: Path) -> None:
    for shade, name in enumerate(("a.jpg", "A.png", "a!.jpg", "日の出.jpg", "x" * 200 + ".jpg", "x" * 201 + ".jpg")):
        picture(tmp_path / "own" / name, shade)
    import_dataset("folder", tmp_path / "own", tmp_path / "data")
    table = read_table(tmp_path / "data", IMAGES)
    assert len(table) == 6
    assert table["path"].str.casefold().is_unique
    assert all((tmp_path / "data" / path).is_file() for path in table["path"])
    assert any("日の出" in item for item in table["id"])


# --- the developers' collection ------------------------------------------------------------------


def shared(folder: Path) -> Path:
    labels = "id,set,path,group,valence,arousal,valence_norm,arousal_norm,n_raters,label_kind,split"
    sheet(
        folder / "music/labels_all.csv",
        labels,
        "eimg_0002,eimg,music/eimg/midi/0002.mid,g1,4.2,4.8,-0.2,-0.04,6,mean_rating,train",
        "emopia_Q1_x_0,emopia,music/emopia/midi/Q1_x_0.mid,g1,1,1,0.5,0.5,1,quadrant,train",
        "vgmidi_Z_A,vgmidi,music/vgmidi/midi/Z_A.mid,g2,0.4,0.1,0.4,0.1,30,mean_slider,val",
        "eimg_0009,eimg,music/eimg/midi/0009.mid,g3,4,4,-0.2,-0.2,6,mean_rating,train",
    )
    for pitch, path in enumerate(("eimg/midi/0002", "emopia/midi/Q1_x_0", "vgmidi/midi/Z_A"), start=40):
        midi(folder / f"music/{path}.mid", pitch)
    names = [
        "pop909/001",
        "pop909/002",
        "nottingham/jig1",
        "vgmidi_unlabelled/Zelda_One",
        "vgmidi_unlabelled/Zelda_Two",
    ]
    lines = []
    for pitch, name in enumerate(names, start=60):
        group, stem = name.split("/")
        midi(folder / f"music_unlabelled/{name}.mid", 60 if stem == "002" else pitch)  # 002 is a copy of 001
        lines.append(f"{group}_{stem},{group},music_unlabelled/{name}.mid,{stem},{'val' if 'Two' in name else 'train'}")
    sheet(folder / "music_unlabelled/index.csv", "id,set,path,title,split", *lines)
    sheet(
        folder / "images/oasis/labels.csv",
        "id,path,theme,valence_norm,arousal_norm,n_raters_valence,n_raters_arousal,split",
        "oasis_I1,images/oasis/img/acorns_1.jpg,Acorns 1,0.2,-0.5,102,101,val",
        "oasis_I2,images/oasis/img/acorns_2.jpg,Acorns 2,0.1,-0.6,102,99,train",
    )
    for number in (1, 2):
        picture(folder / f"images/oasis/img/acorns_{number}.jpg", 50 * number)
    return folder


def test_shared(tmp_path: Path) -> None:
    out = tmp_path / "data"
    report = import_dataset("shared", shared(tmp_path / "in"), out)
    music, images = rows(out, MUSIC), rows(out, IMAGES)
    assert set(images) == {"oasis_I1", "oasis_I2"}
    assert images["oasis_I2"]["n_raters"] == 99
    assert images["oasis_I1"]["group"] == "oasis_acorns"
    assert images["oasis_I1"]["split"] == ""  # its val would cut through the group of acorns
    assert music["eimg_0002"]["group"] == music["emopia_Q1_x_0"]["group"]
    assert (music["eimg_0002"]["split"], music["vgmidi_Z_A"]["split"]) == ("", "val")
    assert music["emopia_Q1_x_0"]["valence"] == 0.5
    assert music["pop909_001"]["licence"] == "MIT"
    assert music["nottingham_jig1"]["licence"] == "GPL-3.0"
    assert music["pop909_001"]["group"] == music["pop909_002"]["group"]  # byte-identical
    assert music["vgmidi_unlabelled_Zelda_One"]["group"] == music["vgmidi_unlabelled_Zelda_Two"]["group"]
    assert music["nottingham_jig1"]["label_kind"] == ""
    assert report.skipped == [("music/eimg/midi/0009.mid", "its file is missing")]
    assert report.counts["music/pop909"] == 2
    assert report.encoder is None


def test_shared_paths_may_not_leave_the_source(tmp_path: Path) -> None:
    folder = shared(tmp_path / "in")
    picture(tmp_path / "secret.jpg")
    head = "id,path,theme,valence_norm,arousal_norm,split"
    sheet(folder / "images/oasis/labels.csv", head, "oasis_I1,../secret.jpg,Secret 1,0,0,train")
    report = import_dataset("shared", folder, tmp_path / "data")
    assert ("../secret.jpg", "its path leaves the folder") in report.skipped
    assert read_table(tmp_path / "data", IMAGES, allow_empty=True).empty


# --- adding to a data folder ---------------------------------------------------------------------


def test_the_first_real_set_replaces_the_sample(tmp_path: Path) -> None:
    out = sample(tmp_path / "data")
    report = import_dataset("emopia", emopia(tmp_path / "in"), out)
    assert "s1" not in rows(out, MUSIC)
    assert read_table(out, IMAGES, allow_empty=True).empty
    assert not (out / "music/sample").exists()
    assert not (out / "images/sample").exists()
    assert report.removed == ["the sample set (2 files)"]
    assert sorted(p.name for p in out.iterdir()) == ["images", IMAGES, "music", MUSIC]


def test_the_sample_is_kept_on_request(tmp_path: Path) -> None:
    out = sample(tmp_path / "data")
    report = import_dataset("emopia", emopia(tmp_path / "in"), out, keep_sample=True)
    assert "s1" in rows(out, MUSIC)
    assert (out / "images/sample/s1.jpg").is_file()
    assert report.removed == []


def test_importing_again_replaces_only_the_same_source(tmp_path: Path) -> None:
    out, source = tmp_path / "data", emopia(tmp_path / "in")
    import_dataset("emopia", source, out)
    import_dataset("oasis", oasis(tmp_path / "oasis"), out)
    before = snapshot(out)
    import_dataset("emopia", source, out)
    assert snapshot(out) == before
    (source / "EMOPIA_1.0/midis/Q3_abc_0.mid").unlink()
    import_dataset("emopia", source, out)
    assert set(rows(out, MUSIC)) == {"emopia_Q1_0vLP-Yi_PN_0", "emopia_Q1_0vLP-Yi_PN_1"}
    assert not (out / "music/emopia/Q3_abc_0.mid").exists()
    assert len(rows(out, IMAGES)) == 3


def test_copies_share_a_group_across_imports(tmp_path: Path) -> None:
    out = tmp_path / "data"
    midi(tmp_path / "one/tune.mid", 61)
    midi(tmp_path / "two/same.mid", 61)
    midi(tmp_path / "two/other.mid", 62)
    import_dataset("folder", tmp_path / "one", out)
    import_dataset("folder", tmp_path / "two", out)
    groups = {key: row["group"] for key, row in rows(out, MUSIC).items()}
    assert groups["folder-one_tune"] == groups["folder-two_same"] != groups["folder-two_other"]


def test_an_error_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, source = sample(tmp_path / "data"), emopia(tmp_path / "in")
    import_dataset("emopia", source, out, keep_sample=True)
    before = snapshot(out)
    midi(source / "EMOPIA_1.0/midis/Q1_0vLP-Yi_PN_0.mid", 90)
    real, calls = importers.write_table, []

    def failing(frame: pd.DataFrame, data: Path, name: str) -> None:
        calls.append(name)
        if len(calls) == 2:
            raise OSError(28, os.strerror(28))
        real(frame, data, name)

    monkeypatch.setattr(importers, "write_table", failing)
    with pytest.raises(UserError, match=r"cannot write .*No space left .*Nothing was changed"):
        import_dataset("emopia", source, out)
    assert snapshot(out) == before
    monkeypatch.setattr(importers, "write_table", real)
    monkeypatch.setattr(importers.shutil, "copyfile", lambda *args: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(UserError, match="cannot write"):
        import_dataset("emopia", source, out)
    assert snapshot(out) == before


def test_a_failed_first_import_leaves_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(frame: pd.DataFrame, data: Path, name: str) -> None:
        write_table(frame, data, name)
        raise KeyboardInterrupt

    monkeypatch.setattr(importers, "write_table", failing)
    with pytest.raises(KeyboardInterrupt):
        import_dataset("emopia", emopia(tmp_path / "in"), tmp_path / "data")
    assert snapshot(tmp_path / "data") == {}


def test_a_bad_existing_table_stops_the_import(tmp_path: Path) -> None:
    out = sample(tmp_path / "data")
    (out / MUSIC).write_text("id,path\n")
    with pytest.raises(UserError, match=r"music.csv line 1: column group"):
        import_dataset("emopia", emopia(tmp_path / "in"), out)
    assert (out / "music/sample/s1.mid").is_file()


def test_an_id_of_another_source_is_not_taken(tmp_path: Path) -> None:
    out = sample(tmp_path / "data")
    table = read_table(out, MUSIC)
    write_table(table.assign(id="emopia_Q3_abc_0", source="mine"), out, MUSIC)
    with pytest.raises(UserError, match=r"already has id 'emopia_Q3_abc_0' from another source"):
        import_dataset("emopia", emopia(tmp_path / "in"), out)


def test_wrong_sources_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"unknown kind of set 'oassis': use one of oasis, eimg"):
        import_dataset("oassis", empty, tmp_path / "data")
    with pytest.raises(UserError, match=r"nowhere is not a folder"):
        import_dataset("oasis", tmp_path / "nowhere", tmp_path / "data")
    for kind in importers.KINDS:
        with pytest.raises(UserError, match="holds no"):
            import_dataset(kind, empty, tmp_path / "data")
    with pytest.raises(UserError, match="lies inside"):
        import_dataset("folder", tmp_path, tmp_path / "data")
    sheet(empty / "OASIS.csv", OASIS_HEAD, "I1,Acorns 1,Object,Pixabay,4,1,100,4,1,100")
    with pytest.raises(
        UserError, match=r"not one of 1 listed files can be imported \(Acorns 1: its picture is missing"
    ):
        import_dataset("oasis", empty, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("cell", "words"), [("x", "'x' is not a number"), ("8", "outside its scale"), ("inf", "not a")]
)
def test_a_bad_rating_is_named_with_its_line(tmp_path: Path, cell: str, words: str) -> None:
    folder = oasis(tmp_path / "in")
    sheet(folder / "OASIS.csv", OASIS_HEAD, f"I1,Acorns 1,Object,Pixabay,4,1,100,{cell},1,100")
    with pytest.raises(UserError, match=f"OASIS.csv line 2: Arousal_mean .*{words}"):
        import_dataset("oasis", folder, tmp_path / "data")


@given(st.text(max_size=300))
def test_safe_names_are_safe(text: str) -> None:
    name = safe_name(text)
    assert contracts.SAFE_ID.fullmatch(name)
    assert name not in (".", "..")
    assert len(name.encode()) <= 120


def test_themes_and_games() -> None:
    assert [stem_of_theme(t) for t in ("Acorns 1", "Car crash 12", "Sun")] == ["acorns", "car_crash", "sun"]
    assert game_of_title("Ace Attorney_3DS_Phoenix Wright_Cheerful People") == "ace_attorney"
    assert game_of_title("Bubble_Bobble_Boss_Theme") == game_of_title("Bubble_Bobble_Main") == "bubble_bobble"
    assert game_of_title("The_Legend_of_Zelda_Cave") == "legend_of"
    assert game_of_title("Animal_Crossing_-_City_Folk_-_The_Roost") == "animal_crossing"
    assert game_of_title("ActRaiser_NorthWall") == "actraiser"


@pytest.mark.real_data
def test_the_real_collection(tmp_path: Path) -> None:
    folder = os.environ.get("HUESONG_REAL_DATA")
    if not folder:
        pytest.skip("HUESONG_REAL_DATA is not set")
    report = import_dataset("shared", Path(folder), tmp_path / "data")
    assert report.skipped == []
    assert report.counts["music/eimg"] == 2399
    assert sum(count for key, count in report.counts.items() if key.startswith("music/")) == 6223
    music, images = (read_table(tmp_path / "data", name) for name in (MUSIC, IMAGES))
    assert (music["valence"].notna().sum(), len(images)) == (3419, 670)
    with (Path(folder) / "music/labels_all.csv").open(encoding="utf-8", newline="") as stream:
        given = {row["id"]: row for row in csv.DictReader(stream)}
    rated = music[music["valence"].notna()]
    assert all(float(given[i]["valence_norm"]) == v for i, v in zip(rated["id"], rated["valence"], strict=True))
    joined = rated.groupby(rated["id"].map(lambda item: given[item]["group"]))["group"].nunique()
    assert (joined == 1).all()
    assert report.encoder is not None
    assert (report.encoder / "model.safetensors").is_file()
