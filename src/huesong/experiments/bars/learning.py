"""The weights of `metre/` (weights.json), learnt from the pieces that are not held back. Letters as there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from huesong.experiments.bars.scores import Known, beat_f, beats_of, bent, known_pieces
from huesong.metre import downbeats
from huesong.metre.accents import ACCENTS, accents, marks
from huesong.metre.bars import Bar
from huesong.metre.beats import OTHER, PLACES
from huesong.metre.downbeats import HYPOTHESES, METRES, sums
from huesong.metre.tracking import CERTAIN, LEVELS, STEPS, Candidate, candidates, event_odds
from huesong.music.reading import listen
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file
from huesong.runtime.progress import track

POP909 = "POP909 (Z. Wang et al., ISMIR 2020), its bars (S. Dai, H. Zhang, R. Dannenberg 2020)"
ASAP = "Scores of ASAP (F. Foscarin et al., ISMIR 2020)"
DCML = "Annotated piano scores of DCMLab (J. Hentschel, M. Neuwirth, M. Rohrmeier, TISMIR 2021)"
SOURCES = {
    "pop909": (POP909, "MIT"),
    "asap_scores": (ASAP, "CC BY-NC-SA 4.0"),
    **dict.fromkeys(("mozart", "beethoven", "chopin", "grieg", "tchaikovsky", "schumann"), (DCML, "CC BY-NC-SA 4.0")),
}
"""Sets that are learnt from: those whose licence lets the weights be passed on."""
WINDOWS = {128: 6, 256: 6}
"""Steps of the excerpts in which metre and downbeat are learnt; at most so many a piece."""
HEARD, PLAYED = 40, 30
"""Pieces of each set from which marks of events, and the choice of a level, are learnt."""
RIDGE, MARK_RIDGE, CHOICE_RIDGE = 3e-3, 1e-4, 1e-2
SHARP = 12.0
"""Of candidates, each is to be chosen by the exponential of its F-measure times this."""
AT = 0.03
"""Beats by which an event may miss its place."""


def learn(source: Path, seed: int = 0) -> Path:
    """Write `weights.json` anew; the file. An error leaves it as it was.

    The last digit of a weight may differ with the number of numpy's threads.

    Raises:
        UserError: the pieces are too few.
    """
    pieces = list(
        track(known_pieces(source, list(SOURCES), None, seed, learnt=True), "bars: reading scores", total=None)
    )
    before = downbeats.WEIGHTS.read_text(encoding="utf-8")
    sources = dict.fromkeys(SOURCES[piece.set] for piece in pieces)
    content: dict[str, Any] = {
        "sources": [{"name": name, "licence": licence} for name, licence in sources],
        "made_by": "huesong experiment bars --learn, from split train",
    }
    content |= levels(pieces, seed) | {"events": events(pieces)} | marked(first_of(pieces, HEARD))
    try:  # a level is chosen among beats that the other weights find
        _write(json.dumps(content | {"choice": [0.0] * (8 + len(LEVELS))}) + "\n")
        content["choice"] = choice(first_of(pieces, PLAYED), seed)
        _write(json.dumps(content) + "\n")
    except BaseException:
        _write(before)
        raise
    return downbeats.WEIGHTS


def _write(text: str) -> None:
    with replacing_file(downbeats.WEIGHTS) as work:
        work.write_text(text, encoding="utf-8")
    downbeats.weights.cache_clear()


def first_of(pieces: Sequence[Known], most: int) -> list[Known]:
    """The first `most` of each set; they come in the order of a draw."""
    by_set: dict[str, list[Known]] = {}
    for piece in pieces:
        by_set.setdefault(piece.set, []).append(piece)
    return [piece for own in by_set.values() for piece in own[:most]]


def by_root(sets: Sequence[str]) -> np.ndarray:
    """A weight for each item: a set counts by the root of its size. Their mean is 1."""
    _, index, count = np.unique(np.array(sets), return_inverse=True, return_counts=True)
    out = 1 / np.sqrt(count[index])
    return np.asarray(out / out.mean())


def levels(pieces: Sequence[Known], seed: int) -> dict[str, Any]:
    """`level`, `usual` and `alike`: of all metres and first bar lines of an excerpt, how likely the true one is."""
    rng = np.random.default_rng(seed)
    found = [(piece.set, *one) for piece in track(pieces, "bars: metres and downbeats") for one in excerpts(piece, rng)]
    weight = by_root([name for name, _, _ in found])
    true = np.eye(len(HYPOTHESES), dtype=np.float32)[[number for _, _, number in found]]
    learnt = logit(np.stack([features for _, features, _ in found]), true, weight, RIDGE)
    level, usual, alike = np.split(learnt, [len(learnt) - 2 * len(METRES), len(learnt) - len(METRES)])
    return {"level": _round(level.reshape(-1, len(ACCENTS))), "usual": _round(usual), "alike": _round(alike)}


def excerpts(piece: Known, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, int]]:
    """What is weighed for each hypothesis [H, .] and the true one, in excerpts of one metre that is told from notes."""
    tpq, notes, first = piece.score.tpq, piece.notes, piece.bars[0].start
    step = np.rint((notes.onset / tpq - first) * 4).astype(np.int64)
    order = np.lexsort((notes.pitch, step))
    length = ((notes.end - notes.onset) / tpq * 4)[order]
    steps = int(step.max()) + 1
    heard = accents(step[order], length, notes.pitch[order], notes.velocity[order], steps)
    lines = np.array([round((bar.start - first) * 4) for bar in piece.bars])
    for width, most in WINDOWS.items():
        for _ in range(min(most, max(1, steps // width))):
            low = int(rng.integers(max(1, steps - width + 1)))
            high = min(steps, low + width)
            inside = piece.bars[
                max(0, int(np.searchsorted(lines, low, "right")) - 1) : int(np.searchsorted(lines, high))
            ]
            true = {_hypothesis(bar, round((bar.start - first) * 4) - low) for bar in inside}
            if len(true) == 1 and (hypothesis := true.pop()) in HYPOTHESES:
                yield sums(heard[low:high]).astype(np.float32), HYPOTHESES.index(hypothesis)


def _hypothesis(bar: Bar, start: int) -> tuple[tuple[int, int], int]:
    metre = (4, 4) if (bar.numerator, bar.denominator) == (2, 2) else (bar.numerator, bar.denominator)
    return metre, start % round(bar.full * 4)


def logit(seen: np.ndarray, wanted: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    """Weights [X] of a choice among alternatives A by what is seen of them.

    Least cross-entropy to the shares that are wanted, and ridge. seen: [N, A, X]; wanted: [N, A]; weight: [N], mean 1.
    """
    from scipy.optimize import minimize

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        score = (seen @ w.astype(seen.dtype)).astype(np.float64)
        log = score - np.logaddexp.reduce(score, axis=1, keepdims=True)
        miss = ((np.exp(log) - wanted) * weight[:, None] / len(seen)).astype(seen.dtype)
        slope = miss.ravel() @ seen.reshape(-1, seen.shape[-1])
        value = -((wanted * log).sum(axis=1) * weight).mean() + ridge * (w**2).sum()
        return float(value), slope.astype(np.float64) + 2 * ridge * w

    return np.asarray(minimize(loss, np.zeros(seen.shape[-1]), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x)


def within_beats(bars: Sequence[Bar], quarters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each place: whether it lies in a simple or a compound beat, else neither; where in the beat (0 to 1)."""
    starts = np.array([bar.start for bar in bars])
    beat = np.array([(bar.end - bar.start) / beats_of(bar) for bar in bars])
    index = np.maximum(np.searchsorted(starts, quarters + 0.02, "right") - 1, 0)
    compound = np.abs(beat - 1.5) < 0.01
    simple = ~compound & (beat < 2.01)
    return simple[index], compound[index], (quarters - starts[index]) / beat[index] % 1


def _at(phase: np.ndarray, place: float) -> np.ndarray:
    return np.asarray(np.abs((phase - place + 0.5) % 1 - 0.5) < AT)


def events(pieces: Sequence[Known]) -> dict[str, list[float]]:
    """Events a beat at each of beats.PLACES: means over the sets."""
    shares: dict[str, list[np.ndarray]] = {name: [] for name in PLACES}
    for name in dict.fromkeys(piece.set for piece in pieces):
        count = {kind: np.zeros(len(places)) for kind, places in PLACES.items()}
        beats = dict.fromkeys(PLACES, 0)
        for piece in (piece for piece in pieces if piece.set == name):
            *is_kind, phase = within_beats(
                piece.bars, np.unique(np.rint(piece.notes.onset / piece.score.tpq * 48)) / 48
            )
            starts = np.array([bar.start for bar in piece.bars])
            *bar_is, _ = within_beats(piece.bars, starts)
            for kind, of_kind, of_bar in zip(PLACES, is_kind, bar_is, strict=True):
                count[kind] += [_at(phase[of_kind], place).sum() for place, _ in PLACES[kind]]
                beats[kind] += sum(beats_of(bar) for bar, counts in zip(piece.bars, of_bar, strict=True) if counts)
        for kind, total in beats.items():
            if total:
                shares[kind].append(count[kind] / total)
    for kind, found in shares.items():
        if not found:
            raise UserError(f"no piece to learn from has {kind} beats: give the whole collection")
    return {kind: _round(np.mean(found, axis=0)) for kind, found in shares.items()}


def marked(pieces: Sequence[Known]) -> dict[str, Any]:
    """`mark` and `share`: of which class of places an event is, by what is heard in it. A piece counts by its length's root."""
    from sklearn.linear_model import LogisticRegression

    rows, classes, weight = [], [], []
    for piece in track(pieces, "bars: events"):
        notes = listen(piece.score)
        second = 60 / piece.qpm
        loud = notes.velocity if piece.set == "pop909" else np.full(len(notes), 64)  # scores' says nothing
        time_s, heard = marks(notes.onset_q * second, notes.end_q * second, notes.pitch, loud)
        simple, compound, phase = within_beats(piece.bars, time_s / second)
        of = np.full(len(time_s), OTHER)
        for kind, of_kind in zip(PLACES, (simple, compound), strict=True):
            for place, one in PLACES[kind]:
                of[of_kind & _at(phase, place)] = one
        rows.append(heard)
        classes.append(of)
        weight.append(np.full(len(of), 1 / np.sqrt(len(of))))
    every, counts = np.concatenate(classes), np.concatenate(weight)
    if (np.bincount(every, minlength=OTHER + 1) == 0).any():
        raise UserError(
            "no piece to learn from has notes on beats, between them and elsewhere: give the whole collection"
        )
    counts /= counts.mean()
    model = LogisticRegression(C=1 / (2 * MARK_RIDGE * len(counts)), max_iter=1000)
    model.fit(np.concatenate(rows), every, sample_weight=counts)
    return {"mark": _round(model.coef_), "share": _round(np.bincount(every, minlength=OTHER + 1) / len(every))}


def choice(pieces: Sequence[Known], seed: int) -> list[float]:
    """Which of the candidates to take, by the F-measure of their beats in scores that were bent into performances."""
    seen, wanted = [], []
    for piece in track(pieces, "bars: levels of beats"):
        score, beats, _ = bent(piece, seed)
        notes = listen(score)
        time_s, heard = marks(notes.onset_s, notes.end_s, notes.pitch, notes.velocity)
        odds = CERTAIN * event_odds(heard)
        found = candidates((notes.onset_s, notes.end_s, notes.pitch, notes.velocity), time_s, odds)
        seen.append([candidate.seen for candidate in found])
        wanted.append([SHARP * beat_f(beats, beats_heard(candidate), notes.onset_s) for candidate in found])
    features, share = np.array(seen), np.exp(np.array(wanted))
    own = features.shape[-1] - len(LEVELS)  # the others say which level it is
    spread = np.append(features[..., :own].reshape(-1, own).std(axis=0) + 1e-6, np.ones(len(LEVELS)))
    learnt = logit(features / spread, share / share.sum(axis=1, keepdims=True), np.ones(len(features)), CHOICE_RIDGE)
    return _round(learnt / spread)


def beats_heard(candidate: Candidate) -> np.ndarray:
    """The beats of a candidate in seconds: its bar line may lie between those tracked."""
    per = STEPS[LEVELS[candidate.level][0]]
    last = len(candidate.beats.time_s) - 1
    at = np.arange(candidate.first_step % per / per, last + 1e-9)
    return np.interp(at, np.arange(last + 1), candidate.beats.time_s)


def _round(values: np.ndarray) -> Any:
    return np.round(values, 3).tolist()
