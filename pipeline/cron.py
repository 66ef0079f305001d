"""Cron as Kubeflow Pipelines reads it: six fields, seconds first, in the one time zone of the server.

The server also accepts five fields, but reads them seconds first with the day of the week left out: `0 3 * * 1`, which
everywhere else is Monday at three, becomes minute 3 of every hour in January. Hence five fields are refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from huesong.runtime.errors import UserError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (
    ("second", 0, 59, ()), ("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day of month", 1, 31, ()),
    ("month", 1, 12, MONTHS), ("day of week", 0, 6, DAYS),
)  # fmt: skip
EXAMPLE = "0 0 3 * * 1 is Mondays at 03:00:00"


@dataclass(frozen=True)
class Cron:
    """A checked expression: its text and the values that each of the six fields allows."""

    text: str
    allowed: tuple[frozenset[int], ...]

    def next_times(self, count: int, after: datetime) -> list[datetime]:
        """The next `count` times after `after`, in its time zone; fewer if none follow within four years."""
        seconds, minutes, hours, _, months, _ = self.allowed
        found: list[datetime] = []
        day = after.replace(hour=0, minute=0, second=0, microsecond=0)
        for _ in range(4 * 366):
            if day.month in months and self._day_matches(day):
                times = (
                    day.replace(hour=h, minute=m, second=s)
                    for h in sorted(hours)
                    for m in sorted(minutes)
                    for s in sorted(seconds)
                )
                for time in times:
                    if time > after:
                        found.append(time)
                    if len(found) == count:
                        return found
            day += timedelta(days=1)
        return found

    def _day_matches(self, day: datetime) -> bool:
        """Either field may allow the day where both restrict it: cron's old rule, which the server follows."""
        of_month, of_week = day.day in self.allowed[3], day.isoweekday() % 7 in self.allowed[5]
        fields = self.text.split()
        if any(fields[index].startswith(("*", "?")) for index in (3, 5)):
            return of_month and of_week
        return of_month or of_week


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
    allowed = tuple(_values(field, text, *kind) for field, kind in zip(fields, FIELDS, strict=True))
    cron = Cron(" ".join(fields), allowed)
    if not cron.next_times(1, datetime.now(UTC)):
        raise UserError(f"cron '{text}' never comes: there is no such day in the next four years")
    return cron


def _values(field: str, text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    wrong = UserError(
        f"cron '{text}': {name} '{field}' is not within {low}-{high}"
        + (f" or {names[0]}-{names[-1]}" if names else "")
        + f" (*, lists, ranges and /steps are allowed; {EXAMPLE})"
    )

    def number(word: str) -> int:
        if word.lower() in names:
            return names.index(word.lower()) + low
        if not (word.isascii() and word.isdigit()):
            raise wrong
        return int(word)

    values: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        if span in ("*", "?"):
            first, last = low, high
        else:
            first, dash, end = (number(span.partition("-")[0]), *span.partition("-")[1:])
            last = number(end) if dash else high if slash else first
        stride = number(step) if slash else 1
        if not low <= first <= last <= high or stride < 1:
            raise wrong
        values |= set(range(first, last + 1, stride))
    return frozenset(values)


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
