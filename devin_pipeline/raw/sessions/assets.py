"""The raw assets: one per feed whose key is set; the others stand in the graph and say which key they wait for."""

import re
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial

import dagster as dg

from devin_pipeline import progress
from devin_pipeline.billing_calendar import day_of, days_in_words, starts_at
from devin_pipeline.devin_api import FEED_BY_TABLE, DevinError, SessionBatch, Window
from devin_pipeline.errors import ConfigurationError, Problem
from devin_pipeline.lake import Damaged, Lake, VersionsLost
from devin_pipeline.orchestration.asset_specs import not_read_spec, table_asset
from devin_pipeline.orchestration.partitions import RANGES, days_of
from devin_pipeline.orchestration.resources import DevinApiResource, Erased, LakeResource
from devin_pipeline.orchestration.run_metadata import (
    ACCEPTS_NEW_ORGANIZATIONS,
    ASK_NO_MORE,
    CLOCK_AHEAD,
    CLOCKS_APART_SECONDS,
    DAYS_NOT_READ,
    READ_AT,
    UNKNOWN_FIELDS,
    record_partition_metadata,
    starts_by_itself,
)
from devin_pipeline.raw.row_integrity import damaged_days
from devin_pipeline.raw.sessions.account import AccountCheck, AnotherAccount
from devin_pipeline.raw.sessions.landing import LandingResult, land
from devin_pipeline.raw.sessions.moved_sessions import HeldSessions
from devin_pipeline.tables import RAW_SESSION_TABLES, RawTable

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_FIELDS_NAMED = 20


def raw_assets(
    billing_days: dg.PartitionsDefinition[str], feeds: Sequence[str], erased: Erased
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """An asset per feed in `feeds`, a bare spec per other feed."""
    return [
        _raw_asset(table, billing_days, erased) if table.name in feeds else _waiting(table, billing_days)
        for table in RAW_SESSION_TABLES
    ]


def _waiting(table: RawTable, billing_days: dg.PartitionsDefinition[str]) -> dg.AssetSpec:
    key = FEED_BY_TABLE[table.name].key_variable
    return not_read_spec(table, f"set {key}, and name it in DEVIN_FEEDS if that is set", partitions_def=billing_days)


def _raw_asset(table: RawTable, billing_days: dg.PartitionsDefinition[str], erased: Erased) -> dg.AssetsDefinition:
    @table_asset(table, partitions_def=billing_days, backfill_policy=RANGES, pool="devin_api")
    def raw(context: dg.AssetExecutionContext, devin_api: DevinApiResource, lake: LakeResource) -> None:
        opened = lake.open()
        with erased(opened, lake.day_starts_at_utc_hour):
            try:
                opened.cached_snapshot(table)
            except VersionsLost as error:
                # Before any request: nothing of what the API returns could be stored.
                raise dg.Failure(str(error), metadata={ASK_NO_MORE: True}, allow_retries=False) from None
            read_and_land(context, devin_api, lake, opened)

    def read_and_land(
        context: dg.AssetExecutionContext, devin_api: DevinApiResource, lake: LakeResource, opened: Lake
    ) -> None:
        hour = lake.day_starts_at_utc_hour
        read = _Read(datetime.now(UTC), context.log.info)
        windows = {Window(starts_at(day, hour), starts_at(day, hour, after=1)): day for day in days_of(context, hour)}
        account = AccountCheck(opened, table, ACCEPTS_NEW_ORGANIZATIONS in context.run.tags)
        refusal: Problem | None = None
        # Where no person waits for the error, a service that is down for a while is waited for.
        is_awaited = starts_by_itself(context.run)
        try:
            with (
                devin_api.client(is_awaited=is_awaited, log=context.log.info) as client,
                closing(client.read(FEED_BY_TABLE[table.name], list(windows))) as listings,
            ):
                waiting: list[SessionBatch] = []
                for listing in listings:
                    read.clock_ahead = client.clock_ahead or timedelta(0)
                    # guard: prompts in a log
                    #   | waiting -> context.log.info(str([item.payload for item in listing.items])) or waiting
                    waiting.append(listing)
                    if account.is_of_lake(listing):
                        _land_all(opened, table, waiting, windows, read, lake, account)
                account.require_of_lake()
                _land_all(opened, table, waiting, windows, read, lake, account)
        except (DevinError, ConfigurationError, AnotherAccount) as error:
            refusal = error
        if read.figures:
            opened.note_read(table, list(read.figures), read.began_at)
            days = dict(sorted(read.figures.items()))
            record_partition_metadata(
                context, opened, table, days, hour, read.of_run(), at=read.began_at, findings=read.findings_of_checks()
            )
        if refusal is not None:
            raise dg.Failure(str(refusal), metadata={ASK_NO_MORE: True}, allow_retries=False)
        if read.not_read:
            raise _days_not_read(read.not_read)

    return raw


@dataclass
class _Read:
    """What one read of a feed has come to so far.

    Attributes:
        read_at: When it began.
        log: Takes a line about each batch that has landed.
        clock_ahead: How far our clock was ahead of the API's.
        figures: Those of each day that has landed.
        not_read: Why each other day keeps its last good version.
        counted: What the read cost, and what of it was not as promised.
        unknown_fields: Items with a field that the API reference does not list, by its name.
        held: The sessions that the feed holds.
        logged_at: When the last of these lines was logged, on a monotonic clock.
    """

    read_at: datetime
    log: Callable[[str], None]
    clock_ahead: timedelta = timedelta(0)
    figures: dict[date, dict[str, int | Decimal]] = field(default_factory=dict)
    not_read: dict[date, str] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    unknown_fields: Counter[str] = field(default_factory=Counter)
    held: HeldSessions = field(default_factory=HeldSessions)
    logged_at: float = field(default_factory=time.monotonic)

    @property
    def began_at(self) -> datetime:
        """When it began, by the API's clock."""
        return self.read_at - self.clock_ahead

    def of_run(self) -> dict[str, int | dg.TimestampMetadataValue | dg.JsonMetadataValue]:
        """The figures that all its days share."""
        unknown = dict(self.unknown_fields.most_common(_FIELDS_NAMED))
        return {
            READ_AT: dg.MetadataValue.timestamp(self.began_at),
            CLOCK_AHEAD: int(self.clock_ahead.total_seconds()),
            **({UNKNOWN_FIELDS: dg.MetadataValue.json(unknown)} if unknown else {}),
            **self.counted,
        }

    def log_batch(self, table: RawTable, batch: SessionBatch, days: Sequence[date]) -> None:
        """Log what a batch came to: counts only, since a batch holds prompts."""
        seconds = time.monotonic() - self.logged_at
        self.logged_at += seconds
        failed = f", days that could not be read: {len(batch.failures)}" if batch.failures else ""
        self.log(
            f"{table.name}: landed {days_in_words(days)}: {len(batch.items):,} sessions, "
            f"{len(batch.items) / seconds:,.0f} per second, pages: {batch.pages}, retries: {batch.retries}{failed}."
        )

    def findings_of_checks(self) -> list[object]:
        """What of these figures the checks find; how much of it changes with the days that are read together."""
        return [
            self.counted["outside_the_days"] > 0,
            self.counted["acus_as_text"] > 0,
            sorted(self.unknown_fields),
            abs(int(self.clock_ahead.total_seconds())) > CLOCKS_APART_SECONDS,
        ]


def _land_all(
    opened: Lake,
    table: RawTable,
    waiting: list[SessionBatch],
    windows: Mapping[Window, date],
    read: _Read,
    lake: LakeResource,
    account: AccountCheck,
) -> None:
    while waiting:
        _land(opened, table, waiting.pop(0), windows, read, lake, account)
        progress.report(f"reading {table.name}", len(read.figures), len(windows))


def _land(
    opened: Lake,
    table: RawTable,
    listing: SessionBatch,
    windows: Mapping[Window, date],
    read: _Read,
    lake: LakeResource,
    account: AccountCheck,
) -> None:
    """Land the days that a listing has whole, and note what became of each of its days."""
    read.not_read |= {windows[window]: str(error) for window, error in listing.failures.items()}
    for name in ("requests", "pages", "retries", "bytes_read", "duplicates", "acus_as_text"):
        read.counted[name] += getattr(listing, name)
    read.counted["outside_the_days"] += listing.out_of_window
    for name, items in listing.unknown_fields.items():
        # A name is the API's text too: shown only when it reads like one.
        # guard: text in the name of a field | if _FIELD_NAME.fullmatch(name) else "(unprintable)"
        read.unknown_fields[name if _FIELD_NAME.fullmatch(name) else "(unprintable)"] += items
    # guard: a day that could not be read, taken for an empty one | if window not in listing.failures
    read_whole = [windows[window] for window in listing.windows if window not in listing.failures]
    if not read_whole:
        return
    opened.claim(lake.identity)
    account.check(listing, read_whole)
    landed, damaged = _land_intact_days(opened, table, listing, read_whole, read, lake)
    read.not_read |= damaged
    read.figures |= {day: landed.figures(day) for day in read_whole if day not in damaged}
    for day, moved in landed.moved.items():
        if day in read.figures and day not in read_whole:
            # An earlier part of this read missed them.
            read.figures[day]["unlisted"] = max(0, read.figures[day]["unlisted"] - moved)
    read.log_batch(table, listing, [day for day in read_whole if day not in damaged])


def _land_intact_days(
    opened: Lake, table: RawTable, listing: SessionBatch, days: Sequence[date], read: _Read, lake: LakeResource
) -> tuple[LandingResult, dict[date, str]]:
    """Land the days whose stored versions are intact, and say what is wrong with the others.

    Nothing is written over a damaged day: the API may no longer return what is stored of it.
    """
    land_days = partial(
        land,
        opened,
        table,
        read_at=read.read_at,
        hour=lake.day_starts_at_utc_hour,
        keeps_text=lake.keeps_text,
        held=read.held,
    )
    try:
        return land_days(listing, days), {}
    except Damaged as error:
        damaged = damaged_days(opened.snapshot(table), days, lake.day_starts_at_utc_hour)
        if not damaged:
            raise dg.Failure(str(error), metadata={ASK_NO_MORE: True}, allow_retries=False) from None
        reasons = {day: f"what is stored of it is damaged: {why}. {error.todo}" for day, why in damaged.items()}
    intact = [day for day in days if day not in damaged]
    landed = land_days(_without(listing, damaged, lake.day_starts_at_utc_hour), intact) if intact else LandingResult()
    return landed, reasons


def _without(listing: SessionBatch, days: Container[date], hour: int) -> SessionBatch:
    items = [item for item in listing.items if not (item.created_at and day_of(item.created_at, hour) in days)]
    return replace(listing, items=items)


def _days_not_read(days: Mapping[date, str]) -> dg.Failure:
    """The days that keep their last good version, and why."""
    reasons = {day.isoformat(): why for day, why in sorted(days.items())}
    first = min(reasons)
    return dg.Failure(
        f"{len(reasons)} of the days could not be read; they keep their last good version. {first}: {reasons[first]}",
        metadata={DAYS_NOT_READ: dg.MetadataValue.json(reasons)},
        allow_retries=False,
    )
