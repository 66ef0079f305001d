"""Cron as Kubeflow Pipelines reads it: six fields, seconds first, in the one time zone of the server.

The server also accepts five fields, but reads them seconds first with the day of the week left out: `0 3 * * 1`, which
everywhere else is Monday at three, becomes minute 3 of every hour in January. Hence five fields are refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from huesong.runtime.errors import UserError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (
    ("second", 0, 59, ()), ("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day of month", 1, 31, ()),
    ("month", 1, 12, MONTHS), ("day of week", 0, 6, DAYS),
)  # fmt: skip
EXAMPLE = "0 0 3 * * 1 is Mondays at 03:00:00"
PART = re.compile(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/([0-9]+))?", re.ASCII)


@dataclass(frozen=True)
class Cron:
    """A checked expression: its text, and the same in the words that cronsim and the server read alike."""

    text: str
    plain: str

    def next_times(self, count: int, after: datetime) -> list[datetime]:
        """The next `count` times after `after`, in its time zone; fewer if none follow within four years."""
        try:
            times = list(islice(CronSim(self.plain, after), count))
        except CronSimError:  # a day that no month has
            return []
        return [time for time in times if time < after + timedelta(days=4 * 366)]


def parse_cron(text: str) -> Cron:
    """Check a cron expression of six fields.

    Raises:
        UserError: another number of fields, a value out of range, or a time that never comes.
    """
    fields = text.split()
    if len(fields) == 5:
        raise UserError(
            f"cron '{text}' has five fields, Kubeflow needs six, seconds first: write '0 {' '.join(fields)}'"
        )
    if len(fields) != 6:
        raise UserError(
            f"cron '{text}' has {len(fields)} fields, not six (second minute hour day month weekday): {EXAMPLE}"
        )
    plain = [_plain(field, text, *kind) for field, kind in zip(fields, FIELDS, strict=True)]
    cron = Cron(" ".join(fields), " ".join(plain))
    if not cron.next_times(1, datetime.now(UTC)):
        raise UserError(f"cron '{text}' never comes: there is no such day in the next four years")
    return cron


def _plain(field: str, text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> str:
    """The field without what cronsim reads in its own way: names, `?`, steps from one value, weekday 7, L and #."""
    numbers = {word: low + index for index, word in enumerate(names)}
    parts = []
    for part in field.lower().split(","):
        found = PART.fullmatch(part)
        first, last, step = found.groups() if found else ("", None, None)
        ends = [numbers.get(word, int(word) if word.isdigit() else -1) for word in (first, last) if word is not None]
        if not ends or (step and not last):
            ends = [*ends, high] if ends else [low, high]
        if not low <= ends[0] <= ends[-1] <= high or (step and int(step) < 1):
            raise UserError(
                f"cron '{text}': {name} '{field}' is not within {low}-{high}"
                + (f" or {names[0]}-{names[-1]}" if names else "")
                + f" (*, lists, ranges and /steps are allowed; {EXAMPLE})"
            )
        values = range(ends[0], ends[-1] + 1, int(step or 1))
        parts.append(f"*/{step or 1}" if first is None else ",".join(map(str, values)))
    return ",".join(parts)


def checked_zone(wanted: str, server: str) -> ZoneInfo:
    """The zone in which the schedule counts; refused where the server would count differently.

    Kubeflow Pipelines has one time zone a server (CRON_SCHEDULE_TIMEZONE of its scheduled-workflow controller), none a
    schedule. Shifting the hours here would be wrong for half of the year wherever clocks change.
    """
    zones = []
    for name in (wanted, server):
        try:
            zones.append(ZoneInfo(name))
        except (ValueError, OSError, KeyError):
            raise UserError(f"'{name}' is no time zone: give a name such as UTC or Europe/Berlin") from None
    start = datetime.now(UTC)
    for week in range(53):
        moment = start + timedelta(weeks=week)
        if moment.astimezone(zones[0]).utcoffset() != moment.astimezone(zones[1]).utcoffset():
            raise UserError(
                f"the schedule counts in {wanted} but the server in {server}: give the cron in {server}, or set "
                f"CRON_SCHEDULE_TIMEZONE={wanted} on ml-pipeline-scheduledworkflow and pass --server-time-zone {wanted}"
            )
    return zones[0]
