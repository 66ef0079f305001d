"""Makes piece.png, the picture at the top of the README: a painted picture, and the roll and the score of its piece.

python docs/images/piece.py MODEL_FOLDER
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import cairosvg
import numpy as np
from PIL import Image, ImageOps

from huesong import Composer
from huesong.data.sample.pictures import paint
from huesong.music.rendering.roll import piano_roll_png
from huesong.score.drawing import Score

HERE = Path(__file__).parent
WIDTH, HEIGHT, EDGE = 1100, 330, 16
"""Of the whole, of its upper half, and the space around things, in pixels."""
DOTS = 120
"""Of a roll, an inch."""
SYSTEMS = 0.34
"""Of a page: what is shown of it at most; it is cut where no ink is."""
SECONDS = 20.0
PAINTED = (360, 360)


def main(model: Path) -> None:
    """Paint, compose as the console does with nothing else asked, and draw the sheet."""
    painted = paint(0.5, -0.4, 3, PAINTED, "harbour")
    piece = Composer.load(model).compose(painted, seconds=SECONDS)
    shown = ImageOps.fit(painted, (HEIGHT - 2 * EDGE, HEIGHT - 2 * EDGE))
    size = ((WIDTH - shown.width - EDGE) / DOTS, HEIGHT / DOTS)
    roll = Image.open(io.BytesIO(piano_roll_png(piece.notes, str(piece.emotion).partition(";")[0], size=size)))
    page = top_of(Score(piece.notes, piece.plan, "Harbour").svg()[0])
    sheet = Image.new("RGB", (WIDTH, HEIGHT + page.height), "white")
    sheet.paste(roll.convert("RGB"), (WIDTH - roll.width, 0))
    sheet.paste(shown, (EDGE, (HEIGHT - shown.height) // 2))
    sheet.paste(page, (0, HEIGHT))
    sheet.quantize(128).save(HERE / "piece.png", optimize=True)


def top_of(page: str) -> Image.Image:
    """The first systems of a page (SVG), whole ones."""
    drawn = cairosvg.svg2png(bytestring=page.encode(), output_width=WIDTH, background_color="white")
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    empty = np.asarray(image.convert("L")).min(axis=1) > 250
    most = round(image.height * SYSTEMS)
    gap = most - int(np.argmax(empty[most::-1]))
    below = gap - int(np.argmin(empty[gap::-1])) + EDGE
    return image.crop((0, max(0, int(np.argmin(empty)) - EDGE), WIDTH, below))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
