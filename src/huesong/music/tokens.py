"""Scores to token ids and back: MidiTok's REMI with velocities and tempos, and byte pair encoding on top.

A base token sequence reads `Bar, Position, [Tempo], (Pitch, Velocity, Duration)+, Position, ...`. Bars are 4/4; a tempo
stands only at Position 0 of a bar; pitches of one position ascend. BPE merges never reach across a bar line, so a
merged token holds at most one `Bar`, and that comes first (REMI: Huang & Yang 2020; BPE for music: Fradet et al. 2023).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import miditok
import numpy as np
from miditok import REMI, TokSequence
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.config import TokenizerConfig
from huesong.music.reading import HIGHEST_PITCH, LOWEST_PITCH, TICKS_PER_QUARTER, seconds_at
from huesong.music.vocabulary import FORMAT, digest_of
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file

BEATS_PER_BAR = 4
FINE_BEATS, LONGEST_BEATS = 4, 12
"""Durations are on the grid of positions up to 4 beats, then on a coarser one, and end at 12 beats."""
SPECIAL_TOKENS = ("PAD", "BOS", "EOS")


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
            use_time_signatures=False,
            num_tempos=config.tempos,
            tempo_range=tuple(config.tempo_range),
            log_tempos=True,  # tempo is heard in ratios
            delete_equal_successive_tempo_changes=True,
            remove_duplicated_notes=True,
            use_pitchdrum_tokens=False,
            encode_ids_split="no",  # train_bpe splits at bars itself: MidiTok's own split adds "start of bar" twins
        )
    )
    base = len(tokenizer.vocab)
    if base > config.vocabulary_size:
        raise UserError(
            f"preprocess.tokenizer.vocabulary_size = {config.vocabulary_size} is less than the {base} base tokens that "
            f"these settings need: raise it to at least {base}, or lower positions_per_beat, velocities or tempos"
        )
    return tokenizer


def encode_base(tokenizer: REMI, score: Score) -> list[int]:
    """Base token ids of a score, before BPE; drums are left out, all other tracks become one piano.

    Tempos within a bar become the one tempo under which the bar lasts as long. No notes: an empty list.
    """
    positions_per_beat = tokenizer.config.max_num_pos_per_beat
    prepared = _prepare(score, positions_per_beat, np.asarray(tokenizer.tempos, dtype=np.float64))
    if prepared is None:
        return []
    sequence = tokenizer.encode(prepared, encode_ids=False)[0]
    return [int(token) for token in sequence.ids]


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
    bar = tokenizer.vocab["Bar_None"]
    bars = []
    for sequence in sequences:
        ids = np.asarray(sequence, dtype=np.int64)
        parts = np.split(ids, np.flatnonzero(ids == bar))
        # Each bar is one "word": no pair across a bar line is ever counted, hence none is ever merged.
        bars.append([tokenizer._ids_to_bytes(part.tolist(), as_one_str=True) for part in parts if len(part)])
    if bars and vocabulary_size > len(tokenizer.vocab):
        tokenizer.train(vocab_size=vocabulary_size, model="BPE", iterator=bars)
    return tokenizer


def decode(tokenizer: REMI, ids: Sequence[int]) -> Score:
    """The score of token ids: 480 ticks a quarter, one piano track, tempos, 4/4.

    A key struck again while it sounds ends its first note there, as on a piano (MIDI cannot say otherwise).
    """
    specials = set(tokenizer.special_tokens_ids)
    kept = [int(token) for token in ids if token not in specials]
    sequence = TokSequence(ids=kept, are_ids_encoded=tokenizer.is_trained)
    coarse = tokenizer.decode([sequence]) if kept else Score(tokenizer.config.max_num_pos_per_beat)
    fine = coarse.resample(TICKS_PER_QUARTER, min_dur=1)
    score = Score(TICKS_PER_QUARTER)
    score.time_signatures.append(TimeSignature(0, BEATS_PER_BAR, 4))
    score.tempos.extend(fine.tempos)
    track = Track("Piano", program=0)
    track.notes.extend(_one_at_a_time([note for part in fine.tracks for note in part.notes]))
    score.tracks.append(track)
    return score


def save(tokenizer: REMI, path: Path) -> None:
    """Write MidiTok's own file; `load` gives a tokenizer with the same ids."""
    with replacing_file(path) as part:
        tokenizer.save(part)


def load(path: Path) -> REMI:
    """Read a tokenizer file.

    Raises:
        UserError: missing or damaged.
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
    return tokenizer


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
        "format": FORMAT,
        "pad": pad,
        "bos": bos,
        "eos": eos,
        "positions_per_beat": tokenizer.config.max_num_pos_per_beat,
        "beats_per_bar": BEATS_PER_BAR,
        "digest": digest_of(names),
    }
    with replacing_file(path) as part:
        lines = ",\n".join(json.dumps(token) for token in names)
        head = json.dumps(fields)[1:-1]
        part.write_text(f'{{{head}, "tokens": [\n{lines}\n]}}\n', encoding="utf-8")


# --- preparing -----------------------------------------------------------------------------------


def _prepare(score: Score, positions_per_beat: int, tempos: np.ndarray) -> Score | None:
    """One piano track and one quantised tempo a bar; None without notes."""
    if not any(len(part.notes) and not part.is_drum for part in score.tracks):
        return None
    # To MidiTok's grid here already: what is rounded onto a neighbour must not overlap it.
    coarse = score.resample(positions_per_beat, min_dur=1)
    track = Track(program=0)
    track.notes.extend(_one_at_a_time([note for part in coarse.tracks if not part.is_drum for note in part.notes]))
    prepared = Score(positions_per_beat)
    prepared.tracks.append(track)
    bar = BEATS_PER_BAR * positions_per_beat
    starts = np.arange(track.notes[-1].time // bar + 1, dtype=np.int64) * bar
    edges = np.append(starts, starts[-1] + bar) * (score.tpq / positions_per_beat)
    qpm = np.diff(edges) * 60 / score.tpq / np.diff(seconds_at(score, edges))  # under which a bar lasts as long
    nearest = tempos[np.abs(np.log(tempos[None]) - np.log(qpm[:, None])).argmin(axis=1)]
    for index in np.flatnonzero(np.append(True, nearest[1:] != nearest[:-1])):
        prepared.tempos.append(Tempo(int(starts[index]), float(nearest[index])))
    return prepared


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
