"""The jobs: one for everything, one for the bill, and one for the lake's files and Dagster's records."""

import dagster as dg

from devin_pipeline.dagster_server.run_retention import remove_old_runs
from devin_pipeline.operations.maintain import maintain
from devin_pipeline.orchestration.resources import LakeResource
from devin_pipeline.orchestration.run_metadata import MAKES_REPORTS
from devin_pipeline.settings import Settings
from devin_pipeline.tables import RAW_SESSION_TABLES, ROLLUP_TABLES, SESSION_TABLES

REFRESH = "refresh"
BILL = "bill"
MAINTAIN = "maintain"
DAILY_REFRESH = "daily_refresh"
"""The schedule whose newest successful run stays recorded, since its next range follows it."""

refresh_job = dg.define_asset_job(
    REFRESH,
    selection=dg.AssetSelection.all(),
    tags={MAKES_REPORTS: "yes"},
    description="Everything, for a day or a range of days: raw, derived, checks, reports, devin.duckdb.",
)


bill_job = dg.define_asset_job(
    BILL,
    selection=dg.AssetSelection.all()
    - dg.AssetSelection.assets(*(table.name for table in (*RAW_SESSION_TABLES, *SESSION_TABLES, *ROLLUP_TABLES))),
    tags={MAKES_REPORTS: "yes"},
    description="The lists and the bill, for a range of days, and what follows from them. No feed of sessions is read.",
)


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Joins small files, deletes files that no version of the last seven days names, shortens logs.",
)
def tables_and_logs(context: dg.OpExecutionContext, lake: LakeResource) -> None:
    """What `devin-pipeline maintain` does."""
    done = maintain(lake.open(), lake.day_starts_at_utc_hour)
    for each in done.tables:
        context.log.info(
            f"{each.table.name}: {each.files_before} files became {each.files}, {each.deleted.files} old ones deleted "
            f"({each.deleted.bytes} bytes), {each.log_entries} log entries deleted"
        )
    if done.left:
        # Another try would find the same damage.
        raise dg.Failure("Some tables were skipped. " + ". ".join(done.left), allow_retries=False)


def maintain_job(settings: Settings) -> dg.JobDefinition:
    """Not an asset: it makes no table, and a refresh has no use for it."""

    @dg.op(out=dg.Out(dg.Nothing), description="Removes runs that ended longer ago than DEVIN_KEEP_RUNS_DAYS says.")
    def runs_and_events(context: dg.OpExecutionContext) -> None:
        """What `devin-pipeline maintain` does."""
        if removed := remove_old_runs(context.instance, settings.keep_runs_days, DAILY_REFRESH):
            context.log.info(str(removed))

    @dg.job(name=MAINTAIN, description="Keeps the lake's files few, its logs short and Dagster's records small.")
    def maintain() -> None:
        tables_and_logs()
        runs_and_events()

    return maintain
