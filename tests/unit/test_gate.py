from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong.register.gate import Gate, check, load_gate
from huesong.runtime.errors import UserError

ROOT = Path(__file__).parents[2]
GOOD = {
    "n": 216, "grid_n": 200, "judge_n": 414, "identical_share": 0.0, "length_within_10_percent": 1.0, "invalid_tokens": 0,
    "valence_ccc": 0.75, "valence_ccc_low": 0.62, "arousal_ccc": 0.92, "arousal_ccc_low": 0.87,
    "grid_valence_ccc": 0.68, "grid_valence_ccc_low": 0.64, "grid_arousal_ccc": 0.92, "grid_arousal_ccc_low": 0.91,
    "second_grid_valence_ccc_low": 0.53, "second_grid_arousal_ccc_low": 0.92, "quadrant_accuracy": 0.81, "arousal_r": 0.93,
    "distance_paper": 0.1, "rules_valence_ccc": 0.49, "rules_arousal_ccc": 0.84, "grid_rules_valence_ccc": 0.5,
    "grid_rules_arousal_ccc": 0.89, "quality_chord_fit": 0.82, "quality_key_stability": 0.78, "latency_30s": 5.1,
}  # fmt: skip
"""Figures of docs/results/real.md, of docs/results/quality.md for the music, of benchmarks/results.md for the time."""
SAMPLE = {
    **GOOD, "n": 42, "grid_n": 50, "judge_n": 57, "valence_ccc": 0.62, "valence_ccc_low": 0.37, "arousal_ccc": 0.94,
    "arousal_ccc_low": 0.89, "grid_valence_ccc": 0.74, "grid_valence_ccc_low": 0.61, "grid_arousal_ccc": 0.93,
    "grid_arousal_ccc_low": 0.90, "distance_paper": 0.35, "rules_valence_ccc": 0.93, "rules_arousal_ccc": 0.99,
    "grid_rules_valence_ccc": 0.94, "grid_rules_arousal_ccc": 0.99,
}  # fmt: skip
"""Figures of docs/results/sample.md."""


def gate(text: str, tmp_path: Path) -> Gate:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    return load_gate(path)


def test_the_project_gate_lets_a_good_first_model_pass_and_names_what_a_bad_one_lacks() -> None:
    policy = load_gate(ROOT / "mlflow" / "gate.yaml")
    assert check(policy, GOOD).passed
    result = check(policy, {**GOOD, "identical_share": 0.3, "invalid_tokens": 1})
    assert not result.passed
    assert result.summary == "failed: identical_share, invalid_tokens"


def test_the_first_model_meets_absolute_thresholds_only() -> None:
    policy = load_gate(ROOT / "mlflow" / "gate.yaml")
    assert {c.kind for c in check(policy, GOOD).checks} == {"absolute", "baseline"}
    assert {c.kind for c in check(policy, GOOD, champion=GOOD).checks} == {"absolute", "baseline", "relative"}


def pair(value: float, champion: float, half: float) -> dict[str, float]:
    """A figure of both, and their difference within `half`."""
    return {
        "value": value, "champion": champion, "low": value - champion - half, "high": value - champion + half,
    }  # fmt: skip


PAIRED = Gate.model_validate(
    {
        "absolute": {"n": {"min": 1}},
        "relative": {"r": {"better": "higher", "margin": 0.1}, "mae": {"better": "lower", "margin": 0.1}},
        "gain": "r",
    }
)


@pytest.mark.parametrize(
    ("r", "mae", "failed"),
    [
        (pair(0.6, 0.5, 0.05), pair(0.2, 0.2, 0.05), ""),  # better for certain, and not worse
        (pair(0.5, 0.5, 0.0), pair(0.2, 0.2, 0.0), "r"),  # a tie is no gain
        (pair(0.6, 0.5, 0.11), pair(0.2, 0.2, 0.05), "r"),  # better, but perhaps not
        (pair(0.4, 0.5, 0.05), pair(0.2, 0.2, 0.05), "r, r"),  # worse: by more than the margin, perhaps; and no gain
        (pair(0.6, 0.5, 0.05), pair(0.25, 0.2, 0.06), "mae"),  # of an error the higher end counts
        (pair(0.6, 0.5, 0.05), pair(0.1, 0.2, 0.15), ""),
        (pair(0.6, 0.5, 0.05), None, "mae"),
        (pair(float("nan"), 0.5, 0.05), pair(0.2, 0.2, 0.05), "r, r"),
        (pair(0.6, 0.5, float("inf")), pair(0.2, 0.2, 0.05), "r, r"),
    ],
)
def test_a_gain_over_the_champion_must_be_certain(
    r: dict[str, float] | None, mae: dict[str, float] | None, failed: str
) -> None:
    found = {name: one for name, one in (("r", r), ("mae", mae)) if one is not None}
    result = check(PAIRED, {"n": 1}, champion={}, differences=found)
    assert ", ".join(check.metric for check in result.checks if not check.passed) == failed
    named = {"r, r": "r"}.get(failed, failed)  # each figure once
    assert result.summary == (f"failed: {named}" if failed else "passed (4 checks)")
    assert len(result.table().splitlines()) == 5
    assert check(PAIRED, {"n": 1}).passed, "the first model is compared with none"
    assert check(PAIRED, {"n": 1}, champion={"r": 0.1, "mae": 1}).summary == "failed: r, mae"


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_a_model_passes_exactly_if_it_gains_and_is_worse_by_less_than_the_margin(
    value: float, champion: float, half: float
) -> None:
    found = {"r": pair(value, champion, half), "mae": pair(0.0, 0.0, 0.0)}
    assert check(PAIRED, {"n": 1}, {}, differences=found).passed == (found["r"]["low"] > 0)


def test_the_gates_of_the_project_ask_for_a_certain_gain() -> None:
    policy = load_gate(ROOT / "mlflow" / "gate.yaml")
    for one in (policy, policy.of(built=True)):
        assert one.gain in one.relative
        better = {name: pair(0.5, 0.5, 0.01) for name in one.relative} | {str(one.gain): pair(0.7, 0.5, 0.1)}
        good = GOOD if one is policy else SAMPLE
        assert check(one, good, {}, differences=better).passed
        for name in one.relative:
            assert not check(one, good, {}, differences={k: v for k, v in better.items() if k != name}).passed


def test_a_model_of_three_steps_judged_on_three_pictures_does_not_pass() -> None:
    """What the first gate let through: arousal r .9996 over three pictures."""
    policy = load_gate(ROOT / "mlflow" / "gate.yaml")
    tried = {
        **GOOD,
        "n": 3,
        "arousal_r": 0.9996,
        "valence_ccc_low": -0.2,
        "grid_valence_ccc": 0.1,
        "grid_valence_ccc_low": -0.1,
    }
    for one in (policy, policy.of(built=True)):
        failed = {c.metric for c in check(one, tried).checks if not c.passed}
        assert failed >= {"n", "valence_ccc_low", "grid_valence_ccc_low", "grid_valence_ccc"}


@pytest.mark.parametrize("built", [False, True])
def test_the_gate_asks_for_n_lower_bounds_quality_and_the_baseline_and_none_may_be_missing(built: bool) -> None:
    policy = load_gate(ROOT / "mlflow" / "gate.yaml").of(built)
    good = SAMPLE if built else GOOD
    assert check(policy, good).passed
    asked = {"n", "grid_n", "valence_ccc_low", "arousal_ccc_low", "grid_valence_ccc_low", "grid_arousal_ccc_low"}
    music = {"distance_paper", "identical_share", "invalid_tokens", "quality_chord_fit", "length_within_10_percent"}
    assert set(policy.absolute) >= asked | music | {"latency_30s"}
    assert policy.baseline
    for name in {*policy.absolute, *policy.baseline, *(margin.than for margin in policy.baseline.values())}:
        left = {key: value for key, value in good.items() if key != name}
        assert not check(policy, left).passed, name


def test_models_of_the_sample_set_have_a_gate_of_their_own() -> None:
    policy = load_gate(ROOT / "mlflow" / "gate.yaml")
    assert not check(policy.of(built=False), SAMPLE).passed
    assert check(policy.of(built=True), SAMPLE).passed
    assert gate_without_sample.of(built=True) is gate_without_sample


gate_without_sample = Gate.model_validate({"absolute": {"r": {"min": 0}}})


def test_a_baseline_is_a_figure_of_the_same_evaluation() -> None:
    policy = Gate.model_validate({"baseline": {"mae": {"than": "rules_mae", "better": "lower", "margin": 0.1}}})
    assert check(policy, {"mae": 0.3, "rules_mae": 0.2}).passed
    (worse,) = check(policy, {"mae": 0.31, "rules_mae": 0.2}).checks
    assert (worse.passed, worse.rival, worse.threshold) == (False, 0.2, "<= rules_mae + 0.1")
    (missing,) = check(policy, {"mae": 0.3}).checks
    assert not missing.passed
    assert "rules_mae: no such figure was measured" in missing.note


def test_relative_thresholds_hold_in_both_directions(tmp_path: Path) -> None:
    policy = gate(
        "absolute: {r: {min: -1}}\nrelative: {r: {better: higher, margin: 0.05}, mae: {better: lower, margin: 0.05}}\n",
        tmp_path,
    )
    champion = {"r": 0.6, "mae": 0.2}
    assert check(policy, {"r": 0.55, "mae": 0.25}, champion).passed  # the margin itself is no loss
    assert check(policy, {"r": 0.9, "mae": 0.1}, champion).passed
    assert check(policy, {"r": 0.54, "mae": 0.2}, champion).summary == "failed: r"
    assert check(policy, {"r": 0.6, "mae": 0.26}, champion).summary == "failed: mae"


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_a_figure_that_equals_or_beats_the_champion_never_fails(value: float, gain: float, margin: float) -> None:
    policy = Gate.model_validate({"relative": {"r": {"better": "higher", "margin": margin}}})
    assert check(policy, {"r": value + abs(gain)}, {"r": value}).passed


@pytest.mark.parametrize("value", [None, float("nan"), "0.5", True])
def test_what_is_no_number_fails_and_says_so(value: object) -> None:
    policy = Gate.model_validate({"absolute": {"r": {"min": 0}}})
    (only,) = check(policy, {"r": value}).checks
    assert not only.passed
    assert "not a number" in only.note


def test_a_missing_figure_fails_and_names_the_nearest_one() -> None:
    policy = Gate.model_validate({"absolute": {"arousal_rr": {"min": 0.2}}})
    (only,) = check(policy, GOOD).checks
    assert not only.passed
    assert "did you mean 'arousal_r'" in only.note


def test_nested_figures_have_dotted_names() -> None:
    policy = Gate.model_validate({"absolute": {"judge.valence.r": {"min": 0.5, "max": 1}}})
    (only,) = check(policy, {"judge": {"valence": {"r": 0.7}}}).checks
    assert only.passed
    assert only.threshold == ">= 0.5 and <= 1"


def test_a_figure_the_champion_never_had_does_not_block() -> None:
    policy = Gate.model_validate({"relative": {"r": {"better": "higher"}}})
    (only,) = check(policy, {"r": 0.1}, {}).checks
    assert only.passed
    assert "champion has no such figure" in only.note


def test_other_data_are_compared_unless_the_gate_says_skip() -> None:
    rule = {"relative": {"r": {"better": "higher"}}}
    strict = check(Gate.model_validate(rule), {"r": 0.1}, {"r": 0.5}, same_data=False)
    assert not strict.passed
    assert "across_data: skip" in strict.checks[0].note
    lenient = Gate.model_validate({**rule, "across_data": "skip"})
    assert check(lenient, {"r": 0.1}, {"r": 0.5}, same_data=False).passed
    assert not check(lenient, {"r": 0.1}, {"r": 0.5}, same_data=True).passed


def test_the_table_has_a_line_for_every_check() -> None:
    policy = load_gate(ROOT / "mlflow" / "gate.yaml")
    lines = check(policy, {**GOOD, "arousal_ccc_low": 0.1}, GOOD).table().splitlines()
    assert len(lines) == 1 + len(policy.absolute) + len(policy.baseline) + len(policy.relative) + 1
    assert sum(line.startswith("FAIL") for line in lines) == 1 + len(policy.relative) + 1  # nothing to compare with
    assert any(line.startswith("FAIL  arousal_ccc_low ") and ">= 0.5" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("absolut: {r: {min: 1}}", "unknown key 'absolut'; did you mean 'absolute'?"),
        ("absolute: {r: {minimum: 1}}", "unknown key 'absolute.r.minimum'; did you mean 'min'?"),
        ("absolute: {r: {min: 0}}\nrelative: {r: {better: higher, margn: 1}}", "did you mean 'margin'?"),
        ("absolute: {r: {min: 0}}\nrelative: {r: {margin: 1}}", "relative.r.better is missing"),
        ("absolute: {r: {min: 0}}\nrelative: {r: {better: more}}", "relative.r.better = 'more'"),
        ("absolute: {r: {min: 0}}\nrelative: {r: {better: lower, margin: -1}}", "relative.r.margin = -1"),
        ("absolute: {r: {min: .nan}}", "line 1: .nan: write a finite number"),
        ("absolute: {r: {}}", "needs min, max or both"),
        ("sample: {absolut: {r: {min: 1}}}", "unknown key 'sample.absolut'; did you mean 'absolute'?"),
        ("absolute: {r: 3}", "absolute.r = 3"),
        ("absolute: [", "not valid YAML"),
        ("", "every model pass"),
        ("absolute: {r: {min: 0}}\nbaseline: {r: {better: higher}}", "baseline.r.than is missing"),
        ("absolute: {r: {min: 0}}\nsample: {relative: {r: {better: lower}}}", "`absolute` is empty"),
        ("relative: {r: {better: lower}}", "`absolute` is empty"),
        ("absolute: {r: {min: 0}}\ngain: q", "gain 'q' is not among `relative`"),
    ],
)
def test_a_wrong_gate_file_is_one_line_that_names_the_file(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        gate(text, tmp_path)
    message = str(caught.value)
    assert said in message
    assert "gate.yaml" in message
    assert "\n" not in message


def test_a_missing_gate_file_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--gate"):
        load_gate(tmp_path / "none.yaml")
