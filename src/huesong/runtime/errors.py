"""The one error a user ever sees: what is wrong, where, and the remedy, in one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

SAID = "huesong: "
"""How the line begins that says what went wrong."""


class UserError(ValueError):
    """Bad input or configuration. The console prints it as one line and exits with code 2.

    The message names what is wrong, where (file, row, key) and the remedy.
    """


@contextlib.contextmanager
def user_errors_in_one_line() -> Iterator[None]:
    """For entry points: a user's error is one line and exit code 2, a bug a traceback and exit code 1."""
    try:
        yield
    except UserError as error:
        print(f"{SAID}{error}", file=sys.stderr)
        sys.exit(2)
