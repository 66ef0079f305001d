"""What is asked of a piece in words and numbers, and how its files are called; no piece is composed."""

from __future__ import annotations

from pathlib import Path

import pytest

from huesong.compose.output.files import output_names, place
from huesong.config import SamplingConfig
from huesong.model.requests import parse_key, parse_trajectory, sampling_config
from huesong.runtime.errors import UserError


def test_where_a_piece_goes(tmp_path: Path) -> None:
    picture = Path("some/holiday.jpg")
    assert place(None, picture) == Path("holiday")
    assert place("there/", picture) == Path("there/holiday"), "a folder that is still to be made"
    assert place("there", picture) == Path("there")
    with pytest.raises(
        UserError,
        match=r"song\.mp4: no \.mp4 is written, but \.mid, \.wav, .*: leave the suffix out of --out",
    ):
        output_names([picture], [tmp_path / "song.mp4"])


def test_output_names(tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    assert output_names([picture], [tmp_path]) == [tmp_path / "a"]
    assert output_names([picture], [tmp_path / "b.mid"]) == [tmp_path / "b"]
    assert output_names([picture], [tmp_path / "v1.5"]) == [tmp_path / "v1.5"]
    with pytest.raises(UserError, match="two pieces"):
        output_names([picture, tmp_path / "b.jpg"], [tmp_path / "x", tmp_path / "x.wav"])
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        output_names([picture], [tmp_path / "x"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a folder to write to"):
        output_names([picture], [tmp_path / "file" / "x"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 3.9}, r"--seconds 3\.9.*4 to 600"),
        ({"seconds": 601}, "--seconds"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"temperature": 0}, "--temperature"),
        ({"top_p": 1.5}, "--top-p"),
        ({"guidance": float("inf")}, "--guidance inf"),
        ({"candidates": 0}, "--candidates"),
        ({"max_polyphony": 0}, "--max-polyphony"),
        ({"max_notes_per_second": 0.5}, "--max-notes-per-second"),
        ({"max_silence": 0}, "--max-silence"),
        ({"max_silence": 1e30}, "--max-silence"),
    ],
)
def test_bad_sampling_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sampling_config(**options)  # type: ignore[arg-type]


def test_good_sampling_options() -> None:
    assert sampling_config() == SamplingConfig()
    assert (sampling_config().seconds, sampling_config().candidates) == (30, 4)
    assert sampling_config(seconds=30, candidates=3) == SamplingConfig(seconds=30, candidates=3)
    capped = sampling_config(max_polyphony=3, max_notes_per_second=6.5, max_silence=2)
    assert capped == SamplingConfig(max_polyphony=3, max_notes_per_second=6.5, max_silence=2)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("C", (0, True)), ("am", (9, False)), ("F# minor", (6, False)), ("Bbm", (10, False)), ("b", (11, True)),
        ("bb", (10, True)), ("E♭ major", (3, True)), ("Cb", (11, True)), (None, None),
    ],
)  # fmt: skip
def test_keys_are_read(text: str | None, key: object) -> None:
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["H", "", "C major minor", "Cmixolydian", "F##"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--key .*: give a key such as C, 'F# minor' or Bbm"):
        parse_key(text)


@pytest.mark.parametrize(
    ("text", "trajectory"),
    [("0.5", 0.5), ("-1", -1.0), ("0.2..0.8", (0.2, 0.8)), ("-.5..1..0", (-0.5, 1.0, 0.0)), (None, None)],
)
def test_trajectories_are_read(text: str | None, trajectory: object) -> None:
    assert parse_trajectory(text, "arousal") == trajectory


@pytest.mark.parametrize("text", ["0.2..", "..", "loud", "0.1...0.2"])
def test_what_is_no_trajectory_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"--arousal {text}: give a number"):
        parse_trajectory(text, "arousal")
