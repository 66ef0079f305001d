"""A film: pictures change on bar lines, sound and picture are as long as each other, nothing of the user's is lost."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from huesong.compose.composer import Composer
from huesong.film.course import course_of, in_order
from huesong.film.frames import ASPECTS, RATE, on_canvas
from huesong.film.make import Wanted, film
from huesong.music.reading import read_score
from huesong.runtime.errors import UserError
from tests.console import huesong

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    album = tmp_path / "album"
    album.mkdir()
    for number, (colour, size) in enumerate(zip(COLOURS, ((64, 36), (30, 90), (1, 1)), strict=True)):
        Image.new("RGB", size, colour).save(album / f"{number} it's.png")
    (album / "3 broken.jpg").write_bytes(b"\xff\xd8 cut off")
    return album


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """The mean colour of the middle of every frame [F, 3], and the sound [N, 2] with its rate."""
    colours, sound = [], []
    with av.open(str(path)) as file:
        assert [stream.codec_context.name for stream in file.streams] == ["h264", "aac"]
        for frame in file.decode(file.streams.video[0]):
            pixels = frame.to_ndarray(format="rgb24")
            middle = pixels[pixels.shape[0] // 2 - 20 : pixels.shape[0] // 2 + 20, pixels.shape[1] // 2 - 20 :][:, :40]
            colours.append(middle.reshape(-1, 3).mean(axis=0))
    with av.open(str(path)) as file:
        sound = [frame.to_ndarray() for frame in file.decode(file.streams.audio[0])]
        rate = file.streams.audio[0].rate
    return np.array(colours), np.concatenate(sound, axis=1).T, rate


@pytest.mark.slow
def test_a_film_of_a_folder(album: Path, folder: Path, tmp_path: Path) -> None:
    done = huesong(
        "film", "album", "-o", "out.mp4", "--length", "6", "--aspect", "1:1", "--titles", "--model", folder, cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "out.mp4: 3 pictures, 6 s" in done.stdout
    assert "left out   album/3 broken.jpg" in done.stdout
    record = json.loads((tmp_path / "out.json").read_text())
    colours, sound, rate = decoded(tmp_path / "out.mp4")
    assert len(colours) == 6 * RATE
    assert len(sound) / rate == pytest.approx(6, abs=0.05)
    # where each picture comes: half of both at the bar line
    bars = np.array(record["bars"])
    for number, section in enumerate(record["sections"][1:], start=1):
        before, after = (np.array(COLOURS[index], float) for index in (number - 1, number))
        share = ((colours - before) @ (after - before)) / ((after - before) @ (after - before))
        time = (np.arange(len(share)) + 0.5) / RATE
        later = int(np.argmax((share > 0.5) & (time > section["start"] - 0.6)))
        crossing = np.interp(0.5, share[later - 1 : later + 1], time[later - 1 : later + 1])
        assert crossing == pytest.approx(section["start"], abs=0.04)
        assert np.abs(bars - section["start"]).min() < 0.001
    score = read_score(tmp_path / "out.mid")
    assert score.to("second").end() == pytest.approx(6, abs=0.15)
    loud = np.sqrt((sound[: rate * 5] ** 2).reshape(-1, rate // 4, 2).mean(axis=(1, 2)))
    assert loud.min() > 1e-4, "no gap"
    assert [path.name for path in sorted(tmp_path.glob("out*"))] == [
        "out-course.png",
        "out.json",
        "out.mid",
        "out.mp4",
        "out.wav",
    ]


def test_every_picture_gets_whole_bars() -> None:
    for count, length in ((1, 10.0), (3, 15.0), (7, 60.0), (40, 60.0), (500, 300.0), (500, 30.0)):
        course = course_of([Path(f"{n}.png") for n in range(count)], [(0.1, 0.2)] * count, None, length)
        starts = np.array([section.start for section in course.sections])
        assert course.seconds == length
        assert len(starts) == count
        lengths = np.diff([*starts, length])
        assert lengths == pytest.approx(np.full(count, lengths[0]), rel=0.35)
        if lengths[0] >= course.bars[1] * 0.999:
            assert np.abs(starts[:, None] - np.array(course.bars)).min(axis=1) == pytest.approx(0, abs=1e-6)
        assert course.request.bars == len(course.bars) - 1
    course = course_of([Path("a"), Path("b")], [(-0.5, -0.5), (0.5, 0.5)], 8.0, None)
    assert course.seconds == 16
    assert course.request.arousal[0] == -0.5
    assert course.request.arousal[-1] == 0.5


@pytest.mark.parametrize(
    ("seconds", "length", "message"),
    [
        (5.0, 30.0, "--seconds-per-picture and --length both say"),
        (None, 2.0, "would last 2 s: from 4 to 600 s"),
        (500.0, None, "would last 1000 s"),
        (-1.0, None, "--seconds-per-picture -1"),
        (None, float("nan"), "--length nan"),
    ],
)
def test_lengths_that_no_film_has(seconds: float | None, length: float | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        course_of([Path("a"), Path("b")], [(0.0, 0.0)] * 2, seconds, length)


def test_order_by_date_or_name(album: Path) -> None:
    pictures = sorted(album.glob("?*.png"))
    assert [path.name[0] for path in in_order(pictures[::-1], None)] == ["0", "1", "2"]
    with pytest.raises(UserError, match="does not say when it was taken: take --order name"):
        in_order(pictures, "date")
    dated = []
    for number, date in enumerate(("2021:05:01 10:00:00", "2019:05:01 10:00:00")):
        exif = Image.Exif()
        exif[306] = date
        dated.append(album / f"{number}.jpg")
        Image.new("RGB", (9, 9)).save(dated[-1], exif=exif)
    assert in_order(dated, None) == dated[::-1]
    assert in_order(dated, "name") == dated


@pytest.mark.parametrize("shape", [(1, 1), (4000, 30), (30, 4000), (160, 90), (90, 160)])
@pytest.mark.parametrize("aspect", ASPECTS)
def test_pictures_of_all_shapes_fill_the_frame(shape: tuple[int, int], aspect: str) -> None:
    size = ASPECTS[aspect]
    made = on_canvas(Image.new("RGB", shape, (200, 100, 50)), size)
    assert made.size == size
    assert made.getpixel((size[0] // 2, size[1] // 2)) == pytest.approx((200, 100, 50), abs=3)
    assert min(made.getpixel((2, 2))) > 10, "no black bars"


def test_nothing_of_the_users_is_replaced(album: Path, folder: Path, tmp_path: Path) -> None:
    composer = Composer(folder)
    pictures = sorted(album.iterdir())
    (tmp_path / "out.mid").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"out\.mid is already there and is no unchanged film"):
        film(pictures, tmp_path / "out.mp4", composer, Wanted())
    roll = (album / "0 it's.png").rename(album / "out-course.png")
    with pytest.raises(UserError, match=r"out-course\.png is read for this film"):
        film([roll], album / "out.mp4", composer, Wanted(force=True))
    with pytest.raises(UserError, match=r"is written as \.mp4"):
        film(pictures, tmp_path / "out.avi", composer, Wanted())
    with pytest.raises(UserError, match="none of 1 pictures can be read; the first: "):
        film([album / "3 broken.jpg"], tmp_path / "new.mp4", composer, Wanted())
    for wrong in ({"aspect": "4:3"}, {"order": "size"}):
        with pytest.raises(UserError, match="give "):
            Wanted(**wrong)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["album", "out.mid"]
