from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong import contracts
from huesong.label.training_table import sources, write_training_table
from huesong.model.dataset import (
    IGNORE,
    SHIFTS,
    UNSAID,
    Augmentation,
    Special,
    augmented,
    draw,
    load_examples,
    load_special,
    make_batch,
    padded,
    shifted,
    with_repeat,
)
from huesong.music import tokens
from huesong.music.form import header
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest
from tests.tiny_music import encoded, pieces, tokenizer
from tests.tiny_training import SIZE, tables, tiny_examples, write_artifacts

EXAMPLES = tiny_examples("pixels")
LONG = tiny_examples("pixels", bars=12)


def test_a_short_piece_is_one_window_between_bos_and_eos() -> None:
    window = EXAMPLES.window(3, 100, np.random.default_rng(0))
    start, count = EXAMPLES.pieces.start_N[3], EXAMPLES.pieces.count_N[3]
    assert window.tolist() == [1, *EXAMPLES.pieces.tokens[start : start + count].tolist(), 2]


@given(seed=st.integers(0, 10_000), piece=st.integers(0, 23), context=st.integers(20, 220))
def test_windows_start_at_bars_and_fit_the_context(seed: int, piece: int, context: int) -> None:
    window = LONG.window(piece, context, np.random.default_rng(seed))
    start, count = int(LONG.pieces.start_N[piece]), int(LONG.pieces.count_N[piece])
    own = LONG.pieces.tokens[start : start + count].astype(int).tolist()
    assert 2 <= len(window) <= context + 1
    body = [int(i) for i in window if i not in (1, 2)]
    assert LONG.special.bar_V[body[0]]
    places = [p for p in range(count - len(body) + 1) if own[p : p + len(body)] == body]
    assert places
    assert (window[0] == 1) == (places[0] == 0)
    if window[-1] == 2:
        assert own[-len(body) :] == body
    else:
        assert len(window) == context + 1 or own[-len(body) :] == body
    assert not ({1, 2} & set(window[1:-1].tolist()))


def test_long_pieces_are_read_from_many_places() -> None:
    windows = [LONG.window(0, 50, np.random.default_rng(seed)) for seed in range(200)]
    begins = sum(window[0] == 1 for window in windows)
    ends = sum(window[-1] == 2 for window in windows)
    assert 0 < begins < 100
    assert 0 < ends < 100


def test_a_segment_within_its_piece_has_bos_and_no_eos() -> None:
    examples = tiny_examples()
    examples.pieces.closes_N[0] = False
    window = examples.window(0, 100, np.random.default_rng(0))
    assert window[0] == examples.special.bos
    assert len(window) == 1 + examples.pieces.count_N[0]


@given(count=st.integers(1, 40), size=st.integers(1, 17), seed=st.integers(0, 99))
def test_each_index_comes_once_an_epoch(count: int, size: int, seed: int) -> None:
    steps = -(-2 * count // size)
    drawn = np.concatenate([draw(count, size, seed, 0, step=step) for step in range(steps)])
    assert sorted(drawn[:count]) == sorted(drawn[count : 2 * count]) == list(range(count))


def test_a_batch_depends_on_its_key_only() -> None:
    rows = draw(24, 6, 0, 0, step=2)
    given = {"context": 48, "condition_dropout": 0.3, "augment": Augmentation(0.5, keys=True, styles=0.5)}
    one, same = (make_batch(LONG, rows, rows, key=(0, 0, 2), **given) for _ in range(2))
    other = make_batch(LONG, rows, rows, key=(0, 0, 3), **given)
    for name in vars(one):
        assert np.array_equal(getattr(one, name), getattr(same, name)), name
    assert not np.array_equal(one.ids_BT, other.ids_BT)


def test_targets_are_the_next_tokens_and_padding_is_ignored() -> None:
    examples = tiny_examples()
    examples.pieces.count_N[1] -= 40
    batch = make_batch(examples, [0, 1], None, context=100, key=(0,))
    first, second = ((row != IGNORE).sum() for row in batch.targets_BT)
    assert second == first - 40
    for row, known in enumerate((first, second)):
        assert np.array_equal(batch.ids_BT[row, 1:known], batch.targets_BT[row, : known - 1])
        assert (batch.targets_BT[row, known:] == IGNORE).all()
        assert (batch.ids_BT[row, known:] == 0).all()
    assert batch.tokens == first + second
    assert batch.pictures is None
    assert not batch.keep_picture_B.any()
    cut = batch.rows(np.array([1]))
    assert np.array_equal(cut.ids_BT[0, :second], batch.ids_BT[1, :second])
    # Few lengths, as each costs memory: multiples of LENGTHS, and never more than the context.
    assert [part.ids_BT.shape[1] for part in (batch, cut)] == [padded(first, 100), padded(second, 100)]
    assert [padded(length, 100) for length in (0, 1, 32, 33, 97, 100)] == [32, 32, 32, 64, 100, 100]


def test_conditions_are_dropped_at_the_asked_rates() -> None:
    rows = np.zeros(3000, dtype=int)
    batch = make_batch(EXAMPLES, rows, rows, context=48, key=(1,), condition_dropout=0.2)
    assert batch.keep_B.mean() == pytest.approx(0.8, abs=0.03)
    assert batch.keep_picture_B.mean() == pytest.approx(0.6, abs=0.03)
    assert (batch.keep_picture_B <= batch.keep_B).all()


def test_an_unlabelled_piece_has_no_request() -> None:
    examples = tiny_examples()
    examples.pieces.va_N2[4] = np.nan
    batch = make_batch(examples, [4, 5], [4, 5], context=48, key=(0,))
    assert batch.keep_B.tolist() == [False, True]
    assert np.isfinite(batch.va_B2).all()


def test_augmentation_keeps_colours_and_shape() -> None:
    picture = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    changed = [shifted(picture, np.random.default_rng(seed)) for seed in range(6)]
    assert all(one.shape == picture.shape for one in changed)
    assert any(not np.array_equal(one, picture) for one in changed)
    plain = np.full((32, 32, 3), (10, 200, 30), dtype=np.uint8)
    assert np.array_equal(shifted(plain, np.random.default_rng(0)), plain)


# --- augmentation of music, on the tokens of real heads -------------------------------------------


@pytest.fixture(scope="module")
def special(tmp_path_factory: pytest.TempPathFactory) -> Special:
    path = tmp_path_factory.mktemp("vocabulary") / contracts.VOCABULARY
    tokens.write_vocabulary(tokenizer(), path)
    return load_special(path)


def played(number: int) -> np.ndarray:
    """A whole piece as a window: BOS, style, key, bars."""
    return np.array([1, *tokens.apply_bpe(tokenizer(), encoded(tokenizer(), pieces()[number])), 2])


def long_row() -> np.ndarray:
    """Three pieces, one after the other."""
    return np.concatenate([played(4)[:-1], played(5)[3:-1], played(6)[3:]])


def text(window: np.ndarray) -> list[str]:
    table = tokens.base_tokens(tokenizer())
    return [name for token in window.tolist() for name in table[token]]


def bars(window: np.ndarray) -> list[list[str]]:
    """Base tokens of each bar."""
    found: list[list[str]] = []
    for name in text(window):
        if name == "Bar_None":
            found.append([])
        if found:
            found[-1].append(name)
    return found


def told(bar: list[str]) -> str:
    """What the head of a bar says it has to do with an earlier one."""
    [relation] = [name for name in bar if name.partition("_")[0] in header.RELATIONS]
    return relation


def music_of(bar: list[str]) -> list[str]:
    """The bar but for its relation to an earlier one."""
    return [name for name in bar if name != told(bar)]


def test_music_is_moved_into_another_key_with_its_plan(special: Special) -> None:
    window, seen = played(4), set()
    for seed in range(80):
        moved = augmented(special, window, len(window), Augmentation(keys=True), np.random.default_rng(seed))
        pairs = list(zip(text(window), text(moved), strict=True))
        steps = {
            (int(after[6:]) - int(before[6:])) for before, after in pairs if before.startswith("Pitch_")
        }  # fmt: skip
        assert len(steps) == 1
        [step] = steps
        assert all(after == header.transposed(before, step) for before, after in pairs)
        seen.add(step)
    assert seen == set(SHIFTS)


def test_what_no_piano_can_play_stays_in_its_key(special: Special) -> None:
    top = tokenizer().vocab["Pitch_108"]
    window = np.array([1, top, 2])
    drawn = [
        augmented(special, window, 9, Augmentation(keys=True), np.random.default_rng(seed))[1] for seed in range(60)
    ]
    assert set(drawn) == {tokenizer().vocab[f"Pitch_{pitch}"] for pitch in range(103, 109)}


def test_a_style_is_left_unsaid_at_the_asked_rate(special: Special) -> None:
    window = played(0)
    window[1] = tokenizer().vocab["Style_pop"]
    said = [
        text(augmented(special, window, len(window), Augmentation(styles=0.3), np.random.default_rng(seed)))[1]
        for seed in range(400)
    ]
    assert set(said) == {"Style_pop", "Style_mixed"}
    assert said.count("Style_mixed") / 400 == pytest.approx(0.3, abs=0.06)


def comes_again(own: list[list[str]], found: list[list[str]], length: int) -> bool:
    """Whether bars that stand together end in a repeat of `length` of them that is what its heads say."""
    relation, back = told(found[-1]).split("_")
    before = found[:-length]
    if before not in [own[first : first + len(before)] for first in range(len(own))] or int(back) < length:
        return False
    for place in range(len(before), len(found)):
        if place < int(back) or told(found[place]) != f"{relation}_{back}":
            return False
        first, again = music_of(found[place - int(back)]), music_of(found[place])
        moved = [[header.transposed(name, by) for name in first] for by in SHIFTS if by]
        if not (again == first if relation == "Repeat" else again in moved):
            return False
    return True


def test_a_passage_comes_again_and_its_heads_say_so(special: Special) -> None:
    relations, lengths, said = set(), set(), list[bool]()
    window = long_row()
    own = bars(window[:-1])
    for seed in range(100):
        made = with_repeat(special, window, 900, np.random.default_rng(seed))
        if made is window:
            continue
        assert len(made) <= 900
        assert special.eos not in made
        found = bars(made)
        assert text(made)[:3] == text(window)[:3], "BOS, style and key"
        again = [count for count in (1, 2, 4, 8) if comes_again(own, found, count)]
        said.append(bool(again))
        if not again:  # unsaid
            last, earlier = music_of(found[-1]), [music_of(bar) for bar in found[:-1]]
            assert any([header.transposed(name, by) for name in bar] == last for bar in earlier for by in SHIFTS)
            continue
        lengths.add(max(again))
        relations.add(told(found[-1]).partition("_")[0])
    assert 1 - UNSAID - 0.15 < np.mean(said) < 1 - UNSAID + 0.15
    assert relations == {"Repeat", "Sequence"}
    assert lengths == {1, 2, 4, 8}


def test_a_repeat_that_finds_no_room_is_not_made(special: Special) -> None:
    window = played(0)
    assert with_repeat(special, window, 30, np.random.default_rng(0)) is window
    one_bar = np.array([1, *tokenizer().encode(pieces()[0])[0].ids[:3]])
    assert with_repeat(special, one_bar, 900, np.random.default_rng(0)) is one_bar


def test_rows_repeat_at_the_asked_rate_and_never_without_heads(special: Special) -> None:
    window = long_row()
    rows = [
        augmented(special, window, 2000, Augmentation(0.5), np.random.default_rng([7, seed])) is not window
        for seed in range(300)
    ]
    assert np.mean(rows) == pytest.approx(0.5, abs=0.08)
    rows = [
        augmented(EXAMPLES.special, EXAMPLES.window(0, 300, np.random.default_rng(0)), 900, Augmentation(0.99), rng)
        for rng in map(np.random.default_rng, range(20))
    ]  # fmt: skip
    assert {row.tobytes() for row in rows} == {rows[0].tobytes()}


def test_nothing_is_changed_that_was_not_asked_for(special: Special) -> None:
    window = played(2)
    assert augmented(special, window, 900, Augmentation(), np.random.default_rng(0)) is window


def test_artifacts_come_back_as_arrays(tmp_path: Path) -> None:
    preprocess, label = write_artifacts(tmp_path)
    examples = load_examples(preprocess, label)
    assert isinstance(examples.pieces.tokens, np.memmap)
    assert examples.special.size == SIZE
    assert examples.special.bar_V.sum() == 2
    for name in ("start_N", "count_N", "split_N", "va_N2", "rated_N"):
        assert np.array_equal(getattr(examples.pieces, name), getattr(EXAMPLES.pieces, name)), name
    assert np.array_equal(examples.pairs.piece_P, EXAMPLES.pairs.piece_P)
    assert np.array_equal(examples.pictures.rows, EXAMPLES.pictures.rows)


def test_predictions_are_not_ratings(tmp_path: Path) -> None:
    preprocess, label = write_artifacts(tmp_path)
    world = tables(EXAMPLES)
    world["piece_labels"].loc[0, ["origin", "weight"]] = "predicted", 0.4
    world["piece_labels"].loc[1, "origin"] = "quadrant"
    world["piece_labels"].loc[2, "valence"] = np.nan
    write_training_table(label, **world)
    pieces = load_examples(preprocess, label).pieces
    assert pieces.rated_N[:4].tolist() == pytest.approx([0.0, 0.3, 0.0, 1.0])
    assert pieces.weight_N[:4].tolist() == pytest.approx([0.4, 1.0, 0.0, 1.0])


def test_pairs_are_rows_of_the_tables(tmp_path: Path) -> None:
    preprocess, label = write_artifacts(tmp_path)
    world = tables(EXAMPLES)
    world["pairs"] = world["pairs"].iloc[[5, 2]].assign(piece_id=["piece7#0", "piece0#0"])
    write_training_table(label, **world)
    pairs = load_examples(preprocess, label).pairs
    assert pairs.picture_P.tolist() == [5, 2]
    assert pairs.piece_P.tolist() == [7, 0]


def test_eos_belongs_to_the_last_segment_of_a_piece(tmp_path: Path) -> None:
    preprocess, label = write_artifacts(tmp_path)
    world = tables(EXAMPLES)
    world["pieces"].loc[:2, "piece"] = "long"
    world["pieces"].loc[:2, "segment_start_s"] = [0.0, 32.0, 64.0]
    write_training_table(label, **world)
    pieces = load_examples(preprocess, label).pieces
    assert pieces.closes_N[:4].tolist() == [False, False, True, True]


def test_the_sources_of_what_is_learned() -> None:
    world = tables(EXAMPLES)
    world["images"]["licence"] = None
    taught = int((world["pieces"]["split"] != "test").sum())
    rows = sources(world["images"], world["pieces"])
    assert [(row["kind"], row["licence"]) for row in rows] == [("pictures", ""), ("music segments", "CC0-1.0")]
    assert rows[1] == {
        "source": "sample", "licence": "CC0-1.0", "labels": "construction", "kind": "music segments", "items": taught,
    }  # fmt: skip


def test_artifacts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    preprocess, label = write_artifacts(tmp_path)
    packed = label / contracts.TRAINING_TABLE
    content = packed.read_bytes()
    packed.unlink()
    with pytest.raises(UserError, match="run `huesong label` first"):
        load_examples(preprocess, label)
    for damaged in (b"", content[: len(content) // 2], b"PK and no more"):
        packed.write_bytes(damaged)
        with pytest.raises(UserError, match=r"training\.npz is damaged"):
            load_examples(preprocess, label)
    packed.write_bytes(content)
    np.save(preprocess / contracts.TOKENS, np.full_like(EXAMPLES.pieces.tokens, SIZE))
    with pytest.raises(UserError, match="beyond the vocabulary"):
        load_examples(preprocess, label)
    np.save(preprocess / contracts.TOKENS, EXAMPLES.pieces.tokens[:-5])
    with pytest.raises(UserError, match="made from other data"):
        load_examples(preprocess, label)


def test_the_same_tables_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_training_table(tmp_path / name, **tables(EXAMPLES))
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")


def test_a_training_table_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    """It holds nothing that reads pictures: a model would take every picture for neutral."""
    preprocess, label = write_artifacts(tmp_path, "features")
    path = label / contracts.TRAINING_TABLE
    with np.load(path) as packed:
        older = {name: packed[name] for name in packed.files if not name.startswith(contracts.READER_PREFIX)}
    np.savez(path, **older)
    with pytest.raises(UserError, match="was written by an earlier version of huesong: run `huesong label` again"):
        load_examples(preprocess, label)
