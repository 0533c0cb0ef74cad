"""The asset `usage_report`: every run writes the report about the newest days again."""

from functools import partial

import dagster as dg

from devin_pipeline.errors import Problem
from devin_pipeline.orchestration.asset_specs import CODE_VERSION, OWNERS
from devin_pipeline.orchestration.partitions import RANGES
from devin_pipeline.orchestration.resources import Erased, LakeResource
from devin_pipeline.orchestration.run_metadata import REPORTS_WAIT
from devin_pipeline.reports import WHEN_LEFT_BEHIND
from devin_pipeline.settings import StoredReport
from devin_pipeline.usage_report.build import make_report, write_report
from devin_pipeline.usage_report.errors import NoDays
from devin_pipeline.usage_report.figures import TABLES_READ
from devin_pipeline.usage_report.question import Question, stored_appearance

USAGE_REPORT = "usage_report"


def usage_report_assets(kind: StoredReport, erased: Erased) -> list[dg.AssetsDefinition]:
    """The asset; none where DEVIN_REPORT turns it off.

    Args:
        kind: What DEVIN_REPORT says.
        erased: Keeps persons on the erasure list out.
    """
    appearance = stored_appearance(kind)
    if appearance is None:
        return []

    @dg.asset(
        key=USAGE_REPORT,
        group_name="reports",
        kinds={"python", "html"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        deps=TABLES_READ,
        automation_condition=WHEN_LEFT_BEHIND,
        backfill_policy=RANGES,
    )
    def usage_report(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
        """Where the ACUs went and which prompts to fix, as one HTML file about the newest days."""
        opened = lake.open()
        hour = lake.day_starts_at_utc_hour
        try:
            # What a backup brought back of persons goes before it is read.
            with erased(opened, hour):
                pass
            report, path = make_report(opened, Question(), appearance, hour, partial(write_report, opened))
        except NoDays as error:
            context.log.info(f"{USAGE_REPORT}: not written, since {error.why}.")
            return
        except Problem as error:
            # The tables are made: no day of the run is to count as lost.
            raise dg.Failure(str(error), metadata={REPORTS_WAIT: True}) from None
        for warning in report.warnings:
            context.log.warning(f"{USAGE_REPORT}: {warning}")
        period = report.figures.period
        context.add_asset_metadata(
            {
                "first_day": period.first_day.isoformat(),
                "last_day": period.last_day.isoformat(),
                "bytes": len(report.html.encode()),
                "with_text": appearance.with_text,
                "file": dg.MetadataValue.path(path),
            }
        )
        context.log.info(f"{USAGE_REPORT}: {period.first_day} … {period.last_day}, written to {path}")

    return [usage_report]
