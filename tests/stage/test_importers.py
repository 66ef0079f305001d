"""Own folders, the shared collection, and adding to a data folder: rows and files, or nothing changes."""

import csv
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong import contracts
from huesong.data.importers import importing as importers
from huesong.data.importers.common import game_of_title, safe_name, stem_of_theme
from huesong.data.importers.importing import Options, import_dataset
from huesong.data.tables import read_table, write_table
from huesong.runtime.errors import UserError
from tests.stage.test_importers_public import OASIS_HEAD, emopia, oasis
from tests.tiny_sets import midi, picture, rows, sample, sheet, snapshot

IMAGES, MUSIC = contracts.IMAGES_CSV, contracts.MUSIC_CSV


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


def test_shared_bars_and_sonatas(tmp_path: Path) -> None:
    source = shared(tmp_path / "in")
    sheet(
        source / "music_unlabelled/pop909_structure/songs.csv",
        "id,first_barline_quarters,quarters_per_bar,match_share",
        *("pop909_001,4.0833,4,1.0", "pop909_002,0.5,3,0.79"),
    )
    sheet(
        source / "music_annotated/index.csv",
        "id,set,path,title,split",
        "mozart_K332-1,mozart,music_annotated/mozart/K332-1.mid,Piano Sonata no. 12 in F major Allegro,train",
        "beethoven_16-1,beethoven,music_annotated/beethoven/16-1.mid,Sonata no. 16 Allegro vivace,val",
        "grieg_op12n01,grieg,music_annotated/grieg/op12n01.mid,Lyric Pieces Arietta,train",
    )
    with (source / "music_unlabelled/index.csv").open("a") as stream:
        for name in ("Mozart_Piano_Sonatas_12-3", "Beethoven_Piano_Sonatas_16-2", "Beethoven_Piano_Sonatas_1-1"):
            path = f"music_unlabelled/asap_scores/{name}.mid"
            stream.write(f"asap_scores_{name},asap_scores,{path},{name.replace('_', '/', 1)},train\n")
    for pitch, path in enumerate(
        ("music_annotated/mozart/K332-1", "music_annotated/beethoven/16-1", "music_annotated/grieg/op12n01",
         *(f"music_unlabelled/asap_scores/{n}" for n in ("Mozart_Piano_Sonatas_12-3", "Beethoven_Piano_Sonatas_16-2",
                                                         "Beethoven_Piano_Sonatas_1-1"))), start=80,
    ):  # fmt: skip
        midi(source / f"{path}.mid", pitch)
    import_dataset("shared", source, tmp_path / "data")
    got = rows(tmp_path / "data", MUSIC)
    assert got["pop909_001"]["bars"] == "4.0833;4/4@4.0833"
    assert got["pop909_002"]["bars"] == ""  # matched too badly
    assert got["mozart_K332-1"]["bars"] == "file"
    assert got["eimg_0002"]["bars"] == ""
    assert got["mozart_K332-1"]["licence"] == "CC BY-NC-SA 4.0"
    assert got["mozart_K332-1"]["group"] == got["asap_scores_Mozart_Piano_Sonatas_12-3"]["group"]
    assert got["beethoven_16-1"]["group"] == got["asap_scores_Beethoven_Piano_Sonatas_16-2"]["group"]
    assert got["beethoven_16-1"]["group"] != got["asap_scores_Beethoven_Piano_Sonatas_1-1"]["group"]
    assert got["beethoven_16-1"]["split"] == ""  # its val would cut through the group
    import_dataset("emopia", emopia(tmp_path / "more"), tmp_path / "data")
    assert rows(tmp_path / "data", MUSIC)["mozart_K332-1"]["bars"] == "file"  # kept by a later import


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


def test_only_some_sets_of_the_collection(tmp_path: Path) -> None:
    out, folder = tmp_path / "data", shared(tmp_path / "in")
    report = import_dataset("shared", folder, out, only=("oasis", "emopia", "pop909"))
    assert report.counts == {"music/emopia": 1, "music/pop909": 2, "images/oasis": 2}
    assert set(rows(out, MUSIC)) == {"emopia_Q1_x_0", "pop909_001", "pop909_002"}
    assert sorted(path.name for path in (out / "music").iterdir()) == ["emopia", "pop909"]
    import_dataset("shared", folder, out, only=["vgmidi"])  # added to what is there
    assert len(rows(out, MUSIC)) == 4
    assert rows(out, MUSIC)["emopia_Q1_x_0"]["group"] == "music_g1"
    with pytest.raises(UserError, match=r"holds no set 'giantmidi' \(it holds: eimg, emopia, nottingham, oasis"):
        import_dataset("shared", folder, out, only=["emopia", "giantmidi"])


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
    assert report.removed == ["removed the sample set (2 files): --keep-sample keeps it"]
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
    report = import_dataset("emopia", source, out)
    assert report.removed == ["replaced emopia (3 files before, 2 now; 1 removed: music/emopia_Q3_abc_0)"]
    assert set(rows(out, MUSIC)) == {"emopia_Q1_0vLP-Yi_PN_0", "emopia_Q1_0vLP-Yi_PN_1"}
    assert not (out / "music/emopia/Q3_abc_0.mid").exists()
    assert len(rows(out, IMAGES)) == 3


def test_copies_share_a_group_across_imports(tmp_path: Path) -> None:
    out = tmp_path / "data"
    midi(tmp_path / "one/tune.mid", 61)
    midi(tmp_path / "two/same.mid", 61)
    midi(tmp_path / "two/other.mid", 62)
    import_dataset("folder", tmp_path / "one", out, Options(name="one"))
    import_dataset("folder", tmp_path / "two", out, Options(name="two"))
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
    assert sum(count for key, count in report.counts.items() if key.startswith("music/")) == 6512
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
