"""Turns a SELECT of findings into a Dagster check, over the days of the run or, started on its own, over all.

The gate before a commit keeps wrong rows out; checks repeat it on what is stored, and stop what is downstream.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

import dagster as dg

from devin_pipeline.resources import LakeResource
from devin_pipeline.tables import TABLES

_SHOWN = 20

Findings = Sequence[Mapping[str, object]]


def days_checked(context: dg.AssetCheckExecutionContext) -> list[date] | None:
    """The days of the run; None when the check was started without any, and then covers all."""
    run = context.op_execution_context
    if not (run.has_partition_key or run.has_partition_key_range):
        return None
    return sorted(date.fromisoformat(key) for key in run.partition_keys)


def sql_check(
    asset: str,
    query_file: Path,
    inputs: Sequence[str],
    *,
    blocking: bool = False,
    every_day: bool = False,
    params: Mapping[str, object] | None = None,
) -> dg.AssetChecksDefinition:
    """A check that fails when the SELECT in `query_file` finds something.

    Args:
        asset: The asset it stands beside; readable as `versions` too, for checks that several raw tables share.
        query_file: `<check>.sql`. Its first comment is the check's description, each of its rows a finding. It may
            use `$hour`, `$first_day` and `$last_day` (null when all days are checked), and never selects the value
            of a text field.
        inputs: The tables it reads.
        blocking: True where a wrong number would follow; the others warn.
        every_day: True when the inputs are to hold every day, whichever days are checked.
        params: Further parameters of the query.
    """
    query = query_file.read_text()

    def findings(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Findings:
        days = days_checked(context)
        known = {
            "hour": lake.day_starts_at_utc_hour,
            "first_day": days[0] if days else None,
            "last_day": days[-1] if days else None,
            **(params or {}),
        }
        with lake.open().connect([TABLES[name] for name in inputs], days=None if every_day else days) as reader:
            reader.view("versions", f'from "{asset}"')
            used = {name: value for name, value in known.items() if f"${name}" in query}
            found: Findings = reader.rows(query, used).to_pylist()
        return found

    description = query.partition("\n")[0].removeprefix("-- ")
    return finding_check(asset, query_file.stem, description, findings, blocking=blocking)


def finding_check(
    asset: str,
    name: str,
    description: str,
    findings: Callable[[dg.AssetCheckExecutionContext, LakeResource], Findings],
    *,
    blocking: bool = False,
) -> dg.AssetChecksDefinition:
    """A check that fails when `findings` finds something, and shows the first of it."""

    @dg.asset_check(asset=asset, name=name, description=description, blocking=blocking)
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        found = findings(context, lake)
        first = [{key: _shown(value) for key, value in row.items()} for row in found[:_SHOWN]]
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
            metadata={"findings": len(found), "first": dg.MetadataValue.json(first)},
        )

    return check


def _shown(value: object) -> object:
    return value if isinstance(value, int | None) else str(value)
