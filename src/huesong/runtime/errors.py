"""The one error a user ever sees: what is wrong, where, and the remedy, in one line."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator

SAID = "huesong: "
"""How the line begins that says what went wrong."""


SECRETS = (
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HUESONG_HOOK_SECRET",
    "HUESONG_KFP_TOKEN",
)  # fmt: skip
"""Environment variables whose values no text may show."""


TRAINING = ("torch", "sklearn", "skops", "pandas", "pyarrow", "jinja2", "psutil", "openpyxl")
"""Modules of the packages of `huesong[train]`, which composing does without."""


class UserError(ValueError):
    """Bad input or configuration. The console prints it as one line and exits with code 2.

    The message names what is wrong, where (file, row, key) and the remedy.
    """


def redacted(text: str) -> str:
    """`text` without the user and password of any address, and without the values of SECRETS."""
    for name in SECRETS:
        if len(value := os.environ.get(name, "")) > 3:
            text = text.replace(value, "***")
    return re.sub(r"(?<=://)[^/\s'\"]*@", "***@", text)


def printable(text: str) -> str:
    """`text` for a line of a terminal or a title: line breaks and bytes that are no UTF-8 (names may hold both) escaped."""
    whole = "".join(each if each.isprintable() or 0xDC80 <= ord(each) <= 0xDCFF else repr(each)[1:-1] for each in text)
    return whole.encode("utf-8", "backslashreplace").decode()


@contextlib.contextmanager
def user_errors_in_one_line() -> Iterator[None]:
    """For entry points: a user's error is one line and exit code 2, a bug a traceback and exit code 1.

    So is a package that is not installed because only who trains needs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in TRAINING:
            raise
        print(
            f"{SAID}{error.name} is not installed, which composing needs not: pip install 'huesong[train]'",
            file=sys.stderr,
        )
        sys.exit(2)
    except UserError as error:
        print(printable(redacted(f"{SAID}{error}")), file=sys.stderr)
        sys.exit(2)
