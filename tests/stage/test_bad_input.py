"""What a careless user gives to compose, film and explain: odd names, places that cannot be written, full disks, Ctrl-C."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from huesong.compose.composer import Composer
from huesong.film.make import Wanted, targets_of
from huesong.runtime.errors import UserError
from tests.console import huesong
from tests.interrupting import interrupted
from tests.killing import in_child
from tests.stage.test_film_video import COLOURS, video

FAST = ("--seconds", "4", "--candidates", "1")
ODD = (
    b"-dash.png", b"a \"q\" 'b' $x %s.png", "日の出 \U0001f600.png".encode(), b"x" * 246 + b".png", b"\xff\xfe no UTF-8.png",
    b"a\nb.png",
)  # fmt: skip


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Pictures of every shape under every name, and what cannot be read."""
    album = tmp_path / "album"
    album.mkdir()
    shapes = ((40, 30), (30, 90), (1, 1), (300, 2), (2, 300), (64, 36))
    for number, (name, size) in enumerate(zip(ODD, shapes, strict=True)):
        mode, colour = ("RGBA", (9, 90, 30 * number, 0)) if number % 2 else ("RGB", (250 - 40 * number, 90, 30))
        Image.new(mode, size, colour).save(album / os.fsdecode(name), "PNG")
    Image.new("RGB", (20, 20), (0, 200, 90)).save(album / "z.avif")
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (album / "gone.jpg").symlink_to(album / "nowhere.jpg")
    (album / "round.jpg").symlink_to(album / "round.jpg")
    return album


def one_line(*words: str | Path, cwd: Path) -> str:
    done = huesong(*words, cwd=cwd)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr + done.stdout
    return done.stderr


def never(*_: object) -> None:
    raise AssertionError("a model was loaded")


@pytest.mark.slow
def test_a_film_of_anything(album: Path, folder: Path, tmp_path: Path) -> None:
    done = huesong(
        "film", "album", "-o", "f.mp4", "--length", "4", "--titles", "--aspect", "9:16", "--format", "mid", "--model", folder,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "f.mp4: 7 pictures, 4 s" in done.stdout
    for name in ("broken.jpg", "gone.jpg", "round.jpg"):
        assert f"left out   album/{name}: album/{name} " in done.stdout, "named, and the rest is done"
    sections = json.loads((tmp_path / "f.json").read_text())["sections"]
    assert len(sections) == 7
    assert "z.avif" in {section["picture"] for section in sections}


def test_what_cannot_be_read_is_named_and_the_rest_is_done(album: Path, folder: Path, tmp_path: Path) -> None:
    done = huesong("compose", "album", "-o", "music", *FAST, "--format", "mid", "--model", folder, cwd=tmp_path)
    assert done.returncode == 2
    assert len(list((tmp_path / "music").glob("*.mid"))) == 7
    for name in ("broken.jpg", "gone.jpg", "round.jpg"):
        assert f"album/{name}: failed: album/{name} " in done.stdout


def test_films_that_cannot_be_written_are_refused_before_anything_is_composed(
    album: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Composer, "load", never)
    film = partial(one_line, "film", "album", "--force", "--model", folder, cwd=tmp_path)
    assert f"{'x' * 248}-course.png would be a name of 259 bytes: give one of 255" in film("-o", f"{'x' * 248}.mp4")
    assert "File name too long; give a shorter one" in film("-o", f"{'x' * 300}/f.mp4")
    (tmp_path / "file").write_text("mine")
    assert "file is not a folder to write to" in film("-o", "file/f.mp4")
    (tmp_path / "f.mid").mkdir()
    assert "f.mid is a folder: choose another name with --out" in film("-o", "f.mp4")
    own = shutil.copytree(folder, tmp_path / "model")
    assert f"belongs to the model in {own} and is never replaced" in film("-o", own / "config.mp4")
    with pytest.raises(UserError, match=r"font\.mid is read for this film"):
        targets_of(tmp_path / "font.mp4", [album / "z.avif"], Wanted(soundfont=tmp_path / "font.mid", force=True))
    (tmp_path / "empty").mkdir()
    assert "/proc takes no files (No such file or directory)" in one_line(
        "compose", "album/z.avif", *FAST, "-o", "/proc/x", "--model", folder, cwd=tmp_path
    )
    assert "empty holds no pictures" in one_line("film", "empty", "-o", "f.mp4", "--model", folder, cwd=tmp_path)
    assert "File name too long" in one_line("film", "x" * 300, "-o", "g.mp4", "--model", folder, cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["album", "empty", "f.mid", "file", "model"]


def test_pages_that_cannot_be_written(
    album: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Composer, "load", never)
    explain = partial(one_line, "explain", "--model", folder, cwd=tmp_path)
    assert "z.avif is not a folder to write to" in explain("album/z.avif", "-o", "album/z.avif/a.png")
    assert f"{'x' * 251}-why.png would be a name of 259 bytes: give one of 255 at most with --out" in explain(
        f"{'x' * 251}.png"
    )
    (tmp_path / "z-why.png").mkdir()
    assert "z-why.png is a folder" in explain("album/z.avif", "--force")
    (tmp_path / "round.png").symlink_to("round.png")
    assert "round.png is already there" in explain("album/z.avif", "-o", "round.png")
    shutil.copy(album / "z.avif", tmp_path / "z.png")
    assert "z.png is the picture itself" in explain("z.png", "-o", "z.png", "--force")


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1 << 10, 1 << 14, 1 << 16])
def test_a_disk_that_is_nearly_full(size: int, folder: Path, tmp_path: Path) -> None:
    """No file may become longer than so many bytes: one line, and nothing half-written."""
    Image.new("RGB", (40, 30), (200, 90, 30)).save(tmp_path / "a.png")
    video(tmp_path / "v.mp4", COLOURS[:2], 2.5, sound=False)
    commands = (
        ("compose", "a.png", "-o", "made", *FAST, "--format", "mid,wav,flac,ogg,mp3,png,musicxml"),
        ("film", "a.png", "-o", "made.mp4", "--length", "4", "--aspect", "1:1", "--format", "mid,mp3"),
        ("film", "v.mp4", "-o", "made.mp4", "--format", "flac"),
        ("explain", "a.png", "-o", "made.png", "--seconds", "4"),
    )

    def limited(words: tuple[str, ...]) -> tuple[int, str]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        done = huesong(*words, "--model", folder, cwd=tmp_path)
        return done.returncode, done.stderr

    for words in commands:
        end = in_child(partial(limited, words))
        left = sorted(path.name for path in tmp_path.iterdir())
        if end.code == 0:  # small enough
            for path in tmp_path.glob("made*"):
                path.unlink()
            continue
        assert (end.code, len(end.said.strip().splitlines())) == (2, 1), (words, end.said)
        assert "cannot write" in end.said
        assert "free some space" in end.said
        assert left == ["a.png", "v.mp4"], words


@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 2], ids=["first", "second"])
@pytest.mark.parametrize("words", [("a.png", "--length", "8"), ("v.mp4",)], ids=["picture", "video"])
def test_ctrl_c_in_the_middle_of_a_film(words: tuple[str, ...], moment: int, folder: Path, tmp_path: Path) -> None:
    """As its first file beside the film is written, and as the next is."""
    Image.new("RGB", (40, 30), (200, 90, 30)).save(tmp_path / "a.png")
    video(tmp_path / "v.mp4", COLOURS, 8)
    command = ("film", *words, "-o", "f.mp4", "--format", "mid", "--model", folder)
    done = interrupted(*command, end=".part", moment=moment, cwd=tmp_path)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "v.mp4"]
