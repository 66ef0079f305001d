"""evaluate.novelty: copied passages, from files and from packed tokens alike."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong import contracts
from huesong.evaluate import novelty
from huesong.evaluate.novelty import Corpus, Library
from huesong.music import tokens
from huesong.music.reading import listen, parse_score
from huesong.runtime.errors import UserError
from tests.tiny_music import pieces, tokenizer


def tune(pitches: list[int], quarters: float = 1.0) -> np.ndarray:
    return novelty.symbols(np.array(pitches), np.full(len(pitches), quarters))


MELODY = [60, 62, 64, 65, 67, 69, 71, 72, 60, 67]


def test_a_copied_passage_counts_in_any_key_but_only_with_its_durations() -> None:
    corpus = Corpus([tune(MELODY), tune([60, 60, 60])])
    inside = [40, 80, *[pitch + 5 for pitch in MELODY[2:7]], 30]
    asked = [tune(MELODY), tune(inside), tune(MELODY, 0.5), tune([p + 1 for p in MELODY]), tune([60]), tune([])]
    assert corpus.longest_copies(asked).tolist() == [10, 5, 0, 10, 0, 0]


def test_no_passage_reaches_from_one_piece_into_the_next() -> None:
    corpus = Corpus([tune(MELODY[:5]), tune(MELODY[4:])])
    assert corpus.longest_copies([tune(MELODY)]).tolist() == [6]
    assert Corpus([tune(MELODY)]).longest_copies([tune(MELODY[:5]), tune(MELODY[4:])]).tolist() == [5, 6]


def test_no_corpus_and_no_pieces() -> None:
    assert Corpus([]).longest_copies([tune(MELODY)]).tolist() == [0]
    assert Corpus([tune(MELODY)]).longest_copies([]).tolist() == []


PIECES = st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=4)


@given(PIECES, PIECES)
def test_the_longest_copy_is_the_one_a_plain_search_finds(corpus: list[list[int]], asked: list[list[int]]) -> None:
    def plain(piece: list[int]) -> int:
        for length in range(len(piece), 0, -1):
            parts = {tuple(piece[i : i + length]) for i in range(len(piece) - length + 1)}
            if any(tuple(other[i : i + length]) in parts for other in corpus for i in range(len(other) - length + 1)):
                return length + 1
        return 0

    found = Corpus([np.array(p, np.int64) for p in corpus]).longest_copies([np.array(p, np.int64) for p in asked])
    assert found.tolist() == [plain(piece) for piece in asked]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("packed")
    made = tokenizer()
    ids = [tokens.encode(made, score) for score in pieces()]
    tokens.save(made, folder / contracts.TOKENIZER)
    tokens.write_vocabulary(made, folder / contracts.VOCABULARY)
    np.save(folder / contracts.TOKENS, np.concatenate(ids).astype(np.uint16))
    return Library(folder, table([len(one) for one in ids]))


def table(count: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"token_start": np.cumsum(count) - count, "token_count": count})


def test_packed_tokens_and_written_files_tell_the_same(library: Library) -> None:
    rows = np.array([4, 0, 7, 7])
    for row, symbols in zip(rows, library.symbols(rows), strict=True):
        score = parse_score(bytes(tokens.decode(tokenizer(), library.ids(row).tolist()).dumps_midi()))
        np.testing.assert_array_equal(symbols, novelty.symbols_of(listen(score)))
        np.testing.assert_array_equal(library.notes(row).pitch, listen(score).pitch)
        assert len(symbols) > 20
    assert library.symbols(np.array([], int)) == []


def test_a_memorised_piece_shows_in_full(library: Library) -> None:
    rows = np.arange(6)
    corpus = Corpus(library.symbols(rows))
    copied = corpus.longest_copies([novelty.symbols_of(library.notes(3)), novelty.symbols_of(library.notes(8))])
    assert copied[0] == len(library.notes(3))
    assert copied[1] < len(library.notes(8)) / 2


def test_a_table_of_other_tokens_is_refused(library: Library, tmp_path: Path) -> None:
    tokens.save(tokenizer(), tmp_path / contracts.TOKENIZER)
    tokens.write_vocabulary(tokenizer(), tmp_path / contracts.VOCABULARY)
    np.save(tmp_path / contracts.TOKENS, np.zeros(10, np.uint16))
    with pytest.raises(UserError, match="do not belong together: run `huesong preprocess` again"):
        Library(tmp_path, table([8, 8]))
