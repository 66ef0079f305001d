from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from huesong.cli.app import app
from huesong.experiments.results_page import markdown
from huesong.report.tables import number, put_into, put_picture
from huesong.runtime.errors import UserError
from huesong.runtime.files import write_json


def run_of(root: Path) -> Path:
    """The figures of a small run."""
    agreement = {
        "n": 50,
        "valence_ccc": 0.5,
        "valence_ccc_low": 0.25,
        "valence_ccc_high": 0.755,
        "arousal_ccc": -0.04,
        "valence_half_accuracy": 0.8,
        "arousal_half_accuracy": 0.9,
        "arousal_half_accuracy_low": 0.85,
        "arousal_half_accuracy_high": 0.95,
    }
    figures = {
        "label": {f"pieces_eimg_{key}": value for key, value in agreement.items()},
        "train": {"parameters": 1_870_000.0, "steps": 250.0, "tokens_seen": 680_000.0, "train_ce": 3.5, "val_ce": 3.25,
                  "critic_val_segments": 394, "critic_val_valence_r": 0.52, "critic_val_valence_ccc": 0.46,
                  "critic_val_arousal_r": 0.85},
        "evaluate": {
            f"{prefix}{key}": value
            for prefix in ("", "grid_", "grid_retrieval_", "second_grid_", "judge_")
            for key, value in agreement.items()
        }
        | {f"{judge}{requests}confusion_{row}_{column}": 10 * row + column + (100 if judge else 0) + (0 if requests else 400)
           for judge in ("", "second_") for requests in ("", "grid_") for row in range(1, 5) for column in range(1, 5)}
        | {"polyphony_rate": 0.4, "polyphony_rate_low": 0.35, "polyphony_rate_high": 0.45, "polyphony_rate_data": 0.5,
           "scale_overlap": 0.8, "scale_kl": 0.05, "pitch_range_overlap": 0.7, "pitch_range_kl": 0.06,
           "note_count_overlap": 0.6, "critic_n": 7, "critic_valence_r": 0.3}
        | {"picture_valence_r": 0.43, "second_picture_valence_r": 0.36, "picture_valence_beyond_constant": -0.01}
        | {"identical_share": 0.0, "copied_notes": 3.3, "copied_notes_p95": 8, "copied_notes_data": 6.5,
           "copied_notes_p95_data": 10},
    }  # fmt: skip
    for stage, values in figures.items():
        (root / stage).mkdir()
        write_json(root / stage / "figures.json", values)
    return root


def test_the_tables_hold_the_figures_of_the_run(tmp_path: Path) -> None:
    page = markdown(run_of(tmp_path))
    assert "| EIMG (music, 6 raters) | 50 | - | - | .50 [.25, .76] | .80 | - | - | -.04 | .90 [.85, .95] | - |" in page
    assert "1.87 M parameters, 250 steps, 0.7 M tokens; cross-entropy 3.50" in page
    assert page.count("| **the model** | 50 |") == 3  # grid before both judges, pictures before the first
    assert "(n = 394): valence r .52, CCC .46; arousal r .85, CCC -." in page
    assert "| nearest training piece | 50 |" in page
    assert "| V- A+ | 21 / 121 | 22 / 122 | 23 / 123 | 24 / 124 |" in page
    assert "| polyphony rate (PR) | .40 [.35, .45] | .50 |" in page
    grid, pictures = page.split("\nGrid of 25 emotions, pieces by quadrant")[1].split(
        "\nTest pictures, pieces by quadrant"
    )
    assert "| V- A+ | 21 / 121 |" in grid
    assert "| V- A+ | 421 / 521 | 422 / 522 | 423 / 523 | 424 / 524 |" in pictures
    nine, others = page.split("| the nine features of Yang and Lerch |")[1].split(
        "| other statistics, compared in the same way |"
    )
    assert "| note count | .60 | - |\n| pitch range | .70 | .06 |\n\n" in nine
    assert "| scale | .80 | .05 |" in others
    assert "pitch range" not in others
    assert "| the generator's critic, on split `test` | 7 | - | .30 |" in page
    assert "| valence CCC, grid | .50 [.25, .76] | .50 [.25, .76] | >= .60 |" in page
    assert "| share of identical outputs | 0 | - | = 0 |" in page
    assert "| valence r, test pictures, music against people | .43 | .36 | >= .60 |" in page
    assert "| valence error beyond a constant's, test pictures, music against people | -.01 | - | <= 0 |" in page
    assert "mean 3.30, 95th percentile 8; real held-out pieces against the same training set: 6.50 and 10." in page


def test_numbers() -> None:
    assert [number(value) for value in (0.5, -0.07, 0, 1, 0.998, 1.216, None)] == [
        ".50", "-.07", "0", "1", "1.00", "1.22", "-",
    ]  # fmt: skip


def test_a_stage_that_has_not_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `huesong label` first"):
        markdown(tmp_path)


def test_the_report_keeps_what_stands_around_the_table(tmp_path: Path) -> None:
    report = tmp_path / "results.md"
    report.write_text("before\n<!-- ablation -->\nold\n<!-- /ablation -->\nafter\n")
    put_into(report, "ablation", "new\n")
    assert report.read_text() == "before\n<!-- ablation -->\nnew\n<!-- /ablation -->\nafter\n"
    (tmp_path / "plot.png").write_bytes(b"new")
    shown = tmp_path / "images" / "calibration.png"
    put_picture(report, "ablation", tmp_path / "plot.png", "calibration.png")
    assert shown.read_bytes() == b"new", "not shown yet: it is put there to be"
    report.write_text("<!-- real -->\n<!-- /real -->\n![](images/calibration.png)\n<!-- sample -->\n<!-- /sample -->\n")
    shown.write_bytes(b"old")
    put_picture(report, "sample", tmp_path / "plot.png", "calibration.png")
    assert shown.read_bytes() == b"old", "the plot of another run"
    put_picture(report, "real", tmp_path / "plot.png", "calibration.png")
    assert shown.read_bytes() == b"new"
    with pytest.raises(UserError, match="run `huesong evaluate` first"):
        put_picture(report, "real", tmp_path / "none.png", "calibration.png")
    report.write_text("no markers")
    with pytest.raises(UserError, match="add both lines"):
        put_into(report, "ablation", None)


def test_the_command_fills_its_part_of_a_page_and_the_plot_that_is_shown_with_it(tmp_path: Path) -> None:
    artifacts, report = run_of(tmp_path), tmp_path / "docs" / "results.md"
    plot = artifacts / "evaluate" / "plots" / "va_grid_calibration.png"
    plot.parent.mkdir()
    plot.write_bytes(b"levels")
    report.parent.mkdir()
    report.write_text("<!-- real -->\n<!-- /real -->\n![](images/calibration.png)\n<!-- sample -->\n<!-- /sample -->\n")
    image = report.parent / "images" / "calibration.png"
    for part, placed in (("sample", False), ("real", True)):
        command = ["experiment", "results", f"--artifacts={artifacts}", f"--report={report}", f"--part={part}"]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert image.exists() == placed
    assert image.read_bytes() == b"levels"
    assert report.read_text().count("**the model**") == 6
    report = report.rename(report.with_name("sample.md"))
    report.write_text("<!-- sample -->\n<!-- /sample -->\n")
    done = CliRunner().invoke(app, ["experiment", "results", f"--artifacts={artifacts}", f"--report={report}"])
    assert done.exit_code == 0, done.output
    assert report.read_text().count("**the model**") == 3, "the part is the one that the file is named after"
