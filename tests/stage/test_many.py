"""Many pictures in one call, and what else the console has for people."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from huesong.cli.people import composing, doctor
from huesong.compose import batch
from huesong.music.reading import read_score
from huesong.runtime.errors import UserError
from tests.console import Done, huesong
from tests.interrupting import interrupted

FAST = ("--seconds", "4", "--candidates", "1", "--format", "mid,png")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Pictures of odd names and shapes, and what is no picture."""
    album = tmp_path / "album"
    album.mkdir()
    shapes = {
        "10 beach.jpg": ("RGB", (60, 40)), "2.png": ("RGBA", (30, 50)), "1x1.png": ("RGB", (1, 1)),
        "it's \U0001f600.png": ("L", (20, 20)), "-dash.png": ("RGB", (20, 90)),
    }  # fmt: skip
    for name, (mode, size) in shapes.items():
        Image.new(mode, size, 90 if mode == "L" else (90, 120, 200, 0)[: len(mode)]).save(album / name)
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (album / "notes.txt").write_text("not a picture")
    return album


def compose(*arguments: str | Path, model: Path, cwd: Path) -> Done:
    return huesong("compose", *arguments, *FAST, "--model", model, cwd=cwd)


def test_a_folder_is_done_and_one_broken_picture_does_not_stop_the_rest(
    album: Path, folder: Path, tmp_path: Path
) -> None:
    done = compose("album", "-o", "music", model=folder, cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    order = [line.split(": ")[0].removeprefix("album/") for line in lines[:6]]
    assert order == ["1x1.png", "2.png", "10 beach.jpg", "-dash.png", "broken.jpg", "it's \U0001f600.png"]
    assert "broken.jpg: failed: album/broken.jpg" in lines[4]
    assert "(V " in lines[0]
    assert "music/-dash.mid, music/-dash-roll.png" in lines[3]
    assert [line.split() for line in lines if line.startswith(("done", "failed"))] == [
        ["done", "5", "10"],
        ["failed", "1", "0"],
    ]
    assert done.stderr.strip().splitlines()[-1].startswith("huesong: 1 of 6 pieces could not be composed")
    assert len(list((tmp_path / "music").glob("*.mid"))) == 5

    again = compose("album", "-o", "music", model=folder, cwd=tmp_path)
    assert [line.split(": ")[1] for line in again.stdout.splitlines()[:6]].count("kept") == 5
    other = compose("album", "-o", "music", "--seed", "1", model=folder, cwd=tmp_path)
    assert "kept" not in other.stdout.split("state")[0]
    (tmp_path / "music" / "2.mid").unlink()  # what is not whole is made again
    Image.new("RGB", (9, 9)).save(album / "1x1.png")
    mended = compose("album", "-o", "music", "--seed", "1", "--json", model=folder, cwd=tmp_path)
    states = {Path(row["picture"]).name: row["state"] for row in map(json.loads, mended.stdout.splitlines())}
    assert [name for name, state in states.items() if state == "done"] == ["1x1.png", "2.png"]


def test_processes_give_the_same_pieces(album: Path, folder: Path, tmp_path: Path) -> None:
    (album / "broken.jpg").unlink()
    alone = compose("album", "-o", "one", model=folder, cwd=tmp_path)
    both = compose("album", "-o", "two", "--jobs", "2", model=folder, cwd=tmp_path)
    assert (alone.returncode, both.returncode) == (0, 0)
    for path in (tmp_path / "one").glob("*.mid"):
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_variations_differ_and_have_names_of_their_own(album: Path, folder: Path, tmp_path: Path) -> None:
    done = compose("album/2.png", "--variations", "2", "--mood", "calm..joyful", model=folder, cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "2-1.mid").read_bytes() != (tmp_path / "2-2.mid").read_bytes()
    assert json.loads((tmp_path / "2-2.json").read_text())["asked"]["seed"] == 1
    assert read_score(tmp_path / "2-2.mid").note_num() > 0


def test_one_picture_for_machines(album: Path, folder: Path, tmp_path: Path) -> None:
    done = compose("album/2.png", "--json", model=folder, cwd=tmp_path)
    row = json.loads(done.stdout)
    assert row["state"] == "done"
    assert row["files"] == ["2.mid", "2-roll.png"]
    assert all(-1 <= value <= 1 for value in row["requested"])


def test_which_pictures_are_meant(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def names(*given: str, listing: str = "") -> list[str]:
        return [path.name for path in batch.find_pictures(given, io.StringIO(listing))]

    everything = ["1x1.png", "2.png", "10 beach.jpg", "-dash.png", "broken.jpg", "it's \U0001f600.png"]
    assert names("album") == everything
    assert names("album/*.jpg", "album/2.png", "album/10*") == ["10 beach.jpg", "broken.jpg", "2.png"]
    assert names("-", listing="album/2.png\n\nalbum/10 beach.jpg\n") == ["2.png", "10 beach.jpg"]
    assert names("nowhere.png") == ["nowhere.png"], "its own error says so"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no pictures"):
        names("empty")
    with pytest.raises(UserError, match=r"none\*\.png matches no file"):
        names("none*.png")
    with pytest.raises(UserError, match="no picture is named"):
        names("-")


def test_rolls_of_pieces_are_no_pictures(album: Path, folder: Path, tmp_path: Path) -> None:
    compose("album/2.png", "-o", "album/2", model=folder, cwd=tmp_path)
    assert (album / "2-roll.png").is_file()
    assert "2-roll.png" not in [path.name for path in batch.find_pictures([str(album)], io.StringIO())]


def test_pictures_of_one_name_do_not_share_a_piece(folder: Path, tmp_path: Path) -> None:
    for name in ("a/sea.png", "b/sea.png", "a/sea.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), "navy").save(tmp_path / name)
    done = compose("a", "b", "-o", "out", model=folder, cwd=tmp_path)
    assert done.returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mid")) == [
        "sea-jpg.mid",
        "sea-png-2.mid",
        "sea-png.mid",
    ]


def test_no_picture_of_the_batch_is_replaced(folder: Path, tmp_path: Path) -> None:
    for name in ("sea.png", "sea-roll.png"):
        Image.new("RGB", (8, 8), "navy").save(tmp_path / name)
    before = (tmp_path / "sea-roll.png").read_bytes()
    done = compose(".", "--force", model=folder, cwd=tmp_path)
    assert done.returncode == 2
    assert "sea-roll.png is read for this piece and would be replaced by it" in done.stdout
    assert (tmp_path / "sea-roll.png").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--variations", "0"), "--variations 0: give a number from 1 to 100"),
        (("--jobs", "0", "--variations", "2"), "--jobs 0: give a number of processes from 1"),
        (("--jobs", "-1"), "--jobs -1: give a number of processes from 1"),
        (("--format", "mid,aac"), "--format mid,aac: no 'aac' is written; give some of mid,wav"),
        (("--mood", "hangry"), "--mood hangry: 'hangry' is no mood"),
        (("--mood", "calm", "--arousal", "1"), "--mood says both valence and arousal"),
    ],
)
def test_bad_options_are_one_line(
    album: Path, folder: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = huesong("compose", "album/2.png", "--seconds", "4", *options, "--model", folder, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["album"]


def test_a_folder_that_cannot_be_written_is_said_for_each(album: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "music").write_text("a file, not a folder")
    done = compose("album/2.png", "album/1x1.png", "-o", "music", model=folder, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout.count("is not a folder to write to") == 2
    assert (tmp_path / "music").read_text() == "a file, not a folder"


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "later"), [(1, 0.0), (2, 0.3), (3, 0.0)], ids=["read", "composed", "written"])
def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_half(
    moment: int, later: float, album: Path, folder: Path, tmp_path: Path
) -> None:
    """While the second picture is read, its piece composed, and its files written: three times it is opened."""
    (album / "broken.jpg").unlink()
    words = "compose album -o music --seconds 240 --candidates 1 --jobs 1 --format mid"
    done = interrupted(*words.split(), "--model", folder, end="/2.png", moment=moment, later=later, cwd=tmp_path)
    assert [line.split(":")[1] for line in done.stdout.splitlines()] == [" done"]
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "huesong: stopped; what is done stays, and the same command goes on from there" in done.stderr
    assert sorted(path.name for path in (tmp_path / "music").iterdir()) == ["1x1.json", "1x1.mid"]


# --- play, doctor, completion ------------------------------------------------------------------------


def test_a_piece_is_played_where_there_is_a_player(
    album: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "aplay").write_text(f'#!/bin/sh\nhead -c 4 "$2" > {tmp_path / "heard"}\n')
    (programs / "aplay").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr("huesong.cli.people.composing.PLAYERS", (("nonesuch",), ("aplay", "-q")))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    assert compose("album/2.png", "--play", model=folder, cwd=tmp_path).returncode == 0
    assert (tmp_path / "heard").read_text() == "RIFF"
    monkeypatch.setattr("huesong.cli.people.composing.PLAYERS", (("nonesuch",),))
    none = compose("album/2.png", "--play", model=folder, cwd=tmp_path)
    assert (none.returncode, "--play: no player was found: install one" in none.stderr) == (2, True)
    assert composing.PLAYERS == (("nonesuch",),)


def test_doctor_names_what_is_missing_and_what_mends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = huesong("doctor", cwd=tmp_path)
    assert whole.returncode == 0, whole.stdout
    for word in ("model", "soundfont", "wav, flac, ogg, mp3", "sheet music [score]"):
        assert word in whole.stdout
    monkeypatch.setitem(doctor.EXTRAS, "score", ("sheet music", ("no_such_module",)))
    lines = {line[10:32].strip(): line for line in huesong("doctor", cwd=tmp_path).stdout.splitlines()}
    assert lines["sheet music [score]"].startswith("not here")
    assert 'pip install "huesong[score]"   (lacks no_such_module)' in lines["sheet music [score]"]
    monkeypatch.setenv("HUESONG_SOUNDFONT", str(tmp_path / "gone.sf2"))
    broken = huesong("doctor", cwd=tmp_path)
    assert broken.returncode == 2
    assert "unset HUESONG_SOUNDFONT" in broken.stdout
    assert "nothing can be composed without: soundfont" in broken.stderr


def test_shells_complete_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['huesong']; from huesong.cli import main; main()"],
        env={**os.environ, "_HUESONG_COMPLETE": "complete_bash", "COMP_WORDS": "huesong doc", "COMP_CWORD": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["doctor"]
