"""Bar lines as text, and in whole bars of the supported metres alone."""

from __future__ import annotations

import itertools

import pytest

from huesong.metre.bars import METRES, Bar, BarLines, regular


@pytest.mark.parametrize("text", ["file", "0.5;4/4@0.5;3/4@64.5", "-1;3/4@-1", "4.0833;4/4@4.0833;sure=0.91"])
def test_bar_lines_are_written_as_they_are_read(text: str) -> None:
    read = BarLines.parse(text)
    assert str(read) == text
    assert read.source == "annotation"


def test_a_text_says_first_bar_line_metres_and_confidence() -> None:
    read = BarLines.parse("0.5; 4/4@0.5; 3/4@64.5; sure=0.9")
    assert (read.first_quarters, read.metres, read.confidence) == (0.5, ((0.5, 4, 4), (64.5, 3, 4)), 0.9)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "or a bar line and metres"),
        ("0.5", "or a bar line and metres"),
        ("x;4/4@0", "or a bar line and metres"),
        ("0;4/5@0", "'4/5@0', which is no metre"),
        ("0;0/4@0", "which is no metre"),
        ("0;4/4@0;3/4@0", "in the order of their starts"),
        ("0;4/4@0;sure=2", "from 0 to 1"),
        ("0;4/4@nan", "which is no metre"),
    ],
)
def test_what_is_no_such_text_is_named(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        BarLines.parse(text)


def lines(*metres: tuple[float, int, int], low: float = 0, high: float = 12) -> list[Bar]:
    return BarLines(metres[0][0], metres, "file").spans(low, high)


def test_bars_reach_back_over_an_upbeat_and_forward_over_the_last_note() -> None:
    assert [bar.start for bar in lines((1, 4, 4), low=0.5, high=9.5)] == [-3, 1, 5, 9]
    assert [bar.start for bar in lines((1, 4, 4), low=6, high=9)] == [5]


def test_a_short_bar_at_the_beginning_becomes_a_whole_one_that_begins_with_a_rest() -> None:
    bars = regular(lines((0, 1, 4), (1, 3, 4), high=7))
    assert bars == [Bar(-2, 1, 3, 4), Bar(1, 4, 3, 4), Bar(4, 7, 3, 4)]


def test_the_halves_of_a_bar_at_a_repeat_become_one() -> None:
    bars = regular(lines((0, 3, 4), (6, 11, 16), (8.75, 1, 16), (9, 3, 4), high=15))
    assert [bar.start for bar in bars] == [0, 3, 6, 9, 12]
    assert {bar[2:] for bar in bars} == {(3, 4)}


@pytest.mark.parametrize(
    ("numerator", "denominator", "becomes"),
    [
        (4, 2, [(4, 4), (4, 4)]), (12, 16, [(6, 8)]), (3, 2, [(6, 4)]), (7, 4, [(4, 4), (3, 4)]), (9, 4, [(4, 4), (5, 4)]),
        (24, 16, [(12, 8)]), (4, 8, [(2, 4)]), (11, 8, [(4, 4), (3, 8)]), (1, 2, [(2, 4)]),
    ],
)  # fmt: skip
def test_unknown_metres_are_written_by_their_length(
    numerator: int, denominator: int, becomes: list[tuple[int, int]]
) -> None:
    length = 4 * numerator / denominator
    bars = regular([Bar(0, length, numerator, denominator)])
    assert [bar[2:] for bar in bars] == becomes
    assert (bars[0].start, bars[-1].end) == (0, length)
    assert all(bar.whole for bar in bars)


def test_whatever_comes_is_written_in_supported_metres_without_a_gap() -> None:
    for numerator in range(1, 40):
        for denominator in (1, 2, 4, 8, 16, 32):
            bars = regular(lines((0, 4, 4), (8, numerator, denominator), (20, 2, 4), (22, 1, 32), high=40))
            assert {bar[2:] for bar in bars} <= set(METRES)
            assert all(this.end == pytest.approx(after.start) for this, after in itertools.pairwise(bars))
            assert bars[-1].end >= 40 - 1e-6
