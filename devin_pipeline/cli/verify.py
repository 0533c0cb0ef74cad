"""Checks what is stored and names the commands that repair it."""

import sys
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

import click
import pyarrow as pa

from devin_pipeline.cli.environment import open_filled_lake, print_demo_notice, settings
from devin_pipeline.cli.output import counted, draw, json_bytes
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.cli.words import range_given
from devin_pipeline.tables import Table

if TYPE_CHECKING:
    from devin_pipeline.operations.verify import VerificationReport


@click.command()
@click.option("--from", "first", metavar="DAY", help="Look at no day before it.")
@click.option("--to", "last", metavar="DAY", help="Look at no day after it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--demo", is_flag=True, help="Use the lake of the demo.")
@stoppable()
def verify(first: str | None, last: str | None, as_json: bool, demo: bool) -> None:
    """Check what is stored: logs, files, raw rows, and every other row by computing it again.

    Names what is damaged and the commands that repair it. Changes nothing and asks nothing of the API. Exit code 0 when
    all is intact, 1 when something is not.
    """
    from devin_pipeline.operations.verify import repair_commands
    from devin_pipeline.operations.verify import verify as verify_lake

    first_day, last_day = range_given(first, last)
    lake = open_filled_lake(demo)
    print_demo_notice(demo)
    identity = lake.identity
    hour = identity.day_starts_at_utc_hour if identity else settings().day_starts_at_utc_hour
    report = verify_lake(lake, hour, first=first_day, last=last_day)
    findings = pa.Table.from_pylist(
        [
            {
                "table": finding.table.name,
                "day": finding.day,
                "what": finding.what,
                "file": finding.path and finding.path.removeprefix(f"{lake.uri}/"),
            }
            for finding in report.findings
        ],
        pa.schema([("table", pa.string()), ("day", pa.date32()), ("what", pa.string()), ("file", pa.string())]),
    )
    not_checked = _by_table(report.not_checked)
    commands = repair_commands(lake, report, demo)
    if as_json:
        as_object = {
            "lake": lake.uri,
            "files": report.files,
            "rows": report.rows,
            "days": len(report.days),
            "findings": findings.to_pylist(),
            "not_checked": not_checked,
            "changed_during_check": [table.name for table in report.changed_during_check],
            "repair_commands": commands,
        }
        click.echo(json_bytes(as_object))
    else:
        _print_report(report, findings, not_checked, commands)
    if not report.is_clean:
        sys.exit(1)


def _print_report(
    report: "VerificationReport", findings: pa.Table, not_checked: Mapping[str, str], commands: Sequence[str]
) -> None:
    if findings.num_rows:
        draw(findings)
    for days in dict.fromkeys(not_checked.values()):
        names = ", ".join(name for name, of_table in not_checked.items() if of_table == days)
        click.echo(f"Not checked, because their inputs are damaged: {names}" + (f" ({days})" if days else ""))
    if report.changed_during_check:
        names = ", ".join(table.name for table in report.changed_during_check)
        click.echo(f"Changed while being checked, so that findings in them and in what follows may be old: {names}")
    looked_at = ", ".join(
        counted(number, noun)
        for number, noun in ((report.files, "file"), (report.rows, "row"), (len(report.days), "day"))
    )
    if report.is_clean:
        click.echo(f"Everything is intact: {looked_at}.")
        return
    click.echo(f"{counted(findings.num_rows, 'finding')} in {looked_at}. To repair:")
    for command in commands:
        click.echo(f"  {command}")


def _by_table(not_checked: Sequence[tuple[Table, date | None]]) -> dict[str, str]:
    """The days of each table, as ranges."""
    from devin_pipeline.billing_calendar import contiguous

    days: dict[str, set[date]] = {}
    for table, day in not_checked:
        days.setdefault(table.name, set()).update([day] if day else [])
    return {
        name: ", ".join(f"{some[0]} … {some[-1]}" if len(some) > 1 else str(some[0]) for some in contiguous(of_table))
        for name, of_table in days.items()
    }
