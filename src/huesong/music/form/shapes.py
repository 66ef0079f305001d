"""The outline of an invented piece: how many bars at which tempo, their phrases, what returns, how phrases end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huesong.music.form.plan import FARTHEST, Cadence, Relation
from huesong.music.form.settings import Settings
from huesong.music.form.statistics import statistics
from huesong.runtime.errors import UserError

SLOWEST, FASTEST = 36.0, 240.0
"""Quarters a minute that a plan may take to fill a length."""
LENGTHS = (2, 4, 8)
CLOSE = 0.1
"""How far the length may be off where tempo or form are settled."""
STRETCH = 4.0
"""How unwelcome it is to leave the emotion's tempo: nats per doubling, squared."""


SHORT = 20.0
"""Seconds up to which a piece has 4 to 8 bars, if its tempo allows it."""


@dataclass(frozen=True)
class Outline:
    """tempo: quarters a minute. phrases: label and bars of each."""

    tempo: float
    phrases: tuple[tuple[str, int], ...]

    @property
    def bars(self) -> int:
        """Of all phrases."""
        return sum(bars for _, bars in self.phrases)


def outline(seconds: float, tempo: float, quarters: float, settings: Settings, rng: np.random.Generator) -> Outline:
    """Phrases and tempo that fill `seconds`; at `tempo`, if settled, else near it; `quarters`: of a bar.

    Raises:
        UserError: what is settled does not fit the length.
    """
    if settings.bars is not None:
        wanted = settings.bars
        form = settings.form
        phrases = _letters(wanted, settings, rng) if form is None else _with_lengths(form, wanted)
        if phrases is None:
            raise UserError(f"--form has {len(form or ())} phrases: {wanted} bars cannot be shared among them evenly")
        return Outline(settings.tempo or tempo, phrases)
    counts = _counts(settings, seconds, tempo, quarters)
    speed = np.array([60 * count * quarters / seconds for count in counts])
    fits = (
        np.abs(speed / settings.tempo - 1) <= CLOSE
        if settings.tempo is not None
        else (speed >= SLOWEST) & (speed <= FASTEST)
    )
    if not fits.any():
        raise UserError(_misfit(settings, seconds, quarters, counts, speed))
    worth = -STRETCH * 4 * np.log2(speed / (settings.tempo or tempo)) ** 2 + [
        _ease(count, settings) for count in counts
    ]
    if seconds <= SHORT:
        worth -= 6.0 * ((np.array(counts) < 4) | (np.array(counts) > 8))
    odds = np.where(fits, np.exp(worth - worth[fits].max()), 0)
    count = counts[int(rng.choice(len(counts), p=odds / odds.sum()))]
    phrases = _with_lengths(settings.form, count) if settings.form else _letters(count, settings, rng)
    assert phrases is not None, "only such counts were offered"
    # At a settled tempo the length may be off a little; else the tempo makes it exact.
    return Outline(settings.tempo or 60 * count * quarters / seconds, phrases)


def _counts(settings: Settings, seconds: float, tempo: float, quarters: float) -> list[int]:
    """Numbers of bars that the form allows."""
    form = settings.form
    if form is None:
        most = max(2, int(np.ceil(2 * seconds * (settings.tempo or tempo) / 60 / quarters)))
        return list(range(1, most + 1))
    if form[0][1]:
        return [sum(bars for _, bars in form)]
    return [len(form) * bars for bars in (1, 2, 3, 4, 6, 8, 12, 16)]


def _ease(count: int, settings: Settings) -> float:
    """How natural a number of bars is, in nats: multiples of 8 before those of 4 and of 2."""
    loop = len(settings.chords or ())
    if settings.form is not None:
        bars = count // len(settings.form)
        return (0.0 if bars in LENGTHS else -2.0) - (2.0 if loop and bars % loop else 0.0)
    return 0.0 if count % 8 == 0 else -0.3 if count % 4 == 0 else -1.2 if count % 2 == 0 else -8.0


def _misfit(settings: Settings, seconds: float, quarters: float, counts: list[int], speed: np.ndarray) -> str:
    if settings.form is not None and settings.tempo is None:
        nearest = int(np.abs(np.log(speed / np.clip(speed, SLOWEST, FASTEST))).argmin())
        good = 60 * counts[nearest] * quarters / np.clip(speed[nearest], SLOWEST, FASTEST)
        return (
            f"--form of {counts[nearest]} bars does not fit {seconds:g} s: it would take {speed[nearest]:.0f} quarters a "
            f"minute ({SLOWEST:.0f} to {FASTEST:.0f}): give other bars, or --seconds {good:.0f}"
        )
    nearest = int(np.abs(np.log(speed / (settings.tempo or 1))).argmin())
    takes = 60 * counts[nearest] * quarters / (settings.tempo or 1)
    what = f"--form of {counts[nearest]} bars" if settings.form else f"{counts[nearest]} bars"
    return (
        f"{what} at --tempo {settings.tempo:g} take {takes:.1f} s, not {seconds:g}: "
        f"give --seconds {takes:.1f}, or leave out --tempo"
    )


def _with_lengths(form: tuple[tuple[str, int], ...], count: int) -> tuple[tuple[str, int], ...] | None:
    """A user's phrases with `count` bars in all; None if they cannot have these."""
    if form[0][1]:
        return form if sum(bars for _, bars in form) == count else None
    each, over = divmod(count, len(form))
    return None if over or not each else tuple((label, each) for label, _ in form)


def _letters(count: int, settings: Settings, rng: np.random.Generator) -> tuple[tuple[str, int], ...]:
    """Phrases of 2, 4 or 8 bars whose letters return, as in annotated songs; an introduction or ending of the rest."""
    unit = 2 if count <= 6 else 4 if count <= 24 else int(rng.choice((4, 8), p=(0.35, 0.65))) if count <= 48 else 8
    number, rest = divmod(count, unit)
    if number == 0:
        return (("A", count),)
    head, tail = 0, rest
    if rest == 0 and number >= 5 and rng.random() < 0.6:
        number, rest = number - 1, unit
        head, tail = (rest, 0) if rng.random() < 0.5 else (0, rest)
    elif rest >= 4:
        head, tail = 4, rest - 4
    letters = _form_of(number, rng)
    phrases = [(letter, unit) for letter in _with_strokes(letters, rng)]
    if 0 < tail < 2 or (tail and settings.loop):
        phrases[-1], tail = (phrases[-1][0], unit + tail), 0
    return (*([("i", head)] if head else []), *phrases, *([("o", tail)] if tail else []))


def _form_of(number: int, rng: np.random.Generator) -> str:
    """So many letters, of which one returns at least, if there are two or more."""
    forms = statistics()["habits"]["forms"]
    longest = max(map(int, forms))
    found = ""
    while len(found) < number:
        part = min(number - len(found), longest)
        table = {form: share for form, share in forms[str(part)].items() if _returns(form)} or {"A" * part: 1.0}
        names, shares = list(table), np.array(list(table.values()))
        found += str(rng.choice(names, p=shares / shares.sum()))
    return found


def _returns(form: str) -> bool:
    """Whether a letter comes back, but not all the time, and not more than four times in a row."""
    if len(form) <= 2:
        return len(set(form)) < len(form) or len(form) == 1
    return 1 < len(set(form)) <= max(2, len(form) * 2 // 3) and not any(letter * 5 in form for letter in form)


def _with_strokes(letters: str, rng: np.random.Generator) -> list[str]:
    """A second phrase of a letter is often varied; later ones come as one of the first two."""
    found: list[str] = []
    for index, letter in enumerate(letters):
        before = [label for label in found if label[0] == letter]
        if not before:
            found.append(letter)
        elif f"{letter}'" in before:
            found.append(before[-1] if rng.random() < 0.3 else letter if found[-1] != letter else f"{letter}'")
        else:
            twice = index > 0 and letters[index - 1] == letter
            found.append(f"{letter}'" if rng.random() < (0.7 if twice else 0.4) else letter)
    return found


# --- what returns, and how phrases end ---------------------------------------------------------------


def cadences_of(labels: list[str], style: str, loop: bool, rng: np.random.Generator) -> list[Cadence]:
    """How each phrase ends: the same where a label returns; half before a varied return; the last one closes.

    Of a loop the last one stays open: half or deceptive.
    """
    shares = statistics()["habits"]["cadences"][style]
    names = list(shares)
    odds = np.array([shares[name] for name in names])
    found: list[Cadence] = []
    known: dict[str, Cadence] = {}
    for index, label in enumerate(labels):
        following = labels[index + 1] if index + 1 < len(labels) else ""
        kind = known.get(label)
        if kind is None:
            kind = str(rng.choice(names, p=odds / odds.sum()))  # type: ignore[assignment]
            if following == f"{label}'" or label == "i":
                kind = "half"
            elif label.endswith("'"):
                kind = "authentic"
        assert kind is not None
        known[label] = kind
        found.append(kind)
    if loop:
        found[-1] = "half" if rng.random() < 0.75 else "deceptive"
    else:
        found[-1] = "plagal" if rng.random() < (0.2 if labels[-1] == "o" else 0.08) else "authentic"
    return found


def relations_of(
    phrases: tuple[tuple[str, int], ...], style: str, rng: np.random.Generator
) -> list[tuple[Relation, int]]:
    """Relation and lag of every bar: of returning phrases to the earlier one, of new ones within themselves."""
    found: list[tuple[Relation, int]] = []
    for index, (_label, bars) in enumerate(phrases):
        source = _earlier(phrases, index)
        if source is None:
            found += _inner(bars, style, rng)
            continue
        begin, length, exact = source
        back = len(found) - begin
        changed = bars if exact and rng.random() < 0.7 else max(bars // 2, bars - 2)
        for bar in range(bars):
            if bar >= length:
                found.append(("new", 0))
            else:
                found.append(("repeat" if bar < changed else "variation", back))
    return found


def _earlier(phrases: tuple[tuple[str, int], ...], index: int) -> tuple[int, int, bool] | None:
    """First bar and length of the phrase that this one brings back, and whether it is of the same strokes."""
    label = phrases[index][0]
    starts = np.cumsum([0, *(bars for _, bars in phrases)]).tolist()
    if label in ("i", "o", "x", "X"):
        return None
    for exact in (True, False):
        for other in range(index - 1, -1, -1):
            name = phrases[other][0]
            near = starts[index] - starts[other] <= FARTHEST
            if near and ((name == label) if exact else (name[0] == label[0])):
                return starts[other], phrases[other][1], exact
    return None


def _inner(bars: int, style: str, rng: np.random.Generator) -> list[tuple[Relation, int]]:
    """What the bars of a new phrase have to do with each other, as in annotated music; long ones begin so."""
    length = max((known for known in LENGTHS if known <= bars), default=0)
    if not length:
        return [("new", 0)] * bars
    table = statistics()["habits"]["inner"][f"{style} {length}"]
    names, odds = list(table), np.array(list(table.values()))
    found: list[tuple[Relation, int]] = []
    for word in str(rng.choice(names, p=odds / odds.sum())).split():
        kind = word.rstrip("0123456789")
        found.append((kind, int(word[len(kind) :] or 0)))  # type: ignore[arg-type]
    return found + ([("new", 0)] * (bars - length))
