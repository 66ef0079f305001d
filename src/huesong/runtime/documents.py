"""Reading YAML that people write: every value means what it looks like, and no file costs more than it says."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from huesong.runtime.errors import UserError

MOST_BYTES = 1_000_000
MOST_DEPTH = 20
"""Sections within sections."""
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_KINDS = {
    "timestamp": "a date",
    "binary": "binary data",
    "merge": "a merge of sections",
    "set": "a set",
    "omap": "a list",
}


class _Refused(Exception):
    """What is wrong, and the line it stands in."""

    def __init__(self, node_or_mark: Any, message: str) -> None:
        mark = getattr(node_or_mark, "start_mark", node_or_mark)
        super().__init__(f"line {mark.line + 1}: {message}")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without what surprises: aliases, tags, keys given twice, and words that stand for another type."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(event, f"*{event.anchor}: write the value out, aliases are not read")
        if (tag := getattr(event, "tag", None)) is not None:
            raise _Refused(event, f"{tag}: leave the tag out")
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _Refused(event, f"more than {MOST_DEPTH} sections within each other")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Refused(key_node, "a key must be a word")
            key = key_node.value
            if key in found:
                raise _Refused(key_node, f"'{key}' stands there twice: keep one of them")
            found[key] = self.construct_object(value_node, deep=True)
        return found

    def _map(self, node: Any) -> dict[Any, Any]:
        return self.construct_mapping(node)

    def _bool(self, node: Any) -> bool:
        if node.value.lower() not in ("true", "false"):
            raise _Refused(node, f"{node.value}: write true or false, or '{node.value}' in quotes if it is a word")
        return bool(node.value.lower() == "true")

    def _int(self, node: Any) -> int:
        if not _INTEGER.fullmatch(node.value):
            shown = node.value if len(node.value) <= 24 else f"{node.value[:20]}... ({len(node.value)} characters)"
            raise _Refused(node, f"{shown}: write a whole number of at most 18 digits in plain decimal")
        return int(node.value)

    def _float(self, node: Any) -> float:
        try:
            value = float(node.value)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or "_" in node.value:
            raise _Refused(node, f"{node.value}: write a finite number in plain decimal")
        return value

    def _unknown(self, node: Any) -> Any:
        kind = _KINDS.get(str(node.tag).rpartition(":")[2], str(node.tag))
        raise _Refused(node, f"{node.value!r} is read as {kind}: put it in quotes if it is a word")


for _tag, _construct in (
    ("map", _Loader._map), ("bool", _Loader._bool), ("int", _Loader._int), ("float", _Loader._float),
    *((_kind, _Loader._unknown) for _kind in _KINDS),
):  # fmt: skip
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct)


def read_yaml(path: Path, remedy: str) -> Any:
    """The content of a YAML file: mappings, lists, words, finite numbers, true, false and null.

    Args:
        path: the file.
        remedy: what to do where it is missing, as the end of a sentence.

    Raises:
        UserError: missing, no ordinary file, not readable, too long, not UTF-8, no YAML, or a value that is refused;
            names the file and the line.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: {remedy}")
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no ordinary file: {remedy}")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}: {remedy}")
        return parse_yaml(path.read_text(encoding="utf-8-sig"), str(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {remedy}") from None
    except OSError as error:  # no permission, a loop of links, a name that is too long
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from error


def parse_yaml(text: str, name: str) -> Any:
    """As `read_yaml`, from text; `name` stands for the file in messages."""
    try:
        return yaml.load(text, _Loader)
    except _Refused as refused:
        raise UserError(f"{name}, {refused}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
