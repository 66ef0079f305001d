"""A video in place of pictures: its cuts are found, music follows its scenes, and what cannot be read is said in one line."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from huesong.compose.composer import Composer
from huesong.film import make
from huesong.film.composing import parts_of
from huesong.film.course import course_of, course_of_scenes
from huesong.film.make import Wanted, film
from huesong.film.video import own_sound, scenes_of, under
from huesong.music.reading import listen, read_score
from huesong.runtime.errors import UserError
from tests.console import huesong

RATE = 48_000


def video(
    path: Path, colours: Sequence[tuple[int, int, int]], seconds: float, sound: bool = True, codec: str = "libx264"
) -> Path:
    """Scenes of one colour each, in which a bar moves; a tone of 440 Hz."""
    with av.open(str(path), "w") as out:
        pictures = out.add_stream(codec, rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        tone = out.add_stream("aac", rate=RATE, layout="stereo") if sound else None
        number = 0
        for colour in colours:
            for step in range(round(seconds * 10)):
                pixels = np.full((48, 64, 3), colour, np.uint8)
                pixels[:, step : step + 4] = 255 - pixels[:, step : step + 4]
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                out.mux(pictures.encode(frame))
                number += 1
        out.mux(pictures.encode(None))
        if tone is not None:
            wave = 0.25 * np.sin(2 * np.pi * 440 * np.arange(round(number / 10 * RATE)) / RATE)
            for start in range(0, len(wave), 1024):
                block = np.tile(wave[start : start + 1024].astype(np.float32), (2, 1))
                part = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                part.sample_rate, part.pts, part.time_base = RATE, start, Fraction(1, RATE)
                out.mux(tone.encode(part))
            out.mux(tone.encode(None))
    return path


COLOURS = ((200, 40, 40), (30, 60, 200), (230, 220, 90))


def test_cuts_are_found_where_they_are(tmp_path: Path) -> None:
    scenes = scenes_of(video(tmp_path / "a.mp4", COLOURS, 2.4))
    assert [scene.start for scene in scenes] == pytest.approx([0, 2.4, 4.8], abs=0.01)
    assert scenes[-1].end == pytest.approx(7.2, abs=0.01)
    for scene, colour in zip(scenes, COLOURS, strict=True):
        assert scene.frame.getpixel((60, 24)) == pytest.approx(colour, abs=12)
    assert len(scenes_of(video(tmp_path / "b.mp4", COLOURS[:1], 3))) == 1, "no cuts"
    assert len(scenes_of(video(tmp_path / "c.mp4", COLOURS, 0.5))) == 1, "scenes too short to have music of their own"


def test_every_scene_has_whole_bars() -> None:
    edges = [0.0, 2.1, 9.7, 31.3, 33.4, 60.0]
    emotions = [(-0.5, 0.6), (0.4, -0.3), (0.7, 0.7), (-0.2, -0.8), (0.4, -0.3)]
    course = course_of_scenes(Path("v.mp4"), edges, emotions, 3)
    for edge in edges:
        assert np.abs(np.array(course.bars) - edge).min() < 1e-6
    assert course.phrases[-1].after == len(course.bars) - 1 == course.request.bars
    assert max(phrase.bars for phrase in course.phrases) <= 8
    assert {phrase.key[1] for phrase in course.phrases if phrase.emotion[0] < 0} == {False}
    assert course.request.plan is not None
    assert course.request.plan.seconds == pytest.approx(60)
    bars = [bar for part in parts_of(course.phrases) for bar in (part.first, part.after)]
    assert bars[1:-1:2] == bars[2::2], "no bar is left out"
    with pytest.raises(UserError, match=r"lasts 2\.0 s: music is made for 4 to 600 s"):
        course_of_scenes(Path("v.mp4"), [0.0, 2.0], emotions[:1])


def test_a_theme_returns_with_its_emotion() -> None:
    emotions = [(0.5, 0.5), (-0.5, -0.5), (0.55, 0.45)]
    course = course_of([Path(str(n)) for n in range(3)], emotions, 5.0, None, 4)
    plan = course.request.plan
    assert plan is not None
    each = len(plan.bars) // 3
    assert [plan.bars[each * n].phrase for n in range(3)] == ["A", "B", "A"]
    assert plan.bars[2 * each].chords == plan.bars[0].chords
    assert (plan.bars[2 * each].relation, plan.bars[2 * each].back) == ("variation", 2 * each)
    major, minor = course.phrases[0].key, course.phrases[1].key
    assert (major[0] - minor[0]) % 12 == 3, "the relative minor has the same scale"


@pytest.mark.slow
@pytest.mark.parametrize("keep", [False, True])
def test_music_for_a_video(folder: Path, tmp_path: Path, keep: bool) -> None:
    video(tmp_path / "in.mp4", COLOURS, 2.5)
    flags = ["--keep-sound"] if keep else []
    done = huesong(
        "film", "in.mp4", "-o", "out.mp4", "--model", folder, "--format", "mid,flac,musicxml", *flags, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "out.mp4: 3 scenes, 8 s" in done.stdout
    names = {path.name for path in tmp_path.glob("out*")}
    assert names == {"out.mp4", "out.mid", "out.flac", "out.musicxml", "out-course.png", "out.json"}
    record = json.loads((tmp_path / "out.json").read_text())
    bars = np.array(record["bars"])
    for section, start in zip(record["sections"], (0, 2.5, 5.0), strict=True):
        assert section["start"] == pytest.approx(start, abs=0.01)
        assert np.abs(bars - section["start"]).min() < 0.04
    scenes = scenes_of(tmp_path / "out.mp4")
    assert [scene.start for scene in scenes] == pytest.approx([0, 2.5, 5.0], abs=0.04), "the pictures are as they were"
    sound = own_sound(tmp_path / "out.mp4", RATE)
    assert sound is not None
    assert len(sound) / RATE == pytest.approx(7.5, abs=0.06)
    spectrum = np.abs(np.fft.rfft(sound[RATE : 6 * RATE].mean(axis=1)))
    tone = spectrum[2195:2206].max() / np.linalg.norm(spectrum)
    assert (tone > 0.6) == keep, "its own sound"
    assert np.sqrt((sound[: 6 * RATE] ** 2).reshape(-1, RATE // 4, 2).mean(axis=(1, 2))).min() > 1e-4, "no gap"
    notes = listen(read_score(tmp_path / "out.mid"))
    late = [np.abs(notes.onset_s - at).min() for at in (2.5, 5.0)]
    assert max(late) < 1.3, "notes in the bar that begins with the cut"


def test_videos_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    good = video(tmp_path / "good.mp4", COLOURS[:2], 2.5, sound=False)
    assert own_sound(good, RATE) is None
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:900])
    (tmp_path / "text.mov").write_text("no video")
    with av.open(str(tmp_path / "sound.mkv"), "w") as out:
        stream = out.add_stream("aac", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = RATE
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    composer = Composer(folder)
    for name, message in (
        ("cut.mp4", "cannot be read as a video"),
        ("text.mov", "cannot be read as a video"),
        ("sound.mkv", "has no pictures"),
        ("missing.mp4", "does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            film([tmp_path / name], tmp_path / "out.mp4", composer, Wanted())
    with pytest.raises(UserError, match="is a video: give it alone"):
        film([good, tmp_path / "a.png"], tmp_path / "out.mp4", composer, Wanted())
    with pytest.raises(UserError, match="--length: a video stays as it is"):
        film([good], tmp_path / "out.mp4", composer, Wanted(length=30))
    with pytest.raises(UserError, match=r"good\.mp4 is read for this film"):
        film([good], good, composer, Wanted(force=True))
    assert not list(tmp_path.glob("out*"))
    assert not list(tmp_path.glob(".huesong-*"))


def test_nothing_clips_and_the_videos_sound_stays_above_the_music() -> None:
    rng = np.random.default_rng(0)
    music, own = rng.uniform(-1, 1, (1000, 2)).astype(np.float32), np.ones((600, 2), np.float32)
    mixed = under(music, own, 12.0)
    assert len(mixed) == 1000
    assert np.abs(mixed).max() <= 1
    assert mixed[:600].mean() > 5 * np.abs(mixed[600:]).mean()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_is_half_written_is_removed(
    error: BaseException, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = video(tmp_path / "good.mp4", COLOURS[:2], 2.5, sound=False)

    def stopped(*_: object) -> None:
        raise error

    monkeypatch.setattr(make, "plot_of", stopped)  # the last of the slow things; the film lies in the workspace then
    with pytest.raises((UserError, KeyboardInterrupt)):
        film([good], tmp_path / "out.mp4", Composer(folder), Wanted())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.mp4"]
