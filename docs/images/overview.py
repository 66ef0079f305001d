"""Makes overview.png, a picture of the README: sample pictures, and the music a model composed for them.

python docs/images/overview.py MODEL_FOLDER DATA_FOLDER
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image, ImageOps

from huesong.compose import Composer, Request, sampling_config
from huesong.data.tables import read_table
from huesong.music.rendering.roll import piano_roll_png

CORNERS = {
    "pleasant, excited": (1, 1),
    "unpleasant, excited": (-1, 1),
    "unpleasant, calm": (-1, -1),
    "pleasant, calm": (1, -1),
}
SECONDS = 12.0
ROLL = (6.4, 2.6)
"""Size of a piano roll in inches, at 120 dots an inch: nothing is made smaller, so that notes and words stay readable."""
SIDE, EDGE = 324, 24
"""Height of a row and the space around a picture in pixels."""


def main(model: Path, data: Path) -> None:
    """Compose for the most typical picture of each corner and draw the sheet."""
    pictures = read_table(data, "images.csv").dropna(subset=["valence", "arousal"])
    chosen = [pictures.loc[(pictures["valence"] * v + pictures["arousal"] * a).idxmax()] for v, a in CORNERS.values()]
    shown = [Image.open(data / row["path"]).convert("RGB") for row in chosen]
    pieces = Composer(model).compose(
        [
            Request(image, valence=float(row["valence"]), arousal=float(row["arousal"]))  # what it was painted for
            for image, row in zip(shown, chosen, strict=True)
        ],
        sampling_config(seconds=SECONDS, candidates=8),
    )
    rows = []
    for name, image, piece in zip(CORNERS, shown, pieces, strict=True):
        heard = piece.obtained or piece.critic
        words = (f"{v:+.1f}, {a:+.1f}" for v, a in (piece.requested, heard))
        roll = piano_roll_png(piece.notes, "{}: asked for {}; heard {}".format(name, *words), size=ROLL)
        rows.append((ImageOps.fit(image, (SIDE - EDGE, SIDE - EDGE)), Image.open(io.BytesIO(roll)).convert("RGB")))
    width = SIDE + rows[0][1].width
    sheet = Image.new("RGB", (width, SIDE * len(rows)), rows[0][1].getpixel((0, 0)))
    for number, (image, roll_image) in enumerate(rows):
        sheet.paste(image, (EDGE // 2, number * SIDE + EDGE // 2))
        sheet.paste(roll_image, (SIDE, number * SIDE))
    sheet.quantize(256).save(Path(__file__).with_name("overview.png"), optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
