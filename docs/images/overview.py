"""Makes overview.png, the picture at the top of the README: sample pictures, and the music a model composed for them.

python docs/images/overview.py MODEL_FOLDER DATA_FOLDER
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from matplotlib import pyplot as plt
from PIL import Image

from huesong.compose.composer import Composer, Prompt, sampling_config
from huesong.data.tables import read_table
from huesong.music.rendering import piano_roll_png

CORNERS = {
    "pleasant, excited": (1, 1),
    "unpleasant, excited": (-1, 1),
    "unpleasant, calm": (-1, -1),
    "pleasant, calm": (1, -1),
}
SECONDS = 20.0


def main(model: Path, data: Path) -> None:
    """Compose for the most typical picture of each corner and draw the sheet."""
    pictures = read_table(data, "images.csv").dropna(subset=["valence", "arousal"])
    chosen = [pictures.loc[(pictures["valence"] * v + pictures["arousal"] * a).idxmax()] for v, a in CORNERS.values()]
    shown = [Image.open(data / row["path"]).convert("RGB") for row in chosen]
    composer = Composer(model)
    pieces = composer.compose([Prompt(image) for image in shown], sampling_config(seconds=SECONDS, candidates=4))
    figure, panels = plt.subplots(4, 2, figsize=(11, 9.6), width_ratios=(1, 3.4), layout="constrained", dpi=110)
    for (left, right), name, image, piece in zip(panels, CORNERS, shown, pieces, strict=True):
        left.imshow(image)
        right.imshow(Image.open(io.BytesIO(piano_roll_png(piece.score, size=(11.0, 3.0)))))
        heard = piece.obtained or piece.critic
        right.set_title(
            f"{name}: asked valence {piece.requested[0]:+.2f}, arousal {piece.requested[1]:+.2f}; "
            f"heard {heard[0]:+.2f}, {heard[1]:+.2f}", fontsize=10,
        )  # fmt: skip
        for panel in (left, right):
            panel.set_axis_off()
    target = Path(__file__).with_name("overview.png")
    figure.savefig(target)
    Image.open(target).quantize(128).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
