from huesong.report.tables import CARD, PAGE, REPORT, figure, measured, number, row, table

FIGURES = {"r": 0.5123, "r_low": 0.4318, "r_high": 0.6021, "n": 200.0, "pieces": 12345, "ccc": -0.0701, "none": None}


def test_a_figure_has_its_interval_in_every_style() -> None:
    assert figure(FIGURES, "r") == ".51 [.43, .60]"
    assert figure(FIGURES, "r", CARD) == "0.5123 [0.4318, 0.6021]"
    assert figure(FIGURES, "r", REPORT) == "0.512 [0.43, 0.60]"


def test_a_figure_without_interval_a_count_and_a_missing_one() -> None:
    assert [figure(FIGURES, key) for key in ("ccc", "n", "pieces", "none", "absent")] == [
        "-.07", "200", "12345", "-", "-",
    ]  # fmt: skip
    assert figure(FIGURES, "n", REPORT) == "200"
    assert figure({"share": 1, "share_low": 1, "share_high": 1}, "share") == "1 [1, 1]"
    assert [number(None, style) for style in (PAGE, CARD, REPORT)] == ["-", "–", "–"]


def test_a_row_and_a_table_of_what_was_measured() -> None:
    assert table(("who", "r", "n"), [row(FIGURES, "first", ("r", "n"))]) == (
        "| who | r | n |\n| --- | --- | --- |\n| first | .51 [.43, .60] | 200 |"
    )
    assert measured(FIGURES, {"ccc": "concordance", "none": "nothing", "absent": "nor this"}) == (
        "| figure | value |\n| --- | --- |\n| concordance | -0.0701 |"
    )
    assert measured({}, {"r": "correlation"}) == "Not measured."
    assert measured({"r": True}, {"r": "correlation"}) == "Not measured."


def test_a_cell_cannot_break_the_table() -> None:
    assert table(("a",), [("x|y\nz",)]).splitlines()[2] == "| x\\|y z |"
