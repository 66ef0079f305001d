"""runtime.documents: what stands in a YAML file is what it looks like, or it is refused by line and name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong.runtime.documents import parse_yaml, read_yaml
from huesong.runtime.errors import UserError


def test_what_is_read() -> None:
    text = "train:\n  steps: 300\n  rate: 1.5e-3\n  compile: false\n  names: [a, 'on', \"1_000\"]\n  none: null\n  low: -2\n"
    assert parse_yaml(text, "f") == {
        "train": {
            "steps": 300,
            "rate": 1.5e-3,
            "compile": False,
            "names": ["a", "on", "1_000"],
            "none": None,
            "low": -2,
        }
    }
    assert parse_yaml("", "f") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  a: 1\nlabel: {}\ntrain:\n  b: 2\n", "f, line 4: 'train' stands there twice"),
        ("a: {b: 1, b: 2}", "line 1: 'b' stands there twice"),
        ("x:\n  rate: .inf", r"line 2: \.inf: write a finite number"),
        ("x: -.inf", "write a finite number"),
        ("x: .nan", "write a finite number"),
        ("x: 1.0e+400", r"1\.0e\+400: write a finite number"),
        ("x: on", "on: write true or false, or 'on' in quotes"),
        ("x: No", "No: write true or false"),
        ("x: 1_000", "1_000: write a whole number"),
        ("x: 0x10", "0x10: write a whole number"),
        ("x: 010", "010: write a whole number"),
        ("x: 1:30", "1:30: write a whole number"),
        ("x: 1_0.5", r"1_0\.5: write a finite number"),
        ("x: " + "9" * 5000, r"9999\.\.\. \(5000 characters\): write a whole number of at most 18 digits"),
        ("x: 2026-11-30", "is read as a date: put it in quotes"),
        ("a: &a [1]\nb: *a", r"line 2: \*a: write the value out"),
        ("x: !!python/object:os.system 1", "leave the tag out"),
        ("x: !custom 1", "!custom: leave the tag out"),
        ("? [a, b]\n: 1", "a key must be a word"),
        ("[" * 5000, "more than 20 sections within each other"),
        ("a:\n" + "".join(f"{' ' * n}b:\n" for n in range(1, 100)), "more than 20 sections"),
        ("a: [1", "is not valid YAML"),
        ("a: b: c", "is not valid YAML"),
    ],
)
def test_what_is_refused_by_line_and_name(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        parse_yaml(text, "f")
    assert "\n" not in str(raised.value)


def test_a_bomb_of_anchors_costs_nothing() -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{one}: &{one} [{', '.join(['*' + before] * 9)}]\n" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(UserError, match=r"line 2: \*a: write the value out, aliases are not read"):
        parse_yaml(text, "f")  # at the first one, before anything is multiplied


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "latin").write_bytes("a: Grün".encode("latin-1"))
    (tmp_path / "long").write_text("#" * 1_000_001)
    for name, message in {
        ".": "is a folder: name another", "pipe": "is no ordinary file", "loop": "cannot be read", "latin": "is not UTF-8",
        "none": "does not exist: name another", "long": r"has 1,000,001 bytes, more than 1,000,000", "n" * 300: "cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            read_yaml(tmp_path / name, "name another")
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "marked", "") == {"a": 1}, "a byte-order mark is no content"


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n0123456789._+e", max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    message = ""
    try:
        parse_yaml(text, "f")
    except UserError as error:
        message = str(error)
    assert "\n" not in message
