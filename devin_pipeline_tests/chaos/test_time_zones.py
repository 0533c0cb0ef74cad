"""The billing day does not depend on where the host is."""

import json
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone

import pytest

from devin_pipeline.billing_calendar import day_of, days_between, starts_at
from devin_pipeline.devin_api import Item
from devin_pipeline.devin_api.pages import cursor_page, offset_page
from devin_pipeline_tests.tables.rows import Row, findings

pytestmark = pytest.mark.notices("an instant read by the host's zone")

# A leap year, with both days on which clocks change in each hemisphere.
DAYS = days_between(date(2024, 1, 1), date(2024, 12, 31))
TICK = timedelta(microseconds=1)
NOW = datetime.fromisoformat("2025-06-01T00:00:00Z")
ZONES = (
    "UTC",
    "America/Los_Angeles",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Europe/London",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
)


def items_of(day: date) -> dict[datetime, list[str]]:
    """Sessions of a day's first and last instants and of its middle, as v2 writes instants and as v3 does."""
    start, end = starts_at(day, 8), starts_at(day, 8, after=1)
    east = timezone(timedelta(hours=14))
    items = {}
    for at in (start, start + timedelta(hours=12, seconds=1), end - TICK):
        stamps: list[object] = [at.isoformat(), at.astimezone(east).isoformat(), at.timestamp()]
        items[at] = [json.dumps({"session_id": f"{at}", "created_at": stamp}) for stamp in stamps]
    return items


def read(texts: list[str]) -> list[Item]:
    items = ", ".join(texts)
    v2 = f'{{"items": [{items}], "has_more": false, "total": 1, "skip": 0, "limit": 200}}'
    return offset_page(v2.encode(), NOW).items + cursor_page(f'{{"items": [{items}]}}'.encode(), NOW).items


def test_each_session_of_a_year_is_in_exactly_one_day_in_every_zone(
    monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    assert (len(DAYS), len(set(ZONES))) == (366, 12)
    sent = {at: (day, texts) for day in DAYS for at, texts in items_of(day).items()}
    windows = {day: (starts_at(day, 8), starts_at(day, 8, after=1)) for day in DAYS}
    sent_in_july = starts_at(date(2024, 7, 1), 8).timestamp()
    clocks = set()
    for zone in ZONES:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            clocks.add((*time.tzname, time.localtime(sent_in_july).tm_gmtoff))
            rows: list[Row] = []
            for at, (day, texts) in sent.items():
                for item in read(texts):
                    assert item.created_at == at, (zone, texts)
                    assert day_of(item.created_at, 8) == day, (zone, texts)
                start, end = windows[day]
                assert start <= at < end
                rows.append({"session_id": str(at), "day": day, "created_at": at})
            # The day as DuckDB computes it.
            assert findings("derived", "sessions_are_inside_their_day", params={"hour": 8}, sessions=rows) == []
            assert findings("derived", "sessions_stay_in_one_day", sessions=rows, views={"all_sessions": rows}) == []
        time.tzset()
    assert len(clocks) == len(ZONES)
    assert all(windows[day][1] == windows[day + timedelta(days=1)][0] for day in DAYS[:-1])
    figure(
        f"{len(DAYS)} days in {len(ZONES)} time zones of the host: each of {len(sent)} sessions is in exactly one day."
    )
