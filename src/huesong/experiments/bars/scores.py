"""Scores whose bars are known, moved and bent on purpose. N = notes; times in quarters of the file unless said."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from symusic import Note, Score, Tempo, Track

from huesong.data.tables import read_csv
from huesong.metre.bars import Bar, BarLines, regular
from huesong.metre.clock import tempo_map
from huesong.metre.estimate import Notes, file_metres, notes_of
from huesong.music.reading import read_score
from huesong.runtime.errors import UserError

SCORES = (
    "pop909", "asap_scores", "mozart", "beethoven", "chopin", "grieg", "tchaikovsky", "schumann", "nottingham", "vgmidi_unlabelled",
)  # fmt: skip
"""Sets of which the bars are known: those of POP909 by annotation, all others by their files."""
INDEXES = ("music_unlabelled/index.csv", "music_annotated/index.csv", "music/labels_all.csv")
FEWEST = 40
"""Notes of a piece that is worth asking."""
MATCHED = 0.8
BEND = (0.02, 0.12)
"""Range of a performance's tempo deviations (log)."""
SCATTER_S, END_SCATTER_S = 0.010, 0.03
RETARD = 0.35
"""How much slower (log) the last four quarters end."""


@dataclass(frozen=True)
class Known:
    """A piece with its bars. qpm: its tempo at the beginning."""

    id: str
    set: str
    score: Score
    notes: Notes
    bars: list[Bar]
    qpm: float


def rows_by_set(source: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of all pieces of the collection by their set, those of split `train` of the labelled sets.

    Raises:
        UserError: it is not the developers' collection.
    """
    found: dict[str, list[dict[str, str]]] = {}
    for name in INDEXES:
        if (source / name).is_file():
            for _, row in read_csv(source / name, ("id", "set", "path", "split")):
                if row["split"] == "train" or not name.startswith("music/"):
                    found.setdefault(row["set"], []).append(row)
    if not found:
        raise UserError(
            f"{source} holds none of {', '.join(INDEXES)}: give the collection that `data import shared` reads"
        )
    return found


def held_back(name: str) -> bool:
    """Whether a piece is of the half of which the weights of `metre/` saw nothing."""
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 2 == 0


def drawn(rows: list[dict[str, str]], most: int | None, seed: int) -> list[dict[str, str]]:
    """At most `most` of the rows, by `seed`."""
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:most]]


def pop909_bars(source: Path) -> dict[str, BarLines]:
    """The annotated bars of songs that were matched well."""
    found: dict[str, BarLines] = {}
    if not (source / "music_unlabelled/pop909_structure/songs.csv").is_file():
        return found
    for _, row in read_csv(source / "music_unlabelled/pop909_structure/songs.csv", ("id", "first_barline_quarters")):
        if float(row["match_share"]) >= MATCHED:
            first = float(row["first_barline_quarters"])
            found[row["id"]] = BarLines(first, ((first, int(row["quarters_per_bar"]), 4),), "annotation")
    return found


def known_pieces(
    source: Path, sets: Sequence[str], most: int | None, seed: int, learnt: bool = False
) -> Iterator[Known]:
    """At most `most` pieces of each of the sets, of the half that is held back (`learnt`: of the other, split `train`)."""
    rows, annotated = rows_by_set(source), pop909_bars(source)
    for name in sets:
        own = [row for row in rows.get(name, []) if held_back(row["id"]) != learnt]
        own = [
            row
            for row in own
            if (name != "pop909" or row["id"] in annotated) and (not learnt or row["split"] == "train")
        ]
        for row in drawn(own, most, seed):
            score = read_score(source / row["path"])
            notes = notes_of(score)
            if len(notes.onset) < FEWEST or (name != "pop909" and not len(score.time_signatures)):
                continue
            lines = annotated[row["id"]] if name == "pop909" else BarLines(0.0, file_metres(score)[0], "file")
            bars = regular(lines.spans(notes.onset[0] / score.tpq, notes.end.max() / score.tpq))
            yield Known(row["id"], name, score, notes, bars, float(tempo_map(score)[1][0]))


def beats_of(bar: Bar) -> int:
    """Beats of a bar: of compound metres dotted quarters, of 2/2 halves."""
    if bar.denominator == 8 and bar.numerator % 3 == 0:
        return bar.numerator // 3
    return bar.numerator if bar.denominator < 8 else 1


def moved(piece: Known, by: float) -> Score:
    """The notes `by` quarters (at least 0) later, under the file's metres where they were."""
    score = piece.score.copy()
    for track in score.tracks:
        notes = track.notes.numpy()
        time = notes["time"] + round(by * score.tpq)
        track.notes = Note.from_numpy(
            time.astype(np.int32), notes["duration"], notes["pitch"], notes["velocity"], "tick"
        )
    return score


def bent(piece: Known, seed: int, quarters: float = 240.0) -> tuple[Score, np.ndarray, np.ndarray]:
    """The piece (its first `quarters`) as if played and transcribed at a nominal 120: the score, its beats and bar lines in s.

    The logarithm of the tempo drifts (autoregressive, over eight quarters), swells in arcs of 8 or 16 quarters and
    trembles; the end slows down. Onsets and ends scatter.
    """
    rng = np.random.default_rng([seed, int(hashlib.md5(piece.id.encode(), usedforsecurity=False).hexdigest()[:8], 16)])
    onset, end = piece.notes.onset / piece.score.tpq, piece.notes.end / piece.score.tpq
    kept = onset < onset[0] + quarters
    onset, end = onset[kept], end[kept]
    bars = [bar for bar in piece.bars if bar.start < onset[0] + quarters]
    at = np.arange(np.floor(min(onset[0], bars[0].start)) - 1, np.ceil(end.max()) + 6, 0.5)
    drift, keep = np.zeros(len(at)), np.exp(-0.5 / 8)
    for index, step in enumerate(rng.normal(size=len(at) - 1), start=1):
        drift[index] = keep * drift[index - 1] + np.sqrt(1 - keep**2) * step
    swing = rng.uniform(*BEND)
    arc = -np.cos(2 * np.pi * (at - at[0]) / rng.choice([8, 16]))
    log_tempo = swing * (drift + 0.5 * arc) + 0.015 * rng.normal(size=len(at))
    log_tempo -= RETARD * np.clip((at - (end.max() - 4)) / 4, 0, 1) ** 2
    seconds = 0.5 + np.concatenate(([0.0], np.cumsum(30 / (piece.qpm * np.exp(log_tempo)))))[:-1]
    onset_s = np.interp(onset, at, seconds) + rng.normal(size=len(onset)) * SCATTER_S
    end_s = np.maximum(np.interp(end, at, seconds) + rng.normal(size=len(end)) * END_SCATTER_S, onset_s + 0.03)
    score = Score(480)
    score.tempos.append(Tempo(0, 120.0))
    track = Track("")
    ticks = np.rint(onset_s * 960).astype(np.int32), np.rint((end_s - onset_s) * 960).astype(np.int32)
    pitch, velocity = (part[kept].astype(np.int8) for part in (piece.notes.pitch, piece.notes.velocity))
    track.notes = Note.from_numpy(*ticks, pitch, velocity, "tick")
    score.tracks.append(track)
    beats = [np.linspace(bar.start, bar.end, beats_of(bar), endpoint=False) for bar in bars]
    lines = np.array([bar.start for bar in bars])
    return score, np.interp(np.concatenate(beats), at, seconds), np.interp(lines, at, seconds)


def beat_f(true_s: np.ndarray, found_s: np.ndarray, onset_s: np.ndarray) -> float:
    """F-measure of beats, 70 ms (mir_eval), among those while there is music.

    Raises:
        UserError: mir_eval is not installed.
    """
    try:
        import mir_eval  # for development only
    except ImportError:
        raise UserError("mir_eval is not installed, which scores beats: pip install 'huesong[dev]'") from None
    low, high = onset_s.min() - 0.07, onset_s.max() + 0.07
    inside = [times[(times > low) & (times < high)] for times in (true_s, found_s)]
    return float(mir_eval.beat.f_measure(*inside))
