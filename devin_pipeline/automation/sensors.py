"""The sensors: late updates, the other days of a failed range, reports after a backfill.

Two mechanisms keep days fresh, and no third: the schedule reads the newest closed days again every day, the sensor
`late_updates` finds the older days that changed.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import msgspec

from devin_pipeline.automation.jobs import DAILY_REFRESH, refresh_job
from devin_pipeline.automation.schedules import NO_KEY
from devin_pipeline.billing_calendar import contiguous, day_of, days_between
from devin_pipeline.devin_api import DevinClient, Item, Window, lightest_feeds
from devin_pipeline.lake import Lake
from devin_pipeline.orchestration.freshness import CLOSED_DAYS_READ_AGAIN, first_day_read_daily, older_days
from devin_pipeline.orchestration.partitions import FIRST_TAG, LAST_TAG, range_tags
from devin_pipeline.orchestration.resources import DevinApiResource, lake_resource
from devin_pipeline.orchestration.run_metadata import BACKFILL, DEMO, TRIGGER, days_not_read
from devin_pipeline.raw import days_held
from devin_pipeline.settings import Settings
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import TABLES

LATE_UPDATES = "late_updates"

_OVERLAP = timedelta(hours=1)
_TIME_FOR_A_RUN = timedelta(hours=6)
_MOST_PAGES = 20
_LEAST_SPAN_SECONDS = 1.0
_DEADLINE_SECONDS = 45.0


class Cursor(msgspec.Struct, frozen=True):
    """How far `late_updates` has read.

    Attributes:
        until: Every update before this instant has been read.
        span_seconds: How much to ask for at once when more was too much for one tick; None = all there is.
        awaited: When a run was last requested for each day that has not been read since.
    """

    until: datetime
    span_seconds: float | None = None
    awaited: dict[str, datetime] = {}


def late_updates(settings: Settings) -> dg.SensorDefinition:
    """Asks which sessions changed since its cursor and requests runs for the older days they were created in.

    Without a cursor it begins at the earliest last read of those days, and works off the time since then.
    """
    hour = settings.day_starts_at_utc_hour

    @dg.sensor(
        name=LATE_UPDATES,
        job=refresh_job,
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.STOPPED if settings.is_demo else dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Reads days again that are older than the {CLOSED_DAYS_READ_AGAIN} of {DAILY_REFRESH} and have a session "
            "that changed."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, devin_api: DevinApiResource) -> dg.SensorResult | dg.SkipReason:
        feeds = settings.feeds
        if not feeds:
            return dg.SkipReason(NO_KEY)
        now = datetime.now(UTC)
        lake = lake_resource(settings).open()
        older = older_days(lake, feeds, settings.start_date, hour, now)
        if context.cursor:
            cursor = msgspec.json.decode(context.cursor, type=Cursor)
        # guard: updates before the sensor's first look
        elif older.last_read:
            cursor = Cursor(until=min(older.last_read.values()))
        else:
            reason = f"First look, at a lake without days that {DAILY_REFRESH} leaves out: updates count from now on."
            return dg.SensorResult(skip_reason=reason, cursor=_written(Cursor(until=now)))
        # guard: updates of a clock set back
        if cursor.until > now:
            # Our clock was set back: updates of the time it lives through again would be passed over.
            cursor = Cursor(now - _OVERLAP, awaited=cursor.awaited)
        window = _window(cursor, now, lake.updates_missed_until())
        with devin_api.client() as client:
            items = _updated(client, feeds, window)
            # What the API's clock has not reached yet is still to be updated.
            now_there = now - max(client.clock_ahead or timedelta(0), timedelta(0))
        if items is None:
            span = (window.end - cursor.until).total_seconds()
            if cursor.span_seconds is not None and span <= _LEAST_SPAN_SECONDS:
                lake.note_updates_missed(window.end)
                return dg.SensorResult(
                    skip_reason=(
                        f"More sessions were updated around {cursor.until.isoformat()} than a tick can read. "
                        f"The doctor names the days to backfill: `{pipeline_command('doctor')}`"
                    ),
                    cursor=_written(Cursor(min(window.end, now_there), cursor.span_seconds, cursor.awaited)),
                )
            narrower = max(span / 4, _LEAST_SPAN_SECONDS)
            return dg.SensorResult(
                skip_reason=f"Not all updates could be read in one tick; the next asks for {narrower:.0f} s of them.",
                cursor=_written(Cursor(cursor.until, narrower, cursor.awaited)),
            )
        changed = _changed(items, _days_held(lake, feeds, items), settings, now, older.last_read)
        awaited = {
            day: at
            for day, at in cursor.awaited.items()
            if older.last_read.get(date.fromisoformat(day), at - _OVERLAP) < at
        }
        # A run may fail, or never start, after the updates it was to read have been passed.
        waiting = {date.fromisoformat(day) for day, at in awaited.items() if now - at < _TIME_FOR_A_RUN}
        # guard: a requested run that did not read its day
        #   | {date.fromisoformat(day) for day in awaited} | older.left_unread -> set(older.left_unread)
        overdue = {date.fromisoformat(day) for day in awaited} | older.left_unread
        overdue -= waiting | changed.keys()
        requests = [*_requests(changed), *_requests_again(overdue, now)]
        awaited |= dict.fromkeys((day.isoformat() for day in {*changed, *overdue}), now)
        # After a span that could be read, a longer one: what is left of the time since is worked off the sooner.
        longer = None if window.end == now or cursor.span_seconds is None else cursor.span_seconds * 4
        nothing = None if requests else f"{len(items)} updated sessions, none in days that {DAILY_REFRESH} leaves out."
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=nothing,
            # guard: updates of a clock ahead | min(window.end, now_there) -> window.end
            cursor=_written(Cursor(min(window.end, now_there), longer, awaited)),
        )

    return sensor


def _window(cursor: Cursor, now: datetime, missed_until: datetime | None) -> Window:
    span = now - cursor.until
    if cursor.span_seconds is not None:
        span = min(span, timedelta(seconds=cursor.span_seconds))
    start = cursor.until - (_OVERLAP if cursor.span_seconds is None else min(_OVERLAP, span))
    if missed_until is not None and missed_until <= cursor.until:
        # Updates that were too many once are too many again.
        start = max(start, missed_until)
    return Window(start, cursor.until + max(span, timedelta(seconds=1)) if cursor.span_seconds is not None else now)


def _updated(client: DevinClient, feeds: Sequence[str], window: Window) -> list[Item] | None:
    """The sessions updated in the window, by every API version that is read; None when they are too many."""
    asked = lightest_feeds(feeds)
    items: list[Item] = []
    for feed in asked:
        updated = client.updated_in(
            feed,
            window,
            max_pages=_MOST_PAGES // len(asked),
            deadline_seconds=_DEADLINE_SECONDS / len(asked),
        )
        # guard: updates beyond a tick
        if not updated.complete:
            return None
        items += updated.items
    return items


def _days_held(lake: Lake, feeds: Sequence[str], items: Sequence[Item]) -> dict[str, set[date]]:
    """The days on which the lake holds each updated session, which may be others than the API returns now."""
    session_ids = {item.session_id for item in items if item.session_id is not None}
    if not session_ids:
        return {}
    erased = lake.erasure_list()
    stored_as = {erased.pseudonym("session", session_id) or session_id: session_id for session_id in session_ids}
    held: dict[str, set[date]] = {}
    for feed in feeds:
        for stored, days in days_held(lake.cached_snapshot(TABLES[feed]), stored_as).items():
            held.setdefault(stored_as[stored], set()).update(days)
    return held


def _changed(
    items: Sequence[Item],
    held: Mapping[str, set[date]],
    settings: Settings,
    now: datetime,
    last_read: Mapping[date, datetime],
) -> dict[date, set[tuple[str, str]]]:
    """The days that the schedule leaves out, with the sessions that were updated since the day was read."""
    # The range of the schedule's next tick: the day that today's tick read last will not be in it.
    # guard: a day neither schedule nor sensor reads | (now, hour) -> (now, hour) - timedelta(days=1)
    first, hour = settings.start_date, settings.day_starts_at_utc_hour
    read_daily_from = first_day_read_daily(day_of(now, hour))
    changed: dict[date, set[tuple[str, str]]] = {}
    for item in items:
        # guard: days that a session is on in the lake | = held.get(str(item.session_id), set()) -> : set[date] = set()
        days = held.get(str(item.session_id), set()) | ({day_of(item.created_at, hour)} if item.created_at else set())
        for day in days:
            is_read = item.updated_at is not None and day in last_read and item.updated_at < last_read[day] - _OVERLAP
            if first <= day < read_daily_from and not is_read:
                changed.setdefault(day, set()).add((str(item.session_id), str(item.updated_at)))
    return changed


def _requests(changed: Mapping[date, set[tuple[str, str]]]) -> list[dg.RunRequest]:
    """A run per range of days."""
    requests = []
    for days in contiguous(changed):
        # The same updates seen again in the overlap make the same key, and no second run; any other makes another.
        updates = repr(sorted(update for day in days for update in changed[day]))
        # guard: another update of the same day | updates.encode -> bytes
        requests.append(_request(days, hashlib.sha256(updates.encode()).hexdigest()[:16]))
    return requests


def _requests_again(overdue: Iterable[date], now: datetime) -> list[dg.RunRequest]:
    """A run per range of days, once in a while until they are read."""
    turn = int(now.timestamp() // _TIME_FOR_A_RUN.total_seconds())
    return [_request(days, f"again-{turn}") for days in contiguous(overdue)]


def _request(days: Sequence[date], why: str) -> dg.RunRequest:
    tags = range_tags(days[0], days[-1]) | {TRIGGER: LATE_UPDATES, "dagster/max_retries": "2"}
    return dg.RunRequest(run_key=f"{days[0]}...{days[-1]}@{why}", tags=tags)


def _written(cursor: Cursor) -> str:
    return msgspec.json.encode(cursor).decode()


def rerun_unaffected_days() -> dg.SensorDefinition:
    """Makes the days of a failed range that were read: a day that cannot be read must not hold back the others.

    The command `backfill` sees to that itself. On by default everywhere.
    """

    @dg.run_failure_sensor(
        name="rerun_unaffected_days",
        monitored_jobs=[refresh_job],
        request_job=refresh_job,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="After a run in which some days could not be read: runs for the other days of its range.",
    )
    def sensor(context: dg.RunFailureSensorContext) -> dg.SensorResult | dg.SkipReason:
        run = context.dagster_run
        bad = {
            date.fromisoformat(day)
            for event in context.get_step_failure_events()
            if (failure := event.step_failure_data.user_failure_data)
            for day in days_not_read(failure.metadata)
        }
        # A run that the Dagster UI executes again has the tags of the first one, but no command that waits for it.
        is_of_command = run.tags.get(TRIGGER) in (BACKFILL, DEMO) and run.parent_run_id is None
        if not bad or is_of_command or FIRST_TAG not in run.tags:
            return dg.SkipReason("No other days to run.")
        first, last = date.fromisoformat(run.tags[FIRST_TAG]), date.fromisoformat(run.tags[LAST_TAG])
        # guard: a bad day among good ones | if day not in bad
        good = [day for day in days_between(first, last) if day not in bad]
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=f"{run.run_id}:{days[0]}...{days[-1]}",
                    tags=range_tags(days[0], days[-1]) | {TRIGGER: "rerun_unaffected_days"},
                )
                for days in contiguous(good)
            ]
        )

    return sensor


def reports_after_backfill() -> dg.SensorDefinition:
    """Brings the reports up to date after runs that leave them out, such as a backfill from the Dagster UI.

    It follows the reports' automation conditions, asks nothing of the API, and is on by default everywhere.
    """
    return dg.AutomationConditionSensorDefinition(
        "reports_after_backfill",
        target=dg.AssetSelection.groups("reports"),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
