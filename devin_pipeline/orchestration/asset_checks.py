"""Turns SELECTs of findings into Dagster checks, over the days of the run or, started on their own, over all.

Validation before a commit keeps wrong rows out; checks repeat it on what is stored, and stop what is downstream.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import dagster as dg
import pyarrow as pa

from devin_pipeline.lake import Connection, Lake, linked_with
from devin_pipeline.orchestration.resources import LakeResource
from devin_pipeline.orchestration.run_history import latest_materializations
from devin_pipeline.tables import TABLES

_SHOWN = 20
_IN_WORDS = 3

IS_ERROR = "is_error"
"""Metadata of a check: whether what it finds is an error that stops nothing."""

Findings = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class CheckContext:
    """What the checks of one asset look at.

    Attributes:
        asset: The asset.
        lake: The lake.
        hour: Hour of the UTC day at which a billing day starts.
        days: The days of the run; None when the checks were started without any, and then cover all.
        connection: The tables the checks read, over those days.
        instance: Dagster's records.
        run_id: The run of the checks.
    """

    asset: str
    lake: Lake
    hour: int
    days: list[date] | None
    connection: Connection
    instance: dg.DagsterInstance
    run_id: str

    @cached_property
    def records(self) -> dict[date, dg.EventLogRecord]:
        """What Dagster recorded of the newest making of each of those days, oldest day first."""
        made = self.days or map(date.fromisoformat, self.instance.get_materialized_partitions(dg.AssetKey(self.asset)))
        return dict(sorted(latest_materializations(self.instance, TABLES[self.asset], made).items()))


@dataclass(frozen=True)
class Check:
    """One check: it fails when `findings` finds something. Values of text fields are never findings.

    Attributes:
        name: What it is called.
        description: What is right.
        findings: What it finds.
        blocking: Whether what it finds is an error, and stops what follows.
        fails: Whether what it finds is an error that stops nothing; else it is a warning.
    """

    name: str
    description: str
    findings: Callable[[CheckContext], Findings]
    blocking: bool = False
    fails: bool = False


def sql_check(
    query_file: Path,
    *,
    blocking: bool = False,
    fails: bool = False,
    rows_per_day_of: str | None = None,
    all_days_of: str | None = None,
    params: Mapping[str, object] | None = None,
    views: Mapping[str, str] | None = None,
) -> Check:
    """A check that fails when the SELECT in `query_file` finds something.

    Args:
        query_file: `<check>.sql`. Its first comment is the check's description, each of its rows a finding. It may
            use `$hour`, `$first_day`, `$last_day` and `$days` (null when all days are checked), and `$first_open_day`.
        blocking: True where a wrong number would follow; the others warn.
        fails: True where a finding is an error though nothing that follows is wrong.
        rows_per_day_of: A table whose rows of each day, whichever days are checked, the query finds counted in
            `rows_per_day` (day, rows). They stand in the table's log, so that no file is read for them.
        all_days_of: A table all of whose days, whichever are checked, the query reads as `all_<table>`.
        params: Further parameters of the query.
        views: Further names it reads by, each with its SELECT; so assets can share a query.
    """
    query = query_file.read_text()

    def findings(checked: CheckContext) -> Findings:
        known = {
            "hour": checked.hour,
            "first_day": checked.days[0] if checked.days else None,
            "last_day": checked.days[-1] if checked.days else None,
            "days": checked.days,
            "first_open_day": checked.lake.report_clock().first_open_day,
            **(params or {}),
        }
        used = {name: value for name, value in known.items() if f"${name}" in query}
        for name, select in (views or {}).items():
            checked.connection.create_view(name, select)
        if all_days_of:
            checked.connection.create_view(
                f"all_{all_days_of}", checked.lake.cached_snapshot(TABLES[all_days_of]).query()
            )
        if rows_per_day_of:
            checked.connection.register(
                "rows_per_day", counted(checked.lake.cached_snapshot(TABLES[rows_per_day_of]).rows_per_day())
            )
        found: Findings = checked.connection.rows(query, used).to_pylist()
        return found

    return Check(query_file.stem, query.partition("\n")[0].removeprefix("-- "), findings, blocking, fails)


def counted(rows_per_day: Mapping[date, int]) -> pa.Table:
    """Rows of each day, as columns `day` and `rows`."""
    return pa.table(
        {"day": pa.array(rows_per_day.keys(), pa.date32()), "rows": pa.array(rows_per_day.values(), pa.int64())}
    )


def checks_of(
    name: str,
    inputs: Sequence[str],
    checks: Mapping[str, Sequence[Check]],
    read_once: Mapping[str, str] | None = None,
    views: Mapping[str, str] | None = None,
    *,
    with_linked_days: bool = False,
) -> dg.AssetChecksDefinition:
    """The checks of one asset or several as one step: a step each would cost more than all of them do.

    Args:
        name: Of the step.
        inputs: The tables they read.
        checks: The checks of each asset they belong to.
        read_once: Of some of those, the columns that all checks together need: opening the files again for each check
            takes longer than the checks.
        views: Further names that checks read by, each with its SELECT.
        with_linked_days: True when they also read the days that have sessions in common with those of the run.
    """

    @dg.multi_asset_check(
        name=name,
        specs=[
            dg.AssetCheckSpec(
                check.name,
                asset=asset,
                description=check.description,
                blocking=check.blocking,
                metadata={IS_ERROR: check.fails},
            )
            for asset, of_asset in checks.items()
            for check in of_asset
        ],
        can_subset=True,
    )
    def run_checks(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        opened, days = lake.open(), _days_checked(context)
        tables = [TABLES[name] for name in inputs]
        linked = linked_with(opened.links(), days) if with_linked_days and days else []
        if linked:
            linked = opened.readable_days(tables, linked)
        with opened.connect(tables, days=days and [*days, *linked]) as connection:
            # A check that is asked for alone reads what it needs, which may be nothing.
            # guard: a check that is asked for alone
            #   | len(context.selected_asset_check_keys) == sum(map(len, checks.values())) -> True
            if len(context.selected_asset_check_keys) == sum(map(len, checks.values())):
                for name, columns in (read_once or {}).items():
                    connection.cache_columns(name, columns)
            for name, query in (views or {}).items():
                connection.create_view(name, query)
            for asset, of_asset in checks.items():
                hour, run_id = lake.day_starts_at_utc_hour, context.op_execution_context.run_id
                checked = CheckContext(asset, opened, hour, days, connection, context.instance, run_id)
                for check in of_asset:
                    if dg.AssetCheckKey(dg.AssetKey(asset), check.name) in context.selected_asset_check_keys:
                        yield _result(asset, check, check.findings(checked))

    return run_checks


def _result(asset: str, check: Check, found: Findings) -> dg.AssetCheckResult:
    first = [{key: _shown(value) for key, value in row.items()} for row in found[:_SHOWN]]
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=check.name,
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking or check.fails else dg.AssetCheckSeverity.WARN,
        description=_in_words(found),
        metadata={"findings": len(found), "first": dg.MetadataValue.json(first)},
    )


def _in_words(found: Findings) -> str | None:
    """How many findings there are, and what the first ones say; None when there is none."""
    if not found:
        return None
    first = "; ".join(
        ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in row.items() if value is not None)
        for row in found[:_IN_WORDS]
    )
    return f"{len(found)} found: {first}" + ("; …" if len(found) > _IN_WORDS else "")


def _days_checked(context: dg.AssetCheckExecutionContext) -> list[date] | None:
    run = context.op_execution_context
    if not (run.has_partition_key or run.has_partition_key_range):
        return None
    return sorted(date.fromisoformat(key) for key in run.partition_keys)


def _shown(value: object) -> object:
    return value if isinstance(value, int | None) else str(value)
