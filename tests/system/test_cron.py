"""Six-field crons, as Kubeflow Pipelines reads them, and time zones."""

from datetime import UTC, datetime

import pytest
from pipeline.cron import checked_zone, parse_cron

from huesong.runtime.errors import UserError

MONDAYS = "0 0 3 * * 1"


def test_five_fields_name_the_six_field_form() -> None:
    with pytest.raises(UserError, match=r"write '0 0 3 \* \* 1'"):
        parse_cron("0 3 * * 1")


@pytest.mark.parametrize(
    "text", ["", "@daily", "0 60 3 * * *", "0 0 24 * * *", "0 0 3 0 * *", "0 0 3 * 13 *", "0 0 3 * * 8", "x 0 3 * * *",
             "0 0 5-3 * * *", "0 0/0 3 * * *", "0 0 3 * * mon,", "0 0 3 31 2 *"],
)  # fmt: skip
def test_bad_crons(text: str) -> None:
    with pytest.raises(UserError, match="cron"):
        parse_cron(text)


@pytest.mark.parametrize(
    ("text", "times"),
    [
        (MONDAYS, ["2026-01-05 03:00:00", "2026-01-12 03:00:00"]),
        ("30 */30 8-9 * * mon", ["2026-01-05 08:00:30", "2026-01-05 08:30:30", "2026-01-05 09:00:30"]),
        ("0 0 0 1 jan,jul ?", ["2026-07-01 00:00:00", "2027-01-01 00:00:00"]),
        ("0 0 12 13 * fri", ["2026-01-02 12:00:00", "2026-01-09 12:00:00", "2026-01-13 12:00:00"]),
        ("0 0 12 29 2 *", ["2028-02-29 12:00:00"]),
    ],
)
def test_next_times(text: str, times: list[str]) -> None:
    start = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert [f"{t:%Y-%m-%d %H:%M:%S}" for t in parse_cron(text).next_times(len(times), start)] == times


def test_time_zones() -> None:
    assert str(checked_zone("Europe/Berlin", "Europe/Berlin")) == "Europe/Berlin"
    assert str(checked_zone("Etc/UTC", "UTC")) == "Etc/UTC"
    with pytest.raises(UserError, match="CRON_SCHEDULE_TIMEZONE=Europe/London"):
        checked_zone("Europe/London", "UTC")  # equal in winter only
    with pytest.raises(UserError, match="no time zone"):
        checked_zone("Mars/Olympus", "UTC")
