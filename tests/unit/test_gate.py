from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong.register.gate import Gate, check, load_gate
from huesong.runtime.errors import UserError

ROOT = Path(__file__).parents[2]
GOOD = {
    "identical_share": 0.0, "length_within_10_percent": 1.0, "invalid_tokens": 0, "arousal_r": 0.5,
    "arousal_ccc": 0.45, "valence_ccc": 0.3, "quadrant_accuracy": 0.5, "distance_paper": 0.6,
}  # fmt: skip


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
    assert {c.kind for c in check(policy, GOOD).checks} == {"absolute"}
    assert {c.kind for c in check(policy, GOOD, champion=GOOD).checks} == {"absolute", "relative"}


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
    lines = check(policy, {**GOOD, "arousal_r": 0.1}, GOOD).table().splitlines()
    assert len(lines) == 1 + 8
    assert sum(line.startswith("FAIL") for line in lines) == 1
    assert any(line.startswith("FAIL  arousal_r ") and ">= 0.2" in line for line in lines)


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
        ("absolute: {r: 3}", "absolute.r = 3"),
        ("absolute: [", "not valid YAML"),
        ("", "every model pass"),
        ("relative: {r: {better: lower}}", "`absolute` is empty"),
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
