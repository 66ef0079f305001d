"""emotion.plots: readable PNG files, whatever the numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from huesong.report import plots


def frame(n: int, seed: int = 0, **columns: object) -> pd.DataFrame:
    va = np.random.default_rng(seed).uniform(-1, 1, (n, 2))
    return pd.DataFrame({"id": [f"i{k}" for k in range(n)], "valence": va[:, 0], "arousal": va[:, 1], **columns})


def ink(path: Path) -> float:
    """Share of pixels that are not white."""
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) >= 400
        return float((np.asarray(image.convert("L")) < 250).mean())


@pytest.mark.parametrize("n", [0, 1, 300])
def test_scatter(n: int, tmp_path: Path) -> None:
    origin = np.array(["mean_rating", "predicted"])[np.arange(n) % 2]
    plots.scatter({"pictures": frame(n, origin=origin), "music": frame(2 * n)}, tmp_path / "a.png", "Both sets")
    plots.scatter({"pictures": frame(0), "music": frame(0)}, tmp_path / "empty.png", "Both sets")
    assert (ink(tmp_path / "a.png") > ink(tmp_path / "empty.png")) == (n > 0)


@pytest.mark.parametrize("n", [0, 1, 50])
def test_pairs(n: int, tmp_path: Path) -> None:
    pictures, pieces = frame(n), frame(max(n, 1), 1)
    pairs = pd.DataFrame(
        {
            "image_id": pictures["id"], "piece_id": pieces["id"][:n], "rank": 0, "distance": 0.1,
            "valence": pictures["valence"] / 2, "arousal": pictures["arousal"] / 2,
        }
    )  # fmt: skip
    plots.pair_plot(pairs, pictures, pieces, tmp_path / "pairs.png", lines=20)
    assert ink(tmp_path / "pairs.png") > 0.01


@pytest.mark.parametrize("kind", ["none", "one", "many", "constant"])
def test_calibration_and_confusion(kind: str, tmp_path: Path) -> None:
    asked = {"none": np.zeros((0, 2)), "one": np.full((1, 2), 0.3), "constant": np.full((40, 2), 0.3)}.get(
        kind, np.random.default_rng(0).uniform(-1, 1, (200, 2))
    )
    plots.calibration(asked, asked * 0.6, tmp_path / "c.png")
    plots.confusion_matrix(asked, asked * 0.6, tmp_path / "q.png")
    assert ink(tmp_path / "c.png") > 0.01
    assert ink(tmp_path / "q.png") > 0.01


def test_confusion_leaves_out_requests_on_an_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(plots, "confusion", lambda *both: seen.append(both) or np.zeros((4, 4), dtype=int))
    plots.confusion_matrix(np.array([[0.0, 0.4], [0.4, 0.4]]), np.full((2, 2), -0.2), tmp_path / "q.png")
    assert [len(side) for side in seen[0]] == [1, 1]


def test_evaluation_plots_have_the_names_the_report_looks_for(tmp_path: Path) -> None:
    n = 12
    rng = np.random.default_rng(0)
    heard = pd.DataFrame(
        {
            "set": np.array(["pictures", "grid"])[np.arange(n) % 2],
            "image_group": [f"g{k // 4}" for k in range(n)],
            **{
                f"{a}_{b}": rng.uniform(-1, 1, n)
                for a in ("requested", "obtained", "second")
                for b in ("valence", "arousal")
            },
            "polyphony_rate": rng.uniform(0, 1, n),
            "groove": 0.9,
        }
    )
    judges = {"": "obtained", "second_": "second"}
    plots.evaluation_plots(heard, heard.iloc[:5], ["polyphony_rate", "groove"], judges, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "music_distributions.png", "second_va_grid_calibration.png", "second_va_grid_confusion.png",
        "second_va_pictures_calibration.png", "second_va_pictures_confusion.png", "va_grid_calibration.png",
        "va_grid_confusion.png", "va_pictures_calibration.png", "va_pictures_confusion.png",
    ]  # fmt: skip


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plots.scatter({"music": frame(40)}, tmp_path / name, "x")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
