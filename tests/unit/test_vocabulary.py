"""music/vocabulary.py: its file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from huesong.music import tokens
from huesong.music.form import header
from huesong.music.vocabulary import Vocabulary, digest_of
from huesong.runtime.errors import UserError
from tests import older
from tests.tiny_music import grammar, tokenizer, vocabulary_of
from tests.unit.test_grammar import METRES


def written(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "vocabulary.json"
    tokens.write_vocabulary(tokenizer(), path)
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "format 3, this huesong reads formats 1 and 2"),
        ({"tokens": None}, "not a vocabulary"),
        ({"digest": "0" * 64}, "damaged"),
        ({"bos": "x"}, "not a vocabulary"),
    ],
)
def test_a_bad_vocabulary_file(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Vocabulary.load(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Position_95", "no Position token of value 95"),  # 12/8 has so many
        ("Cadence_half", "no token Cadence_half"),
        ("Pitch_60", "no Pitch token of value 60"),
        ("Bar_None", "no Bar token"),
    ],
)
def test_a_vocabulary_without_a_token_the_grammar_needs(tmp_path: Path, name: str, message: str) -> None:
    names = [token for token in tokens.base_tokens(tokenizer()) if token != [name]]
    path = written(tmp_path, tokens=names, digest=digest_of(names))
    with pytest.raises(UserError, match=message):
        Vocabulary.load(path)
    with pytest.raises(UserError, match="cannot be read"):
        Vocabulary.load(tmp_path / "nothing.json")


def test_an_older_vocabulary_has_bars_of_common_time_and_no_heads() -> None:
    old, new = older.grammar(), grammar()
    assert not old.vocabulary.has_heads
    assert old.table.metres == [(4, 4)]
    assert max(map(len, old.vocabulary.tokens)) > 2
    assert new.vocabulary.has_heads
    assert sorted(new.table.metres) == sorted(METRES)
    assert set(new.table.heads) == set(header.names())


def test_the_same_tokenizer_has_the_same_digest() -> None:
    assert vocabulary_of(tokenizer()).digest == grammar().vocabulary.digest
    assert vocabulary_of(tokenizer(12)).digest != grammar().vocabulary.digest
