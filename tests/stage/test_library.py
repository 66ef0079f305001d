"""huesong as a library: `from huesong import Composer`, and what a piece can do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

import huesong
from huesong import Composer, Piece, UserError
from huesong.compose.moods import BETWEEN, MOODS, RADIUS, RUSSELL, in_words, parse_mood
from huesong.compose.output.formats import FORMATS
from huesong.music.reading import listen, read_score
from tests.benchmark_modules import benchmark

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer.load(ROOT / "models/huesong-small")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(path)
    return path


@pytest.fixture(scope="module")
def piece(composer: Composer, photo: Path) -> Piece:
    return composer.compose(str(photo), seconds=5, candidates=1, seed=3)


def test_the_public_names_are_there_and_importing_them_costs_nothing() -> None:
    code = (
        "import sys, huesong\n"
        "heavy = ('torch', 'numpy', 'pydantic', 'symusic', 'PIL')\n"
        "print([name for name in heavy if name in sys.modules], set(huesong.__all__) <= set(dir(huesong)))\n"
        "print([name for name in huesong.__all__ if getattr(huesong, name, None) is None])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] True", "[]"]
    with pytest.raises(AttributeError, match="no attribute 'Compozer'"):
        _ = huesong.Compozer
    assert (Path(huesong.__file__).parent / "py.typed").is_file()


def test_a_piece_says_what_it_is(piece: Piece, photo: Path) -> None:
    assert piece.plan.seconds == pytest.approx(5, rel=0.05)
    assert piece.emotion == (piece.predicted, piece.requested, piece.obtained)
    assert str(piece.emotion).count("V ") == 3
    assert piece.request.picture == photo
    assert piece.picture.size == (96, 64)
    assert piece.note_count == len(listen(piece.notes))
    assert "notes; seen: " in str(piece)


def test_its_audio_is_what_the_file_holds(piece: Piece, tmp_path: Path) -> None:
    audio = piece.audio()
    samples, rate = audio
    assert (samples.dtype, samples.ndim, samples.shape[1], rate) == (np.float32, 2, 2, 48000)
    assert piece.seconds <= audio.seconds <= piece.seconds + 4.1
    read, read_rate = soundfile.read(piece.save(tmp_path / "piece.wav"), dtype="float32")
    assert read_rate == rate
    assert np.abs(read - samples).max() < 1e-4
    assert (piece.audio(humanize=False).samples[:1000] != samples[:1000]).any()
    assert audio.save(tmp_path / "again.wav").read_bytes() == (tmp_path / "piece.wav").read_bytes()
    with pytest.raises(UserError, match=r"a\.aiff: no \.aiff is written: end the name in \.wav, \.flac"):
        audio.save(tmp_path / "a.aiff")


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3"])
def test_other_kinds_of_audio_hold_the_same_sound(piece: Piece, tmp_path: Path, kind: str) -> None:
    plain = piece.audio().samples
    read, rate = soundfile.read(piece.save(tmp_path / f"piece.{kind}"), dtype="float32")
    assert rate == 48000
    assert soundfile.info(tmp_path / f"piece.{kind}").format == kind.upper()
    early, late = plain[4800:24000, 0], range(3000 if kind == "mp3" else 1)
    skipped = max(late, key=lambda lag: float(early @ read[4800 + lag : 24000 + lag, 0]))  # an MP3 coder's delay
    count = min(len(plain), len(read) - skipped)
    assert abs(len(read) - len(plain)) < 5000
    assert np.corrcoef(plain[:count, 0], read[skipped : skipped + count, 0])[0, 1] > 0.99


def test_every_kind_of_file_is_written(piece: Piece, tmp_path: Path) -> None:
    for kind in FORMATS:
        if kind == "pdf" and find_library("cairo") is None:  # the system's, which no wheel brings
            continue
        path = piece.save(tmp_path / f"piece.{kind}")
        assert path.stat().st_size > 100, kind
        assert kind != "pdf" or path.read_bytes().startswith(b"%PDF")
    assert read_score(tmp_path / "piece.mid").note_num() == piece.note_count
    assert (
        "<work-title>photo" in (tmp_path / "piece.musicxml").read_text()
        or "photo</movement-title>" in (tmp_path / "piece.musicxml").read_text()
    )
    assert json.loads((tmp_path / "piece.json").read_text())["asked"]["seed"] == 3
    with Image.open(tmp_path / "piece.png") as roll:
        assert roll.width > 400
    assert piece.save(str(tmp_path / "piece.midi"), humanize=True).read_bytes() != piece.midi


def test_saving_never_takes_what_the_piece_was_made_from(composer: Composer, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (20, 20), "teal").save(picture)
    before = picture.read_bytes()
    made = composer.compose(picture, seconds=4, candidates=1)
    with pytest.raises(UserError, match=r"a\.png is read for this piece and would be replaced by it"):
        made.save(picture)
    assert picture.read_bytes() == before
    for name, message in (("a", "the name has no suffix"), ("a.xyz", r"no \.xyz is written")):
        with pytest.raises(UserError, match=message):
            made.save(tmp_path / name)
    with pytest.raises(UserError, match="cannot write"):
        made.save(picture / "below" / "a.mid")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]


def test_pictures_of_every_kind_give_the_same_piece(composer: Composer, photo: Path, piece: Piece) -> None:
    with Image.open(photo) as image:
        opened = image.convert("RGB")
    for picture in (photo, opened):
        assert composer.compose(picture, seconds=5, candidates=1, seed=3).midi == piece.midi
    assert composer.compose(np.asarray(opened), seconds=5, candidates=1, seed=3).midi == piece.midi
    glass = opened.convert("RGBA")
    glass.putalpha(0)
    assert composer.compose(glass, seconds=4, candidates=1).picture.getpixel((5, 5)) == (255, 255, 255)
    for wrong, shown in ((np.zeros((4, 4)), r"float64 \[4, 4\]"), (3, "int")):
        with pytest.raises(UserError, match=f"{shown} is no picture: give a file, an image, or pixels"):
            composer.compose(wrong)  # type: ignore[call-overload]


def test_what_is_asked_may_be_text_or_values(composer: Composer) -> None:
    text = composer.compose(None, valence="0.5", arousal="-0.5..0.5", key="D minor", meter="3/4", bars=3, candidates=1)
    values = composer.compose(
        None, valence=0.5, arousal=(-0.5, 0.5), key=(2, False), meter=(3, 4), bars=3, candidates=1
    )
    assert text.midi == values.midi
    assert text.plan.key == (2, False)
    assert text.predicted is None
    assert text.picture is None
    with pytest.raises(TypeError, match="takes no argument 'secs'"):
        composer.compose(None, valence=0, arousal=0, secs=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a list of requests says all"):
        composer.compose([huesong.Request(None, 0.0, 0.0)], seconds=4)  # type: ignore[call-overload]
    with pytest.raises(UserError, match="--mood says both valence and arousal"):
        composer.compose(None, mood="calm", valence=0.1)


def test_threads_get_what_each_would_alone(composer: Composer) -> None:
    found: dict[int, bytes] = {}

    def one(seed: int) -> None:
        found[seed] = composer.compose(None, mood="joyful", seconds=4, candidates=1, seed=seed).midi

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found.values())) == 2
    for seed in range(2):
        assert composer.compose(None, mood="joyful", seconds=4, candidates=1, seed=seed).midi == found[seed]


def test_a_notebook_shows_picture_plane_roll_and_player(piece: Piece) -> None:
    page = piece._repr_html_()
    for part in ("data:image/jpeg;base64,", "<svg", "data:image/png;base64,", "data:audio/mpeg;base64,"):
        assert page.count(part) == 1
    assert page.count("<circle") == 3
    words = re.sub(r'base64,[^"]*', "", page)  # data may spell anything
    assert "http" not in words.replace("http://www.w3.org", "")
    assert piece.audio()._repr_html_().startswith("<audio controls")


@pytest.mark.slow
def test_the_example_notebook_runs(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "docs/example.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without output"
    done = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in done.cells for output in cell.get("outputs", [])]
    assert sum("text/html" in data for data in shown) == 2, "the piece, and the player"


def test_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a model folder"):
        Composer.load(tmp_path)


# --- moods and words ---------------------------------------------------------------------------------


def test_moods_lie_on_the_circle_where_russell_has_them() -> None:
    for word, mood in MOODS.items():
        assert np.hypot(mood.valence, mood.arousal) == pytest.approx(RADIUS, abs=0.01), word
        assert np.degrees(np.arctan2(mood.arousal, mood.valence)) % 360 == pytest.approx(mood.degrees, abs=1.0)
    assert {"calm", "joyful", "tense", "melancholic", "tender", "triumphant"} <= MOODS.keys()
    for word, (one, other) in BETWEEN.items():
        a, b = ((MOODS[word].degrees - RUSSELL[each] + 180) % 360 - 180 for each in (one, other))
        assert a == pytest.approx(-b, abs=0.2), "half-way"
        assert abs(a) <= 45, "between neighbours"


def test_moods_beside_rated_words() -> None:
    """Agreement is 1 with norms that say the same; a word that people place elsewhere is named, one that they lack, too."""
    same = [(word, mood.valence, mood.arousal) for word, mood in MOODS.items()]
    agreement = benchmark("moods").agreement
    columns = ["word", "valence_norm", "arousal_norm"]
    said = agreement(pd.DataFrame(same, columns=columns))
    assert f"{len(MOODS)} are words of the norms: valence r 1.00 [1.00, 1.00], arousal r 1.00" in said
    assert "Further than 0.5 apart: none. Not in the norms: none." in said
    other = [(word, -valence if word == "happy" else valence, arousal) for word, valence, arousal in same[:-1]]
    said = agreement(pd.DataFrame(other, columns=columns))
    assert f"Further than 0.5 apart: happy (1.48). Not in the norms: {same[-1][0]}." in said


def test_a_mood_is_a_place_or_a_course() -> None:
    assert parse_mood("Calm") == (MOODS["calm"].valence, MOODS["calm"].arousal)
    valence, arousal = parse_mood("calm..joyful..sad")
    assert valence == tuple(MOODS[word].valence for word in ("calm", "joyful", "sad"))
    assert arousal == tuple(MOODS[word].arousal for word in ("calm", "joyful", "sad"))
    for text in ("calmish", "calm..", "", "calm...sad"):
        with pytest.raises(UserError, match=r"--mood .*is no mood; give one of afraid, angry, calm"):
            parse_mood(text)


@pytest.mark.parametrize(
    ("va", "words"),
    [
        ((-0.17, -0.35), "calm and slightly sad (V -0.17, A -0.35)"),
        ((0.7, 0.4), "very happy and excited (V +0.70, A +0.40)"),
        ((0.05, -0.02), "neutral (V +0.05, A -0.02)"),
        ((-0.5, 0.65), "very excited and tense (V -0.50, A +0.65)"),
        ((0.2, -0.05), "slightly content (V +0.20, A -0.05)"),
    ],
)
def test_emotions_are_said_in_words(va: tuple[float, float], words: str) -> None:
    assert in_words(va) == words


def test_the_table_of_moods_in_the_documents_is_the_one_in_the_code() -> None:
    page = (ROOT / "docs/library.md").read_text("utf-8")
    for word, mood in MOODS.items():
        row = f"| {word} | {mood.degrees:g}° | {mood.valence:+.2f} | {mood.arousal:+.2f} | {mood.source} |"
        assert row in page, row
