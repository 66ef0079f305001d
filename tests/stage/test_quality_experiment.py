"""huesong experiment quality: on the tiny world, with a model, baselines and real music."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from huesong.config import SamplingConfig
from huesong.evaluate.quality.figures import piece_figures
from huesong.evaluate.quality.structure import bar_repetition, bar_sets
from huesong.experiments.quality.arms import arms_of, changed, requests_of
from huesong.experiments.quality.baselines import PASSAGE_BARS, copier, markov
from huesong.experiments.quality.page import markdown
from huesong.experiments.quality.run import as_learnt
from huesong.music import tokens
from huesong.runtime.errors import UserError
from tests import tiny_music
from tests.conftest import World
from tests.console import huesong
from tests.unit.test_quality import A, B, random_piece, tune

ARM = "guidance=1,temperature=0.8"


@pytest.mark.slow
def test_a_model_is_measured_beside_baselines_and_real_music_and_its_pieces_are_kept(
    world: World, tmp_path: Path
) -> None:
    def run(pieces: int) -> Path:
        asked = ["--pieces", str(pieces), "--seconds", "10", "--arm", ARM, "--out", str(tmp_path / "out")]
        folders = ["--data", str(world.data), "--preprocess", str(world.preprocess)]
        settings = tmp_path / "params.yaml"
        settings.write_text("evaluate: {bootstrap: 100, workers: 1}\n")
        done = huesong(
            "experiment", "quality", str(world.train / "model"), *asked, *folders, "--params", str(settings),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert str(tmp_path / "out" / "quality.md") in done.stdout
        assert "| copier | " in (tmp_path / "out" / "quality.md").read_text()
        return tmp_path / "out"

    out = run(6)
    found = json.loads((out / "quality.json").read_text())
    rows = found["lengths"]["10"]
    assert set(rows) == {f"model {ARM}", "copier", "Markov chain", "real", "real sample"}
    assert rows[f"model {ARM}"]["n"] == rows["copier"]["n"] == 6
    assert rows["copier"]["bar_repetition"] > rows["Markov chain"]["bar_repetition"]
    assert rows["copier"]["copied_share"] > rows[f"model {ARM}"]["copied_share"]
    assert 0 <= rows[f"model {ARM}"]["c2st_shape"] <= 1
    (music,) = (out / "music").iterdir()
    before = {file.name: file.stat().st_mtime_ns for file in music.iterdir()}
    assert len(before) == 6
    out = run(8)
    after = {file.name: file.stat().st_mtime_ns for file in music.iterdir()}
    assert len(after) == 8
    assert {name: time for name, time in after.items() if name in before} == before
    assert json.loads((out / "quality.json").read_text())["lengths"]["10"][f"model {ARM}"]["n"] == 8


def test_the_copy_test_reads_music_as_training_does() -> None:
    score, made = tiny_music.pieces()[0], tiny_music.tokenizer()
    assert as_learnt(made, score, heads=True) == tokens.apply_bpe(made, tiny_music.encoded(made, score))
    assert as_learnt(made, score, heads=False) == tokens.encode(made, score)


def test_the_copier_repeats_and_the_chain_does_not() -> None:
    taught = [tune(A, B, A, B, B, tempo=100), tune(B, A, A, B, A, tempo=90)]
    copies = copier(taught, 40, 5, 0)
    assert all(piece.seconds >= 35 for piece in copies)
    assert all(bar_repetition(bar_sets(piece)) > 0.4 for piece in copies)
    assert all(len(piece.starts) % PASSAGE_BARS == 1 for piece in copies)
    walks = markov([random_piece(seed) for seed in range(3)], 20, 4, 0)
    assert all(20 <= piece.notes.onset_s[-1] < 30 for piece in walks)
    assert np.nanmean([piece_figures(piece)["bar_repetition"] for piece in walks]) < 0.1
    again = markov([random_piece(seed) for seed in range(3)], 20, 4, 0)
    assert [one.notes.pitch.tolist() for one in walks] == [one.notes.pitch.tolist() for one in again]
    assert copier([], 10, 3, 0) == markov([], 10, 3, 0) == []


def test_settings_of_an_arm_are_those_of_the_sampler(world: World) -> None:
    base = SamplingConfig(candidates=1)
    assert changed(base, "guidance=1.5, temperature=0.8").guidance == 1.5
    assert changed(base, "") == base
    for wrong, words in (("warmth=3", "none of"), ("guidance", "give settings"), ("guidance=-1", "guidance")):
        with pytest.raises(UserError, match=words):
            changed(base, wrong)
    one, other = arms_of([world.train / "model"], ["guidance=2", ""], base)
    assert one.folder(30, "grid", 0) != other.folder(30, "grid", 0) != other.folder(60, "grid", 0)
    with pytest.raises(UserError):
        arms_of([world.data], [], base)


def test_requests_go_round_the_grid_and_the_pictures(world: World) -> None:
    grid = requests_of("grid", 30, 20, 5, world.data, world.preprocess)
    assert len({(one.valence, one.arousal) for one in grid}) == 25
    assert [one.seed for one in grid] == [5] * 25 + [6] * 5
    shown = requests_of("pictures", 12, 20, 5, world.data, world.preprocess)
    assert all(one.picture.exists() and one.seconds == 20 for one in shown)
    assert len({(one.picture, one.seed) for one in shown}) == 12


def test_the_page_has_every_row_with_its_interval() -> None:
    figures = {"n": 40, "motif4": 0.125, "motif4_low": 0.1, "motif4_high": 0.25, "c2st_shape": 0.75, "c2st_n_real": 41}
    val = {"f1": 0.5, "precision": 0.25, "recall": 0.75, "marked": 9, "pieces": 2}
    page = markdown({
        "plan": {"asked": "grid", "seed": 0}, "lengths": {"30": {"new": figures, "real": {"n": 60, "motif4": 0.5}}},
        "copying": {"new": {"copy_exact": 0.25, "copy_rows": 12.0}}, "detector": {"cadence": val},
    })  # fmt: skip
    assert "| new | 40 | .12 [.10, .25] |" in page
    assert "| real | 60 | .50 |" in page
    assert "| new | 12 | .25 |" in page
    assert "9 marked ones in 2 annotated scores" in page
