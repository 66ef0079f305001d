"""The statistics that come with the package, learnt by `huesong experiment structure`; their sources stand inside."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("statistics.json")


@cache
def statistics() -> dict[str, Any]:
    """The whole file; do not write to it."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found
