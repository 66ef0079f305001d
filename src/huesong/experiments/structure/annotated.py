"""Pieces whose phrases, chords, keys or cadences people wrote down, on their true bar lines.

Of POP909 (phrases by two annotators, chords, keys; Dai et al. 2020) and of DCMLab's piano scores (chords, keys,
cadences, phrase ends; Hentschel et al. 2021). Times in quarters from tick 0, which is a bar line.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huesong.music.form.plan import Cadence, Chord
from huesong.music.reading import read_score
from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    from symusic import Score

SURE = 0.8
"""Songs whose shift matched a smaller share of the melody are left out."""
FIFTH = 7
POP_QUALITY = {
    "maj": "maj", "maj6": "maj", "min": "min", "min6": "min", "minmaj7": "min", "7": "7", "9": "7", "11": "7",
    "13": "7", "maj7": "maj7", "maj9": "maj7", "maj11": "maj7", "maj13": "maj7", "min7": "min7", "min9": "min7",
    "min11": "min7", "min13": "min7", "dim": "dim", "dim7": "dim7", "hdim7": "hdim", "aug": "aug", "sus4": "sus4",
    "sus2": "sus2",
}  # fmt: skip
SCORE_QUALITY = {
    "M": "maj", "m": "min", "mM7": "min", "o": "dim", "o7": "dim7", "%7": "hdim", "Mm7": "7", "mm7": "min7",
    "MM7": "maj7", "+": "aug", "+7": "aug",
}  # fmt: skip
"""Augmented sixths (Ger, It, Fr) are none of these."""
CADENCE_KINDS: dict[str, Cadence] = {
    "PAC": "authentic", "IAC": "authentic", "HC": "half", "PC": "plagal", "DC": "deceptive",
}  # fmt: skip
"""An evaded cadence (EC) is counted as none."""
NATURAL = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True)
class Span:
    """A chord from `start` to `end`; chord None where its kind is none of the plan's. key: the local one."""

    start: float
    end: float
    chord: Chord | None
    key: tuple[int, bool]


@dataclass(frozen=True)
class Annotated:
    """One piece. forms: per annotator phrases as (start, end, label). cadences: (time, kind). phrase_ends: times."""

    name: str
    set: str
    split: str
    score: Score
    key: tuple[int, bool]
    chords: list[Span]
    forms: list[list[tuple[float, float, str]]]
    cadences: list[tuple[float, Cadence]]
    phrase_ends: list[float]


def pieces(data: Path, split: str, limit: int | None = None) -> Iterator[Annotated]:
    """Those of a split ('train' or 'val'): POP909's first, then the annotated scores; `limit` of each.

    Raises:
        UserError: the tables are not there.
    """
    yield from list(_take(_pop_songs(data, split), limit))
    yield from list(_take(_scores(data, split), limit))


def _take(found: Iterator[Annotated], limit: int | None) -> Iterator[Annotated]:
    for number, piece in enumerate(found):
        if limit is not None and number >= limit:
            return
        yield piece


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"{path} does not exist: give the folder that holds music_unlabelled and music_annotated")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _by_id(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    found = defaultdict(list)
    for row in rows:
        found[row["id"]].append(row)
    return found


# --- POP909 ------------------------------------------------------------------------------------------


def _pop_songs(data: Path, split: str) -> Iterator[Annotated]:
    folder = data / "music_unlabelled" / "pop909_structure"
    index = {row["id"]: row for row in _rows(data / "music_unlabelled" / "index.csv") if row["split"] == split}
    chords, phrases = _by_id(_rows(folder / "chords.csv")), _by_id(_rows(folder / "phrases.csv"))
    for song in _rows(folder / "songs.csv"):
        if song["id"] not in index or float(song["match_share"]) < SURE:
            continue
        bar = float(song["quarters_per_bar"])
        # Whole bars are put before the first bar line, so that what comes before it stays.
        move = -float(song["first_barline_quarters"]) % bar
        score = read_score(data / index[song["id"]]["path"])
        score = score.shift_time(round(move * score.tpq))
        score.time_signatures.clear()
        forms = [
            [
                (float(row["start_quarters"]) + move, float(row["end_quarters"]) + move, row["label"])
                for row in phrases[song["id"]]
                if row["annotator"] == annotator
            ]
            for annotator in ("1", "2")
        ]
        key = pop_key(song["key"])
        spans = [
            Span(float(row["start_quarters"]) + move, float(row["end_quarters"]) + move, pop_chord(row["chord"]), key)
            for row in chords[song["id"]]
        ]
        yield Annotated(song["id"], "pop909", split, score, key, spans, forms, [], [])


def pop_key(text: str) -> tuple[int, bool]:
    """`Gb:maj`; of several the first."""
    name, _, mode = text.partition(":")
    return _pitch_class(name), mode.startswith("maj")


def pop_chord(text: str) -> Chord | None:
    """`Bb:min7/b7` without its bass and its added tones."""
    name, _, kind = text.partition(":")
    quality = POP_QUALITY.get(re.split(r"[(/]", kind)[0])
    return None if quality is None else Chord(0.0, _pitch_class(name), quality)


def _pitch_class(name: str) -> int:
    return (NATURAL[name[0].upper()] + name.count("#") - name[1:].count("b")) % 12


# --- annotated scores ----------------------------------------------------------------------------------


def _scores(data: Path, split: str) -> Iterator[Annotated]:
    folder = data / "music_annotated"
    harmony = _by_id(_rows(folder / "harmony.csv"))
    for piece in _rows(folder / "index.csv"):
        rows = harmony.get(piece["id"])
        if piece["split"] != split or not rows:
            continue
        home = _minor_is_small(rows[0]["globalkey"])
        spans, cadences, ends = [], [], []
        for row in rows:
            start, end = float(row["start_quarters"]), float(row["end_quarters"])
            local = local_key(home, row["localkey"])
            if row["root_fifths"] and end > start:
                quality = SCORE_QUALITY.get(row["chord_type"])
                root = (local[0] + FIFTH * int(float(row["root_fifths"]))) % 12
                spans.append(Span(start, end, Chord(0.0, root, quality) if quality else None, local))
            if row["cadence"] in CADENCE_KINDS:
                cadences.append((start, CADENCE_KINDS[row["cadence"]]))
            if "}" in row["phraseend"]:
                ends.append(start)
        score = read_score(data / piece["path"])
        yield Annotated(piece["id"], piece["set"], split, score, home, spans, [], cadences, ends)


def _minor_is_small(name: str) -> tuple[int, bool]:
    return _pitch_class(name), name[0].isupper()


def local_key(home: tuple[int, bool], numeral: str) -> tuple[int, bool]:
    """The key that a numeral such as `V`, `bVI` or `iii` names in the key `home`; `V/V` is read from the right."""
    tonic, major = home
    for part in reversed(numeral.split("/")):
        steps = (0, 2, 4, 5, 7, 9, 11) if major else (0, 2, 3, 5, 7, 8, 10)
        name = part.lstrip("b#")
        degree = ("i", "ii", "iii", "iv", "v", "vi", "vii").index(name.lower())
        tonic = (tonic + steps[degree] + part.count("#") - part[: len(part) - len(name)].count("b")) % 12
        major = name[0].isupper()
    return tonic, major
