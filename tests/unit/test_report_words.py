"""The evaluation report's sentences say what the figures say."""

from __future__ import annotations

from huesong.evaluate.report import caption_of, falls_short, grade, in_words, verdict


def figures(**changes: float) -> dict[str, float]:
    """Of a model that does well on the grid, beside the rule-based composer."""
    own = {"valence_ccc": 0.7, "valence_ccc_low": 0.65, "valence_ccc_high": 0.75, "arousal_ccc": 0.9}
    rules = {"valence_ccc": 0.5, "valence_ccc_low": 0.45, "valence_ccc_high": 0.55, "arousal_ccc": 0.95}
    return {
        "grid_n": 50.0,
        **{f"grid_{key}": value for key, value in own.items()},
        **{f"grid_rules_{key}": value for key, value in rules.items()},
        **changes,
    }


def test_control_and_baselines_are_told_in_sentences() -> None:
    control, rules, short = map(str, in_words(figures()))
    assert "valence 0.700 [0.65, 0.75] and arousal 0.900" in control
    assert "n = 50" in control
    assert control.endswith("In words: valence is met, arousal is met closely.")
    assert rules == (
        "Against the rule-based composer on the same requests: valence better (0.70 against 0.50), "
        "arousal worse (0.90 against 0.95)."
    )
    assert short == "What falls short: on arousal on the grid the rule-based composer does better."


def test_overlapping_intervals_are_no_clear_difference() -> None:
    near = figures(grid_rules_valence_ccc=0.66, grid_rules_valence_ccc_low=0.6, grid_rules_valence_ccc_high=0.72)
    assert verdict(near, "grid_valence_ccc", "grid_rules_valence_ccc") == "not clearly different (0.70 against 0.66)"


def test_what_falls_short_is_named_and_nothing_else() -> None:
    good = {"grid_valence_ccc": 0.6, "grid_arousal_ccc": 0.8, "identical_share": 0.0, "length_within_10_percent": 1.0}
    assert falls_short(good) == []
    assert str(in_words({})[-1]) == "Nothing that this page looks at falls short."
    bad = good | {"valence_ccc": 0.2, "identical_share": 0.25, "length_within_10_percent": 0.5, "invalid_tokens": 3.0,
                  "second_grid_valence_ccc": 0.1}  # fmt: skip
    assert falls_short(bad) == [
        "the judges differ on valence on the grid (0.60 and 0.10)",
        "valence for pictures is controlled loosely (CCC 0.20)",
        "25% of the pieces equal another one",
        "only 50% of the pieces are within 10 % of the asked length",
        "3 tokens break the grammar",
    ]


def test_quality_is_told_by_how_easily_a_classifier_tells_it_from_real_music() -> None:
    for area, word in ((0.55, "hard"), (0.75, "possible"), (0.95, "easy")):
        assert f"So they are {word} to tell apart." in str(in_words({"quality_c2st_shape": area})[0])
    copied = str(in_words({"copied_notes": 3.0, "copied_notes_data": 6.5})[0])
    assert "3.0 notes on average, no more than real pieces share with it (6.5)" in copied


def test_nothing_is_a_minus_zero_or_said_twice() -> None:
    own = figures(grid_unconditional_valence_ccc=-0.001, grid_unconditional_arousal_ccc=-0.4)
    said = " ".join(map(str, in_words(own)))
    assert "Against the model, nothing asked on the same requests: valence better (0.70 against 0.00)" in said


def test_grades_and_captions() -> None:
    assert [grade(ccc) for ccc in (0.9, 0.7, 0.4, -0.2)] == ["is met closely", "is met", "is met loosely", "is not met"]
    assert "second judge" in caption_of("second_va_grid_confusion")
    assert "25 emotions" in caption_of("second_va_grid_confusion")
    assert "for test pictures" in caption_of("va_pictures_calibration")
