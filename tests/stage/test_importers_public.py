"""The layouts in which the public sets are published, each rebuilt here in small."""

import json
import zipfile
from pathlib import Path

import openpyxl
import pytest

from huesong import contracts
from huesong.data.importers import common
from huesong.data.importers.common import sheet_rows
from huesong.data.importers.importing import Options, import_dataset
from huesong.data.importers.public import LICENCES
from huesong.data.tables import read_table
from huesong.runtime.errors import UserError
from tests.tiny_sets import midi, picture, rows, sheet

IMAGES, MUSIC = contracts.IMAGES_CSV, contracts.MUSIC_CSV


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
    assert "left out 1 because its picture is missing: Lost 1" in str(report)
    assert read_table(out, MUSIC, allow_empty=True).empty


def xlsx(path: Path, table: list[list[object]]) -> Path:
    """A workbook of one sheet, empty cells left out."""
    book = openpyxl.Workbook()
    for r, cells in enumerate(table, start=1):
        for c, value in enumerate(cells, start=1):
            if value != "":
                book.active.cell(r, c, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
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


def test_broken_sheets_are_user_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    midi(tmp_path / "in/0001.mid")
    bad = tmp_path / "in/all.xlsx"
    bad.write_bytes(b"PK\x03\x04 not a workbook")
    with pytest.raises(UserError, match=r"all.xlsx is not a readable .xlsx sheet"):
        import_dataset("eimg", tmp_path / "in", tmp_path / "data")
    assert sheet_rows(xlsx(bad, [["a", "", 3.5], [], ["", "z"]])) == [["a", "", "3.5"], [], ["", "z"]]
    monkeypatch.setattr(common, "_MAX_SHEET", 100)
    with pytest.raises(UserError, match=r"all.xlsx is not a readable .xlsx sheet \(.* MiB unpacked, at most"):
        sheet_rows(bad)
    monkeypatch.undo()
    for far in ("A1048576", "XFD1"):
        book = openpyxl.Workbook()
        book.active[far] = 1
        book.save(bad)
        with pytest.raises(UserError, match=r"more than 20000 rows or 200 columns"):
            sheet_rows(bad)
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook>")
    with pytest.raises(UserError, match=r"all.xlsx is not a readable .xlsx sheet"):
        sheet_rows(bad)
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
    report = import_dataset("emid", emid(tmp_path / "in"), tmp_path / "data", Options(words=table))
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
