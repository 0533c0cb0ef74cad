"""Derived assets: facts of one day, rewritten per day from that day's raw versions.

One SELECT per table in `<table>.sql` next to this file. Answers across days do not belong here.
"""

from devin_pipeline.derived.asset_checks import derived_checks
from devin_pipeline.derived.assets import derived_assets
from devin_pipeline.derived.publishing import days_of_other_code

__all__ = ["days_of_other_code", "derived_assets", "derived_checks"]
