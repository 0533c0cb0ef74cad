"""The report that people look at: one HTML file about a period, made from the lake.

What a figure means is declared in `tables.measures`; reading, drawing and writing it belong here.
"""

from devin_pipeline.usage_report.assets import USAGE_REPORT, usage_report_assets
from devin_pipeline.usage_report.build import Report, build_report, make_report, write_report
from devin_pipeline.usage_report.figures import Figures, read_figures
from devin_pipeline.usage_report.findings import dearest_causes
from devin_pipeline.usage_report.question import STORED_REPORT, Appearance, Question, stored_appearance

__all__ = [
    "STORED_REPORT",
    "USAGE_REPORT",
    "Appearance",
    "Figures",
    "Question",
    "Report",
    "build_report",
    "dearest_causes",
    "make_report",
    "read_figures",
    "stored_appearance",
    "usage_report_assets",
    "write_report",
]
