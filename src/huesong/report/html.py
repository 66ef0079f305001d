"""HTML pages: every report of the project goes through `page`. Nothing is loaded from outside of the folder of the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup, escape

from huesong.report.tables import REPORT, Figures, figure

_STYLE = """
:root { --ink: #1d2330; --soft: #5d6678; --line: #dfe3ea; --paper: #fbfbfd; --card: #fff; --accent: #3d5a99;
        --good: #1c7c4a; --warn: #9a6700; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaf0; --soft: #a3abbb; --line: #343b49; --paper: #161a22; --card: #1e2430; --accent: #8fb0f5;
          --good: #5fce94; --warn: #e5b454; --bad: #ff8a7d; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 5rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem } h2 { font-size: 1.25rem; margin: 2.6rem 0 .8rem }
.lead { color: var(--soft); margin: 0 0 1.5rem; max-width: 70ch }
p { max-width: 75ch }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; min-width: 40% }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem }
th, td { text-align: left; padding: .38rem .9rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--soft); font-weight: 600 } td.number, th.number { text-align: right }
.good { color: var(--good) } .warn { color: var(--warn) } .bad { color: var(--bad) }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto; border-radius: 6px }
figcaption { color: var(--soft); font-size: .9rem }
.grid { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem }
.card h3 { margin: .6rem 0 .3rem; font-size: 1rem } .card img { display: block; width: 100% }
audio { width: 100%; margin: .6rem 0 } td audio { min-width: 14rem; height: 2rem; margin: 0 } code { font-size: .9em }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem }
"""

_PAGE = Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style }}</style></head>
<body><main><h1>{{ title }}</h1>{% if lead %}<p class="lead">{{ lead }}</p>{% endif %}
{% for section in sections %}<section><h2>{{ section.title }}</h2>
{% for block in section.blocks %}{{ block }}
{% endfor %}</section>
{% endfor %}<footer>{{ footer }}</footer></main></body></html>
"""
)


@dataclass
class Section:
    """A heading and its blocks: strings become paragraphs, `Markup` is put in as it is."""

    title: str
    blocks: list[str | Markup] = field(default_factory=list)


def page(title: str, sections: Iterable[Section], lead: str = "", footer: str = "Made by huesong.") -> str:
    """The whole page as text."""
    rendered = [
        {"title": s.title, "blocks": [b if isinstance(b, Markup) else Markup("<p>{}</p>").format(b) for b in s.blocks]}
        for s in sections
    ]
    return _PAGE.render(title=title, lead=lead, sections=rendered, footer=footer, style=Markup(_STYLE))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """An HTML table. Floats are shown with three decimals, numbers are right-aligned, None is an en dash."""
    body = Markup("").join(Markup("<tr>{}</tr>").format(Markup("").join(_cell(value) for value in row)) for row in rows)
    return Markup('<div class="scroll"><table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        Markup("<caption>{}</caption>").format(caption) if caption else "",
        Markup("").join(Markup("<th>{}</th>").format(name) for name in head),
        body,
    )


def _cell(value: object) -> Markup:
    if value is None:
        return Markup("<td>–</td>")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Markup("<td>{}</td>").format(value)
    text = f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
    return Markup('<td class="number">{}</td>').format(text)


def with_interval(figures: Figures, key: str) -> str:
    """`0.512 [0.40, 0.60]`, or the bare value where there is no interval."""
    return figure(figures, key, REPORT)


def status(text: str, kind: str) -> Markup:
    """Coloured text; `kind` is good, warn or bad."""
    assert kind in ("good", "warn", "bad"), kind
    return Markup('<strong class="{}">{}</strong>').format(kind, text)


def image(data: bytes | Path, alt: str, caption: str = "", media: str = "image/png") -> Markup:
    """A figure with the picture embedded."""
    return Markup('<figure><img alt="{}" src="{}">{}</figure>').format(
        alt, data_uri(data, media), Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    )


def audio(data: bytes | Path, media: str = "audio/wav") -> Markup:
    """A player with the sound embedded."""
    return player(data_uri(data, media))


def player(source: str) -> Markup:
    """A player of the sound at an address, which is loaded when it is started."""
    return Markup('<audio controls preload="none" src="{}"></audio>').format(source)


def cards(blocks: Iterable[Sequence[str | Markup]]) -> Markup:
    """A grid of cards, each a list of blocks."""
    return Markup('<div class="grid">{}</div>').format(
        Markup("").join(
            Markup('<div class="card">{}</div>').format(Markup("").join(escape(b) for b in card)) for card in blocks
        )
    )


def data_uri(data: bytes | Path, media: str) -> str:
    """`data` (or a file's content) as a data: URI."""
    content = data.read_bytes() if isinstance(data, Path) else data
    return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"
