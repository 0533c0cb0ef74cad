"""The report that people look at: one HTML file about a period, made from the lake.

What a figure means is declared in `tables.measures`; reading, drawing and writing it belong here.
"""

from devin_pipeline.usage_report.build import STORED_REPORT, Report, build_report, write_report
from devin_pipeline.usage_report.figures import Figures, Question
from devin_pipeline.usage_report.findings import dearest_causes
from devin_pipeline.usage_report.page import Appearance

__all__ = [
    "STORED_REPORT",
    "Appearance",
    "Figures",
    "Question",
    "Report",
    "build_report",
    "dearest_causes",
    "write_report",
]
