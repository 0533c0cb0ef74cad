"""The billing day: every instant is in exactly one, wherever the host is."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from devin_pipeline.billing_calendar import contiguous, day_of, days_between, newest_closed_day, starts_at
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.lake import Connection
from devin_pipeline.orchestration.partitions import billing_days, range_tags
from devin_pipeline.settings import Settings, a_date

pytestmark = pytest.mark.notices("the day of an instant of another zone", "a date written otherwise")

DAY = date(2025, 12, 1)
INSTANT = timedelta(microseconds=1)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEVIN_DAY_STARTS_AT_UTC_HOUR", "DEVIN_START_DATE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kathmandu", "UTC"])
def host_zone(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize("hour", [0, 8])
def test_the_days_of_a_year_tile_time(hour: int) -> None:
    days = days_between(date(2024, 1, 1), date(2024, 12, 31))
    assert len(days) == 366
    for day in days:
        start, end = starts_at(day, hour), starts_at(day, hour, after=1)
        assert end - start == timedelta(hours=24)
        assert end == starts_at(day + timedelta(days=1), hour)
        assert [day_of(at, hour) for at in (start, end - INSTANT)] == [day, day]
        assert day_of(start - INSTANT, hour) == day - timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2025-12-02T07:59:59.999999+00:00", DAY),
        ("2025-12-02T08:00:00+00:00", DAY + timedelta(days=1)),
        ("2025-12-01T23:59:59.999999-08:00", DAY),
        ("2025-12-02T00:00:00-08:00", DAY + timedelta(days=1)),
        ("2025-07-01T07:59:59.999999+00:00", date(2025, 6, 30)),
        ("2025-07-01T08:00:00+00:00", date(2025, 7, 1)),
        ("2025-12-02T21:59:59+14:00", DAY),
    ],
)
def test_a_day_starts_at_eight_utc_all_year(text: str, day: date) -> None:
    assert day_of(datetime.fromisoformat(text), 8) == day


def test_an_instant_is_in_one_day_whatever_zone_the_host_shows_it_in(host_zone: str) -> None:
    at = datetime(2025, 12, 2, 7, 59, 59, 999999, UTC)
    assert time.tzname[0] != "UTC" or host_zone == "UTC"
    assert day_of(at.astimezone(), 8) == DAY
    assert day_of((at + INSTANT).astimezone(), 8) == DAY + timedelta(days=1)
    assert starts_at(DAY, 8).isoformat() == "2025-12-01T08:00:00+00:00"
    window = billing_days(Settings()).time_window_for_partition_key("2025-12-01")
    assert (window.start.timestamp(), window.end.timestamp()) == (1764576000, 1764662400)
    with Connection() as connection:
        (row,) = connection.rows("select ($at::timestamptz - to_hours(8))::date as day", {"at": at}).to_pylist()
    assert row == {"day": DAY}


@pytest.mark.parametrize("hour", [0, 8, 23])
def test_partitions_are_the_days_up_to_the_one_that_has_begun(hour: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_DAY_STARTS_AT_UTC_HOUR", str(hour))
    monkeypatch.setenv("DEVIN_START_DATE", "2025-11-30")
    days = billing_days(Settings())
    for now, last in ((starts_at(DAY, hour), DAY), (starts_at(DAY, hour) - INSTANT, DAY - timedelta(days=1))):
        keys = days.get_partition_keys(current_time=now)
        assert keys == [day.isoformat() for day in days_between(date(2025, 11, 30), last)]
        assert newest_closed_day(now, hour) == last - timedelta(days=1)
    window = days.time_window_for_partition_key("2025-12-01")
    assert (window.start, window.end) == (starts_at(DAY, hour), starts_at(DAY, hour, after=1))


def test_days_start_at_eight_in_2025_when_nothing_is_set() -> None:
    assert (Settings().day_starts_at_utc_hour, Settings().start_date) == (8, date(2025, 1, 1))


@pytest.mark.parametrize("name", ["DEVIN_DAY_STARTS_AT_UTC_HOUR", "DEVIN_START_DATE"])
def test_an_empty_setting_counts_as_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert (Settings().day_starts_at_utc_hour, Settings().start_date) == (8, date(2025, 1, 1))


@pytest.mark.parametrize("text", ["24", "-1", "8.0", "eight", " 8", "٨", "1e1", "²"])
def test_an_invalid_hour_is_refused_with_what_to_set(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_DAY_STARTS_AT_UTC_HOUR", text)
    with pytest.raises(ConfigurationError) as refused:
        _ = Settings().day_starts_at_utc_hour
    assert str(refused.value) == f"DEVIN_DAY_STARTS_AT_UTC_HOUR is {text!r}: that is not an hour. Set it to 0 … 23"


@pytest.mark.parametrize("text", ["0", "8", "23"])
def test_any_whole_hour_of_the_day_may_be_set(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_DAY_STARTS_AT_UTC_HOUR", text)
    assert Settings().day_starts_at_utc_hour == int(text)


@pytest.mark.parametrize(
    "text", ["20251201", "2025-W49-1", "2025-13-01", "2025-02-29", "1.12.2025", "today", " 2025-12-01"]
)
def test_a_date_written_otherwise_is_refused_with_how_to_write_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_START_DATE", text)
    with pytest.raises(ConfigurationError) as refused:
        _ = Settings().start_date
    assert str(refused.value) == f"DEVIN_START_DATE is {text!r}: that is not a date. Write it as 2026-01-31"
    with pytest.raises(ConfigurationError, match=r"^--from is "):
        a_date(text, "--from")


def test_a_start_in_the_future_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    today = datetime.now(UTC).date()
    monkeypatch.setenv("DEVIN_START_DATE", (today + timedelta(days=2)).isoformat())
    with pytest.raises(ConfigurationError, match="that is in the future"):
        _ = Settings().start_date
    monkeypatch.setenv("DEVIN_START_DATE", (today - timedelta(days=1)).isoformat())
    assert Settings().start_date == today - timedelta(days=1)


def test_days_are_grouped_into_runs_of_neighbours() -> None:
    days = [date(2025, 12, n) for n in (5, 1, 2, 31, 2)] + [date(2026, 1, 1)]
    assert [list(run) for run in contiguous(days)] == [
        [date(2025, 12, 1), date(2025, 12, 2)],
        [date(2025, 12, 5)],
        [date(2025, 12, 31), date(2026, 1, 1)],
    ]
    assert contiguous([]) == []


def test_a_range_of_days_includes_both_ends() -> None:
    assert days_between(DAY, DAY) == [DAY]
    assert days_between(DAY, DAY + timedelta(days=2)) == [date(2025, 12, 1), date(2025, 12, 2), date(2025, 12, 3)]
    assert days_between(DAY, DAY - timedelta(days=1)) == []
    assert range_tags(DAY, DAY + timedelta(days=2)) == {
        "dagster/asset_partition_range_start": "2025-12-01",
        "dagster/asset_partition_range_end": "2025-12-03",
    }


def test_a_zone_of_seconds_changes_no_day() -> None:
    odd = timezone(timedelta(hours=-8, seconds=-30))
    assert day_of(datetime(2025, 12, 1, 23, 59, 30, tzinfo=odd), 8) == DAY + timedelta(days=1)
