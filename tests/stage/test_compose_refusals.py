"""Composing with what is bad, missing, or not its own: one line, and nothing is left or replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from huesong import contracts
from huesong.compose.composer import Composer, compose
from huesong.compose.output.formats import Writing
from huesong.config import EvaluationSampling
from huesong.model.folder import VOCABULARY_KEY
from huesong.model.requests import Request
from huesong.music.reading import read_score
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256
from tests.tiny_composer import SHORT, files, never
from tests.tiny_music import pieces


@pytest.mark.parametrize("theirs", ["sunset.mid", "sunset.wav", "sunset-roll.png", "sunset.json"])
def test_what_is_not_ours_is_never_replaced(picture: Path, tmp_path: Path, theirs: str) -> None:
    (tmp_path / theirs).write_text('{"files": {"sunset.mid": "made up"}}')
    with pytest.raises(UserError, match=f"{theirs} is already there"):
        compose(picture, picture.with_suffix(""), never)
    assert files(tmp_path) == sorted([theirs, "sunset.png"])


def test_what_is_read_is_never_replaced(picture: Path, folder: Path, tmp_path: Path) -> None:
    primer = tmp_path / "song.mid"
    primer.write_bytes(b"MThd")
    for force in (False, True):
        with pytest.raises(UserError, match=r"song\.mid is read for this piece and would be replaced"):
            compose(picture, tmp_path / "song", never, primer=primer, how=Writing(force=force))
        roll = picture.rename(tmp_path / "sea-roll.png") if picture.exists() else tmp_path / "sea-roll.png"
        with pytest.raises(UserError, match=r"sea-roll\.png is read for this piece"):
            compose(roll, tmp_path / "sea", never, how=Writing(force=force))
    assert primer.read_bytes() == b"MThd"
    (tmp_path / "link.mid").symlink_to(primer)
    with pytest.raises(UserError, match=r"link\.mid is read for this piece"):
        compose(roll, tmp_path / "link", never, primer=primer, how=Writing(force=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"valence": 1.5}, "--valence 1.5: give a number from -1 to 1"),
        ({"arousal": float("nan")}, "--arousal nan"),
        ({"arousal": -1.01}, "--arousal -1.01"),
        ({"valence": (0.1, 1.2)}, "--valence 1.2: give a number from -1 to 1"),
        ({"arousal": (0.5,)}, "--arousal: a trajectory needs at least two values"),
        ({"tempo": -3.0}, "--tempo -3: give quarters a minute"),
        ({"tempo": float("nan")}, "--tempo nan"),
        ({"how": Writing(soundfont=Path("nowhere.sf2"))}, "nowhere.sf2"),
    ],
)
def test_bad_values_are_told_before_the_model_is_loaded(
    picture: Path, tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compose(picture, tmp_path / "new" / "piece", never, **arguments)  # type: ignore[arg-type]
    assert files(tmp_path) == ["sunset.png"]


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
def test_a_bad_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.png"):
        compose(path, tmp_path / "piece", never)
    with pytest.raises(UserError, match=r"missing\.png"):
        compose(tmp_path / "missing.png", tmp_path / "piece", never)
    assert files(tmp_path) == ["bad.png"]


def test_no_model_and_a_damaged_one(picture: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a model folder"):
        compose(picture, tmp_path / "piece", tmp_path / "nowhere")
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / contracts.TOKENIZER).write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json is damaged"):
        compose(picture, tmp_path / "piece", lambda: (tmp_path / "model", "mine"))
    assert not list(tmp_path.glob("piece*"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def other_shape(path: Path) -> None:
    with safe_open(path, "pt") as stream:
        own = stream.metadata()
    tensors = load_file(path)
    save_file({**tensors, "embedding.weight": tensors["embedding.weight"][:, :-1].contiguous()}, path, own)


def other_vocabulary(path: Path) -> None:
    save_file(load_file(path), path, {VOCABULARY_KEY: "0" * 64})


@pytest.mark.parametrize(
    ("name", "change", "renewed", "message"),
    [
        (contracts.MODEL_WEIGHTS, cut, False, r"model\.safetensors is damaged \(its SHA-256 is not the one in config"),
        (contracts.MODEL_WEIGHTS, cut, True, r"model\.safetensors is damaged \(.*\): train again"),
        (contracts.MODEL_WEIGHTS, other_shape, True, r"of another architecture \('embedding\.weight' does not fit\)"),
        (contracts.CRITIC_WEIGHTS, other_vocabulary, True, r"critic\.safetensors was trained on another vocabulary"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_leave_nothing(
    picture: Path, folder: Path, tmp_path: Path, name: str, change: Callable[[Path], None], renewed: bool, message: str
) -> None:
    """`renewed`: the list of files names the changed one's digest, as after a careless copy of another model's file."""
    own = tmp_path / "model"
    shutil.copytree(folder, own)
    change(own / name)
    if renewed:
        config = json.loads((own / contracts.MODEL_CONFIG).read_text())
        config["files"][name] = sha256(own / name)
        (own / contracts.MODEL_CONFIG).write_text(json.dumps(config))
    before = files(tmp_path)
    with pytest.raises(UserError, match=message):
        compose(picture, tmp_path / "new" / "piece", own, config=SHORT)
    assert files(tmp_path) == before


def test_a_primer_longer_than_the_context_leaves_nothing(picture: Path, composer: Composer, tmp_path: Path) -> None:
    begin = tmp_path / "begin.mid"
    pieces()[2].dump_midi(begin)
    before = files(tmp_path)
    count = len(composer.primed(Request(None, 0.0, 0.0, primer=read_score(begin))).primer)
    message = rf"^the primer has {count} tokens, the model attends to 128: take a shorter one$"
    with pytest.raises(UserError, match=message):  # though a piece of ten minutes has room for it
        compose(picture, tmp_path / "new" / "piece", composer, config=EvaluationSampling(seconds=600), primer=begin)
    assert files(tmp_path) == before


def test_a_failure_while_writing_leaves_nothing(
    picture: Path, composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose(picture, tmp_path / "piece", composer, seed=1, config=SHORT)
    before = {path: path.read_bytes() for path in tmp_path.glob("piece*")}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huesong.music.rendering.roll.piano_roll", full)
    with pytest.raises(UserError, match="No space left"):
        compose(picture, tmp_path / "piece", composer, seed=2, config=SHORT)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path != picture} == before


def test_a_name_that_no_file_system_allows_is_refused_first(picture: Path, tmp_path: Path) -> None:
    def never() -> Path:
        raise AssertionError("the model was looked for")

    with pytest.raises(UserError, match="would be a name of 256 bytes: give one of 255 at most with --out"):
        compose(picture, tmp_path / ("x" * 247), never)
