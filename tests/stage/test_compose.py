from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyloudnorm
import pytest
import torch
from PIL import Image
from symusic import Score

from huesong import contracts
from huesong.cli.app import app
from huesong.compose import serve
from huesong.compose.composer import Composer, Composition, compose, compose_many, opened
from huesong.compose.output.formats import Writing
from huesong.config import EvaluateConfig, EvaluationSampling, SamplingConfig
from huesong.data.sample.music import compose_by_rule
from huesong.emotion.certainty import Certainty
from huesong.model.folder import load_model, save_model
from huesong.model.network import PictureShape
from huesong.model.requests import Request, conditioning_of
from huesong.music.features import features
from huesong.music.reading import listen, read_score
from huesong.pictures.encoders import load_encoder
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256
from tests.tiny_composer import SHORT, files, never
from tests.tiny_music import modules

ROOT = Path(__file__).parents[2]


def test_reading_a_photo_needs_no_transformers(folder: Path, picture: Path, tmp_path: Path) -> None:
    """From preprocessing a picture to composing for it: importing transformers takes six seconds."""
    code = f"""
import sys; sys.modules["transformers"] = None  # an import of it fails
from pathlib import Path
from huesong.config import SamplingConfig
from huesong.compose.composer import compose
from huesong.model.folder import save_model
from huesong.model.network import PictureShape
from huesong.pictures.encoders import load_encoder
from tests.tiny_composer import SHORT, files, model_folder, never, photo
from tests.tiny_music import modules, tokenizer
from huesong.music import tokens

root = Path({str(tmp_path)!r})
encoder = load_encoder("efficientnet_lite2", size=32, grid=2, scales=2)
encoder.save(root / "preprocess" / "encoder")
tokens.save(tokenizer(), root / "preprocess" / "tokenizer.json")
tokens.write_vocabulary(tokenizer(), root / "preprocess" / "vocabulary.json")
made = modules(128, PictureShape.of(encoder.shape))
save_model(root / "model", network=made.network, critic=made.critic, preprocess=root / "preprocess", label=None, training={{}})
print(compose(Path({str(picture)!r}), root / "piece", root / "model", config=SamplingConfig(seconds=4, candidates=1)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "predicted" in done.stdout
    assert files(tmp_path / "model" / "encoder") == ["encoder.json"]


@pytest.fixture(scope="module")
def sure(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Composer:
    """A model that reads by kernel ridge and knows how sure it is."""
    root = tmp_path_factory.mktemp("sure")
    shutil.copytree(folder, root / "from", ignore=shutil.ignore_patterns("encoder"))
    encoder = load_encoder("efficientnet_lite2", size=32, grid=2)
    encoder.save(root / "from" / contracts.ENCODER)
    made = modules(128, PictureShape.of(encoder.shape, rated=24))
    head, rng = made.network.picture.va_head, torch.Generator().manual_seed(1)
    head.known_KC.normal_(generator=rng)
    head.bias_2.copy_(torch.tensor([0.4, -0.1]))
    centre = torch.tensor([0.1, 0.2])
    made.network.picture.map_to_K2.copy_(made.network.picture.map_from_K2 * 0.5 + centre)
    Certainty((0.0, 0.0), (1.5, 1.0), (-1.5, -1.5), (0.0, 0.0), 24, 24).save(
        root / "from" / contracts.PICTURE_CERTAINTY
    )
    save_model(
        root / "model", network=made.network, critic=made.critic, preprocess=root / "from", label=root / "from",
        training={},
    )  # fmt: skip
    return Composer(root / "model")


def test_it_says_how_sure_it_is(sure: Composer, composer: Composer, picture: Path, tmp_path: Path) -> None:
    made = compose(picture, tmp_path / "piece", sure, config=SHORT)
    valence, arousal = made.piece.certainty
    assert made.piece.predicted is not None
    assert valence.middle == pytest.approx(1.5 * made.piece.predicted[0], abs=1e-3)
    assert (valence.word, arousal.word) == ("sure", "unsure"), "Phi(.6 / .223) > .9, Phi(.1 / .223) < .7"
    assert valence.high - valence.low == pytest.approx(2 * 1.2816 * math.exp(-1.5), abs=1e-3)
    said = f"certainty  valence sure ({valence.middle:+.2f}, {valence.low:+.2f} to {valence.high:+.2f}), arousal unsure"
    assert said in str(made)
    record = json.loads((tmp_path / "piece.json").read_text())["certainty"]
    assert record["arousal"]["word"] == "unsure"
    assert record["valence"]["low"] == valence.low
    bare = compose(picture, tmp_path / "bare", composer, config=SHORT)  # a folder that does not know
    assert bare.piece.certainty is None
    assert "certainty" not in str(bare)
    assert "certainty" not in json.loads((tmp_path / "bare.json").read_text())


def test_intensity_scales_the_request_around_neutral(sure: Composer, picture: Path) -> None:
    """Neutral is where the map leads the median picture, here (.1, .2); what the user asks for is not scaled."""
    plain, more, none, asked = (
        conditioning_of(sure.model, replace(request, picture=sure.encoder.encode([opened(request).picture])[0]))
        for request in (
            Request(picture), Request(picture, intensity=1.5), Request(picture, intensity=0.0),
            Request(picture, intensity=1.5, valence=-0.3),
        )
    )  # fmt: skip
    valence, arousal = plain.requested
    assert abs(valence - 0.1) > 0.1
    assert more.requested == pytest.approx((0.1 + 1.5 * (valence - 0.1), 0.2 + 1.5 * (arousal - 0.2)), abs=1e-6)
    assert none.requested == pytest.approx((0.1, 0.2), abs=1e-6)
    assert asked.requested == pytest.approx((-0.3, more.requested[1]), abs=1e-6)
    assert more.predicted == plain.predicted


def test_composing_imports_little(picture: Path) -> None:
    """What it does not need takes seconds to import: the first note would wait for it."""
    code = f"""
import sys
from pathlib import Path
from huesong.compose import Composer, Request
from huesong.config import SamplingConfig
made = Composer(Path("models/huesong-small")).compose([Request(Path({str(picture)!r}))], SamplingConfig(seconds=4, candidates=2))
assert made[0].obtained
unwanted = {{"scipy", "sklearn", "skops", "pandas", "pyarrow", "transformers", "matplotlib", "mlflow", "torch"}}
print(sorted(unwanted & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_three_files_and_three_emotions(picture: Path, composer: Composer, tmp_path: Path) -> None:
    made = compose(picture, tmp_path / "out" / "piece", composer, valence=0.5, config=SHORT)
    assert files(tmp_path / "out") == ["piece-roll.png", "piece.json", "piece.mid", "piece.wav"]
    score = read_score(made.midi)
    end = score.to("second").end()
    assert end == pytest.approx(5.0, rel=0.05)
    assert made.seconds == pytest.approx(end)
    with wave.open(str(made.wav)) as sound:
        assert sound.getnframes() / sound.getframerate() >= end
    with Image.open(made.roll) as roll:
        assert roll.width > 400
    assert made.piece.requested[0] == 0.5
    assert made.piece.predicted is not None
    assert all(-1 <= value <= 1 for value in (*made.piece.requested, *made.piece.predicted))
    assert composer.scorer is not None
    heard = composer.scorer.labeller.predict(pd.DataFrame([features(score)]))[0]
    assert made.piece.obtained == pytest.approx(heard)
    for word in ("predicted", "requested", "obtained", "piece.mid", "piece.wav", "piece-roll.png"):
        assert word in str(made)


def test_the_pedal_is_in_the_file_and_follows_the_request(picture: Path, composer: Composer) -> None:
    calm, excited = composer.compose([Request(None, 0.3, arousal, 2) for arousal in (-1.0, 1.0)], SHORT)
    for piece in (calm, excited):
        assert [track.name for track in Score.from_midi(piece.midi).tracks] == ["Right hand", "Left hand"]
        pedals = list(piece.notes.tracks[0].pedals)
        starts = [480 * at for at in np.cumsum([0.0, *(bar.quarters for bar in piece.plan.bars)])]
        assert all(min(abs(pedal.time - start) % 240 for start in starts) == 30 for pedal in pedals)
        assert bytes((0xB0, 64, 127)) in piece.midi or not pedals
    assert sum(pedal.duration for pedal in calm.notes.tracks[0].pedals) / calm.notes.end() > 0.2


def test_humanize_is_for_the_audio_alone_by_default(picture: Path, composer: Composer, tmp_path: Path) -> None:
    def made(name: str, humanize: bool | None) -> Composition:
        return compose(picture, tmp_path / name, composer, config=SHORT, seed=4, how=Writing(humanize=humanize))

    default, both, neither = made("default", None), made("both", True), made("neither", False)
    assert default.midi.read_bytes() == neither.midi.read_bytes() != both.midi.read_bytes()
    assert default.wav.read_bytes() == both.wav.read_bytes() != neither.wav.read_bytes()
    recorded = [json.loads((tmp_path / f"{name}.json").read_text())["humanized"] for name in ("default", "neither")]
    assert recorded == [{"audio": True, "midi": False}, {"audio": False, "midi": False}]
    plain, played = (listen(read_score(one.midi)) for one in (default, both))
    assert 0 < np.abs(played.onset_s - plain.onset_s).max() <= 0.020
    assert (np.sort(played.pitch) == np.sort(plain.pitch)).all()


def test_the_audio_is_as_loud_as_the_request(picture: Path, composer: Composer, tmp_path: Path) -> None:
    for arousal, lufs in ((-1.0, -28.0), (0.4, -21.0), (1.0, -18.0)):
        made = compose(picture, tmp_path / "piece", composer, config=SHORT, arousal=arousal)
        with wave.open(str(made.wav)) as sound:
            assert (sound.getnchannels(), sound.getframerate()) == (2, 48000)
            frames = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").reshape(-1, 2) / 32768
        assert pyloudnorm.Meter(48000).integrated_loudness(frames) == pytest.approx(lufs, abs=0.3)
        assert np.abs(frames).max() < 10 ** (-1 / 20)


def test_the_same_bytes_every_time(picture: Path, folder: Path, composer: Composer, tmp_path: Path) -> None:
    first = compose(picture, tmp_path / "a", composer, seed=3, config=SHORT)
    again = compose(picture, tmp_path / "b", folder, seed=3, config=SHORT)  # loaded anew
    other = compose(picture, tmp_path / "c", composer, seed=4, config=SHORT)
    for kind in ("midi", "wav", "roll"):
        assert getattr(first, kind).read_bytes() == getattr(again, kind).read_bytes()
    assert first.midi.read_bytes() != other.midi.read_bytes()


def test_many_pictures_are_composed_as_each_alone(picture: Path, composer: Composer, tmp_path: Path) -> None:
    second = tmp_path / "night.jpg"
    Image.new("RGB", (20, 30), (10, 10, 60)).save(second)
    both = compose_many([Request(picture), Request(second)], [tmp_path / "x", tmp_path / "y"], composer, config=SHORT)
    alone = compose(second, tmp_path / "z", composer, config=SHORT)
    assert [made.picture for made in both] == [picture, second]
    assert both[1].midi.read_bytes() == alone.midi.read_bytes()
    assert both[0].midi.read_bytes() != both[1].midi.read_bytes()


def test_a_piece_takes_the_place_of_an_earlier_one_alone(picture: Path, composer: Composer, tmp_path: Path) -> None:
    name = picture.with_suffix("")
    first = compose(picture, name, composer, config=SHORT)
    again = compose(picture, name, composer, seed=1, config=SHORT)  # the earlier piece, unchanged, may go
    assert first.midi == again.midi
    record = json.loads(name.with_name("sunset.json").read_text())
    assert record["asked"] == {"seed": 1}
    assert record["requested"] == list(again.piece.requested)
    assert record["files"] == {path.name: sha256(path) for path in (again.midi, again.wav, again.roll)}

    again.midi.write_bytes(again.midi.read_bytes() + b"edited by hand")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"sunset\.mid is already there and is no unchanged piece.*--out.*--force"):
        compose(picture, name, never, config=SHORT)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    compose(picture, name, composer, seed=1, config=SHORT, how=Writing(force=True))
    assert again.midi.read_bytes() != before[again.midi]


def test_a_composer_takes_prompts_without_pictures(composer: Composer) -> None:
    image = Image.new("RGB", (30, 30), "orange")
    prompts = [Request(None, -0.5, 0.5, seed=1, seconds=7.0), Request(image, seed=2)]
    blind, seen = composer.compose(prompts, SHORT)
    assert blind.requested == (-0.5, 0.5)
    assert blind.predicted is None
    assert seen.predicted is not None
    assert not any(math.isnan(value) for value in seen.requested)
    assert blind.notes.to("second").end() == pytest.approx(7.0, rel=0.05)
    assert seen.notes.to("second").end() == pytest.approx(5.0, rel=0.05)
    assert blind.midi[:4] == b"MThd"
    with pytest.raises(UserError, match="valence and an arousal"):
        composer.compose([Request(None, 0.1)], SHORT)
    with pytest.raises(UserError, match="--seconds"):
        composer.compose([Request(image, seconds=1.0)], SHORT)


def test_every_door_has_the_same_defaults(
    picture: Path, composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece of 30 s, the best of 4: from the library, the console, the component's call and the registered model."""
    asked: list[tuple[float | None, int]] = []

    def spy(model: object, requests: list[Request], config: SamplingConfig, *_: object) -> list[object]:
        asked.extend((config.seconds if one.seconds is None else one.seconds, config.candidates) for one in requests)
        raise UserError("far enough")

    monkeypatch.setattr("huesong.model.sampling.sample", spy)
    monkeypatch.setattr("huesong.register.shipped.default_model", lambda: pytest.fail("a model was named"))
    served = serve.HuesongModel()
    served.composer = composer
    place = str(composer.model.folder)
    for door in (
        lambda: composer.compose([Request(picture)]),
        lambda: compose(picture, tmp_path / "piece", composer),
        lambda: compose_many([Request(picture)], [tmp_path / "piece"], composer),
        lambda: served.predict(None, pd.DataFrame([{"valence": 0.0, "arousal": 0.0}])),
        lambda: app(
            ["compose", str(picture), "--out", str(tmp_path / "piece"), "--model", place], standalone_mode=False
        ),
    ):
        with pytest.raises(UserError, match="far enough"):
            door()
    assert asked == [(30.0, 4)] * 5
    assert EvaluateConfig().sampling == EvaluationSampling()
    assert (EvaluationSampling().seconds, EvaluationSampling().candidates) == (15, 1)


def test_a_model_without_a_labeller_obtains_nothing(folder: Path, composer: Composer) -> None:
    bare = Composer(folder)
    bare.scorer = None
    piece = bare.compose([Request(None, 0.0, 0.0)], SHORT)[0]
    assert piece.obtained is None
    told = str(Composition(Path("a"), {"mid": Path("b")}, piece))
    assert "requested" in told
    assert "obtained" not in told
    assert load_model(folder).vocabulary.digest == composer.model.vocabulary.digest


def test_a_length_in_bars(composer: Composer) -> None:
    [piece] = composer.compose([Request(None, 0.3, 0.3, bars=3)], SHORT)
    assert piece.notes.end() == pytest.approx(3 * 4 * piece.notes.ticks_per_quarter, rel=0.05)
    for bars in (0, 301):
        with pytest.raises(UserError, match=f"--bars {bars}: give a number from 1 to 300, or --seconds"):
            composer.compose([Request(None, 0.3, 0.3, bars=bars)], SHORT)


def test_a_piece_begins_with_its_primer(picture: Path, composer: Composer, tmp_path: Path) -> None:
    begin = tmp_path / "begin.mid"
    score = compose_by_rule(0.5, 0.2, 3)
    beat = score.ticks_per_quarter
    score.clip(0, 4 * beat, clip_end=True).dump_midi(begin)
    longer = compose(
        picture,
        tmp_path / "b",
        composer,
        config=EvaluationSampling(seconds=12),
        primer=begin,
        seed=9,
        valence=(-0.5, 0.5),
    )

    def opening(path: Path) -> list[tuple[float, int]]:
        tracks = read_score(path).resample(8, 1).tracks
        return sorted((note.time, note.pitch) for track in tracks for note in track.notes if note.time < 32)

    known = set(opening(begin))
    assert known <= set(opening(longer.midi))
    last = max(time for time, _ in known)  # the piece may go on within the primer's last position
    assert {note for note in opening(longer.midi) if note[0] < last} < known
    assert longer.seconds == pytest.approx(12, rel=0.1)  # whole bars at the tempo of the primer
    assert longer.piece.requested[0] == 0.0
    with pytest.raises(UserError, match=r"primer (is too long|has [0-9]+ tokens)"):
        compose(picture, tmp_path / "c", composer, config=EvaluationSampling(seconds=4), primer=longer.midi)
    assert not list(tmp_path.glob("c*"))


@pytest.mark.parametrize("name", [b"\xff\xfe", b"x" * 246, b"$x_{", b"a\nb", b"-dash", "日の出".encode()])
def test_pictures_of_any_name(picture: Path, composer: Composer, tmp_path: Path, name: bytes) -> None:
    odd = tmp_path / "in" / f"{os.fsdecode(name)}.png"
    odd.parent.mkdir()
    shutil.copyfile(picture, odd)
    made = compose(odd, tmp_path / "out" / odd.stem, composer, config=SHORT)
    assert made.midi.is_file()
    assert made.roll.is_file()
    assert len(list((tmp_path / "out").iterdir())) == 4
    shown = str(made)
    shown.encode()
    assert len(shown.splitlines()) == 10
