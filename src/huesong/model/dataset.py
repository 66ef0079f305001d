"""Training examples: windows of tokens, the paired picture, and the valence and arousal asked for.

`load_examples` reads the packed arrays of preprocess and label; all is numpy, so that training runs on a machine that
has little more than PyTorch. Which examples a step sees is a function of (seed, phase, step) alone, so that a resumed
run needs no iterator.

Shapes: N pieces (music segments), I pictures, P pairs, B batch, T tokens.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huesong import contracts
from huesong.music.form.header import FARTHEST, KINDS, RELATIONS, transposed
from huesong.runtime.errors import UserError
from huesong.runtime.files import read_json, require

IGNORE = -100
"""Target of padding, as torch's cross-entropy wants it."""
SHIFTS = tuple(range(-5, 7))
"""Semitones by which training moves music into other keys."""
UNSAID = 0.25
"""Share of the repeats made for training whose heads stay as they were the first time."""
LENGTHS = 32
"""Batches are as long as a multiple of this. PyTorch on CPUs keeps kernels for every shape it has met, some 20 MB for each
length at a width of 192: without this, a training of 1,500 steps grew to 4 GB."""


@dataclass
class Pieces:
    """Music segments, row by row as in PIECES_TABLE."""

    tokens: np.ndarray  # uint16 [all tokens], usually memory-mapped
    start_N: np.ndarray
    count_N: np.ndarray
    ids: list[str]
    split_N: np.ndarray  # str
    va_N2: np.ndarray  # float32; NaN = unlabelled
    rated_N: np.ndarray  # float32: how far *people's* label is trusted; 0 = predicted or none
    weight_N: np.ndarray  # float32: how far the label is trusted, predicted ones included; 0 = not at all
    closes_N: np.ndarray  # bool: the segment ends its piece (EOS stands after it)
    on_bars_N: np.ndarray  # bool: its bars mean something; else no network learns from it


@dataclass
class Pictures:
    """Pictures, row by row as in IMAGES_TABLE."""

    rows: np.ndarray  # [I, S, C] float16 features or [I, H, W, 3] uint8 pixels, usually memory-mapped
    ids: list[str]
    split_I: np.ndarray
    va_I2: np.ndarray  # float32; NaN = unlabelled
    rated_I: np.ndarray  # float32, as for pieces


@dataclass
class Pairs:
    """Which piece suits which picture."""

    picture_P: np.ndarray
    piece_P: np.ndarray
    split_P: np.ndarray
    va_P2: np.ndarray  # float32: the picture's VA after the map into the music's distribution


@dataclass
class Special:
    """Token ids the windows need, from the vocabulary."""

    size: int
    pad: int
    bos: int
    eos: int
    digest: str
    bar_V: np.ndarray  # bool: the id's expansion begins with Bar_None
    tempo_V: np.ndarray  # bool: the id's expansion sets a tempo
    shifted_SV: np.ndarray  # int64: the id in another key, SHIFTS semitones away; -1 = there is none
    returns: dict[str, np.ndarray]  # `Repeat`, `Sequence`: ids [FARTHEST + 1] by bars back; empty = no heads
    relation_V: np.ndarray  # bool: says what a bar has to do with an earlier one
    style_V: np.ndarray  # bool
    mixed: int  # the style that says nothing; -1 = none
    head_V: np.ndarray  # bool: is of the head of a bar


@dataclass
class Examples:
    """All that training reads."""

    pieces: Pieces
    pictures: Pictures
    pairs: Pairs
    special: Special
    reader: dict[str, np.ndarray]
    """Buffers of the image encoder that label fitted, by their name in its state."""

    def __post_init__(self) -> None:
        self._bars = np.flatnonzero(self.special.bar_V[self.pieces.tokens])

    def bar_starts(self, piece: int) -> np.ndarray:
        """Positions of the bar starts within a piece; 0 is always one."""
        start, count = int(self.pieces.start_N[piece]), int(self.pieces.count_N[piece])
        low, high = np.searchsorted(self._bars, [start, start + count])
        return np.union1d([0], self._bars[low:high] - start)

    def window(self, piece: int, context: int, rng: np.random.Generator) -> np.ndarray:
        """At most context + 1 ids of a piece: `ids[:-1]` are read, `ids[1:]` predicted.

        The whole segment if it fits; else from a bar start drawn at random, the first one included. BOS stands where
        the segment begins, whether or not its piece does: every composed piece begins with BOS, and only a third of
        the segments of the real sets begin a piece. EOS stands only where the piece ends.
        """
        start, count = int(self.pieces.start_N[piece]), int(self.pieces.count_N[piece])
        first = 0
        if count + 2 > context + 1:
            bars = self.bar_starts(piece)
            fitting = bars[count - bars >= context // 2]
            first = int(rng.choice(fitting if len(fitting) else bars[:1]))
        before = [self.special.bos] if first == 0 else []
        end = min(count, first + context + 1 - len(before))
        body = self.pieces.tokens[start + first : start + end].astype(np.int64)
        room = context + 1 - len(before) - len(body)
        after = [self.special.eos] if room > 0 and end == count and self.pieces.closes_N[piece] else []
        return np.concatenate([np.array(before, np.int64), body, np.array(after, np.int64)])


@dataclass(frozen=True)
class Augmentation:
    """What training does to its rows. repeats: share of rows that are a passage, perhaps more music, and the passage again.

    keys: whether rows are moved into other keys. styles: share of rows that do not say their style.
    """

    repeats: float = 0.0
    keys: bool = False
    styles: float = 0.0


def augmented(
    special: Special, window: np.ndarray, most: int, how: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """A window of at most `most` ids, changed at random."""
    uniform, uniform_style = rng.random(2)
    if how.keys:
        moved = special.shifted_SV[rng.integers(len(SHIFTS))][window]
        window = moved if (moved >= 0).all() else window
    if special.mixed >= 0 and uniform_style < how.styles:
        window = np.where(special.style_V[window], special.mixed, window)
    return with_repeat(special, window, most, rng) if special.returns and uniform < how.repeats else window


def with_repeat(special: Special, window: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """A passage of the window, up to eight bars of what follows it, and the passage again, exact or in another key.

    The heads of its bars say so, but of UNSAID of them, so that the network looks back unasked as well. No end is said: the
    piece might go on. What is too short for that stays as it is.
    """
    bars = np.flatnonzero(special.bar_V[window])
    edges = np.append(bars, len(window) - (window[-1] == special.eos))
    for _ in range(4):
        length, between = int(rng.choice((1, 2, 4, 8))), int(rng.choice((0, 0, 1, 2, 4, 8)))
        if len(bars) <= length + between or length + between > FARTHEST:
            continue
        first = int(rng.integers(len(bars) - length - between))
        start, middle, end = (int(edges[first + count]) for count in (0, length, length + between))
        whole = bars[0] + end - start + middle - start
        if whole > most:
            continue
        passage = window[start:middle]
        shift = int(rng.choice([place for place, by in enumerate(SHIFTS) if by])) if rng.random() < 0.3 else None
        again = passage if shift is None else special.shifted_SV[shift][passage]
        if (again < 0).any():
            continue
        back = special.returns["Repeat" if shift is None else "Sequence"][length + between]
        if rng.random() >= UNSAID:
            again = np.where(special.relation_V[again], back, again)
        return np.concatenate((window[: bars[0]], window[start:end], again))
    return window


@dataclass
class Batch:
    """One batch as numpy arrays."""

    ids_BT: np.ndarray  # int64, right-padded
    targets_BT: np.ndarray  # int64, IGNORE where padded
    va_B2: np.ndarray  # float32: the request (0 where there is none; keep_B is False there)
    keep_B: np.ndarray  # bool: request and picture are given
    keep_picture_B: np.ndarray  # bool: the picture is given (never without the request)
    pictures: np.ndarray | None  # [B, ...] rows of the picture array; None = a batch without pictures
    picture_va_B2: np.ndarray  # float32: the picture's own label (0 where there is none)
    picture_weight_B: np.ndarray  # float32
    names: list[str]  # the pieces' ids

    @property
    def tokens(self) -> int:
        """How many tokens are predicted."""
        return int((self.targets_BT != IGNORE).sum())

    @property
    def lengths_B(self) -> np.ndarray:
        """How many tokens are predicted in each row."""
        lengths: np.ndarray = (self.targets_BT != IGNORE).sum(axis=1)
        return lengths

    def rows(self, which: np.ndarray) -> Batch:
        """Some rows of the batch, cut to their own length (a multiple of LENGTHS)."""
        length = padded(int(self.lengths_B[which].max(initial=1)), self.ids_BT.shape[1])
        return Batch(
            self.ids_BT[which][:, :length], self.targets_BT[which][:, :length], self.va_B2[which], self.keep_B[which],
            self.keep_picture_B[which], None if self.pictures is None else self.pictures[which],
            self.picture_va_B2[which], self.picture_weight_B[which],
            [self.names[row] for row in which],
        )  # fmt: skip


def padded(length: int, most: int) -> int:
    """The next multiple of LENGTHS, but no more than `most`."""
    return min(-(-max(1, length) // LENGTHS) * LENGTHS, most)


def draw(count: int, size: int, *key: int, step: int) -> np.ndarray:
    """Indices [size] below `count` of batch number `step`: each index once an epoch, reshuffled by `key` and epoch."""
    positions = np.arange(step * size, (step + 1) * size)
    epochs = positions // count
    orders = {epoch: np.random.default_rng([*key, int(epoch)]).permutation(count) for epoch in np.unique(epochs)}
    return np.array([orders[epoch][position % count] for epoch, position in zip(epochs, positions, strict=True)])


def make_batch(
    examples: Examples,
    pieces: Sequence[int] | np.ndarray,
    pictures: Sequence[int] | np.ndarray | None,
    *,
    context: int,
    key: Sequence[int],
    condition_dropout: float = 0.0,
    augment: Augmentation | None = None,
) -> Batch:
    """The batch of these rows.

    Args:
        examples: the arrays.
        pieces: rows of the pieces table.
        pictures: for each the row of its picture; None = no pictures (pre-training).
        context: longest sequence of the network.
        key: seeds windows, dropped conditions and augmentation, together with the place in the batch.
        condition_dropout: share of examples that lose their condition, and share that loses the picture only (so
            that both guidance and requests without a picture are learned).
        augment: how rows are changed; pixels are flipped and shifted as well (what is seen, and its emotion, stay).
            None: nothing is.
    """
    generators = [np.random.default_rng([*key, place]) for place in range(len(pieces))]
    windows = [examples.window(int(p), context, rng) for p, rng in zip(pieces, generators, strict=True)]
    if augment is not None:
        windows = [
            augmented(examples.special, window, context + 1, augment, rng)
            for window, rng in zip(windows, generators, strict=True)
        ]
    length = padded(max(len(window) for window in windows) - 1, context)
    ids_BT = np.full((len(windows), length), examples.special.pad, dtype=np.int64)
    targets_BT = np.full_like(ids_BT, IGNORE)
    for row, window in enumerate(windows):
        ids_BT[row, : len(window) - 1] = window[:-1]
        targets_BT[row, : len(window) - 1] = window[1:]
    va_B2 = examples.pieces.va_N2[np.asarray(pieces)]
    uniform_B = np.array([rng.random() for rng in generators])
    keep_B = ~np.isnan(va_B2).any(axis=1) & (uniform_B >= condition_dropout)
    keep_picture_B = keep_B & (uniform_B >= 2 * condition_dropout)
    rows, picture_va_B2 = None, np.zeros_like(va_B2)
    weight_B = np.zeros(len(windows), dtype=np.float32)
    if pictures is None:
        keep_picture_B = np.zeros_like(keep_B)
    else:
        which = np.asarray(pictures)
        rows = np.stack([np.asarray(examples.pictures.rows[row]) for row in which])
        if augment is not None and rows.dtype == np.uint8:
            rows = np.stack([shifted(row, rng) for row, rng in zip(rows, generators, strict=True)])
        picture_va_B2 = np.nan_to_num(examples.pictures.va_I2[which])
        weight_B = examples.pictures.rated_I[which]
    return Batch(
        ids_BT, targets_BT, np.nan_to_num(va_B2), keep_B, keep_picture_B, rows, picture_va_B2, weight_B,
        [examples.pieces.ids[int(p)] for p in pieces],
    )  # fmt: skip


def shifted(pixels_HW3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture mirrored at random and shifted by up to an eighth of its side; colours are kept: they carry VA."""
    reach = pixels_HW3.shape[0] // 8
    down, right = rng.integers(0, 2 * reach + 1, size=2)
    padded = np.pad(pixels_HW3, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    view = padded[down : down + pixels_HW3.shape[0], right : right + pixels_HW3.shape[1]]
    return view[:, ::-1] if rng.random() < 0.5 else view


# --- reading the artifacts -----------------------------------------------------------------------


def load_examples(preprocess: Path, label: Path) -> Examples:
    """The packed arrays of preprocess and label.

    Raises:
        UserError: a missing or damaged artifact, or two that do not belong together.
    """
    special = load_special(preprocess / contracts.VOCABULARY)
    tokens, rows = (
        np.load(require(preprocess / name, "huesong preprocess"), mmap_mode="r", allow_pickle=False)
        for name in (contracts.TOKENS, contracts.PICTURE_FEATURES)
    )
    path = require(label / contracts.TRAINING_TABLE, "huesong label")
    try:
        with np.load(path, allow_pickle=False) as packed:
            table = {name: packed[name] for name in packed.files}
        pieces = Pieces(
            tokens, table["token_start_N"], table["token_count_N"], table["piece_id"].tolist(), table["piece_split"],
            table["piece_va"], table["piece_rated"], table["piece_weight"], table["closes_N"],
            table["on_bars_N"],
        )  # fmt: skip
        pictures = Pictures(
            rows, table["picture_id"].tolist(), table["picture_split"], table["picture_va"], table["picture_rated"]
        )
        pairs = Pairs(table["pair_picture_P"], table["pair_piece_P"], table["pair_split_P"], table["pair_va_P2"])
        prefix = contracts.READER_PREFIX
        reader = {name.removeprefix(prefix): values for name, values in table.items() if name.startswith(prefix)}
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged ({detail}): run `huesong label` again") from error
    if len(rows) != len(pictures.ids) or len(tokens) != int((pieces.start_N + pieces.count_N).max(initial=0)):
        raise UserError(f"{path} was made from other data than {preprocess}: run `huesong label` again")
    if len(tokens) and int(tokens.max()) >= special.size:
        raise UserError(
            f"{preprocess / contracts.TOKENS} holds ids beyond the vocabulary: run `huesong preprocess` again"
        )
    if not reader and np.isfinite(pairs.va_P2[pairs.split_P == "train"]).all(axis=1).sum() >= 2:
        raise UserError(f"{path} was written by an earlier version of huesong: run `huesong label` again")
    return Examples(pieces, pictures, pairs, special, reader)


def load_special(vocabulary: Path) -> Special:
    """Special ids and what training does to tokens, from the VOCABULARY file."""
    content: dict[str, Any] = read_json(vocabulary, "huesong preprocess")
    tokens = [tuple(parts) for parts in content["tokens"]]
    ids = {parts: index for index, parts in reversed(list(enumerate(tokens)))}

    def begins(prefix: str) -> np.ndarray:
        return np.array([bool(parts) and parts[0].startswith(prefix) for parts in tokens])

    def moved(parts: tuple[str, ...], by: int) -> int:
        names = tuple(transposed(name, by) for name in parts)
        return -1 if None in names else ids.get(names, -1)

    shifted_SV = np.array([[moved(parts, by) for parts in tokens] for by in SHIFTS])
    returns = {
        kind: np.array([ids[(f"{kind}_{max(1, back)}",)] for back in range(FARTHEST + 1)])
        for kind in ("Repeat", "Sequence")
        if (f"{kind}_1",) in ids
    }
    relation_V = np.any([begins(f"{kind}_") for kind in RELATIONS], axis=0)
    tempo_V = np.array([any(part.startswith("Tempo_") for part in parts) for parts in tokens])
    return Special(
        len(tokens), content["pad"], content["bos"], content["eos"], content["digest"], begins("Bar_None"), tempo_V,
        shifted_SV, returns, relation_V, begins("Style_"), ids.get(("Style_mixed",), -1),
        np.any([begins(f"{kind}_") for kind in sorted(KINDS)], axis=0),
    )  # fmt: skip
