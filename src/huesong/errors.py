"""The one error a user ever sees: what is wrong, where, and the remedy, in one line."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input or configuration. The console prints it as one line and exits with code 2.

    The message names what is wrong, where (file, row, key) and the remedy.
    """
