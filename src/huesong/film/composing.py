"""Composing for the sections of a film, part after part: each goes on from the bars before it, and of several candidates the
one is kept whose emotion is heard nearest to what its own pictures show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from huesong.config import SamplingConfig
from huesong.film.course import Course
from huesong.film.harmony import Phrase
from huesong.model.requests import VA, Request
from huesong.music.form import header
from huesong.music.form.heads import heads_of
from huesong.music.form.plan import Plan
from huesong.va import mean_of

if TYPE_CHECKING:
    from symusic import Score

    from huesong.compose.composer import Composer
    from huesong.compose.piece import Piece

LEAST_BARS = 2
"""Bars that are composed at once."""
READ_SHARE = 0.5
"""Of the network's context that the bars before may fill."""
MOST_READ = 16
"""Bars before that are read again."""


@dataclass(frozen=True)
class Part:
    """Phrases that are composed at once; `first` and `after` are bars."""

    phrases: tuple[Phrase, ...]

    @property
    def first(self) -> int:
        return self.phrases[0].first

    @property
    def after(self) -> int:
        return self.phrases[-1].after


def parts_of(phrases: Sequence[Phrase]) -> Iterator[Part]:
    """As few phrases together as have LEAST_BARS; a shorter rest goes with the last ones."""
    waiting: list[Phrase] = []
    for phrase in phrases:
        waiting.append(phrase)
        left = phrases[-1].after - phrase.after
        if (phrase.after - waiting[0].first >= LEAST_BARS and left >= LEAST_BARS) or not left:
            yield Part(tuple(waiting))
            waiting = []


def compose_phrases(
    composer: Composer,
    course: Course,
    config: SamplingConfig | None = None,
    on_step: Callable[[float], None] | None = None,
) -> Piece:
    """One piece for phrases that follow each other.

    Args:
        composer: what composes and hears.
        course: the phrases, and what is asked of the whole.
        config: sampling settings; None = the defaults. `candidates` are tried for each part.
        on_step: told the composed share, 0 to 1.
    """
    config, phrases, request = config or SamplingConfig(), course.phrases, course.request
    plan = request.plan
    assert plan is not None, "a film's request has one"
    each = config.model_copy(update={"candidates": 1, "steering": 1})
    notes: list[Any] = []
    for part in parts_of(phrases):
        first, asked = _asked(composer, notes, part, phrases, plan)
        seeds = [_seed(request.seed, part.first, number) for number in range(config.candidates)]
        found = composer.token_ids([replace(asked, seed=seed) for seed in seeds], each)
        begin, end = (_ticks(plan, bar - first) for bar in (part.first, part.after))
        fresh = [
            [note for note in composer.notes_of(ids, plan.tempo).tracks[0].notes if begin <= note.time] for ids in found
        ]
        kept = fresh[_nearest(composer, fresh, begin, first, part, plan)]
        for note in kept:
            note.duration = min(note.duration, end - note.time) if part.after < len(plan.bars) else note.duration
            note.time += _ticks(plan, first)
        notes += kept
        if on_step is not None:
            on_step(part.after / len(plan.bars))
    assert request.valence is not None, "a film's request says both"
    assert request.arousal is not None, "likewise"
    return composer.piece_of(
        _score(notes, plan, course.tempos), request, (mean_of(request.valence), mean_of(request.arousal))
    )


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence([number % 2**63 for number in key]).generate_state(1, np.uint64)[0] >> 1)


def _ticks(plan: Plan, bars: int) -> int:
    """All bars of a film are as long as each other."""
    from huesong.music.reading import TICKS_PER_QUARTER

    return round(bars * plan.bars[0].quarters * TICKS_PER_QUARTER)


def _score(notes: Sequence[Any], plan: Plan, tempos: Sequence[tuple[int, float]] = ()) -> Score:
    """The notes as a score; `tempos`: quarters a minute from a bar on, where it is not the plan's."""
    from symusic import Score, Tempo, TimeSignature, Track

    from huesong.music.reading import TICKS_PER_QUARTER

    score = Score(TICKS_PER_QUARTER)
    score.time_signatures.append(TimeSignature(0, *plan.bars[0].metre))
    score.tempos.extend([Tempo(_ticks(plan, bar), tempo) for bar, tempo in tempos or ((0, plan.tempo),)])
    track = Track("Piano", program=0)
    track.notes.extend(sorted(notes, key=lambda note: (note.time, note.pitch)))
    score.tracks.append(track)
    return score


def _asked(
    composer: Composer, notes: Sequence[Any], part: Part, phrases: Sequence[Phrase], plan: Plan
) -> tuple[int, Request]:
    """The first bar that is read again, and the request for it and all bars to the part's end."""
    context = composer.model.network.config.context
    first = max(0, part.first - MOST_READ)
    while True:
        ids = _read_again(composer, notes, first, part, plan)
        if len(ids) <= READ_SHARE * context or first == part.first:
            break
        first += 1
    inside = [phrase for phrase in phrases if phrase.after > first and phrase.first < part.after]
    points = [
        phrase.emotion
        for phrase in inside
        for _ in range(STEPS * (min(phrase.after, part.after) - max(phrase.first, first)))
    ]
    valence, arousal = zip(*points, points[-1], strict=True)
    span = _slice(plan, first, part.after, part)
    return first, Request(
        None, valence, arousal, plan=span, primer=tuple(ids) or None, loop=part.after < len(plan.bars)
    )


STEPS = 8
"""Points of a course in each bar: it goes from 0 to 1, so that bar lines are some of its points."""


def _read_again(composer: Composer, notes: Sequence[Any], first: int, part: Part, plan: Plan) -> list[int]:
    """Token ids of the bars from `first` to the part, in the part's key."""
    from huesong.music import tokens

    begin = _ticks(plan, first)
    kept = [note for note in notes if note.time >= begin]
    if not kept:
        return []
    span = _slice(plan, first, part.after, part)
    score = _score(kept, span).shift_time(-begin)
    score.time_signatures[0].time = score.tempos[0].time = 0
    heads, beginning = [], []
    if composer.model.vocabulary.has_heads:
        heads, beginning = heads_of(span, 0, part.first - first), header.beginning("mixed", span.tonic, span.mode)
    return tokens.apply_bpe(composer.tokenizer, tokens.encode_base(composer.tokenizer, score, heads, beginning))


def _slice(plan: Plan, first: int, after: int, part: Part) -> Plan:
    """Bars of a plan as one of their own, in the part's key; what refers to bars before them is new."""
    bars = [
        replace(bar, relation="new", back=0) if bar.back > index else bar
        for index, bar in enumerate(plan.bars[first:after])
    ]
    tonic, major = part.phrases[-1].key
    return Plan(
        tonic, "major" if major else "minor", plan.tempo, tuple(bars), plan.dynamics[first:after],
        plan.density[first:after],
    )  # fmt: skip


def _nearest(
    composer: Composer, candidates: Sequence[Sequence[Any]], begin: int, first: int, part: Part, plan: Plan
) -> int:
    """Which candidate's phrases are heard nearest to what is asked of each; the first without a labeller."""
    if composer.scorer is None or len(candidates) == 1:
        return 0
    far = []
    for notes in candidates:
        parts = []
        for phrase in part.phrases:
            start, end = (_ticks(plan, bar - first) for bar in (phrase.first, phrase.after))
            inside = [note for note in notes if start <= note.time < end]
            parts.append(_score(inside or notes, plan).clip(start, end, clip_end=True).shift_time(-start))
        heard = np.array(composer.scorer.of_scores(parts)).reshape(-1, 2)
        wanted: list[VA] = [phrase.emotion for phrase in part.phrases]
        far.append(float(np.hypot(*(heard - wanted).T).mean()))
    return int(np.argmin(far))
