"""The report assets, and `devin.duckdb` as the last of them."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import partial

import dagster as dg

from devin_pipeline.billing_calendar import BILLING_HOUR, UNTIL_CLOSED, day_of
from devin_pipeline.lake import Lake, ReportClock, write_catalog
from devin_pipeline.orchestration.asset_specs import CODE_VERSION, OWNERS, asset_spec_kwargs, table_asset
from devin_pipeline.orchestration.partitions import RANGES
from devin_pipeline.orchestration.resources import Erased, LakeResource
from devin_pipeline.orchestration.run_metadata import MAKES_REPORTS, REPORTS_WAIT, report_table
from devin_pipeline.reports.publishing import BuiltByOtherCode, publish_report
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import ALL_TABLES, DIRECTORY_TABLES, RAW_QUARANTINE, RAW_TABLES, REPORT_TABLES, Table
from devin_pipeline.tables.reports import RECONCILIATION_DAILY

DUCKDB_CATALOG = "duckdb_catalog"

_Condition = dg.AutomationCondition

# What a report is made of was made by a run that left the report out. A job's run shows Dagster no selection, so
# `refresh` says by a tag that it makes both.
_LEFT_OUT = _Condition.any_deps_match(
    (
        _Condition.newly_updated()
        & ~_Condition.all_new_updates_have_run_tags(tag_keys={MAKES_REPORTS})
        & ~_Condition.executed_with_root_target()
    )
    | _Condition.will_be_requested()
)
# Not `since_last_handled()`: with it, a refresh and a backfill that end between two ticks cancel out.
WHEN_LEFT_BEHIND = (
    _LEFT_OUT.since((_Condition.newly_requested() | _Condition.initial_evaluation()) & ~_LEFT_OUT)
    & ~_Condition.any_deps_in_progress()
    & ~_Condition.in_progress()
)


DaysOfOtherCode = Callable[[Lake, int, Sequence[Table]], list[date]]


def report_assets(
    days_of_other_code: DaysOfOtherCode, erased: Erased, organization: str | None, session_products: Sequence[str]
) -> list[dg.AssetsDefinition]:
    """Every report asset, and the catalogue of all tables.

    Args:
        days_of_other_code: Finds the stored days that other code built, given the hour at which a billing day starts.
        erased: Keeps persons on the erasure list out.
        organization: The one organization that is read; None for the whole enterprise.
        session_products: The products of the bill whose ACUs sessions consume.
    """
    clock = partial(_clock_now, organization=organization, session_products=session_products)
    reports = [table for table in REPORT_TABLES if table not in DIRECTORY_TABLES]
    return [
        _directory_tables(clock, erased),
        *(_report(table, days_of_other_code, clock, erased) for table in reports),
        _duckdb_catalog(erased),
    ]


def _set_clock(lake: Lake, clock: Callable[[], ReportClock]) -> None:
    """Have the reports of money made as of now, once anything is stored that they may be about."""
    if any(lake.cached_snapshot(table).files() for table in RAW_TABLES):
        lake.set_report_clock(clock())


def _clock_now(*, organization: str | None, session_products: Sequence[str]) -> ReportClock:
    now = datetime.now(UTC)
    return ReportClock(
        today=day_of(now, BILLING_HOUR),
        first_open_day=day_of(now - UNTIL_CLOSED, BILLING_HOUR),
        organization=organization,
        session_products=tuple(session_products),
    )


def _directory_tables(clock: Callable[[], ReportClock], erased: Erased) -> dg.AssetsDefinition:
    # One step for all of them, because a step each would cost more than all of them do.
    @dg.multi_asset(
        name="directory_tables",
        specs=[
            dg.AssetSpec(**asset_spec_kwargs(table), deps=table.inputs, automation_condition=WHEN_LEFT_BEHIND)
            for table in DIRECTORY_TABLES
        ],
        can_subset=True,
        backfill_policy=RANGES,
    )
    def directory_tables(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[None]]:
        opened = lake.open()
        _set_clock(opened, clock)
        for table in DIRECTORY_TABLES:
            if dg.AssetKey(table.name) in context.selected_asset_keys:
                with erased(opened, lake.day_starts_at_utc_hour):
                    commit = publish_report(opened, table)
                report_table(context, opened, table, commit)
                yield dg.MaterializeResult(asset_key=table.name)

    return directory_tables


def _report(
    table: Table, days_of_other_code: DaysOfOtherCode, clock: Callable[[], ReportClock], erased: Erased
) -> dg.AssetsDefinition:
    @table_asset(table, deps=table.inputs, automation_condition=WHEN_LEFT_BEHIND, backfill_policy=RANGES)
    def report(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
        opened = lake.open()
        opened.claim(lake.identity)
        if table == RECONCILIATION_DAILY:
            _set_clock(opened, clock)
        hour = lake.day_starts_at_utc_hour
        try:
            with erased(opened, hour):
                commit = publish_report(opened, table, lambda lake, tables: days_of_other_code(lake, hour, tables))
        except BuiltByOtherCode as error:
            # Another try would find the same days.
            raise dg.Failure(str(error), metadata={REPORTS_WAIT: True}, allow_retries=False) from None
        report_table(context, opened, table, commit)

    return report


def _duckdb_catalog(erased: Erased) -> dg.AssetsDefinition:
    @dg.asset(
        key=DUCKDB_CATALOG,
        group_name="reports",
        kinds={"duckdb"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        deps=[table.name for table in ALL_TABLES if table != RAW_QUARANTINE],
        automation_condition=WHEN_LEFT_BEHIND,
        backfill_policy=RANGES,
    )
    def duckdb_catalog(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
        """One view per table in `devin.duckdb`, for the duckdb CLI and BI tools."""
        opened = lake.open()
        with erased(opened, lake.day_starts_at_utc_hour, sweeps=True):
            made = write_catalog(opened)
        if made is not None:
            left_out = [table.name for table in made.left_out]
            if left_out:
                context.log.warning(
                    f"devin.duckdb has no {', '.join(left_out)}: what is stored of it is damaged. "
                    f"Find the command that repairs it: `{pipeline_command('verify')}`"
                )
            views = len(ALL_TABLES) - len(left_out)
            context.add_asset_metadata(
                {"views": views, "left_out": left_out, "changed": made.changed, "dagster/uri": str(made.file)}
            )

    return duckdb_catalog
