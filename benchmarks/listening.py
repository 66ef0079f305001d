"""What a listener would hear, measured: notes, loudness and mode of pieces for pictures and for the corners of the plane.

Usage: python benchmarks/listening.py MODEL PICTURE ... [--pieces OUT] [--part NAME --report docs/results/real.md]
Writes one table row a picture and corner: means over the seeds, and the range. Loudness is that of the rendered audio.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import soundfile

from huesong.compose import Composer, Request, sampling_config
from huesong.compose.piece import Piece
from huesong.config import PreprocessConfig
from huesong.music.keys import SCALES, find_key
from huesong.music.reading import listen
from huesong.music.rendering.audio import render_wav
from huesong.music.rendering.loudness import loudness
from huesong.music.rendering.roll import piano_roll
from huesong.pictures.decode import decode
from huesong.report.tables import put_into, table

CORNER = 0.8
HEAD = (
    "asked for", "asked V, A", "notes a second", "tempo", "velocity", "LUFS", "mean pitch", "major", "in scale",
    "heard V, A (labeller)",
)  # fmt: skip


def measured(piece: Piece, seconds: float, wav: Path) -> dict[str, float]:
    """Figures of one piece; its audio goes to `wav`."""
    notes = listen(piece.notes)
    weight_12 = np.zeros(12)
    np.add.at(weight_12, notes.pitch.astype(int) % 12, notes.end_s - notes.onset_s)
    root, major = find_key(weight_12)
    scale = [(root + step) % 12 for step in SCALES[major]]
    render_wav(piece.notes, wav, arousal=piece.requested[1])
    samples, _ = soundfile.read(wav, dtype="float32")
    return {
        "rate": len(notes) / seconds,
        "tempo": piece.notes.tempos[0].qpm,
        "velocity": float(notes.velocity.mean()),
        "loudness": loudness(samples),
        "pitch": float(notes.pitch.mean()),
        "major": float(major),
        "in_scale": float(weight_12[scale].sum() / weight_12.sum()),
    }


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean, and the range where there is one."""
    low, mean, high = (f"{value:.{digits}f}" for value in (min(values), np.mean(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def row(name: str, pieces: Sequence[Piece], figures: Sequence[dict[str, float]]) -> list[str]:
    """The table row of one request."""
    column = {key: [one[key] for one in figures] for key in figures[0]}
    asked = np.mean([piece.requested for piece in pieces], axis=0)
    heard = np.mean([np.array(piece.obtained, dtype=float) for piece in pieces], axis=0)  # every model has a labeller
    return [
        name,
        ", ".join(f"{value:+.2f}" for value in asked),
        *(spread(column[key], digits) for key, digits in (("rate", 1), ("tempo", 0), ("velocity", 0), ("loudness", 1))),
        f"{np.mean(column['pitch']):.0f}",
        f"{sum(column['major']):.0f} of {len(pieces)}",
        f"{np.mean(column['in_scale']):.2f}",
        ", ".join(f"{value:+.2f}" for value in heard),
    ]


def main() -> None:
    """Compose, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--pieces", type=Path, default=Path("out/listening"))
    parser.add_argument("--part", help="the part of --report that the table replaces")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    arguments.pieces.mkdir(parents=True, exist_ok=True)
    asked = {path.stem: Request(decode(path, PreprocessConfig().max_pixels)) for path in arguments.pictures}
    asked |= {f"{v:+.1f}, {a:+.1f}": Request(None, v, a) for v, a in product((-CORNER, CORNER), repeat=2)}
    settings = sampling_config(seconds=arguments.seconds, candidates=arguments.candidates)
    seeds = range(arguments.seeds)
    prompts = [Request(p.picture, p.valence, p.arousal, seed) for p in asked.values() for seed in seeds]
    composed = Composer(arguments.model).compose(prompts, settings)
    rows = []
    for number, name in enumerate(asked):
        pieces = composed[number * len(seeds) : (number + 1) * len(seeds)]
        stem = f"{arguments.pieces / name.replace(', ', '_')}-"
        figures = [measured(piece, arguments.seconds, Path(f"{stem}{seed}.wav")) for seed, piece in enumerate(pieces)]
        piano_roll(pieces[0].notes, Path(f"{stem}0.png"), name)
        rows.append(row(name, pieces, figures))
    page = table(HEAD, rows) + "\n"
    print(page, end="")
    if arguments.report and arguments.part:
        put_into(arguments.report, arguments.part, page)


if __name__ == "__main__":
    main()
