"""`huesong experiment bars`: how often bars are found, as a page. Every figure is measured, none typed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from huesong.data.tables import read_csv
from huesong.experiments.bars.scores import (
    SCORES,
    Known,
    beat_f,
    beats_of,
    bent,
    drawn,
    held_back,
    known_pieces,
    moved,
    pop909_bars,
    rows_by_set,
)
from huesong.metre.align import TICKS_PER_QUARTER, Aligned, align
from huesong.metre.bars import Bar, BarLines
from huesong.metre.grid import SIXTEENTHS, share_on
from huesong.music.reading import listen, read_score, seconds_at
from huesong.report.tables import table, two_digits
from huesong.runtime.progress import track

NEAR = 0.13
"""Quarters between a bar line that was found and the true one."""


def page(source: Path, most: int, seed: int) -> str:
    """The tables as Markdown, from at most `most` pieces a set."""
    known = list(track(known_pieces(source, SCORES, most, seed), "bars: reading scores", total=None))
    parts = [
        f"At most {most} pieces of a set (seed {seed}); of the labelled sets, split `train`. Where bars are known, only pieces "
        "of the half from which nothing was learnt. Intervals: 95 %, bootstrap over pieces.",
        "## All sets\n\nShare of onsets within .15 of a sixteenth of a sixteenth (chance .30), as written and on the bars "
        "that were found without any annotation; who says where the bars are; the largest change of an onset's time; "
        "processor time a piece.",
        all_sets(source, most, seed),
        "## Scores as they are, and moved on purpose\n\nThe file's bars are known to be right. As it is: share of pieces whose "
        "bars are kept. Moved: all notes come later by a constant, while the file's time signatures stay: by sixteenths, up "
        "to a bar, or by that and an odd part of a sixteenth. Share of pieces whose bar lines (of a bar as long) are found.",
        moved_table([piece for piece in known if piece.set != "pop909"], seed),
        "## POP909 against its annotated bars",
        pop909(source, most, seed),
        "## Scores bent into performances\n\nDrifting tempo (2 to 12 %), arcs, a slower end, onsets scattered by 10 ms, all "
        "under a nominal 120. F-measure (mir_eval, 70 ms) of beats and of bar lines; a piece called `none` counts 0. Same "
        "level: share of pieces whose beat is as long as the true one, not half or twice of it.",
        bent_table(known, seed),
    ]
    return "\n\n".join(parts) + "\n"


def interval(values: Sequence[float] | np.ndarray) -> str:
    """Mean and 95 % interval by bootstrap."""
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        return "-"
    rng = np.random.default_rng(0)
    means = data[rng.integers(len(data), size=(1000, len(data)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return f"{two_digits(float(data.mean()))} [{two_digits(float(low))}, {two_digits(float(high))}]"


def all_sets(source: Path, most: int, seed: int) -> str:
    """One row a set: grid before and after, sources, reasons, errors, times."""
    rows = []
    for name, listed in rows_by_set(source).items():
        before, after, errors, spent = [], [], [], []
        sources: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        metres: Counter[str] = Counter()
        for row in track(drawn(listed, most, seed), f"bars: {name}"):
            score = read_score(source / row["path"])
            begun = time.process_time()
            aligned = align(score)
            spent.append(time.process_time() - begun)
            old, new = listen(score), listen(aligned.score)
            if not len(old):
                continue
            before.append(share_on(old.onset_q, SIXTEENTHS))
            after.append(share_on(new.onset_q, SIXTEENTHS))
            errors.append(float(np.abs(np.sort(new.onset_s) - np.sort(old.onset_s) - aligned.later_s).max()))
            sources[aligned.bars.source] += 1
            metres["{1}/{2}".format(*aligned.bars.metres[0])] += 1
            reasons[aligned.reason.split(" (")[0].split(":")[0]] += bool(aligned.reason)
        rows.append([
            name, len(before), interval(before), interval(after), counts(sources), counts(metres, 4), counts(+reasons) or "-",
            f"{1e3 * max(errors):.1f} ms", f"{1e3 * np.mean(spent):.0f} ms ({1e3 * max(spent):.0f})",
        ])  # fmt: skip
    head = (
        "set",
        "n",
        "as written",
        "on found bars",
        "from",
        "metres",
        "reasons of none",
        "times change",
        "time (most)",
    )
    return table(head, rows)


def counts(found: Counter[str], most: int | None = None) -> str:
    """`file 12, shift 3`."""
    return ", ".join(f"{name} {count}" for name, count in found.most_common(most))


def right(aligned: Aligned, bars: Sequence[Bar], later: float = 0.0) -> tuple[bool, bool]:
    """Whether most true bar lines are bar lines, and whether most bars are as long as the true ones."""
    inner = [bar for bar in bars[1:-1]] or list(bars)
    starts = aligned.place(np.array([bar.start for bar in inner]) + later)
    lines = bar_lines(aligned)
    off = np.abs(starts[:, None] - lines).min(axis=1)
    nearest = np.abs(starts[:, None] - lines).argmin(axis=1)
    lengths = np.diff(np.append(lines, lines[-1] + 4))[nearest]
    place = aligned.place(np.array([bar.end for bar in inner]) + later) - starts
    return bool((off < NEAR).mean() > 0.5), bool(((off < NEAR) & (np.abs(lengths - place) < NEAR)).mean() > 0.5)


def bar_lines(aligned: Aligned) -> np.ndarray:
    """All bar lines of the aligned score, quarters."""
    end = aligned.score.end() / TICKS_PER_QUARTER
    bars = BarLines(0.0, aligned.bars.metres, "file").spans(0.0, end)
    return np.array([*(bar.start for bar in bars), bars[-1].end])


def moved_table(pieces: Iterable[Known], seed: int) -> str:
    """Kept, and found after moving, by set."""
    found: dict[str, list[tuple[bool, ...]]] = {}
    for piece in track(list(pieces), "bars: moved scores"):
        rng = np.random.default_rng([seed, len(piece.notes.onset)])
        steps = max(2, round(piece.bars[0].full * 4))
        whole = int(rng.integers(1, steps)) / 4
        odd = whole + float(rng.uniform(0.06, 0.19))
        kept = right(align(piece.score), piece.bars)[1]
        results = [right(align(moved(piece, by)), piece.bars, by) for by in (whole, odd)]
        found.setdefault(piece.set, []).append((kept, results[0][1], results[1][1], results[1][0]))
    return table(
        (
            "set",
            "n",
            "as it is: kept",
            "moved by sixteenths: found",
            "by an odd part too: found",
            "... bar lines, of any length",
        ),
        by_set(found),
    )


def by_set(found: dict[str, list[tuple[bool, ...]]] | dict[str, list[tuple[float, ...]]]) -> list[list[str]]:
    """One row a set, and one of all."""
    rows = [[name, str(len(found[name])), *(interval(part) for part in np.array(found[name]).T)] for name in found]
    everything = np.array([one for values in found.values() for one in values], dtype=np.float64)
    if len(everything):
        rows.append(["all", str(len(everything)), *(interval(part) for part in everything.T)])
    return rows


def pop909(source: Path, most: int, seed: int) -> str:
    """Grid, bar lines and chord changes of songs that were matched well."""
    annotated = pop909_bars(source)
    chords: dict[str, list[float]] = {}
    for _, row in read_csv(source / "music_unlabelled/pop909_structure/chords.csv", ("id", "start_quarters")):
        chords.setdefault(row["id"], []).append(float(row["start_quarters"]))
    listed = [row for row in rows_by_set(source)["pop909"] if row["id"] in annotated and held_back(row["id"])]
    shift, line, whole = [], [], []
    on: dict[str, list[float]] = {"found": [], "annotated": []}
    for row in track(drawn(listed, 4 * most, seed), "bars: POP909"):
        score = read_score(source / row["path"])
        notes = listen(score)
        known = annotated[row["id"]]
        aligned = {"found": align(score), "annotated": align(score, known)}
        true = known.spans(float(notes.onset_q[0]), float(notes.end_q.max()))
        first = aligned["found"].place(np.array([known.first_quarters + 4 * 8]))[0] * 4
        shift.append(abs(first - round(first)) < 0.4)
        found = right(aligned["found"], true)
        line.append(found[0])
        whole.append(found[1])
        for name, result in aligned.items():
            lines = bar_lines(result)
            places = np.sort(np.concatenate((lines, (lines[1:] + lines[:-1]) / 2)))
            at = result.place(np.array(chords.get(row["id"], [])))
            at = at[(at > 0) & (at < lines[-1])]
            if len(at):
                on[name].append(float((np.abs(at[:, None] - places).min(axis=1) < 0.25).mean()))
    return table(
        ("figure", f"n = {len(line)} songs"),
        [
            ["grid of sixteenths moved rightly", interval(shift)],
            ["bar lines where the annotation has them", interval(line)],
            ["... and bars as long", interval(whole)],
            ["chord changes on bar lines or half bars, bars as found", interval(on["found"])],
            ["chord changes on bar lines or half bars, bars as annotated", interval(on["annotated"])],
        ],
    )


def bent_table(pieces: Iterable[Known], seed: int) -> str:
    """F-measures of beats and bar lines, by set."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in SCORES}
    for piece in track(list(pieces), "bars: bent scores"):
        score, beats, lines = bent(piece, seed)
        aligned = align(score)
        if aligned.bars.source == "none":
            found[piece.set].append((0.0, 0.0, 0.0, 1.0))
            continue
        bars = BarLines(0.0, aligned.bars.metres, "file").spans(0.0, aligned.score.end() / TICKS_PER_QUARTER)
        got = np.concatenate([np.linspace(bar.start, bar.end, beats_of(bar), endpoint=False) for bar in bars])
        got_s = seconds_at(aligned.score, got * TICKS_PER_QUARTER) - aligned.later_s
        lines_s = seconds_at(aligned.score, np.array([bar.start for bar in bars]) * TICKS_PER_QUARTER) - aligned.later_s
        onset_s = listen(score).onset_s
        values = [beat_f(true, got, onset_s) for true, got in ((beats, got_s), (lines, lines_s))]
        ratio = float(np.median(np.diff(got_s)) / np.median(np.diff(beats)))
        found[piece.set].append((*values, float(abs(ratio - 1) < 0.15), 0.0))
    return table(
        ("set", "n", "beats", "bar lines", "same level", "none"), by_set({k: v for k, v in found.items() if v})
    )
