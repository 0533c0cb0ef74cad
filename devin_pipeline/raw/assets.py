"""The raw assets: one per feed whose key is set; the others stand in the graph and say which key they wait for."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from devin_pipeline.asset_facts import (
    ASK_NO_MORE,
    CLOCK_AHEAD,
    DAYS_NOT_READ,
    READ_AT,
    facts,
    report_days,
    table_asset,
)
from devin_pipeline.devin_api import DevinError, Listing, Window
from devin_pipeline.partitions import RANGES, day_of, days_of, starts_at
from devin_pipeline.raw.landing import land
from devin_pipeline.resources import ASKED_OF, KEY_OF_FEED, DevinApiResource, LakeResource
from devin_pipeline.tables import RAW_SESSION_TABLES, Table


def raw_assets(
    billing_days: dg.PartitionsDefinition[str], feeds: Sequence[str]
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """An asset per feed in `feeds`, a bare spec per other feed."""
    return [
        _raw_asset(table, billing_days) if table.name in feeds else _waiting(table, billing_days)
        for table in RAW_SESSION_TABLES
    ]


def _waiting(table: Table, billing_days: dg.PartitionsDefinition[str]) -> dg.AssetSpec:
    told = facts(table)
    waits_for = f"Not read: set {KEY_OF_FEED[table.name]}, and name it in DEVIN_FEEDS if that is set."
    return dg.AssetSpec(**told | {"description": f"{told['description']}\n\n{waits_for}"}, partitions_def=billing_days)


def _raw_asset(table: Table, billing_days: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    @table_asset(table, partitions_def=billing_days, backfill_policy=RANGES, pool="devin_api")
    def raw(context: dg.AssetExecutionContext, devin_api: DevinApiResource, lake: LakeResource) -> None:
        opened = lake.open()
        hour = lake.day_starts_at_utc_hour
        read_at = datetime.now(UTC)
        windows = {Window(starts_at(day, hour), starts_at(day, hour, after=1)): day for day in days_of(context)}
        try:
            with devin_api.client() as client:
                listing = client.read(ASKED_OF[table.name], list(windows))
                clock_ahead = client.clock_ahead or timedelta(0)
        except DevinError as error:
            raise dg.Failure(str(error), metadata={ASK_NO_MORE: True}, allow_retries=False) from None

        read_whole = [day for window, day in windows.items() if window not in listing.failures]
        if read_whole:
            opened.claim(lake.identity)
            landed = land(opened, table, listing, read_whole, read_at, hour, keeps_text=lake.keeps_text)
            figures = {day: landed.figures(day) for day in read_whole}
            report_days(context, opened, table, figures, _of_run(listing, read_at, clock_ahead))
        if listing.failures:
            raise _days_not_read(listing, hour)

    return raw


def _of_run(listing: Listing, read_at: datetime, clock_ahead: timedelta) -> dict[str, int | dg.TimestampMetadataValue]:
    return {
        READ_AT: dg.MetadataValue.timestamp(read_at - clock_ahead),
        CLOCK_AHEAD: int(clock_ahead.total_seconds()),
        "requests": listing.requests,
        "pages": listing.pages,
        "retries": listing.retries,
        "bytes_read": listing.bytes_read,
        "duplicates": listing.duplicates,
        "outside_the_days": listing.outside,
    }


def _days_not_read(listing: Listing, hour: int) -> dg.Failure:
    """The days that keep their last good version, and why each could not be read."""
    reasons = {day_of(window.start, hour).isoformat(): str(error) for window, error in listing.failures.items()}
    first = min(reasons)
    return dg.Failure(
        f"{len(reasons)} of the days could not be read; they keep their last good version. {first}: {reasons[first]}",
        metadata={DAYS_NOT_READ: dg.MetadataValue.json(reasons)},
        allow_retries=False,
    )
