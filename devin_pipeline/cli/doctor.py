"""Shows what the health check finds."""

import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devin_pipeline.cli.environment import (
    DemoEnterprise,
    last_demo_enterprise,
    print_demo_notice,
    settings,
    use_dagster_home,
    use_demo_environment,
)
from devin_pipeline.cli.errors import Failed
from devin_pipeline.cli.output import json_bytes, printable
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.shell import pipeline_command

if TYPE_CHECKING:
    from devin_pipeline.doctor import CheckResult, Outcome


_COLOURS: "dict[Outcome, str | None]" = {
    "ok": "green",
    "warning": "yellow",
    "failed": "red",
    "skipped": None,
    "unknown": None,
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="All findings as one JSON document.")
@click.option("--demo", is_flag=True, help="Check the demo, with the emulator running.")
@stoppable()
def doctor(as_json: bool, demo: bool) -> None:
    """Look at settings, keys, API, lake and Dagster, and say what to do. Changes nothing."""
    from devin_pipeline.doctor import CheckResult, examine

    enterprise: DemoEnterprise | None = None
    if demo:
        if not DemoEnterprise.file().exists():
            raise Failed(
                "There is no demo here", "it has not been run in this folder", f"Run `{pipeline_command('demo')}`", 2
            )
        use_demo_environment()
        enterprise = last_demo_enterprise()
    else:
        use_dagster_home(Path(settings().DAGSTER_HOME))
    print_demo_notice(demo)
    findings: list[CheckResult] = []
    with enterprise.served() if enterprise else nullcontext():
        for finding in examine(settings()):
            findings.append(finding)
            if not as_json:
                _show_finding(finding)
    if as_json:
        click.echo(json_bytes({"checks": findings}))
    else:
        outcomes = Counter(finding.outcome for finding in findings)
        click.echo(", ".join(f"{outcomes[name]} {name}" for name in _COLOURS if outcomes[name]) + ".")
    if any(finding.outcome == "failed" for finding in findings):
        sys.exit(1)


def _show_finding(finding: "CheckResult") -> None:
    mark = click.style(f"{finding.outcome:8}", fg=_COLOURS[finding.outcome])
    click.echo(f"{mark}  {printable(f'{finding.name} {finding.subject}'.strip() + ': ' + finding.found)}")
    if finding.todo:
        click.echo(f"{'':10}→ {printable(finding.todo)}")
