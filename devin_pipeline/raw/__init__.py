"""Raw assets: land what the API said, as versions that are only ever added.

Asking, comparing with what is known and validation before the commit belong here. What the payloads mean does not.
"""

from devin_pipeline.raw.asset_checks import raw_checks
from devin_pipeline.raw.consumption.assets import consumption_assets
from devin_pipeline.raw.directory.assets import directory_asset
from devin_pipeline.raw.money_checks import money_checks
from devin_pipeline.raw.sessions.assets import raw_assets
from devin_pipeline.raw.sessions.moved_sessions import days_held

__all__ = ["consumption_assets", "days_held", "directory_asset", "money_checks", "raw_assets", "raw_checks"]
