import re

from markupsafe import Markup

from huesong.report import html as pages


def test_page_is_self_contained_and_escapes_text() -> None:
    html = pages.page(
        "A <b>title</b>",
        [pages.Section("S", ["<script>alert(1)</script>", pages.image(b"\x89PNG", alt='x"y')])],
        lead="a & b",
    )
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "a &amp; b" in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert not re.search(r"https?://", html)


def test_table_formats_numbers_and_escapes_cells() -> None:
    html = pages.table(["a", "b"], [[1234, 0.123456], ["<x>", None], [True, Markup("<i>ok</i>")]])
    for text in ("1,234", "0.123", "&lt;x&gt;", "–", "True", "<i>ok</i>"):
        assert text in html


def test_audio_and_cards_embed_their_data() -> None:
    html = pages.cards([["<t>", pages.audio(b"RIFF")]])
    assert "data:audio/wav;base64,UklGRg==" in html
    assert "&lt;t&gt;" in html


def test_with_interval() -> None:
    assert pages.with_interval({"a": 0.5, "a_low": 0.25, "a_high": 0.75}, "a") == "0.500 [0.25, 0.75]"
    assert pages.with_interval({"n": 3}, "n") == "3"
    assert pages.with_interval({}, "x") == "–"
