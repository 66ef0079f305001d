"""Scores to token ids and back: MidiTok's REMI with time signatures, velocities, tempos and a plan at the head of bars.

A base token sequence reads `Bar, TimeSig, [head], Position, [Tempo], (Pitch, Velocity, Duration)+, Position, ...`; the
head is that of header.py. A tempo stands only at Position 0 of a bar; pitches of one position ascend. Positions and
durations count in parts of the metre's beat: of a quarter in 3/4, of an eighth in 6/8.

Byte pair encoding joins `Bar` with `TimeSig`, and `Velocity` with `Duration`, and nothing else: so a note is always cut
alike, whatever stands around it, a repeat is the same tokens again, and a transposed one differs in its pitches alone
(REMI: Huang & Yang 2020; BPE for music: Fradet et al. 2023).
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.config import TokenizerConfig
from huesong.music.form import header
from huesong.music.reading import HIGHEST_PITCH, LOWEST_PITCH, TICKS_PER_QUARTER, bars_of, changes_of_metre, seconds_at
from huesong.music.vocabulary import FORMATS, Vocabulary, digest_of
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file

_DATASETS = "miditok.pytorch_data"
if _DATASETS not in sys.modules:  # where PyTorch is installed MidiTok imports it for these, which takes a second or two
    sys.modules[_DATASETS] = None  # type: ignore[assignment]
import miditok  # noqa: E402
from miditok import REMI, TokSequence  # noqa: E402

if sys.modules[_DATASETS] is None:  # who wants them may still import them
    del sys.modules[_DATASETS]

METRES = {4: (2, 3, 4, 5, 6), 8: (3, 5, 6, 7, 9, 12)}
"""Time signatures, by their denominator; `clean` rewrites all others."""
FINE_BEATS, LONGEST_BEATS = 4, 12
"""Durations are on the grid of positions up to 4 beats, then on a coarser one, and end at 12 beats."""
SPECIAL_TOKENS = ("PAD", "BOS", "EOS")
MERGED = {("Bar", "TimeSig"), ("Velocity", "Duration")}
"""Kinds of neighbours that BPE may join."""


def build_tokenizer(config: TokenizerConfig) -> REMI:
    """An untrained tokenizer (base tokens only).

    Raises:
        UserError: the base tokens alone are more than `vocabulary_size`.
    """
    fine = config.positions_per_beat
    coarse = next(c for c in (fine // 2, fine) if c and fine % c == 0)
    tokenizer = REMI(
        miditok.TokenizerConfig(
            pitch_range=(LOWEST_PITCH, HIGHEST_PITCH),
            beat_res={(0, FINE_BEATS): fine, (FINE_BEATS, LONGEST_BEATS): coarse},
            num_velocities=config.velocities,
            special_tokens=list(SPECIAL_TOKENS),
            use_velocities=True,
            use_tempos=True,
            use_time_signatures=True,
            time_signature_range={lower: list(uppers) for lower, uppers in METRES.items()},
            num_tempos=config.tempos,
            tempo_range=tuple(config.tempo_range),
            log_tempos=True,  # tempo is heard in ratios
            delete_equal_successive_tempo_changes=True,
            remove_duplicated_notes=True,
            use_pitchdrum_tokens=False,
            encode_ids_split="no",  # train_bpe splits at bars itself: MidiTok's own split adds "start of bar" twins
        )
    )
    for name in header.names():
        tokenizer.add_to_vocab(name)
    base = len(tokenizer.vocab)
    if base > config.vocabulary_size:
        raise UserError(
            f"preprocess.tokenizer.vocabulary_size = {config.vocabulary_size} is less than the {base} base tokens that "
            f"these settings need: raise it to at least {base}, or lower positions_per_beat, velocities or tempos"
        )
    return tokenizer


def encode_base(
    tokenizer: REMI, score: Score, heads: Sequence[Sequence[str]] = (), beginning: Sequence[str] = ()
) -> list[int]:
    """Base token ids of a score, before BPE; drums are left out, all other tracks become one piano.

    Tempos within a bar become the one tempo under which the bar lasts as long. No notes: an empty list.

    Args:
        tokenizer: from `build_tokenizer` or `load`.
        score: its time signatures stand at bar lines and are those of METRES; without any it is in 4/4.
        heads: for each bar the names of its head (header.head); none: no heads.
        beginning: names of tokens before the first bar (header.beginning).
    """
    prepared = _prepare(score, tokenizer)
    if prepared is None:
        return []
    sequence = tokenizer.encode(prepared, encode_ids=False)[0]
    ids = [int(token) for token in sequence.ids]
    if not heads:
        return ids
    vocabulary, found = tokenizer.vocab, [tokenizer.vocab[name] for name in beginning]
    signatures = {index for name, index in vocabulary.items() if name.startswith("TimeSig_")}
    bar = iter(heads)
    for token in ids:
        found.append(token)
        if token in signatures:
            found += [
                vocabulary[name] for name in next(bar, heads[-1])
            ]  # a late onset may be rounded up to one bar more
    return found


def apply_bpe(tokenizer: REMI, base_ids: Sequence[int]) -> list[int]:
    """Ids after BPE; the base ids themselves if the tokenizer is not trained."""
    if not tokenizer.is_trained or not len(base_ids):
        return list(base_ids)
    sequence = TokSequence(ids=list(base_ids))
    tokenizer.encode_token_ids(sequence)
    return [int(token) for token in sequence.ids]


def encode(tokenizer: REMI, score: Score) -> list[int]:
    """Token ids of a score (no BOS or EOS), BPE applied if the tokenizer is trained."""
    return apply_bpe(tokenizer, encode_base(tokenizer, score))


def train_bpe(tokenizer: REMI, sequences: Iterable[Sequence[int]], vocabulary_size: int) -> REMI:
    """Learn BPE on base token ids (of the training split only), in place.

    Little music may hold fewer pairs worth merging than `vocabulary_size` asks for; the vocabulary is smaller then.
    """
    kinds = {index: name.partition("_")[0] for name, index in tokenizer.vocab.items()}
    words = []
    for sequence in sequences:
        ids = list(sequence)
        # Each of these pairs is a "word" of its own: no other pair is ever counted, hence none is ever merged.
        words.append(
            [
                tokenizer._ids_to_bytes([left, right], as_one_str=True)
                for left, right in pairwise(ids)
                if (kinds[left], kinds[right]) in MERGED
            ]
        )
    if words and vocabulary_size > len(tokenizer.vocab):
        tokenizer.train(vocab_size=vocabulary_size, model="BPE", iterator=words)
    return tokenizer


def decode(tokenizer: REMI, ids: Sequence[int], tempo: float | None = None) -> Score:
    """The score of token ids: 480 ticks a quarter, one piano track, tempos, time signatures.

    A key struck again while it sounds ends its first note there, as on a piano (MIDI cannot say otherwise). Heads of bars
    say nothing to a player and are left out.

    Args:
        tokenizer: from `build_tokenizer` or `load`.
        ids: base tokens, or what BPE made of them.
        tempo: quarters a minute, in place of the tempos that the tokens name.
    """
    kept = _notes_only(tokenizer, ids)
    sequence = TokSequence(ids=kept, are_ids_encoded=tokenizer.is_trained)
    coarse = tokenizer.decode([sequence]) if kept else Score(tokenizer.config.max_num_pos_per_beat)
    fine = coarse.resample(TICKS_PER_QUARTER, min_dur=1)
    score = Score(TICKS_PER_QUARTER)
    score.time_signatures.extend(fine.time_signatures if len(fine.time_signatures) else [TimeSignature(0, 4, 4)])
    score.tempos.extend(fine.tempos if tempo is None else [Tempo(0, tempo)])
    track = Track("Piano", program=0)
    track.notes.extend(_one_at_a_time([note for part in fine.tracks for note in part.notes]))
    score.tracks.append(track)
    return score


def _notes_only(tokenizer: REMI, ids: Sequence[int]) -> list[int]:
    """The ids without specials and heads."""
    left_out = set(tokenizer.special_tokens_ids)
    left_out |= {index for name, index in tokenizer.vocab.items() if name.partition("_")[0] in header.KINDS}
    return [int(token) for token in ids if token not in left_out]


def save(tokenizer: REMI, path: Path) -> None:
    """Write MidiTok's own file; `load` gives a tokenizer with the same ids."""
    with replacing_file(path) as part:
        tokenizer.save(part)


def load(path: Path, vocabulary: Vocabulary | None = None) -> REMI:
    """Read a tokenizer file; `vocabulary`: what its ids must stand for, as in the model folder that it lies in.

    Raises:
        UserError: missing or damaged, or its ids stand for something else.
    """
    remedy = "run `huesong preprocess` again, or copy the model folder again"
    if not path.is_file():
        raise UserError(f"{path} is missing: {remedy}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MidiTok warns of versions that differ in the third number
            tokenizer = REMI(params=path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"{path} is not a tokenizer ({detail}): {remedy}") from error
    # MidiTok fills whatever a file lacks with its own defaults.
    if tokenizer.config.use_pitchdrum_tokens or list(tokenizer.special_tokens_ids) != [0, 1, 2]:
        raise UserError(f"{path} is not a tokenizer of huesong: {remedy}")
    if vocabulary is not None and (other := _other_than(tokenizer, vocabulary)) is not None:
        raise UserError(f"{path} is not the tokenizer of the vocabulary beside it ({other}): {remedy}")
    return tokenizer


def _other_than(tokenizer: REMI, vocabulary: Vocabulary) -> str | None:
    """Where a tokenizer and a vocabulary differ; ids that the one writes are read by the other."""
    if tokenizer.config.max_num_pos_per_beat != vocabulary.positions_per_beat:
        return "positions of a beat"
    made, said = base_tokens(tokenizer), vocabulary.tokens
    for index in range(max(len(made), len(said))):
        if index >= min(len(made), len(said)) or tuple(made[index]) != said[index]:
            return f"token {index}"
    if tokenizer.vocab != {token[0]: index for index, token in enumerate(said) if len(token) == 1}:
        return "names of base tokens"
    # What MidiTok makes of its settings, and looks up when it decodes.
    lengths = {f"Duration_{'.'.join(map(str, length))}" for length in tokenizer.durations}
    return None if lengths == {name for name in tokenizer.vocab if name.startswith("Duration_")} else "durations"


def base_tokens(tokenizer: REMI) -> list[list[str]]:
    """For each id the names of the base tokens that it stands for."""
    base = tokenizer.vocab
    names: list[list[str]] = [[] for _ in range(len(tokenizer))]
    if tokenizer.is_trained:
        for piece, index in tokenizer.vocab_model.items():
            names[index] = list(tokenizer._vocab_learned_bytes_to_tokens[piece])
    else:
        for name, index in base.items():
            names[index] = [name]
    assert all(names[index] == [name] for name, index in base.items()), "BPE renumbered the base tokens"
    return names


def write_vocabulary(tokenizer: REMI, path: Path) -> None:
    """Write what the token grammar needs to know, readable without MidiTok (contracts.VOCABULARY)."""
    names = base_tokens(tokenizer)
    pad, bos, eos = tokenizer.special_tokens_ids
    fields: dict[str, object] = {
        "format": FORMATS[-1],
        "pad": pad,
        "bos": bos,
        "eos": eos,
        "positions_per_beat": tokenizer.config.max_num_pos_per_beat,
        "digest": digest_of(names),
    }
    with replacing_file(path) as part:
        lines = ",\n".join(json.dumps(token) for token in names)
        head = json.dumps(fields)[1:-1]
        part.write_text(f'{{{head}, "tokens": [\n{lines}\n]}}\n', encoding="utf-8")


# --- preparing -----------------------------------------------------------------------------------


def _prepare(score: Score, tokenizer: REMI) -> Score | None:
    """One piano track on the grid of its bars, one quantised tempo a bar; None without notes."""
    notes = [note for part in score.tracks if not part.is_drum for note in part.notes]
    if not notes:
        return None
    positions, tempos = tokenizer.config.max_num_pos_per_beat, np.asarray(tokenizer.tempos, dtype=np.float64)
    if not tokenizer.config.use_time_signatures:
        score = score.copy()
        score.time_signatures.clear()
    bars = bars_of(score, max(note.time for note in notes))
    finest = max(bar.lower for bar in bars) // 4
    grid = Score(positions * finest)
    starts = np.array([bar.start for bar in bars])
    begins = np.round(starts * grid.tpq / score.tpq).astype(np.int64)
    # To MidiTok's grid here already: what is rounded onto a neighbour must not overlap it.
    track, moved = Track(program=0), []
    for note in notes:
        index = int(np.searchsorted(starts, note.time, side="right")) - 1
        step = finest * 4 // bars[index].lower  # ticks a position, in the metre of this bar
        scale = grid.tpq / score.tpq / step
        onset = int(begins[index]) + step * round((note.time - bars[index].start) * scale)
        moved.append(Note(onset, step * max(1, round(note.duration * scale)), note.pitch, note.velocity))
    track.notes.extend(_one_at_a_time(moved))
    grid.tracks.append(track)
    for change in changes_of_metre(bars):
        grid.time_signatures.append(
            TimeSignature(round(change.start * grid.tpq / score.tpq), change.upper, change.lower)
        )
    edges = np.append(starts, bars[-1].end)
    # The tempo under which a bar lasts as long.
    qpm = np.diff(edges) * 60 / score.tpq / np.diff(seconds_at(score, edges))
    nearest = tempos[np.abs(np.log(tempos[None]) - np.log(qpm[:, None])).argmin(axis=1)]
    for changed in np.flatnonzero(np.append(True, nearest[1:] != nearest[:-1])):
        grid.tempos.append(Tempo(int(begins[changed]), float(nearest[changed])))
    return grid


def _one_at_a_time(notes: list[Note]) -> list[Note]:
    """The notes by onset and pitch, each ending where its key is struck again, one a key and onset (the loudest)."""
    kept: list[Note] = []
    struck: dict[int, int] = {}
    for note in sorted(notes, key=lambda n: (-n.time, -n.pitch, -n.velocity, -n.duration)):
        again = struck.get(note.pitch)
        if again != note.time:
            end = note.end if again is None else min(note.end, again)
            kept.append(Note(note.time, end - note.time, note.pitch, note.velocity))
            struck[note.pitch] = note.time
    return kept[::-1]
