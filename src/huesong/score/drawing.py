"""Sheet music drawn: SVG by verovio, PDF from it by Cairo."""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file
from huesong.score.sheet import INSTALL, ONE_AT_A_TIME, musicxml, sheet_of

if TYPE_CHECKING:
    from symusic import Score as Notes

    from huesong.music.form.plan import Plan

PAGE = {
    "pageWidth": 2100, "pageHeight": 2970, "pageMarginLeft": 120, "pageMarginRight": 120, "pageMarginTop": 120,
    "pageMarginBottom": 120, "scale": 40, "footer": "none", "spacingStaff": 10, "spacingSystem": 14,
}  # fmt: skip
"""A4, in tenths of a millimetre."""
SHOWN = {"[ \xa0]?\uecb7": '</tspan><tspan font-size="405px">.', "\ueca5": "\u2669", "\ueca7": "\u266a"}
"""Signs of the music font in the tempo mark -> what any font has; a dot is a letter's, smaller and close to its note."""
NO_CAIRO = (
    "a PDF needs the Cairo library: `apt-get install libcairo2`, or `brew install cairo`; MusicXML and SVG need none"
)
KINDS = (".musicxml", ".xml", ".svg", ".pdf")


@dataclass(frozen=True, eq=False)
class Score:
    """A piece as a pianist reads it: two staves, key, metre, tempo, dynamics, pedal.

    Onsets are brought to sixteenths or triplets; a note is written up to the next one where it sounds for half of that time.

    Example:
        >>> piece.score().save("photo.pdf")
        >>> print(piece.score().musicxml())
    """

    notes: Notes
    plan: Plan
    title: str = ""

    @cached_property
    def _text(self) -> str:
        return musicxml(sheet_of(self.notes, self.plan, self.title))

    def musicxml(self) -> str:
        """The score as MusicXML 4, the same text for the same piece.

        Raises:
            UserError: music21 is not installed; names the one command.
        """
        return self._text

    @cached_property
    def _pages(self) -> list[str]:
        try:
            import verovio
        except ImportError:
            raise UserError(INSTALL) from None
        text = self._text
        with ONE_AT_A_TIME:
            verovio.enableLog(verovio.LOG_OFF)
            toolkit = verovio.toolkit()
            toolkit.setOptions({**PAGE, "xmlIdSeed": 1})
            if not toolkit.loadData(text):
                raise RuntimeError("verovio does not read the score")
            pages = [toolkit.renderToSVG(number) for number in range(1, toolkit.getPageCount() + 1)]
        return [_plain(page) for page in pages]

    def svg(self) -> list[str]:
        """The pages (A4), each an SVG document (UserError: verovio is not installed)."""
        return list(self._pages)

    def pdf(self) -> bytes:
        """All pages as one PDF document.

        Raises:
            UserError: what draws it is not installed; names the one command.
        """
        pages = self._pages
        cairosvg, pdfium = _cairosvg(), _pdfium()
        whole = pdfium.PdfDocument.new()
        for page in pages:
            one = pdfium.PdfDocument(cairosvg.svg2pdf(bytestring=page.encode()))
            whole.import_pages(one)
            one.close()
        buffer = io.BytesIO()
        whole.save(buffer)
        whole.close()
        return buffer.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write .musicxml, .pdf or, one file a page, .svg (the second page is NAME-2.svg); files there are replaced.

        Raises:
            UserError: another suffix, what is not installed, or a place that cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if kind not in KINDS:
            raise UserError(f"{path}: no such score is written: end the name in {', '.join(KINDS)}")
        if kind == ".svg":
            contents = {_page(path, number): page.encode() for number, page in enumerate(self.svg(), start=1)}
        else:
            contents = {path: self.pdf() if kind == ".pdf" else self.musicxml().encode()}
        for target, content in contents.items():
            with replacing_file(target) as part:
                part.write_bytes(content)
        return path

    def _repr_html_(self) -> str:
        return "\n".join(re.sub(r"<\?xml.*?\?>", "", page) for page in self.svg())


def check_installed(kinds: Collection[str]) -> None:
    """Refuse scores that cannot be drawn here, before anything slow happens; `kinds` of file, such as pdf.

    Raises:
        UserError: names the one command that mends it.
    """
    needed = {"musicxml": ["music21"], "pdf": ["music21", "verovio"]}
    if any(importlib.util.find_spec(name) is None for kind in kinds for name in needed.get(kind, ())):
        raise UserError(INSTALL)
    if "pdf" in kinds:
        _cairosvg(), _pdfium()


def _plain(page: str) -> str:
    """The page without what other programs show differently: signs of the music font as text, hairlines around its glyphs."""
    for sign, shown in SHOWN.items():
        page = re.sub(sign, shown, page)
    return page.replace('<path transform="scale(1,-1)"', '<path style="stroke:none" transform="scale(1,-1)"')


def _page(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _cairosvg() -> Any:
    try:
        import cairosvg
    except ImportError:
        raise UserError(INSTALL) from None
    except OSError:  # the system's library is missing
        raise UserError(NO_CAIRO) from None
    return cairosvg


def _pdfium() -> Any:
    try:
        import pypdfium2
    except ImportError:
        raise UserError(INSTALL) from None
    return pypdfium2
