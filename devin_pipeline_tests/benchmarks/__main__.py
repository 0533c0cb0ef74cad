"""The command: which parts to measure at which size, and one table of what they took."""

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from devin_pipeline_tests.benchmarks import growth, parts
from devin_pipeline_tests.benchmarks.rows import Row, as_json, as_table

_QUICK = 20_000
_A_YEARS_BACKFILL = 100_000
_FULL = 1_000_000


@click.command()
@click.option("--sessions", type=click.IntRange(min=1000), help="Sessions to serve: 20,000; 100,000 with --growth.")
@click.option("--days", default=365, show_default=True, type=click.IntRange(14, 2000), help="Billing days they are in.")
@click.option("--stages", default=",".join(parts.STAGES), show_default=True, help="What to measure, by commas.")
@click.option("--repeat", default=1, show_default=True, help="How often each comparison is made; medians count.")
@click.option("--full", is_flag=True, help="A lake of 1,000,000 sessions, a year's backfill of 100,000. Takes long.")
@click.option(
    "--growth", "grows", is_flag=True, help="Instead, lakes of a hundredth to all sessions, 30 to 1,095 days."
)
@click.option("--gzip", "compresses", is_flag=True, help="Let the server compress; it sends JSON as it is otherwise.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Leave the lakes in this new folder.")
@click.option("--json", "report", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows there, too.")
def main(
    sessions: int | None,
    days: int,
    stages: str,
    repeat: int,
    full: bool,
    grows: bool,
    compresses: bool,
    keep: Path | None,
    report: Path | None,
) -> None:
    """Measure this pipeline next to dlt and a plain script, on one server, each stage in a process of its own."""
    wanted = stages.split(",")
    if unknown := set(wanted) - set(parts.STAGES):
        raise click.BadParameter(f"there is no stage {', '.join(sorted(unknown))}; there are {', '.join(parts.STAGES)}")
    most = _FULL if full else sessions or (_A_YEARS_BACKFILL if grows else _QUICK)
    sizes = (
        [(parts.lake, *size) for size in growth.sizes(most)]
        if grows
        else [
            (parts.api, sessions or _QUICK, days),
            (parts.bill, sessions or _QUICK, parts.REFRESHED_DAYS),
            (parts.lake, most, days),
            *([(parts.command, _A_YEARS_BACKFILL, days)] if full else []),
        ]
    )

    def show(row: Row) -> None:
        click.echo(f"{row.stage} ({row.sessions:,} sessions, {row.days} days): {row.wall_seconds:.2f} s", err=True)

    rows: list[Row] = []
    with ExitStack() as left:
        folder = keep or Path(left.enter_context(tempfile.TemporaryDirectory(prefix="devin-benchmark-")))
        for part, many, over in sizes:
            rows += parts.run(
                part,
                many,
                over,
                folder,
                stages_wanted=wanted,
                repeat=repeat,
                compresses=compresses,
                on_row=show,
            )
            if report:
                report.write_text(json.dumps(as_json(rows), indent=1))
    sent = "gzip" if compresses else "identity"
    shown = Console(width=220, highlight=False)
    shown.print(as_table(rows, f"Content-Encoding of the server: {sent}. Memory is of the largest process."))
    if grows:
        shown.print(growth.as_table(rows))


if __name__ == "__main__":
    main()
