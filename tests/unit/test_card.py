from huesong.register.card import model_card
from huesong.register.gate import Gate, check
from huesong.report.tables import CARD, figure, table
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA

CONFIG = {
    "network": {"width": 128, "heads": 4, "encoder_layers": 3, "decoder_layers": 2, "context": 512},
    "picture": {"kind": "pixels", "tokens": None, "size": 64},
    "vocabulary": {"size": 600},
    "training": {
        "huesong": "0.1.0",
        "config": {"objective": "ce+va_critic", "va_weight": 0.5, "steps": 300, "batch_size": 16, "seed": 7},
        "data": [{"source": "sample", "licence": "CC0-1.0", "items": 448}],
    },
}  # fmt: skip
METRICS = {
    "n": 40, "arousal_r": 0.512, "arousal_r_low": 0.4, "arousal_r_high": 0.6, "identical_share": 0.0,
    "judge_n": 90, "judge_arousal_r": 0.88,
}  # fmt: skip


def test_the_card_tells_architecture_data_provenance_figures_and_limits() -> None:
    card = model_card(CONFIG, METRICS, {DATA_DIGEST: "abc.dir", GIT_SHA: "f00+dirty"})
    assert "3 causal encoder + 2 decoder" in card
    assert "| sample | CC0-1.0 | 448 |" in card
    assert "`abc.dir`" in card
    assert "`f00+dirty`" in card
    assert "| arousal, correlation | 0.512 [0.4, 0.6] |" in card
    assert "n = 40 pieces" in card
    assert "n = 90" in card
    assert "## Limits" in card
    assert "kind pixels, size 64" in card


def test_music_composed_by_rule_is_named_as_a_limit() -> None:
    rows = [
        {"items": 184, "kind": "music segments", "labels": "construction", "licence": "CC0-1.0", "source": "sample"}
    ]
    card = model_card({**CONFIG, "training": {"data": rows}}, {**METRICS, "grid_n": 100}, {})
    assert "composed by rule" in card
    assert "a grid of 25 emotions, n = 100 pieces" in card
    rows[0]["kind"] = "pictures"
    assert "composed by rule" not in model_card({**CONFIG, "training": {"data": rows}}, METRICS, {})


def test_what_was_not_measured_is_not_in_the_card() -> None:
    card = model_card(CONFIG, METRICS, {})
    assert "valence, concordance" not in card
    assert "None" not in card
    assert "Not measured." in model_card({}, {}, {})


def test_the_gate_is_part_of_the_card() -> None:
    gate = Gate.model_validate({"absolute": {"arousal_r": {"min": 0.9}}})
    card = model_card(CONFIG, METRICS, {}, check(gate, METRICS))
    assert "did not pass the promotion gate (failed: arousal_r)" in card
    assert ">= 0.9" in card


def test_figures_without_interval_stand_alone() -> None:
    assert figure({"a": 0.25}, "a", CARD) == "0.25"


def test_a_cell_cannot_break_the_table() -> None:
    assert table(("a",), [("x|y\nz",)]).splitlines()[2] == "| x\\|y z |"


def test_what_a_data_set_says_of_itself_is_text_and_no_markup() -> None:
    rows = [{
        "source": "<script>alert(1)</script>[click](javascript:alert(1))", "licence": "![x](http://e.vil/p.png) `a` \\[b]",
        "kind": "pictures", "labels": "mean_rating", "items": 3,
    }]  # fmt: skip
    card = model_card({"training": {"data": rows}}, {}, {})
    assert "<script>" not in card
    assert "\\[click\\](javascript" in card
    assert "!\\[x\\](http" in card
    assert "\\`a\\` \\\\\\[b\\]" in card
