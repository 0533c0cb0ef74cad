"""The assets of the bill, and of the days on which sessions consumed their ACUs. A refusal turns them off, no more."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import dagster as dg

from devin_pipeline.billing_calendar import BILLING_HOUR, UNTIL_CLOSED, day_of, starts_at
from devin_pipeline.devin_api import DevinClient, Window
from devin_pipeline.lake import Lake
from devin_pipeline.orchestration.asset_specs import not_read_spec, table_asset
from devin_pipeline.orchestration.partitions import RANGES, days_of
from devin_pipeline.orchestration.resources import DevinApiResource, Erased, LakeResource
from devin_pipeline.orchestration.run_metadata import (
    ACCEPTS_REMOVALS,
    BACKFILL,
    DEMO,
    TRIGGER,
    WEEKLY_BILL,
    problems_as_failures,
    record_partition_metadata,
    starts_by_itself,
)
from devin_pipeline.raw.consumption.entities import ENTERPRISE, entities
from devin_pipeline.raw.consumption.landing import Bill, land_bill
from devin_pipeline.raw.consumption.session_days import due_sessions, land_session_days
from devin_pipeline.tables import RAW_CONSUMPTION, RAW_DIRECTORY, RAW_SESSION_CONSUMPTION, SESSIONS

_ACTIVE_DAYS = timedelta(days=35)

RESTATED_ACUS = "restated_acus"
"""Metadata of a closed day: by how many ACUs the bill was changed since it was last read."""

_BILLED = """
    select day, acus
    from raw_consumption
    where scope_id = $scope_id and scope in ('enterprise', 'organization')
    qualify row_number() over (partition by day, scope order by fetched_at desc) = 1 and is_listed
"""


def consumption_assets(
    billing_days: dg.PartitionsDefinition[str],
    why_not_read: Mapping[str, str],
    *,
    has_v3_key: bool,
    session_requests: int,
    erased: Erased,
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The bill, and the days on which sessions consumed their ACUs.

    Args:
        billing_days: The partitions.
        why_not_read: By the name of a raw table, why it is not read; empty if it is.
        has_v3_key: False where only v2 can be asked.
        session_requests: For how many sessions a run asks at most.
        erased: Keeps persons on the erasure list out.
    """
    read = {
        RAW_CONSUMPTION: _bill(billing_days, has_v3_key=has_v3_key, erased=erased),
        RAW_SESSION_CONSUMPTION: _session_days(billing_days, session_requests, erased),
    }
    return [
        not_read_spec(table, why, partitions_def=billing_days) if (why := why_not_read[table.name]) else asset
        for table, asset in read.items()
    ]


def _bill(billing_days: dg.PartitionsDefinition[str], *, has_v3_key: bool, erased: Erased) -> dg.AssetsDefinition:
    @table_asset(
        RAW_CONSUMPTION,
        partitions_def=billing_days,
        backfill_policy=RANGES,
        pool="devin_api",
        deps=[SESSIONS.name, RAW_DIRECTORY.name],
    )
    def raw_consumption(context: dg.AssetExecutionContext, devin_api: DevinApiResource, lake: LakeResource) -> None:
        opened, read_at = lake.open(), datetime.now(UTC)
        days = days_of(context, BILLING_HOUR)
        everybody = _asks_for_everybody(context.run)
        with (
            problems_as_failures(),
            erased(opened, BILLING_HOUR),
            devin_api.client(is_awaited=starts_by_itself(context.run), log=context.log.info) as client,
        ):
            if has_v3_key:
                bill = read_bill(client, opened, days, everybody=everybody, organization=devin_api.org_id)
            else:
                bill = read_bill_v2(client, days, organization=devin_api.org_id)
            if client.clock_ahead:
                read_at -= client.clock_ahead
            opened.claim(lake.identity)
            before = billed(opened, days, devin_api.org_id)
            land_bill(
                opened,
                bill,
                read_at,
                keeps_text=lake.keeps_text,
                accepts_removals=ACCEPTS_REMOVALS in context.run.tags,
            )
        opened.note_read(RAW_CONSUMPTION, days, read_at)
        for name, status in sorted(bill.refused.items()):
            if "/" not in name:
                context.log.warning(f"The bill of each {name} is refused ({status}); what needs it is null.")
        for scope, number in bill.not_found.items():
            context.log.info(f"Of {number} of scope {scope} the API knows no bill; what is stored of them stands.")
        for scope, number in bill.forbidden.items():
            context.log.warning(f"The bill of {number} of scope {scope} is refused (403); what is stored stands.")
        figures = figures_of_days(before, billed(opened, days, devin_api.org_id), days, datetime.now(UTC))
        of_run = {"entries": len(bill.rows), "outside_the_days": bill.outside}
        record_partition_metadata(context, opened, RAW_CONSUMPTION, figures, BILLING_HOUR, of_run)

    return raw_consumption


def _session_days(
    billing_days: dg.PartitionsDefinition[str], session_requests: int, erased: Erased
) -> dg.AssetsDefinition:
    @table_asset(
        RAW_SESSION_CONSUMPTION,
        partitions_def=billing_days,
        backfill_policy=RANGES,
        pool="devin_api",
        deps=[SESSIONS.name],
    )
    def raw_session_consumption(
        context: dg.AssetExecutionContext, devin_api: DevinApiResource, lake: LakeResource
    ) -> None:
        opened, read_at = lake.open(), datetime.now(UTC)
        days = days_of(context, BILLING_HOUR)
        # guard: sessions that the limit left over, older than the range | == WEEKLY_BILL -> == ""
        whichever_day = context.run.tags.get(TRIGGER) == WEEKLY_BILL
        with problems_as_failures(), erased(opened, BILLING_HOUR):
            due = due_sessions(opened, None if whichever_day else days)[:session_requests]
            answered = 0
            if due:
                with devin_api.client(is_awaited=starts_by_itself(context.run), log=context.log.info) as client:
                    windows = {session.session_id: session.window for session in due}
                    answers = client.consumption("session", list(windows), windows)
                    _, answered = land_session_days(opened, due, answers, read_at, keeps_text=lake.keeps_text)
        context.log.info(f"Asked for the days of {len(due)} sessions; {answered} were answered.")
        figures: dict[date, dict[str, int | Decimal | None]] = {day: {} for day in days}
        of_run = {"sessions_asked": len(due)}
        record_partition_metadata(context, opened, RAW_SESSION_CONSUMPTION, figures, BILLING_HOUR, of_run)

    return raw_session_consumption


def read_bill(client: DevinClient, lake: Lake, days: list[date], *, everybody: bool, organization: str | None) -> Bill:
    """What v3 bills for some neighbouring days: the enterprise, organizations and people, one request each.

    Args:
        client: Asks.
        lake: Knows whom to ask for.
        days: Days, oldest first.
        everybody: True to ask for all people; else for those with use in the 35 days up to today.
        organization: The one organization that is read; None for the whole enterprise.

    Raises:
        DevinError: The API cannot be read, for another reason than that it refuses.
    """
    window = Window(starts_at(days[0], BILLING_HOUR), starts_at(days[-1], BILLING_HOUR, after=1))
    since = day_of(datetime.now(UTC), BILLING_HOUR) - _ACTIVE_DAYS
    bill = Bill(days, lake.bill_note(RAW_CONSUMPTION).read)
    asked = entities(lake, client, since, everybody=everybody, organization=organization)
    for scope, of_scope in asked.items():
        if of_scope:
            ids = [entity.asked_as for entity in of_scope]
            bill.take(scope, of_scope, client.consumption(scope, ids, window))
    return bill


def read_bill_v2(client: DevinClient, days: list[date], *, organization: str | None) -> Bill:
    """What v2 bills for some days, one request each; it names no products and no service users.

    Args:
        client: Asks.
        days: Days.
        organization: The one organization that is read; None for the whole enterprise.

    Raises:
        DevinError: The API cannot be read, for another reason than that it refuses.
    """
    bill = Bill(days)
    windows = {Window(starts_at(day, BILLING_HOUR), starts_at(day, BILLING_HOUR, after=1)): day for day in days}
    for window, answer in client.consumption_v2(list(windows)):
        bill.take_v2(windows[window], answer, organization)
    return bill


def _asks_for_everybody(run: dg.DagsterRun) -> bool:
    # A backfill of the Dagster UI has a tag of its own.
    return run.tags.get(TRIGGER) in (BACKFILL, DEMO, WEEKLY_BILL) or "dagster/backfill" in run.tags


def billed(lake: Lake, days: Sequence[date], organization: str | None) -> dict[date, Decimal | None]:
    """What is stored of the whole bill, by day: the enterprise's, or that of the one organization that is read.

    Of a listed day whose amount cannot be read it is None.
    """
    scope_id = ENTERPRISE if organization is None else organization
    with lake.connect([RAW_CONSUMPTION], days=days) as connection:
        rows = connection.rows(_BILLED, {"scope_id": scope_id}).to_pylist()
    return {row["day"]: row["acus"] for row in rows}


def figures_of_days(
    before: Mapping[date, Decimal | None], after: Mapping[date, Decimal | None], days: Sequence[date], now: datetime
) -> dict[date, dict[str, int | Decimal | None]]:
    """What Dagster shows of each day: ACUs billed and, of a closed day that a late posting changed, by how much.

    Args:
        before: What was stored of the bill before the read.
        after: What is stored now.
        days: The days of the run.
        now: The time.
    """
    figures: dict[date, dict[str, int | Decimal | None]] = {}
    for day in days:
        figures[day] = {"acus": after.get(day)}
        is_closed = starts_at(day, BILLING_HOUR, after=1) + UNTIL_CLOSED <= now
        # A day that was taken off is billed nothing any more; an amount that cannot be read says nothing.
        was_billed, is_billed = before.get(day), after.get(day, Decimal(0))
        # guard: a bill that was changed after its day had closed, unsaid | was_billed != is_billed -> False
        if is_closed and was_billed is not None and is_billed is not None and was_billed != is_billed:
            figures[day][RESTATED_ACUS] = is_billed - was_billed
    return figures
